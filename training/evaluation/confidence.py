"""Does a model know when it does not know? Calibration of its confidence, and how honest it is on other clips.

A word is right if it is none of the errors that WER counts (with the punctuation at it left out). The confidence of a
word is the probability that it is right, that of a clip the share of its words that are expected to be. The expected
calibration error is the mean distance between confidence and what came true, over bins of equal width weighted by what
falls into them (Guo et al., 2017, "On calibration of modern neural networks").
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...modeling_lslm.confidence_lslm import EVIDENCE, evidence
from .no_signing import SURE
from .report import differences
from .sign_translation_metrics import text_metrics

BINS = 15
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FEWEST_WORDS = 100  # right and wrong ones together, which a calibration is fitted to
RIDGE = 1e-2  # keeps weights finite where words right and wrong are told apart without an error


def right_words(reference: str, text: str) -> list[bool]:
    """For each word of `text`, between blanks, whether it is right; see above."""
    wrong = differences(reference, text)[1]
    return [not any(start in range(*word.span()) for start, _ in wrong) for word in re.finditer(r"\S+", text)]


def fit_calibration(
    probabilities: Sequence[list[float]], oddities: Sequence[float], right: Sequence[list[bool]]
) -> dict:
    """`config.calibration`: the logistic regression with the greatest likelihood, found by Newton's steps.

    Args:
        probabilities: of the words of each clip. oddities: of each clip. right: which words are.

    Raises:
        ValueError: too few words, or all are right, or none.
    """
    rows = np.array(
        [row for clip, oddity in zip(probabilities, oddities, strict=True) for row in evidence(clip, oddity)]
    )
    truth = np.array([word for words in right for word in words], np.float64)
    if len(truth) < FEWEST_WORDS or truth.all() or not truth.any():
        raise ValueError(
            f"no calibration from {len(truth)} words of which {int(truth.sum())} are right: it takes {FEWEST_WORDS}, "
            "some right and some wrong. Give more clips of the split, none of which the model was trained on"
        )
    mean, scale = rows.mean(0), rows.std(0)
    scale[scale <= 1e-12 * np.abs(mean)] = np.inf  # alike everywhere: says nothing, weighs nothing
    inputs = np.concatenate([np.ones((len(rows), 1)), (rows - mean) / scale], axis=1)
    weights, ridge = np.zeros(inputs.shape[1]), RIDGE * np.eye(inputs.shape[1])
    for _ in range(50):
        chances = 1 / (1 + np.exp(-(inputs @ weights).clip(-30, 30)))
        slope = inputs.T @ (truth - chances) - ridge @ weights
        curvature = (inputs * (chances * (1 - chances))[:, None]).T @ inputs + ridge
        weights += (step := np.linalg.solve(curvature, slope))
        if np.abs(step).max() < 1e-8:
            break
    slopes = weights[1:] / scale
    numbers = {"bias": weights[0] - slopes @ mean} | dict(zip(EVIDENCE, slopes, strict=True))
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def calibration_error(
    confidences: Sequence[float], right: Sequence[float], bins: int = BINS
) -> tuple[float, list[dict]]:
    """The expected calibration error in percent, and the reliability table: for each bin that is not empty its bounds,
    how many fell into it, their mean confidence and how much of them is right.

    Args:
        confidences: from 0 to 1. right: what came true: 0 or 1, or a share.
    """
    sure, truth = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    if not len(sure):
        return 0.0, []
    where = np.minimum((sure * bins).astype(int), bins - 1)
    table, error = [], 0.0
    for place in np.unique(where):
        inside = where == place
        row = {"low": place / bins, "high": (place + 1) / bins, "count": int(inside.sum())}
        row |= {"confidence": sure[inside].mean(), "right": truth[inside].mean()}
        error += row["count"] / len(sure) * abs(row["confidence"] - row["right"])
        table.append({name: round(float(value), 4) if name != "count" else value for name, value in row.items()})
    return 100.0 * error, table


def reliability(
    references: Sequence[str],
    texts: Sequence[str],
    probabilities: Sequence[list[float]],
    confidences: Sequence[list[float]] | None,
) -> dict:
    """`confidence` of results.json.

    Args:
        texts: translations. probabilities: of each of their words. confidences: the same; None: no calibration, so the
            probabilities are taken as they are.

    Returns:
        `calibrated`, `bins`; for `words` and `clips` their calibration error `ece` in percent, that of the
        probabilities as they are (`uncalibrated`), and the `table`; `coverage`: what is left of the clips at each
        `min_confidence`, in percent, and the scores of these.
    """
    right = [right_words(reference, text) for reference, text in zip(references, texts, strict=True)]
    words = probabilities if confidences is None else confidences
    sure, shares = (np.array([np.mean(clip) if clip else 0.0 for clip in of]) for of in (words, right))

    def errors(of: Sequence[list[float]]) -> dict[str, tuple[float, list[dict]]]:
        flat, truth = ([one for clip in clips for one in clip] for clips in (of, right))
        means = [np.mean(clip) if clip else 0.0 for clip in of]
        return {"words": calibration_error(flat, truth), "clips": calibration_error(means, shares)}

    about, before = {}, errors(probabilities)
    for of, (error, table) in errors(words).items():
        about[of] = {"ece": round(error, 2), "uncalibrated": round(before[of][0], 2), "table": table}
    coverage = []
    for least in THRESHOLDS:
        kept = np.flatnonzero(sure >= least)
        row = {"min_confidence": least, "coverage": round(100 * len(kept) / len(sure), 2)}
        if len(kept):
            pairs = ([of[i] for i in kept] for of in (references, texts))
            scores = text_metrics(*pairs, definitions=["wer", "exact_match"])
            row |= {name: round(scores[name], 2) for name in ("wer", "exact_match") if name in scores}
            row["words_right"] = round(100 * float(np.mean([one for i in kept for one in right[i]] or [0.0])), 2)
        coverage.append(row)
    return {"calibrated": confidences is not None, "bins": BINS, **about, "coverage": coverage}


def as_text(result: dict) -> str:
    """What `reliability` returns, in lines."""
    errors = " and ".join(f"{result[of]['ece']:.1f} % for {of}" for of in ("words", "clips"))
    raw = "" if result["calibrated"] else "; the model is not calibrated (--calibrate)"
    lines = [f"expected calibration error ({result['bins']} bins): {errors}{raw}"]
    half = next((row for row in result["coverage"] if row["min_confidence"] == SURE), None)
    if result["calibrated"] and half and "wer" in half:
        kept = f"{half['coverage']:.1f} % of the clips, WER {half['wer']:.1f}"
        lines.append(f"of a confidence of {SURE} or more: {kept}")
    if "no_signing" in result:
        rate, clips = result["no_signing"]["sure"], result["no_signing"]["clips"]
        lines.append(f"no signing: {rate:.1f} % of {clips} clips get a sentence of a confidence above {SURE}")
    return "\n".join(lines)


def draw(result: dict, path: Path) -> None:
    """The reliability of words and clips, and accuracy against coverage, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for plot, of in zip(axes, ("words", "clips"), strict=False):
        table = result[of]["table"]
        left, width = [row["low"] for row in table], 1 / result["bins"]
        plot.bar(left, [row["right"] for row in table], width, align="edge", color="#1f6f78", edgecolor="white")
        plot.plot([0, 1], [0, 1], color="#c2570c")
        plot.plot([row["confidence"] for row in table], [row["right"] for row in table], "o", color="#1c1e22", ms=3)
        title = f"{of}: calibration error {result[of]['ece']:.1f} %"
        plot.set(title=title, xlabel="confidence", ylabel="right", xlim=(0, 1), ylim=(0, 1))
    rows = [row for row in result["coverage"] if "words_right" in row]
    for name, label, colour in (("words_right", "words", "#1f6f78"), ("exact_match", "sentences", "#c2570c")):
        shown = [row for row in rows if name in row]
        points = [row["coverage"] for row in shown], [row[name] for row in shown]
        axes[2].plot(*points, "o-", ms=3, label=label, color=colour)
    axes[2].set(title="what is kept at a min_confidence", xlabel="clips kept, %", ylabel="right, %", xlim=(0, 102))
    axes[2].set_ylim(0, 102)
    axes[2].legend(loc="lower left")
    figure.savefig(path, dpi=110)


def check_calibration(folder: str, split: str, config) -> None:
    """Refuse to calibrate what has no translations or no folder, and on what the model was trained on.

    Raises:
        ValueError: says which.
    """
    if not Path(folder, "config.json").is_file():
        raise ValueError(f"--calibrate writes into the model's config.json, and {folder} is no folder with one")
    if not hasattr(config, "calibration"):
        raise ValueError(f"--calibrate is for a model that translates; {folder} is a sign tokenizer")
    if split == "train":
        raise ValueError("--calibrate on the training split makes a model too sure of all others: --split validation")


def save_calibration(folder: str, calibration: dict) -> None:
    """Put `calibration` into FOLDER/config.json, and touch nothing else."""
    path = Path(folder, "config.json")
    config = json.loads(path.read_text(encoding="utf-8")) | {"calibration": calibration}
    partial = path.with_name(f".config.json.{os.getpid()}")  # renamed when it is whole: a kill leaves no half a file
    partial.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)
