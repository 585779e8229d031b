"""Repairs of a recorded clip: short gaps are filled, broken joints replaced."""

from dataclasses import replace

import numpy as np

from ..motion import Motion
from ..motion_features import PARENTS, all_three, fill_broken_joints, result_dtype

MAX_GAP = 5  # frames: a quarter of a second at 20 fps; in a longer one a hand can make another sign


def repair_motion(motion: Motion) -> tuple[Motion, bool]:
    """Fill the short gaps of a clip.

    A gap is a run of frames in which a joint is NaN. It is filled along a straight line as seen from the joint's
    parent, so that a hand stays on a moving arm; where the parent is lost as well, along a straight line in space. Gaps
    longer than `MAX_GAP`, and those that touch an end of the clip, stay. What was filled in is not `valid`.

    Returns:
        the repaired clip (`motion` is not edited), and whether a gap was filled.
    """
    missing = ~all_three(~np.isnan(motion.joints))
    if not missing.any():
        return motion, False
    joints = motion.joints.astype(np.float64)
    for joint in range(joints.shape[1]):  # parents come before their children
        for start, end in runs(missing[:, joint]):
            if 0 < start and end < len(joints) and end - start <= MAX_GAP:
                _fill(joints, joint, start, end)
    repaired = replace(motion, joints=joints.astype(np.float32), valid=motion.valid & ~missing)
    return repaired, bool((missing & all_three(~np.isnan(joints))).any())


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


__all__ = ["repair_joints", "repair_motion", "runs"]
