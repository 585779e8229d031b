"""The same motion in two splits: a recording that was exported twice, under two names.

Hands in a few frames are what clips are compared by: found again at another frame rate, with noise of 3 mm or a frame
less, and no two of the 2,353 takes of single words and letters behind ASL Cafe, three people's, are as near.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ....processing.motion_features import JOINT_NAMES

HANDS = [JOINT_NAMES.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("wrist", "middle3")]
FRAMES = 6  # evenly over the clip
NEAR, MOVING = 10.0, 20.0  # millimetres: clips that are one, on average; hands that do something
BLOCK = 1000  # clips that are compared with all others at a time


def sketch(joints_mm: np.ndarray) -> str:
    """(T, 52, 3) int16 millimetres -> the hands, from the pelvis, in `FRAMES` frames."""
    at = np.linspace(0, len(joints_mm) - 1, FRAMES)
    hands = joints_mm[:, HANDS].astype(np.float32) - joints_mm[:, :1]
    before = np.minimum(at.astype(int), len(hands) - 2)
    weight = (at - before)[:, None, None]
    values = (1 - weight) * hands[before] + weight * hands[before + 1]
    return base64.b85encode(np.round(values).clip(-32768, 32767).astype("<i2").tobytes()).decode()


def shared_motion(splits: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int, str, int]]:
    """Clips of two splits that are one: split and place of each.

    Args:
        splits: the sketches of the clips of each split. Those whose hands rest are left out: rest is like rest.
    """
    places, values = {}, {}
    for split, sketches in splits.items():
        points = np.frombuffer(b"".join(map(base64.b85decode, sketches)), "<i2")
        points = points.reshape(len(sketches), FRAMES, -1).astype(np.float32)
        places[split] = np.flatnonzero(points.std(1).max(1) > MOVING)
        values[split] = points[places[split]].reshape(len(places[split]), FRAMES * len(HANDS) * 3)
    names = sorted(splits, key=lambda split: len(values[split]))
    for number, small in enumerate(names):
        for large in names[number + 1 :]:
            for start in range(0, len(values[large]), BLOCK):
                block = values[large][start : start + BLOCK]
                squares = (values[small] ** 2).sum(1)[:, None] + (block**2).sum(1) - 2 * values[small] @ block.T
                for one, other in np.argwhere(squares < FRAMES * len(HANDS) * (2 * NEAR) ** 2):  # float32 cancels
                    if ((values[small][one] - block[other]) ** 2).sum() < FRAMES * len(HANDS) * NEAR**2:
                        yield small, int(places[small][one]), large, int(places[large][start + other])
