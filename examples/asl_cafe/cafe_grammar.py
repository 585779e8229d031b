"""What is said in the ASL Cafe: sign sequences, the one English text of each, and the names that are fingerspelled.

Glosses are upper-case words, a fingerspelled name is one gloss: "HELLO CAN I GET LARGE COFFEE fs-EMMA". Nothing here
knows which takes exist, only which labels do, so that the same seed says the same things over any recordings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPLITS = ("train", "validation", "test")
SIZES = {"train": 4000, "validation": 300, "test": 360}
NAMED = {"train": 0.4, "validation": 0.3, "test": 0.3}  # share of utterances with a fingerspelled name
UNSEEN = 0.6  # share of validation and test utterances whose combination of signs never occurs in train
NAMES_FILE, WORDS_FILE = (Path(__file__).with_name(name) for name in ("names.txt", "words.txt"))
SPELLING = "spelling"  # the harder set, made of test takes: every utterance spells a word or name that train never did
SPELLING_SIZE = 300
SPELLING_FRAMES = ("I {}", "HELLO {}", "THANK-YOU {}", "CAN {} GET TEA", "LARGE COFFEE {}", "MUFFIN {} PLEASE")

STRANGERS = "strangers"  # people that no other split shows, with whatever labels there are of each
STRANGERS_SIZE = 100  # utterances a person
SHORT = ("{}", "HELLO", "NO", "THANK-YOU", "NO THANK-YOU", "HELLO {}", "THANK-YOU {}", "I {}", "HELLO I {}")

DRINKS_AND_FOOD, MEASURES = ("COFFEE", "TEA", "WATER", "MUFFIN"), ("SMALL", "MEDIUM", "LARGE")
WORDS = (*DRINKS_AND_FOOD, *MEASURES, "CAN", "I", "GET", "HELLO", "NO", "PLEASE", "THANK-YOU")
SMALL_TALK = "small_talk"  # test takes of what is said beside orders, with the signs that a fourth signer brings
MORE = "more"  # small talk and names to train on, of further people
SMALL_TALK_SIZES = {MORE: 600, SMALL_TALK: 150}
SPELLED_MORE = 300  # utterances of MORE in which the fourth signer spells a name
FEELINGS = ("HAPPY", "HUNGRY", "SAD")
SAYINGS = {"BYE": "bye", "GOOD-JOB": "good job", "I-LOVE-YOU": "I love you"}
MORE_WORDS = (*FEELINGS, *SAYINGS, "FATHER", "HOW-MUCH", "YOU")
NAME_PLACES = ("greeting", "myself", "asker", "items", "thanks", "refusal")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
EVERY_LABEL = {*map(str.lower, (*WORDS, *MORE_WORDS)), *LETTERS}

_THING = "|".join(DRINKS_AND_FOOD)
_ITEM = rf"(?:(?:{'|'.join(MEASURES)})\ )?(?:{_THING})"
_NAME = r"fs-[A-Z]+\b"
_CLAUSE = re.compile(
    rf"""
    (?P<hello>HELLO)(?:\ (?P<greeted>{_NAME}))?
    | (?P<feels>I|YOU|FATHER)\ (?P<feeling>{"|".join(FEELINGS)})
    | (?P<price>HOW-MUCH)(?:\ (?P<priced>{_ITEM}))?
    | (?P<said>{"|".join(SAYINGS)})(?:\ (?P<said_to>{_NAME}|FATHER(?!\ (?:{"|".join(FEELINGS)}))))?
    | I\ (?P<myself>{_NAME})
    | NO\ (?P<refused>{_THING})(?:\ (?P<refused_for>{_NAME}))?(?!\ (?:fs-|(?:{_ITEM}|PLEASE)\b))
    | (?:(?P<can>CAN)\ (?P<asker>I|{_NAME})\ GET\ |(?P<will>I\ GET)\ |(?P<get>GET)\ )?
      (?P<items>{_ITEM}(?:\ {_ITEM})*)(?:\ (?P<items_for>{_NAME}))?(?P<please>\ PLEASE)?
    | (?P<thanks>THANK-YOU)(?:\ (?P<thanked>{_NAME}))?
    | (?P<no>NO)
    """,
    re.VERBOSE,
)


def gloss_to_english(gloss: str) -> str:
    """One gloss sequence -> its one English text: "NO SMALL TEA PLEASE" -> "No, a small tea, please."

    Every sequence has exactly one text, so that a perfect reader of signs can reach a word error rate of 0.

    Raises:
        ValueError: the sequence is outside the grammar.
    """
    if re.fullmatch(_NAME, gloss):
        return f"{gloss.removeprefix('fs-').capitalize()}."
    text, position, joined = "", 0, False
    while position < len(gloss):
        match = _CLAUSE.match(gloss, position)
        if not match or gloss[match.end() : match.end() + 1] not in ("", " "):
            raise ValueError(f"no clause of the cafe grammar fits {gloss[position:]!r} in {gloss!r}")
        position = match.end() + 1
        clause, end, joins = _clause_to_english(match, gloss[position:])
        # A new sentence gets a capital; "Hello, can I ...", "No, thank you." and "No muffin, thank you." are one
        # sentence.
        text += f"{', ' if joined else ' ' if text else ''}{clause if joined else clause[0].upper() + clause[1:]}"
        text += "" if joins else end
        joined = joins
    return text


def _clause_to_english(match: re.Match, rest: str) -> tuple[str, str, bool]:
    """-> text without capital, closing mark, and whether the next clause continues the sentence."""

    def name(group: str, lead: str = "") -> str:
        return lead + match[group].removeprefix("fs-").capitalize() if match[group] else ""

    if match["feels"]:
        feeling = match["feeling"].lower()
        if match["feels"] == "YOU":
            return f"are you {feeling}", "?", False
        return ("I am " if match["feels"] == "I" else "father is ") + feeling, ".", False
    if match["price"]:
        return f"how much is a {match['priced'].lower()}" if match["priced"] else "how much", "?", False
    if match["said"]:
        to = ", father" if match["said_to"] == "FATHER" else name("said_to", ", ")
        return SAYINGS[match["said"]] + to, ".", False
    if match["hello"]:
        return "hello" + name("greeted", ", "), ".", bool(rest) and not match["greeted"]
    if match["myself"]:
        return "I am " + name("myself"), ".", False
    if match["refused"]:
        return f"no {match['refused'].lower()}{name('refused_for', ' for ')}", ".", rest.startswith("THANK-YOU")
    if match["thanks"]:
        return "thank you" + name("thanked", ", "), ".", False
    if match["no"]:
        return "no", ".", bool(rest)
    items = [f"a {item.lower()}" for item in re.findall(_ITEM, match["items"])]
    text = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    text += name("items_for", " for ") + (", please" if match["please"] else "")
    if match["can"]:
        asker = "I" if match["asker"] == "I" else name("asker")
        return f"can {asker} get {text}", "?", False
    return ("I will get " if match["will"] else "get " if match["get"] else "") + text, ".", False


def combination(gloss: str) -> str:
    """The gloss with any fingerspelled name replaced by a slot: what "seen in training" is about."""
    return re.sub(_NAME, "fs-*", gloss)


def read_names(path: Path = NAMES_FILE) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return sorted({name for line in lines if not line.startswith("#") for name in line.split()})


def split_names(names: Iterable[str], seed: int) -> dict[str, list[str]]:
    """Names -> disjoint train (76 %), validation (9 %) and test (15 %) lists; no name's split depends on the others."""
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in sorted(names):
        share = int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:8], 16) / 16**8
        parts["train" if share < 0.76 else "validation" if share < 0.85 else "test"].append(name)
    return parts


def draw_gloss(rng: np.random.Generator, name: str | None, ordered: Sequence[float] = (0.74, 0.24, 0.02)) -> str:
    """One random utterance of the cafe, as glosses. The weights make the fourteen word signs about equally frequent.
    `ordered`: shares of orders for one thing, two, and so on."""

    def chance(p: float) -> bool:
        return rng.random() < p

    def items(counts: Sequence[float]) -> list[str]:
        number = 1 + int(rng.choice(len(counts), p=counts))
        glosses = []
        for thing in rng.choice(DRINKS_AND_FOOD, size=number, replace=False, p=(0.22, 0.24, 0.27, 0.27)):
            glosses += [str(rng.choice(MEASURES)), str(thing)] if chance(0.75) else [str(thing)]
        return glosses

    fingerspelled = f"fs-{name.upper()}" if name else ""
    place = str(rng.choice(NAME_PLACES, p=(0.14, 0.24, 0.14, 0.2, 0.14, 0.14))) if name else ""

    def named(where: str) -> list[str]:
        return [fingerspelled] if place == where else []

    glosses: list[str] = []
    order = items(ordered)
    refused = str(rng.choice([thing for thing in DRINKS_AND_FOOD if thing not in order]))
    refusal = place == "refusal" or chance(0.11)
    correction = not refusal and chance(0.2)
    if place == "greeting" or (chance(0.4) and not correction):
        glosses += ["HELLO", *named("greeting")]
    myself_first = place == "myself" and chance(0.5)
    if myself_first:
        glosses += ["I", fingerspelled]
    if correction:
        glosses.append("NO")
    if refusal and chance(0.5):  # the refusal comes first, a bare order may follow
        glosses += ["NO", refused, *named("refusal"), "THANK-YOU"]
        refusal = False
    style = "asker" if place == "asker" else str(rng.choice(("can", "will", "get", "bare"), p=(0.37, 0.09, 0.07, 0.47)))
    openings = {"asker": f"CAN {fingerspelled} GET", "can": "CAN I GET", "will": "I GET", "get": "GET", "bare": ""}
    please = style in ("get", "bare") and chance(0.3) or chance(0.3)
    glosses += openings[style].split() + order + named("items") + (["PLEASE"] if please else [])
    if refusal:
        glosses += ["NO", refused, *named("refusal")]
    if place == "thanks" or (chance(0.3) and "THANK-YOU" not in glosses):
        glosses += ["THANK-YOU", *named("thanks")]
    if place == "myself" and not myself_first:
        glosses += ["I", fingerspelled]
    return " ".join(glosses)


def draw_small_talk(rng: np.random.Generator, name: str | None) -> str:
    """One random utterance about feelings, prices and parting, as glosses."""
    thing = str(rng.choice(DRINKS_AND_FOOD))
    item = f"{rng.choice(MEASURES)} {thing}" if rng.random() < 0.5 else thing
    said = str(rng.choice([*SAYINGS]))
    to = f" fs-{name.upper()}" if name else " FATHER" if rng.random() < 0.2 else ""
    feels = f"{rng.choice(['I', 'YOU', 'FATHER'])} {rng.choice(FEELINGS)}"
    price = "HOW-MUCH" if rng.random() < 0.3 else f"HOW-MUCH {item}"
    if name:  # which a saying is for
        clauses = [str(rng.choice([feels, price])), f"{said}{to}"] if rng.random() < 0.5 else [f"{said}{to}"]
    else:
        count = rng.integers(1, 4)
        clauses = [str(clause) for clause in rng.permutation([feels, price, f"{said}{to}"])[:count]]
    if rng.random() < 0.3:
        clauses.insert(0, "HELLO")
    if rng.random() < 0.2:
        clauses.append("THANK-YOU")
    return " ".join(clauses)


@dataclass(frozen=True)
class Sentence:
    gloss: str
    name: str | None
    seen: bool  # the combination of signs occurs in train


def compose(
    split: str, count: int, *, seed: int, labels: Iterable[str], train: Sequence[Sentence] = ()
) -> list[Sentence]:
    """What the utterances of a split say: a seeded stream, from which those are kept that the labels at hand can sign.

    `labels` are raw ones ("coffee", "thank-you", "e"). `train` decides what counts as seen; a share of UNSEEN of a
    held-out split is drawn until it is not.

    Raises:
        ValueError: the labels allow no utterance.
    """
    labels = set(labels)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    names = [name for name in split_names(read_names(), seed)[split] if set(name.lower()) <= labels]
    trained = {combination(sentence.gloss) for sentence in train}
    sentences: list[Sentence] = []
    used: set[str] = set()
    queue: list[str] = []
    with_name, unseen = (rng.permutation(count) < round(share * count) for share in (NAMED[split], UNSEEN))
    for index in range(count):
        name = None
        if names and with_name[index]:
            if not queue:
                queue = [names[pick] for pick in rng.permutation(len(names))]
            name = queue.pop()
        for attempt in range(2000):
            gloss = draw_gloss(rng, name)
            if not {word.lower() for word in gloss.split() if not word.startswith("fs-")} <= labels:
                continue
            seen = split == "train" or combination(gloss) in trained
            # Wishes for held-out splits, given up one by one where few labels allow few sentences: novelty, then no
            # repetition.
            if split != "train" and (seen == unseen[index] and attempt < 1000 or gloss in used and attempt < 1500):
                continue
            break
        else:
            raise ValueError(
                f"the labels {sorted(labels)} allow no utterance; the raw folder needs the cafe's words, see README.md"
            )
        used.add(gloss)
        sentences.append(Sentence(gloss, name, seen))
    return sentences


def compose_spelling(count: int, *, seed: int, labels: Iterable[str], train: Sequence[Sentence]) -> list[Sentence]:
    """What the utterances of the harder set say: words and test names in turn, in short frames."""
    labels = set(labels)
    rng = np.random.default_rng([seed, len(SPLITS)])
    spelled = {sentence.name.lower() for sentence in train if sentence.name}
    trained = {combination(sentence.gloss) for sentence in train}
    names, words = split_names(read_names(), seed)["test"], read_names(WORDS_FILE)
    pools = [
        [word for word in rng.permutation(pool) if set(word.lower()) <= labels and word.lower() not in spelled]
        for pool in (names, words)
    ]
    frames = [frame for frame in SPELLING_FRAMES if {word.lower() for word in frame.split() if word != "{}"} <= labels]
    sentences = []
    for index in range(count if frames and all(pools) else 0):
        pool = pools[index % 2]
        word = pool[index // 2 % len(pool)]
        gloss = str(rng.choice(frames)).format(f"fs-{word.upper()}")
        sentences.append(Sentence(gloss, word.capitalize(), combination(gloss) in trained))
    return sentences


def compose_small_talk(split: str, *, seed: int, labels: Iterable[str], count: int) -> list[Sentence]:
    """Utterances of MORE (for training) or of SMALL_TALK, no two the same; of the latter, none that the former has.

    Raises:
        ValueError: the labels do not allow so many.
    """
    labels, sentences, used = set(labels), [], set()
    if split == SMALL_TALK:
        used = {
            sentence.gloss
            for sentence in compose_small_talk(MORE, seed=seed, labels=EVERY_LABEL, count=SMALL_TALK_SIZES[MORE])
        }
    rng = np.random.default_rng([seed, len(SPLITS) + 2, split == SMALL_TALK])
    pool = split_names(read_names(), seed)["test" if split == SMALL_TALK else "train"]
    names = [name for name in pool if set(name.lower()) <= labels]
    for _ in range(100 * count):
        name = str(rng.choice(names)) if names and rng.random() < 0.3 else None
        gloss = draw_small_talk(rng, name)
        if gloss not in used and {label for label, _ in labels_of(gloss)} <= labels:
            used.add(gloss)
            sentences.append(Sentence(gloss, name, split != SMALL_TALK))
            if len(sentences) == count:
                return sentences
    raise ValueError(
        f"the labels {sorted(labels)} allow {len(sentences)} different utterances of small talk, not {count}"
    )


def compose_short(
    count: int, *, seed: int, labels: Iterable[str], train: Sequence[Sentence], names_of: str = "test"
) -> list[Sentence]:
    """What people say whose labels allow no order of the cafe: greetings, thanks, and the names of the split `names_of`
    that they can spell.

    Raises:
        ValueError: not even that.
    """
    labels = set(labels)
    rng = np.random.default_rng([seed, len(SPLITS) + 1])
    trained = {combination(sentence.gloss) for sentence in train}
    names = [name for name in split_names(read_names(), seed)[names_of] if set(name.lower()) <= labels]
    frames = [
        frame
        for frame in SHORT
        if {word.lower() for word in frame.split()} - {"{}"} <= labels and (names or "{}" not in frame)
    ]
    if any("{}" in frame for frame in frames):  # what has no name has few forms
        frames = [frame for frame in frames if "{}" in frame] * 4 + [frame for frame in frames if "{}" not in frame]
    if not frames:
        raise ValueError(
            f"the labels {sorted(labels)} allow no utterance: expected letters of a name, hello or thank-you"
        )
    sentences, queue = [], []
    for _ in range(count):
        frame, name = str(rng.choice(frames)), None
        if "{}" in frame:
            queue = queue or [names[pick] for pick in rng.permutation(len(names))]
            name = queue.pop()
        gloss = frame.format(f"fs-{name.upper()}" if name else "")
        sentences.append(Sentence(gloss, name, combination(gloss) in trained))
    return sentences


def labels_of(gloss: str) -> list[tuple[str, bool]]:
    """Gloss -> raw labels in order, and whether each is a letter of a name."""
    labels: list[tuple[str, bool]] = []
    for word in gloss.split():
        labels += [(letter, True) for letter in word[3:].lower()] if word.startswith("fs-") else [(word.lower(), False)]
    return labels
