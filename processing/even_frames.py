"""Frames as they came, with their times -> a clip, whose frames are evenly apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np

PARTS = {"pose": (33, 4), "left_hand": (21, 3), "right_hand": (21, 3)}  # MediaPipe Holistic's landmarks of a picture
MOST = 4  # times as many frames as came: those that come in bursts are not spread over frames that never were


def as_clip(frames: list[tuple[float, Any]], image_size: tuple[float, float] | None) -> dict[str, np.ndarray]:
    """(seconds, frame) as the arrays of our `.npz` format, evenly in time, with a frame for each that was lost; between
    two frames in which something was found it is on the way from one to the other."""
    seconds = np.array([second for second, _ in frames])
    gaps = np.diff(seconds)
    usual = max(np.median(gaps), gaps.mean() / MOST)
    times = np.linspace(seconds[0], seconds[-1], 1 + int(np.maximum(np.rint(gaps / usual), 1).sum()))
    after = np.clip(np.searchsorted(seconds, times), 1, len(seconds) - 1)
    share = np.clip((times - seconds[after - 1]) / (seconds[after] - seconds[after - 1]), 0.0, 1.0)[:, None, None]
    some = next(frame for _, frame in frames if frame is not None)
    clip = {"fps": np.array((len(times) - 1) / (seconds[-1] - seconds[0]))}
    for name, shape in (PARTS if isinstance(some, Mapping) else {"joints": np.shape(some)}).items():
        lost = np.zeros(shape) if isinstance(some, Mapping) else np.full(shape, np.nan)
        values = np.stack([_part(frame, name, lost) for _, frame in frames])
        found = (np.nan_to_num(values) != 0).any((1, 2))[:, None, None]
        first, second = values[after - 1], values[after]
        nearest = np.where(share < 0.5, first, second)
        between = first + (second - first) * share
        clip[name] = np.where(found[after - 1] & found[after], between, nearest).astype(np.float32)
    return clip if image_size is None else clip | {"image_size": np.asarray(image_size)}


def _part(frame: Mapping | np.ndarray | None, name: str, lost: np.ndarray) -> np.ndarray:
    value = frame.get(name) if isinstance(frame, Mapping) else frame
    if value is None:
        return lost
    value = np.asarray(value, np.float64)
    if name == "pose" and value.shape == (33, 3):
        value = np.pad(value, ((0, 0), (0, 1)), constant_values=1.0)  # seen
    return value
