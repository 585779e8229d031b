"""How far a score would move with other sentences, and whether two systems differ."""

from collections.abc import Callable, Sequence

import numpy as np

from .text_metrics import DEFAULT, NAME_SCORES, check_pairs, chosen, name_scores, name_statistics, statistics


def confidence_intervals(
    references: Sequence[str],
    predictions: Sequence[str],
    definitions: Sequence[str] = DEFAULT,
    samples: int = 1000,
    seed: int = 0,
    names: Sequence[str | None] | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % intervals by percentile bootstrap over sentences: score name -> (low, high), in percent like the score.

    Sentences are drawn with replacement; the same draws for every score. The intervals know nothing of other training
    seeds, signers or recordings: for those, train again.

    Args:
        samples: number of resamples.
        names: as of [`text_metrics`]; their scores get intervals as well.

    Raises:
        ValueError: see [`check_pairs`]; an unknown definition; no samples.
    """
    check_pairs(references, predictions)
    resampled = _draws(len(references), samples, seed)
    scored = _scored(references, predictions, definitions)
    if names is not None and any(names):
        rows = name_statistics(references, predictions, names)
        scored |= {name: (rows, lambda sums, at=at: name_scores(sums)[at]) for at, name in enumerate(NAME_SCORES)}
    return {name: _interval(score(resampled @ rows)) for name, (rows, score) in scored.items()}


def compare(
    references: Sequence[str],
    predictions: Sequence[str],
    others: Sequence[str],
    definitions: Sequence[str] = DEFAULT,
    samples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Two systems on the same references: score name -> score, other, difference, low, high, p.

    `low` and `high` bound the difference (score - other) over paired bootstrap resamples (Koehn 2004). `p` is that of
    approximate randomisation (Riezler and Maxwell 2005), two-sided: how often a difference at least as large arises
    when a coin decides, for each sentence, which system said which of the two translations.

    Args, Raises: as [`confidence_intervals`]. groups: a label of each sentence; a resample takes all sentences of a
    label or none. None: each stands for itself.
    """
    check_pairs(references, predictions)
    check_pairs(references, others)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(groups or range(len(references))))}
    group = [numbers[label] for label in groups or numbers]
    resampled = _draws(len(numbers), samples, seed)[:, group]
    swapped = np.random.default_rng([seed, 1]).random((samples, len(references))) < 0.5
    theirs = _scored(references, others, definitions)
    tests = {}
    for name, (rows, score) in _scored(references, predictions, definitions).items():
        other_rows = theirs[name][0]
        value, other = score(rows.sum(0)), score(other_rows.sum(0))
        moved = swapped @ (other_rows - rows)
        by_chance = np.abs(score(rows.sum(0) + moved) - score(other_rows.sum(0) - moved))
        as_large = np.sum(by_chance >= abs(value - other) - 1e-9)  # rounding must not make equal ones smaller
        low, high = _interval(score(resampled @ rows) - score(resampled @ other_rows))
        tests[name] = {
            "score": float(value),
            "other": float(other),
            "difference": float(value - other),
            "low": low,
            "high": high,
            "p": float((1 + as_large) / (1 + samples)),
        }
    return tests


def _draws(sentences: int, samples: int, seed: int) -> np.ndarray:
    """(samples, sentences): how often each sentence is in each resample."""
    if samples < 1:
        raise ValueError(f"{samples} resamples; expected at least 1 (1000 is usual)")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(sentences, size=sentences) for _ in range(samples))
    return np.array([np.bincount(indices, minlength=sentences) for indices in drawn], dtype=float)


def _scored(references, predictions, definitions) -> dict[str, tuple[np.ndarray, Callable]]:
    """Score name -> statistics of each sentence (N, K), and the function from their sums to that score. Scores without
    a value are left out."""
    scored = {}
    for key, definition in chosen(definitions).items():
        rows = statistics(key, tuple(references), tuple(predictions))
        for at, name in enumerate(definition.names):
            if not np.isnan(definition.scores(rows.sum(0))[at]):
                scored[name] = rows, lambda sums, scores=definition.scores, at=at: scores(sums)[at]
    return scored


def _interval(scores: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(scores, [2.5, 97.5])
    return float(low), float(high)
