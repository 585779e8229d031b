"""More to train on than git holds: the takes of the train split in new orders, saying what nobody can know.

    python examples/asl_cafe/recombine.py --out runs/asl_cafe/data
    python examples/asl_cafe/recombine.py --more --without borisgraudt --out runs/strangers/without-borisgraudt

The train split says the same few thousand things again and again, and a language model learns to recite them. Here
every utterance is another one, and every name another string of letters, so that reading is all that helps. The folder
is a data set: the train split with them beside it, and the validation split. Nothing is recorded anew: takes are cut
out of train.parquet; with --synthetic, some words are spelled by synthetic_signer.py. No utterance has a word that a
test asks for, nor a combination of signs that validation and test keep from training. With --without somebody is kept
from training, and what they alone sign is the test split.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cafe_grammar as cafe
import numpy as np
from build import FEATURES, Stitcher, Take, on_grid, signed
from datasets import Dataset, concatenate_datasets
from synthetic_signer import MOVES, Signer, on_body
from tqdm import tqdm

from lslm.processing.motion_features import mirrored
from lslm.training.dataset.motion_text import load_split

SPELLED = 0.35  # share of utterances about a name: half of them bare, the others in a short frame
ORDERED = (0.4, 0.3, 0.3)  # shares of orders for one, two and three things: long ones are what is hard
SMALL_TALK = 0.25  # share of small talk among the others
SIZES = (2, 10)  # letters
FIRST_THREE, FOURTH = "first-three", "borisgraudt"  # people whom the names of takes do not name
ALONE = 100  # utterances of the person whom training is kept from, beside
TAKES_ALONE = 5  # takes of each label on its own


class Recombiner(Stitcher):
    """Signs with the takes that rows of build.py were made of, as they lie there. An utterance has one person's takes
    where there are such; those of the first three, who have no names, count as one person's. A share `synthetic` of the
    spelled words comes from synthetic_signer.py, each by somebody new: takes "letters/synthetic/a/17"."""

    def __init__(self, rows: Dataset, seed: int, synthetic: float = 0.0):
        super().__init__([], "train", seed)
        self.synthetic, self.synthesised = synthetic, 0
        self.spelled: list[np.ndarray] = []  # the clips of letters to come, where nobody real spells
        self.takes: dict[tuple[str, bool], list[str]] = {}
        for row in rows.with_format("numpy"):
            joints = np.asarray(row["joints_mm"])
            for sign, (label, is_letter) in zip(row["signs"], cafe.labels_of(str(row["gloss"])), strict=True):
                take = str(sign["take"])
                if (take, is_letter) not in self.clips:
                    self.clips[take, is_letter] = joints[sign["start"] : sign["end"]]
                    self.takes.setdefault((label, is_letter), []).append(take)
        self.people = sorted({_person(take) for takes in self.takes.values() for take in takes})

    def sign(self, sentence: cafe.Sentence) -> tuple[np.ndarray, list[dict]]:
        self.person = str(self.rng.choice(self.people)) if len(self.people) > 1 else self.people[0]
        word = "".join(label for label, is_letter in cafe.labels_of(sentence.gloss) if is_letter)
        if not (word and self.synthetic and self.rng.random() < self.synthetic):
            return super().sign(sentence)
        signer, first = Signer(self.rng), 0
        still = [label for label, is_letter in self.takes if is_letter and label not in MOVES]
        arm = self._clip(self._next(str(self.rng.choice(still)), True), True) / 1000
        for hand in signer.spell(word):
            self.spelled.append(on_grid(1000 * on_body(hand, arm, first)))
            first += len(hand)
        joints, signs = super().sign(sentence)
        return mirrored(joints) if signer.left_handed else joints, signs

    def _next(self, label: str, is_letter: bool) -> Take:
        if is_letter and self.spelled:
            take = f"letters/synthetic/{label}/{self.synthesised}"
            self.synthesised += 1
            self.clips[take, True] = self.spelled.pop(0)
            return Take(take, label, "train", None, None, None)
        takes = self.takes[label, is_letter]
        if len(self.people) > 1:
            takes = [take for take in takes if _person(take) == self.person] or takes
        return Take(str(self.rng.choice(takes)), label, "train", None, None, None)

    def without(self, person: str) -> Recombiner:
        """Take all that `person` signs out of this one, into another."""
        if person not in self.people:
            raise ValueError(f"nobody is called {person}; people here: {', '.join(self.people)}")
        alone = copy.copy(self)
        takes, self.takes, alone.takes = self.takes, {}, {}
        for sign, names in takes.items():
            for signer, own in ((alone, True), (self, False)):
                if kept := [take for take in names if (_person(take) == person) == own]:
                    signer.takes[sign] = kept
        alone.people, alone.synthetic = [person], 0.0
        self.people = [other for other in self.people if other != person]
        return alone


def _person(take: str) -> str:
    """Who signs "words/PERSON/bye/4"."""
    person = "".join(take.split("/")[1:-2])
    return {"": FIRST_THREE, "letters": FOURTH}.get(person, person)


def alone(signer: Recombiner, seed: int) -> list[cafe.Sentence]:
    """What the takes of one person say: each sign by itself, and short utterances."""
    glosses = [f"fs-{label.upper()}" if is_letter else label.upper() for label, is_letter in sorted(signer.takes)]
    single = [cafe.Sentence(gloss, None, False) for gloss in glosses if gloss.startswith("fs-") or gloss in cafe.SHORT]
    labels = {label for label, _ in signer.takes}
    return single * TAKES_ALONE + cafe.compose_short(ALONE, seed=seed, labels=labels, train=())


def words(names: Sequence[str], letters: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Random letters, and the beginning of one name with the end of another, in turn; none that a test asks for."""
    listed = {*cafe.read_names(cafe.NAMES_FILE), *cafe.read_names(cafe.WORDS_FILE)}
    asked = {word.lower() for word in listed - set(names)}
    while True:
        first, last = rng.choice(names, 2)
        joined = first[: rng.integers(1, len(first))] + last[rng.integers(1, len(last)) :]
        strings = ("".join(rng.choice(letters, rng.integers(*SIZES))), joined.lower())
        yield from (string for string in strings if string not in asked)


def sentences(
    signer: Recombiner, names: Sequence[str], held_out: set[str], seed: int, small_talk: float = 0.0
) -> Iterator[cafe.Sentence]:
    """Utterances without end: a name on its own, one in the short frames of the harder test set, or what else is said
    in the cafe, a share of it `small_talk`, except the combinations `held_out`."""
    rng = np.random.default_rng([seed, 3])
    letters = [letter for letter in cafe.LETTERS if (letter, True) in signer.takes]
    made_up = words(names, letters, rng)
    while True:
        kind, name = rng.random() / SPELLED, next(made_up).capitalize()
        if kind < 1:
            frame = "{}" if kind < 0.5 else str(rng.choice(cafe.SPELLING_FRAMES))
            gloss = frame.format(f"fs-{name.upper()}")
        else:
            name = name if rng.random() < cafe.NAMED["train"] else None
            talks = small_talk and rng.random() < small_talk
            gloss = cafe.draw_small_talk(rng, name) if talks else cafe.draw_gloss(rng, name, ORDERED)
        if cafe.combination(gloss) not in held_out and set(cafe.labels_of(gloss)) <= set(signer.takes):
            yield cafe.Sentence(gloss, name, False)


def combinations(folder: Path, split: str) -> set[str]:
    return {cafe.combination(gloss) for gloss in load_split(str(folder), split)["gloss"]}


def _rows_without(person: str, rows: Dataset) -> list[int]:
    return [row for row, signs in enumerate(rows["signs"]) if person not in {_person(sign["take"]) for sign in signs}]


def write(rows: list[dict], path: Path) -> None:
    partial = path.with_suffix(".partial")  # renamed: a kill leaves no half a file
    Dataset.from_list(rows, features=FEATURES).to_parquet(partial)
    partial.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent, help="folder with data/train.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill with parquet files")
    parser.add_argument("--count", type=int, default=7000, help="so many utterances (default: %(default)s)")
    parser.add_argument(
        "--more", action="store_true", help="also the takes of further people, and small talk (the split more)"
    )
    parser.add_argument(
        "--without",
        metavar="PERSON",
        help=f"keep PERSON from training and validation, and write test.parquet, what they alone sign: {FIRST_THREE}, "
        f"{FOURTH}, or who else is named in the takes",
    )
    parser.add_argument(
        "--synthetic",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the spelled words this share is by people who never lived (default: none)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of words and takes (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 <= options.synthetic <= 1:
        parser.error(f"expected a share from 0 to 1 as --synthetic, got {options.synthetic:g}")
    try:
        files = {"train": "train", "validation": "validation"}
        files |= {cafe.MORE: f"train_{cafe.MORE}"} if options.more else {}
        parts = {split: load_split(str(options.data), split) for split in files}
        rows = concatenate_datasets([part for split, part in parts.items() if split != "validation"])
        if options.out.resolve() in (options.data.resolve(), (options.data / "data").resolve()):
            raise ValueError(f"--out is the folder of --data, {options.out}, and would replace it: name another")
        options.out.mkdir(parents=True, exist_ok=True)
        signer = Recombiner(rows, options.seed, options.synthetic)
        names = sorted({name for name in rows["name"] if name})
        held_out = combinations(options.data, "validation") | combinations(options.data, "test")
        held_out -= {cafe.combination(gloss) for gloss in rows["gloss"]}
        if options.more:
            held_out |= combinations(options.data, cafe.SMALL_TALK)
        (options.out / "test.parquet").unlink(missing_ok=True)  # of an earlier run, of somebody who now trains
        if options.without:
            stranger = signer.without(options.without)
            test = alone(stranger, options.seed)
            write(signed("test", test, stranger), options.out / "test.parquet")
            parts = {split: part.select(_rows_without(options.without, part)) for split, part in parts.items()}
        talk = SMALL_TALK if options.more else 0.0
        drawn = islice(sentences(signer, names, held_out, options.seed, talk), options.count)
        recombined = signed("recombined", tqdm(drawn, "recombining", options.count, unit="utterance"), signer)
        for split, name in files.items():
            path = options.out / f"{name}.parquet"
            if not options.without:
                shutil.copy(options.data / "data" / f"{split}.parquet", path)
            elif len(parts[split]):
                parts[split].to_parquet(path)
            else:
                path.unlink(missing_ok=True)  # of an earlier run, with the person in it
        if (options.data / "README.md").is_file():  # licence and languages, for what is trained on it
            shutil.copy(options.data / "README.md", options.out)
        write(recombined, options.out / "train_recombined.parquet")
    except (ValueError, OSError) as error:
        print(f"recombine.py: {error}", file=sys.stderr)
        return 2
    print(f"{len(recombined)} utterances, {len({row['text'] for row in recombined})} of them different: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
