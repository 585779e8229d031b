"""How a model reads people, cameras and trackers that its data set does not show.

Each condition changes the joints of every clip as another camera, tracker or signer would, and leaves the text alone. A
clip stands as the model reads it: y up, the signer facing +z at the start, where the camera is; so a turn, a place or a
size that the features take away show no loss here, which is measured all the same.
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...processing.feature_extraction_lslm import resample
from ...processing.motion_features import LEFT_HAND, RIGHT_HAND, fill_in_time, mirrored
from ..dataset.augmentation import facing_the_camera, of_another_body, rotation
from .sign_translation_metrics import compare, text_metrics

LOST_SECONDS, EVERY_SECONDS = 0.5, 2.0  # how long a hand is out of sight, and how often
DRIFT_SECONDS = 1.0  # between the points that a drift goes through

Change = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]


def _turned(axis: int, degrees: float) -> Change:
    """The camera is turned about x (pitched), y (stands elsewhere) or z (rolled) by so much, to either side."""
    return lambda joints, rng, fps: joints @ rotation(axis, np.deg2rad(rng.choice([-degrees, degrees]))).T


def _deeper(factor: float) -> Change:
    return lambda joints, rng, fps: joints * (1.0, 1.0, factor)


def _slower(factor: float) -> Change:
    return lambda joints, rng, fps: resample(joints, fps, fps * factor)


def _frames_lost(joints, rng, fps):
    """A random half of the frames was never seen; what reads motion files fills them in from their neighbours."""
    seen = np.zeros(len(joints), bool)
    seen[rng.permutation(len(joints))[: (len(joints) + 1) // 2]] = True
    return fill_in_time(joints, seen)


def _noisy(metres: float) -> Change:
    """Tremor: each coordinate of each joint and frame is off by itself, with this standard deviation."""
    return lambda joints, rng, fps: joints + rng.normal(0.0, metres, joints.shape)


def _drifting(metres: float) -> Change:
    """Each joint wanders between places that are off by this standard deviation."""

    def change(joints, rng, fps):
        steps = int(np.ceil(len(joints) / (DRIFT_SECONDS * fps))) + 1
        places = rng.normal(0.0, metres, (steps, *joints.shape[1:]))
        return joints + resample(places, 1 / DRIFT_SECONDS, fps)[: len(joints)]

    return change


def _hand_lost(joints, rng, fps):
    """Each hand is out of sight now and then; its fingers are filled in, as their wrist goes on."""
    every, lost = round(EVERY_SECONDS * fps), round(LOST_SECONDS * fps)
    joints = joints.copy()
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        seen = (np.arange(len(joints)) + rng.integers(every)) % every >= lost
        if seen.any():
            joints[:, hand] = joints[:, [wrist]] + fill_in_time(joints[:, hand] - joints[:, [wrist]], seen)
    return joints


CONDITIONS: dict[str, Change] = {
    "camera turned by 45 degrees": _turned(1, 45),
    "camera pitched by 10 degrees": _turned(0, 10),
    "camera rolled by 10 degrees": _turned(2, 10),
    "depth x 0.7": _deeper(0.7),
    "depth x 1.3": _deeper(1.3),
    "half of the frames lost": _frames_lost,
    "hands lost for half a second": _hand_lost,
    "1.5 times faster": _slower(1 / 1.5),
    "1.5 times slower": _slower(1.5),
    "2 times slower": _slower(2.0),
    "noise of 2 mm": _noisy(0.002),
    "noise of 4 mm": _noisy(0.004),
    "drift of 4 mm": _drifting(0.004),
    "left-handed": lambda joints, rng, fps: mirrored(joints),
    "other bones": lambda joints, rng, fps: of_another_body(joints, rng, 0.1),
}


def changed(joints: np.ndarray, condition: str, fps: float, seed: int, index: int) -> np.ndarray:
    """(T, 52, 3) float32 joints of clip number `index` under one of `CONDITIONS`: (T', 52, 3), float32, in metres.

    The same for the same `seed`, whatever other conditions there are.
    """
    rng = np.random.default_rng([seed, index, zlib.crc32(condition.encode())])
    return CONDITIONS[condition](facing_the_camera(joints), rng, fps).astype(np.float32)


def robustness(references: Sequence[str], clean: Sequence[str], translate: Callable, samples: int, seed: int) -> dict:
    """Word error rates under all `CONDITIONS`.

    Args:
        references: a text for each clip. clean: the translations of the clips as they are.
        translate: condition -> translations of the clips under it.
        samples: of the paired bootstrap over clips.

    Returns:
        For each condition `wer`, `difference` (points of WER above `clean`) and its 95 % `interval`.
    """
    rows = {}
    for condition in CONDITIONS:
        translations = translate(condition)
        test = compare(references, translations, clean, ["wer"], samples, seed)["wer"]
        numbers = (text_metrics(references, translations, definitions=["wer"])["wer"], test["difference"])
        wer, difference, low, high = (round(value, 2) for value in (*numbers, test["low"], test["high"]))
        rows[condition] = {"wer": wer, "difference": difference, "interval": [low, high]}
    return rows


def as_text(rows: dict, clean: float) -> str:
    """What `robustness` returns as lines of text; `clean` is the WER of the clips as they are."""
    width = max(map(len, CONDITIONS))
    lines = [f"{'condition':{width}}    WER %   points above clean", f"{'clean':{width}} {clean:8.1f}"]
    for name, row in rows.items():
        low, high = row["interval"]
        lines.append(f"{name:{width}} {row['wer']:8.1f}   {row['difference']:+.1f} ({low:+.1f} to {high:+.1f})")
    return "\n".join(lines)


def draw(rows: dict, clean: float, path: Path) -> None:
    """What `robustness` returns as a picture: a bar a condition, with its interval, beside the line of `clean`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.32 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    bounds = np.array(
        [
            [row["difference"] - low, high - row["difference"]]
            for row in rows.values()
            for low, high in [row["interval"]]
        ]
    )
    values = [row["wer"] for row in rows.values()]
    axes.barh(list(rows), values, xerr=bounds.T.clip(0), color="#1f6f78", ecolor="#1c1e22", capsize=2)
    axes.axvline(clean, color="#c2570c", label=f"clean: {clean:.1f}")
    axes.invert_yaxis()
    axes.set_xlabel("WER in %, with the 95 % interval of what is above clean")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
