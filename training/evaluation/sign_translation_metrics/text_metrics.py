"""Definitions of text scores, each with its signature: the same text moves by 3 BLEU with the definition.

A definition is two functions: statistics of each sentence (N, K), and the score of their sum (..., K). The corpus score
is that of all sentences; a confidence interval is that of many resamples, at the price of a matrix product.
"""

import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

# The words that rBLEU leaves out: Tarres et al., "Sign Language Translation from Instructional Videos", 2023;
# examples/sign_language/scripts/blacklisted_words.txt of github.com/imatge-upc/slt_how2sign_wicv2023 (MIT).
BLOCKLIST = """
the to and you a of that is it in your going this so on i have can with are just we be want for do if or up it's as
you're like get one i'm now what little out then make here go but not about we're when they all there my will at how
some right back really use very down don't that's because our way from them take more put an into sure bit also these
would know off lot over time which thing other where again any actually has come there's through by her much their
those they're he might me you'll could you've than was let's should we'll i've his end able doesn't many every we've
each does been him i'll yourself am had she were while its who he's why already either us whatever did she's can't
cause what's
""".split()
# The file lists each word a second time with a capital, and has "Cas" for "Was". Kept, to score what they score.
BLOCKED = {*BLOCKLIST, *(word[0].upper() + word[1:] for word in BLOCKLIST if word != "was"), "Cas"}
ASCII_PUNCTUATION_BUT_APOSTROPHE = str.maketrans("", "", string.punctuation.replace("'", ""))
PUNCTUATION_TO_BLANK = str.maketrans(string.punctuation, " " * len(string.punctuation))


def normalize_words(text: str) -> str:
    """Text as WER sees it: lower case, everything but word characters and apostrophes to a blank."""
    return " ".join(re.sub(r"[^\w']", " ", text.lower()).split())


def check_pairs(references: Sequence[str], predictions: Sequence[str]) -> None:
    """Refuse what cannot be scored. An empty prediction can: all its words are deletions.

    Raises:
        ValueError: not two lists of strings of the same length, none at all, or an empty reference (lines from 1 on).
    """
    for what, texts in (("references", references), ("predictions", predictions)):
        if isinstance(texts, str) or not hasattr(texts, "__len__"):
            raise ValueError(f"{what} must be a list of sentences, not a {type(texts).__name__}")
        for line, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise ValueError(f"line {line} of the {what} is {text!r} ({type(text).__name__}); expected a string")
    if len(references) != len(predictions) or not len(references):
        raise ValueError(
            f"{len(references)} references for {len(predictions)} predictions; expected one prediction (it may be "
            "empty) for each reference, and at least one"
        )
    for line, text in enumerate(references, 1):
        if not text.strip():
            raise ValueError(f"line {line} of the references is empty; leave this sentence out of both")


@dataclass(frozen=True)
class Definition:
    """One definition of a score, or of a few that share their statistics.

    Attributes:
        names: of its scores.
        signature: what was computed, in the form that sacrebleu made common.
        statistics: (N references, N predictions) -> (N, K) numbers, one row a sentence.
        scores: (..., K) sums of rows -> one (...) array of percent for each name; nan where there is no value.
        details: names of further values that `text_metrics` gives with them.
        no_value: why there may be none.
    """

    names: tuple[str, ...]
    signature: str
    statistics: Callable[[Sequence[str], Sequence[str]], np.ndarray]
    scores: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    details: tuple[str, ...] = ()
    no_value: str = ""


def _sacrebleu_counts(metric: BLEU | CHRF, prepare: Callable = str) -> Callable:
    """Statistics as `metric` counts them."""
    # Its public functions give the score alone, whose sum over sentences is not that of the corpus.
    return lambda references, predictions: np.array(
        metric._extract_corpus_statistics([*map(prepare, predictions)], [[*map(prepare, references)]]), dtype=float
    )


# --- BLEU -------------------------------------------------------------------------------------------------------------


def _bleu(sums: np.ndarray, smooth: bool = True) -> tuple[np.ndarray, ...]:
    """BLEU-1 to BLEU-4, each with n-grams up to that order. Smoothing is sacrebleu's "exp": the k-th order without a
    match counts as 1 / 2^k matches. Rows hold the words of the prediction, those of the reference, matching n-grams of
    order 1 to 4, n-grams of the prediction."""
    words, reference_words, matches, ngrams = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:]
    with np.errstate(divide="ignore", invalid="ignore"):
        halved = 0.5 ** np.cumsum((matches == 0) & (ngrams > 0), -1) if smooth else 0.0
        precision = np.where(ngrams > 0, np.where(matches > 0, matches, halved) / ngrams, 0.0)
        brevity = np.exp(np.minimum(0.0, 1.0 - reference_words / words))
        means = np.exp(np.cumsum(np.log(precision), -1) / np.arange(1, 5))
    return tuple(100.0 * np.where(matches[..., 0] > 0, brevity * means[..., n], 0.0) for n in range(4))


def _bleu_definition(suffix: str, signature: str, prepare=str, smooth=True, **options) -> Definition:
    names = tuple(f"bleu{order}{suffix}" for order in (1, 2, 3, 4))
    counts = _sacrebleu_counts(BLEU(force=True, **options), prepare)  # force: no remark on sentences that end in " ."
    return Definition(names, signature, counts, lambda sums: _bleu(sums, smooth))


def _sacrebleu_signature(case: str, tokenize: str) -> str:
    return f"BLEU|nrefs:1|case:{case}|eff:no|tok:{tokenize}|smooth:exp|version:{version('sacrebleu')}"


def _reduced(text: str) -> str:
    words = text.translate(ASCII_PUNCTUATION_BUT_APOSTROPHE).split()
    return " ".join(word for word in words if word not in BLOCKED)


def _rbleu_statistics(references, predictions):
    rows = _sacrebleu_counts(BLEU(force=True), _reduced)(references, predictions)
    rows[[not _reduced(reference) for reference in references]] = 0  # as there: nothing left of it, not counted
    return rows


# --- chrF and ROUGE-L -------------------------------------------------------------------------------------------------

CHRF2 = CHRF()
ROUGE = rouge_scorer.RougeScorer(["rougeL"])
ROUGE_OF_OUR_WORDS = rouge_scorer.RougeScorer(
    ["rougeL"], tokenizer=SimpleNamespace(tokenize=lambda text: normalize_words(text).split())
)


def _chrf(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.apply_along_axis(CHRF2._compute_f_score, -1, sums),)


def _mean_of(score: Callable) -> Callable:
    """Statistics of a mean over sentences: their scores, and 1."""
    return lambda references, predictions: np.array([(s, 1.0) for s in map(score, references, predictions)])


def _mean(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    return (100.0 * sums[..., 0] / sums[..., 1],)


def _rouge_l_coco(reference: str, prediction: str) -> float:
    """F-measure that favours recall: beta 1.2."""
    precision, recall, _ = ROUGE_OF_OUR_WORDS.score(reference, prediction)["rougeL"]
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if recall else 0.0


# --- CIDEr ------------------------------------------------------------------------------------------------------------


def _cider_statistics(references, predictions):
    """CIDEr-D of each sentence (nan: no value) and 1. The weights of n-grams come from all references given; they stay
    what they are when sentences are resampled."""

    def counts(text):
        words = normalize_words(text).split()
        return [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, 5)]

    wanted = [counts(reference) for reference in references]
    if len({normalize_words(reference) for reference in references}) < 2:
        return np.full((len(references), 2), (np.nan, 1.0))  # every n-gram is in every reference: no weight, no score
    documents = Counter(ngram for orders in wanted for order in orders for ngram in order)
    unknown = math.log(len(references))
    weights = {ngram: unknown - math.log(count) for ngram, count in documents.items()}

    def weighted(order):
        return {ngram: count * weights.get(ngram, unknown) for ngram, count in order.items()}

    rows = []
    for reference, prediction in zip(wanted, map(counts, predictions), strict=True):
        similarity = 0.0
        for theirs, ours in zip(map(weighted, reference), map(weighted, prediction), strict=True):
            norm = math.hypot(*theirs.values()) * math.hypot(*ours.values())
            dot = sum(min(ours[ngram], theirs[ngram]) * theirs[ngram] for ngram in ours.keys() & theirs.keys())
            similarity += dot / norm / 4 if norm else 0.0
        # pycocoevalcap measures length in bigrams
        difference = reference[1].total() - prediction[1].total()
        rows.append((10.0 * similarity * math.exp(-(difference**2) / (2 * 6.0**2)), 1.0))
    return np.array(rows)


# --- WER --------------------------------------------------------------------------------------------------------------


def align(reference: Sequence[str], prediction: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pairs of words (or characters) with as few errors as possible; None opposite to one that was left out or put in.

    Several alignments have equally few errors. This is the one that sign translation toolkits count by: from the end
    backwards, two words are paired before one is called put in, and that before one is called left out. jiwer finds as
    many errors, but divides them otherwise.
    """
    table = [list(range(len(prediction) + 1))]
    for i, word in enumerate(reference):
        above, row = table[-1], [i + 1]
        for j, other in enumerate(prediction):
            row.append(min(above[j] + (word != other), above[j + 1] + 1, row[j] + 1))
        table.append(row)
    pairs, i, j = [], len(reference), len(prediction)
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + (reference[i - 1] != prediction[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((reference[i], prediction[j]))
        elif j and table[i][j] == table[i][j - 1] + 1:
            j -= 1
            pairs.append((None, prediction[j]))
        else:
            i -= 1
            pairs.append((reference[i], None))
    return pairs[::-1]


def _aligned_words(reference: str, prediction: str) -> list[tuple[str | None, str | None]]:
    return align(normalize_words(reference).split(), normalize_words(prediction).split())


def _wer_statistics(references, predictions):
    """Rows of 4: insertions, deletions, substitutions, words of the reference."""
    rows = []
    for pairs in map(_aligned_words, references, predictions):
        insertions, deletions = sum(r is None for r, _ in pairs), sum(p is None for _, p in pairs)
        errors = sum(r != p for r, p in pairs)
        rows.append((insertions, deletions, errors - insertions - deletions, len(pairs) - insertions))
    return np.array(rows, dtype=float)


def _wer(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.where(sums[..., 3] > 0, 100.0 * sums[..., :3].sum(-1) / sums[..., 3], np.nan),)


def _error_counts(sums: np.ndarray, sentences: int) -> dict[str, float]:
    """The kinds of errors: counts, counts per sentence (Tables 3 and 4 of the paper), percent of reference words."""
    scores = {}
    for kind, count in zip(("insertion", "deletion", "substitution"), sums.astype(int).tolist(), strict=False):
        scores[f"{kind}s"] = count
        scores[f"{kind}s_per_sentence"] = count / sentences
        scores[f"{kind}_rate"] = 100.0 * count / float(sums[3])
    return scores | {"reference_words": int(sums[3])}


# --- all of them ------------------------------------------------------------------------------------------------------

_WORDS = "lower-cased, word characters and apostrophes"

DEFINITIONS = {
    "bleu": _bleu_definition("", _sacrebleu_signature("mixed", "13a")),
    "bleu_lower": _bleu_definition("_lower", _sacrebleu_signature("lc", "13a"), lowercase=True),
    "bleu_none": _bleu_definition("_none", _sacrebleu_signature("mixed", "none"), tokenize="none"),
    "bleu_motiongpt": _bleu_definition(
        "_motiongpt",
        "BLEU of MotionGPT (nlg-metricverse, tensorflow/nmt)|nrefs:1|case:lc|punctuation to blank|tok:none|smooth:none",
        smooth=False,
        tokenize="none",
        prepare=lambda text: text.lower().translate(PUNCTUATION_TO_BLANK),
    ),
    "rbleu": Definition(
        ("rbleu",),
        "reduced BLEU-4 (Tarres et al. 2023)|290 frequent words and punctuation but apostrophes out; empty references "
        f"not counted|{_sacrebleu_signature('mixed', '13a')}",
        _rbleu_statistics,
        lambda sums: _bleu(sums)[3:],
    ),
    "chrf": Definition(
        ("chrf",),
        f"chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|as sacrebleu {version('sacrebleu')}",
        _sacrebleu_counts(CHRF2),
        _chrf,
    ),
    "rouge_l": Definition(
        ("rouge_l",),
        f"ROUGE-L F1|rouge_score {version('rouge-score')}|lower-cased, a-z 0-9|no stemmer|mean over sentences",
        _mean_of(lambda reference, prediction: ROUGE.score(reference, prediction)["rougeL"].fmeasure),
        _mean,
    ),
    "rouge_l_coco": Definition(
        ("rouge_l_coco",),
        f"ROUGE-L F, beta 1.2, as pycocoevalcap|{_WORDS} (not PTB)|mean over sentences",
        _mean_of(_rouge_l_coco),
        _mean,
    ),
    "cider": Definition(
        ("cider",),
        f"CIDEr-D x 100, as pycocoevalcap|n 1-4, sigma 6, weights of these references|{_WORDS} (not PTB), no stemmer",
        _cider_statistics,
        _mean,
        no_value="it weighs n-grams by how few references have them, and needs two different references",
    ),
    "wer": Definition(
        ("wer",),
        f"WER|{_WORDS}|errors / reference words over the corpus|alignment: pairs before insertions before deletions",
        _wer_statistics,
        _wer,
        details=tuple(_error_counts(np.ones(4), 1)),
        no_value="the references have no words",
    ),
    "exact_match": Definition(
        ("exact_match",), "exact match|the strings themselves|mean over sentences", _mean_of(str.__eq__), _mean
    ),
}
ALL = tuple(DEFINITIONS)
DEFAULT = ("bleu", "rbleu", "chrf", "rouge_l", "rouge_l_coco", "cider", "wer", "exact_match")


def chosen(definitions: Sequence[str]) -> dict[str, Definition]:
    """Definitions by name.

    Raises:
        ValueError: there is none of that name.
    """
    for name in definitions:
        if name not in DEFINITIONS:
            close = get_close_matches(str(name), ALL, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"no definition {name!r}; {hint}there are {', '.join(ALL)}")
    return {name: DEFINITIONS[name] for name in definitions}


@lru_cache(maxsize=2 * len(DEFINITIONS))
def statistics(name: str, references: tuple[str, ...], predictions: tuple[str, ...]) -> np.ndarray:
    """(N, K) statistics of each sentence by that definition. Kept: intervals start from those that the score took."""
    rows = DEFINITIONS[name].statistics(references, predictions)
    rows.flags.writeable = False
    return rows


def signatures(definitions: Sequence[str] = DEFAULT) -> dict[str, str]:
    """Score name -> what exactly was computed."""
    picked = chosen(definitions).values()
    return {name: definition.signature for definition in picked for name in (*definition.names, *definition.details)}


def text_metrics(
    references: Sequence[str],
    predictions: Sequence[str],
    names: Sequence[str | None] | None = None,
    definitions: Sequence[str] = DEFAULT,
) -> dict[str, float]:
    """Corpus scores of translations, in percent but for counts; [`signatures`] says how each is defined.

    One reference for each prediction. A score without a value (CIDEr of one sentence) is left out, with a warning. WER
    comes with insertions, deletions and substitutions: counts, counts per sentence, and `*_rate`, percent of reference
    words.

    Args:
        names: the fingerspelled name in each reference, or None; scored apart when given. A name is compared with the
            word that the WER alignment puts opposite to it (nothing, if it puts none).
        definitions: of [`ALL`].

    Raises:
        ValueError: see [`check_pairs`]; an unknown definition; a name that is not in its reference.
    """
    picked = chosen(definitions)
    check_pairs(references, predictions)
    if names is not None and len(names) != len(references):
        raise ValueError(f"{len(references)} references for {len(names)} names; expected a name or None for each")
    references, predictions = tuple(references), tuple(predictions)
    if "rouge_l" in picked and any(not text.isascii() and re.search(r"[^\W\d_a-zA-Z]", text) for text in references):
        warnings.warn(
            "rouge_l sees the letters a to z alone; rouge_l_coco and chrf see all of these texts", stacklevel=2
        )
    scores = {}
    for name, definition in picked.items():
        sums = statistics(name, references, predictions).sum(0)
        values = [float(value) for value in definition.scores(sums)]
        if any(map(math.isnan, values)):
            warnings.warn(f"{name} has no value: {definition.no_value}", stacklevel=2)
            continue
        scores |= zip(definition.names, values, strict=True)
        if name == "wer":
            scores |= _error_counts(sums, len(references))
    scores["utterances"] = len(references)
    if names is not None and any(names):
        sums = name_statistics(references, predictions, names).sum(0)
        scores |= {"names": int(sums[2])} | {k: float(v) for k, v in zip(NAME_SCORES, name_scores(sums), strict=True)}
    return scores


NAME_SCORES = ("wer_without_names", "names_exact_match", "names_character_error_rate")


def name_statistics(references: Sequence[str], predictions: Sequence[str], names: Sequence[str | None]) -> np.ndarray:
    """Rows of 6: errors in other words than names, other words; names, those that are right; wrong letters of names,
    letters of names. [`name_scores`] makes [`NAME_SCORES`] of their sum."""
    rows = []
    for reference, prediction, name in zip(references, predictions, names, strict=True):
        aligned = _aligned_words(reference, prediction)
        # each word of the reference with the one opposite to it
        pairs = [pair for pair in aligned if pair[0] is not None]
        errors, words = sum(word != other for word, other in aligned), [word for word, _ in pairs]
        if not name:
            rows.append((errors, len(words), 0, 0, 0, 0))
            continue
        parts = normalize_words(name).split()  # Ann-Marie is two words to WER
        start = next((i for i in range(len(words)) if words[i : i + len(parts)] == parts), None)
        if start is None:
            raise ValueError(f"the name {name!r} is not in its reference {' '.join(words)!r}")
        opposite = [other or "" for _, other in pairs[start : start + len(parts)]]
        wrong = sum(part != other for part, other in zip(parts, opposite, strict=True))
        edits = sum(a != b for part, other in zip(parts, opposite, strict=True) for a, b in align(part, other))
        rows.append((errors - wrong, len(words) - len(parts), 1, not wrong, edits, len("".join(parts))))
    return np.array(rows, dtype=float)


def name_scores(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """(..., 6) sums of [`name_statistics`] -> [`NAME_SCORES`], percent; nan where no name is."""
    errors, words, names, exact, edits, letters = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100.0 * errors / np.maximum(words, 1), 100.0 * exact / names, 100.0 * edits / letters
