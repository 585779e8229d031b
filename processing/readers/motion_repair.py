"""Repairs of a recorded clip: short gaps are filled, and jitter is smoothed away."""

from dataclasses import replace

import numpy as np

from ..motion import Motion
from ..motion_features import (
    PARENTS,
    fill_broken_joints,
    result_dtype,
)

MAX_GAP = 5  # frames: a quarter of a second at 20 fps; in a longer one a hand can make another sign
_DEGREE = 2  # of the polynomials that smooth: a joint keeps its speed and acceleration, and loses what is left
_SMALLEST_HALF = 2  # frames on each side; with one, three points lie on their parabola and nothing changes


def repair_motion(motion: Motion, smooth_seconds: float = 0.0) -> tuple[Motion, bool]:
    """Fill the short gaps of a clip and smooth it.

    A gap is a run of frames in which a joint is NaN. It is filled along a straight line as seen from the joint's
    parent, so that a hand stays on a moving arm; where the parent is lost as well, along a straight line in space. Gaps
    longer than `MAX_GAP`, and those that touch an end of the clip, stay. What was filled in is not `valid`.

    Smoothing is that of Savitzky and Golay (1964): each frame of a joint becomes the value of the parabola that fits
    the frames around it best. Runs shorter than the window stay as they are.

    Args:
        motion: the clip; not edited.
        smooth_seconds: length of the window; 0: no smoothing. A window has five frames at least.

    Returns:
        the repaired clip, and whether a gap was filled.
    """
    joints = motion.joints.astype(np.float64)
    missing = np.isnan(joints).any(-1)
    for joint in range(joints.shape[1]):  # parents come before their children
        for start, end in runs(missing[:, joint]):
            if 0 < start and end < len(joints) and end - start <= MAX_GAP:
                _fill(joints, joint, start, end)
    present = ~np.isnan(joints).any(-1)
    if smooth_seconds:
        half = max(round(smooth_seconds * motion.fps / 2), _SMALLEST_HALF)
        for joint in range(joints.shape[1]):
            for start, end in runs(present[:, joint]):
                if end - start > 2 * half:
                    joints[start:end, joint] = _smooth(joints[start:end, joint], half)
    repaired = replace(motion, joints=joints.astype(np.float32), valid=motion.valid & ~missing)
    return repaired, bool((missing & present).any())


def repair_joints(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace broken joints, and say which.

    A joint is broken in a frame where it is NaN or infinite, or lies on its parent: a bone without length is the usual
    mark of a hand that was not found, and a frame of such bones alone holds no person. Its bone is interpolated in
    time between the nearest valid frames, or held where they are on one side only, and hung on the parent, so that a
    hand stays on a moving arm. A joint that is never valid gets the rest direction of its bone, turned the way the
    person faces, with the HumanML3D length. All other values stay as they are, bit for bit.

    Args:
        joints: `(..., T, 52, 3)` or `(..., T, 22, 3)`, metres, y up. Never edited.

    Returns:
        The joints as a new array (float64 for float64 input, else float32), and a boolean mask `(..., T, J)`, true
        where a joint was replaced.

    Raises:
        ValueError: wrong shape, or a clip without any valid joint.
    """
    joints = np.asarray(joints)
    repaired, mask = fill_broken_joints(joints)
    return repaired.astype(result_dtype(joints), copy=False), mask


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of True in (T,) flags; the end is the frame after it."""
    steps = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _fill(joints: np.ndarray, joint: int, start: int, end: int) -> None:
    """Fill the frames from `start` to before `end` of one joint of (T, J, 3) in place; both frames beside are known."""
    frames = slice(start - 1, end + 1)
    parent = joints[frames, PARENTS[joint]] if joint else np.zeros(3)
    if np.isnan(parent).any():
        parent = np.zeros(3)
    bone = joints[frames, joint] - parent
    bone = np.linspace(bone[0], bone[-1], len(bone))
    joints[start:end, joint] = (bone + parent)[1:-1]


def _smooth(values: np.ndarray, half: int) -> np.ndarray:
    """(T, 3) values, T > 2 * half, each replaced by that of the parabola through `half` frames on both sides. The first
    and last `half` frames share the parabola of the first and last window."""
    window = 2 * half + 1
    powers = np.vander(np.linspace(-1, 1, window), _DEGREE + 1)
    fit = powers @ np.linalg.pinv(powers)  # row i: what the parabola of a window is in frame i, from its values
    inner = np.lib.stride_tricks.sliding_window_view(values, window, axis=0) @ fit[half]
    return np.concatenate([fit[:half] @ values[:window], inner, fit[half + 1 :] @ values[-window:]])


__all__ = ["repair_joints", "repair_motion", "runs"]
