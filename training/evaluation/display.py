"""What the report of `lslm evaluate` and the demo page both show: a clip for skeleton.js, words with how sure the model
was of each.

hub_cards/space has this file, skeleton.js and display.css as links: a Space has no LSLM package, so nothing of ours is
imported here.
"""

import base64
import html
import math

import numpy as np

MISSING = -32768  # for skeleton.js: there is no number for this joint
UNSURE = 0.5  # words below this probability are underlined: colour alone says nothing to some
LEFT_SHOULDER, RIGHT_SHOULDER = 16, 17
LEGS = [1, 2, 4, 5, 7, 8, 10, 11]
LEGEND = """
<p class="legend">Colour: the model is <span class="word" style="--p:1">sure</span>
<span class="word" style="--p:.6">less sure</span> <span class="word unsure" style="--p:.1">guessing</span>.
Without a confidence, that is what it believes and not how right it is.</p>
"""


# --- clips ------------------------------------------------------------------------------------------------------------


def motion_payload(joints: np.ndarray, fps: float, valid: np.ndarray | None = None, **more) -> dict:
    """What skeleton.js draws: joints in whole millimetres (int16, base64), which of them were seen (bits, base64), and
    where to look from.

    Args:
        joints: (T, 52, 3) in metres, +y up; nan where there is no number.
        valid: (T, 52) bool, which joints were seen; None: all.
        more: further keys of the result.
    """
    joints = np.asarray(joints, np.float64)
    finite = np.isfinite(joints).all(-1)
    joints = np.where(finite[..., None], joints, np.nan)
    seen = finite if valid is None else finite & np.asarray(valid, bool)
    joints = joints - np.nanmedian(joints.reshape(-1, 3), axis=0)  # 16 bits reach 32 m from there
    millimetres = np.where(finite[..., None], np.clip(np.round(np.nan_to_num(joints) * 1000), -32767, 32767), MISSING)
    upper = np.delete(joints, LEGS, axis=1)
    upper = upper[:, np.isfinite(upper).all(-1).any(0)]  # joints that the clip has
    # All of the clip, so that the picture does not jump; without a joint's outermost points, which may be errors of
    # tracking.
    low, high = np.nanpercentile(upper, [1, 99], axis=0) if upper.size else np.zeros((2, 1, 3))
    low, high = low.min(0), high.max(0)
    high[1] += 0.2  # the head is larger than its joint
    half = (high - low) / 2
    return {
        "fps": float(fps),
        "frames": len(joints),
        "motion": base64.b64encode(millimetres.astype("<i2").tobytes()).decode(),
        "seen": base64.b64encode(np.packbits(seen).tobytes()).decode(),
        "centre": ((low + high) / 2).tolist(),
        "half": [float(max(half[0], half[2]) + 0.06), float(half[1] + 0.03)],  # wide enough from the side as well
        "facing": facing(joints),
        **more,
    }


def facing(joints: np.ndarray) -> float:
    """Where the person of (T, 52, 3) joints mostly faces: radians about +y from +z; 0 if that is not to be told."""
    across = (joints[:, LEFT_SHOULDER] - joints[:, RIGHT_SHOULDER])[:, [0, 2]]
    across = across[np.isfinite(across).all(-1)]
    if not len(across) or np.linalg.norm(across := np.median(across, axis=0)) < 1e-3:
        return 0.0
    return float(math.atan2(-across[1], across[0]))


# --- words ------------------------------------------------------------------------------------------------------------


def percent(chance: float) -> str:
    """0 % and 100 % are left to what is certain. With blanks that no line breaks at."""
    if 0 < chance < 0.01:
        return "below 1\u00a0%"
    return "above 99\u00a0%" if 0.99 < chance < 1 else f"{100 * chance:.0f}\u00a0%"


def word_html(word: str, chance: float, kind: str = "") -> str:
    """A word on a tint that is stronger the less sure the model was; `word` is HTML, `kind` further classes."""
    kind = ("word unsure" if chance < UNSURE else "word") + kind
    return f'<span class="{kind}" style="--p:{chance:.3f}" title="{percent(chance)}">{word}</span>'


def sureness_html(
    words: list[tuple[str, float]], probability: float, complete: bool, confidence: float | None = None
) -> str:
    """How sure the model was of all of a sentence, and of its least certain word.

    Args:
        words: with the confidence of each, or its probability where the model is not calibrated.
        probability: of the sentence. confidence: the expected share of right words; None: not calibrated.
    """
    sure = f"Sure of the whole sentence: {percent(probability)}."
    if confidence is not None:
        sure = f"Confidence: {percent(confidence)} of the words are likely to be right."
    word, chance = min(words, key=lambda pair: pair[1], default=("", 1.0))
    if chance < 0.99:
        sure += f" Least sure of “{html.escape(word)}”: {percent(chance)}."
    if not complete:
        sure += " It was cut off at the length limit."
    return f'<p class="sure">{sure}</p>'
