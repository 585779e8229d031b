"""Whether 52 joints are those of a body, in their order and in metres: by its proportions."""

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES, LEFT_HAND, RIGHT_HAND, all_three
from ..rotations import squared_length

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
    joints, valid = joints.astype(np.float64), valid & all_three(np.isfinite(joints))
    for hand in (LEFT_HAND, RIGHT_HAND):  # one in a point was not seen
        valid[np.ix_(~(np.ptp(joints[:, hand], axis=1).max(-1) > _POINT), hand)] = False

    def apart(*pairs: tuple[str, str]) -> np.ndarray:
        a, b = np.array([[_JOINT[name] for name in pair] for pair in pairs]).T
        seen = valid[:, a] & valid[:, b]
        bones = np.where(seen[..., None], joints[:, a], np.nan) - joints[:, b]
        lengths = np.sort(np.sqrt(squared_length(bones)), axis=0)
        count, columns = seen.sum(0), np.arange(len(pairs))
        return (lengths[(count - 1) // 2, columns] + lengths[count // 2, columns]) / 2  # medians; NaN comes last

    if valid.all() and np.ptp([axis.min() for axis in joints.T]) < 1e-6:
        raise MotionFileError("each axis begins at the same number: scaled to a box; expected metres", kind="scaled")
    for side in ("left", "right"):
        shoulder, elbow, wrist, *fingers = (f"{side}_{name}" for name in ("shoulder", "elbow", "wrist", *_FINGERS))
        upper, fore, across, thumb, *bones = apart(
            *((shoulder, elbow), (elbow, wrist), ("left_shoulder", "right_shoulder"), (wrist, f"{side}_thumb1")),
            *((wrist, f"{finger}1") for finger in fingers),
            *((f"{finger}{bone}", f"{finger}{bone + 1}") for bone in (1, 2) for finger in fingers),
        )
        arm, roots, first, second = upper + fore, bones[:4], sum(bones[4:8]), sum(bones[8:])
        size = arm + across
        if size > _POINT and not _SIZE[0] <= size <= _SIZE[1]:
            expected = "expected {} to {} metres; scale them, or put them in the order of SMPL-H".format(*_SIZE)
            raise MotionFileError(f"shoulders and {side} arm measure {size:.3g}, {expected}", kind="no body in metres")
        if max(*roots, thumb) > _FARTHEST_FINGER * arm or thumb > _THUMB * min(roots) or second > _BONES * first:
            expected = "expected SMPL-H's: index, middle, little, ring finger, thumb, each from the knuckle"
            raise MotionFileError(
                f"the {side} fingers are in another order; {expected}", kind="another order of joints"
            )
