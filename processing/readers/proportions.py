"""Whether 52 joints are those of a body, in their order and in metres: by its proportions."""

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES, LEFT_HAND, RIGHT_HAND

_JOINT = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_FINGERS = ("index", "middle", "pinky", "ring")
# Metres across the shoulders and along one arm: 0.89 to 1.27 in 1,660 utterances of real signs, 0.63 in a child of six.
_SIZE = 0.6, 1.6
_POINT = 1e-3  # metres
# The farthest first joint of a finger from its wrist, in arm lengths: to 0.19 there. The thumb's, by the nearest of the
# others: to 1.1. The second bones of the fingers by the first: to 1.1, and none counted from the tip was below 1.2.
_FARTHEST_FINGER, _THUMB, _BONES = 0.35, 1.4, 1.2


def lost_frames(joints: np.ndarray) -> tuple[np.ndarray, list[Remark]]:
    """Joints (T, 52, 3) with NaN in frames whose joints all lie in one point, as programs write what they lost."""
    lost = (joints == joints[:, :1]).all((1, 2))
    if not lost.any() or lost.all():
        return joints, []
    kind = "frames with all joints in one point, taken for missing"
    return np.where(lost[:, None, None], np.nan, joints), [Remark(f"{lost.sum()} of {len(lost)} {kind}", kind=kind)]


def check_proportions(joints: np.ndarray, valid: np.ndarray) -> None:
    """Refuse (T, 52, 3) joints that are not the body of their names; joints that are not `valid` (T, 52) may be any.

    Raises:
        MotionFileError: another unit, another order, or numbers that were scaled.
    """
    joints, valid = joints.astype(np.float64), valid & np.isfinite(joints).all(-1)
    for hand in (LEFT_HAND, RIGHT_HAND):  # one in a point was not seen
        valid[np.ix_(~(np.ptp(joints[:, hand], axis=1).max(-1) > _POINT), hand)] = False

    def apart(first: str, second: str) -> np.ndarray:
        a, b = _JOINT[first], _JOINT[second]
        seen = valid[:, a] & valid[:, b]
        return np.linalg.norm(joints[seen, a] - joints[seen, b], axis=-1) if seen.any() else np.array([np.nan])

    if valid.all() and np.ptp(joints.min((0, 1))) < 1e-6:
        raise MotionFileError("each axis begins at the same number: scaled to a box; expected metres", kind="scaled")
    for side in ("left", "right"):
        upper, fore = apart(f"{side}_shoulder", f"{side}_elbow"), apart(f"{side}_elbow", f"{side}_wrist")
        arm = np.median(upper) + np.median(fore)
        size = arm + np.median(apart("left_shoulder", "right_shoulder"))
        if size > _POINT and not _SIZE[0] <= size <= _SIZE[1]:
            expected = "expected {} to {} metres; scale them, or put them in the order of SMPL-H".format(*_SIZE)
            raise MotionFileError(f"shoulders and {side} arm measure {size:.3g}, {expected}", kind="no body in metres")
        wrist = f"{side}_wrist"
        roots = [np.median(apart(wrist, f"{side}_{finger}1")) for finger in _FINGERS]
        first, second = (
            sum(np.median(apart(f"{side}_{finger}{bone}", f"{side}_{finger}{bone + 1}")) for finger in _FINGERS)
            for bone in (1, 2)
        )
        thumb = np.median(apart(wrist, f"{side}_thumb1"))
        if max(*roots, thumb) > _FARTHEST_FINGER * arm or thumb > _THUMB * min(roots) or second > _BONES * first:
            expected = "expected SMPL-H's: index, middle, little, ring finger, thumb, each from the knuckle"
            raise MotionFileError(
                f"the {side} fingers are in another order; {expected}", kind="another order of joints"
            )
