"""Whether finger rotations of SMPL-X are whole or relative to the mean hand, told by how far the fingers bend."""

from collections.abc import Mapping

import numpy as np

from ..motion_errors import MotionFileError, Remark

# Bend of the middle finger joints as stored, radians. Of 4,683 hands of real signs (whole) the straightest finger is
# near 0.1, to 0.35 in all but fists, the mean 0.1 to 2.7; the mean hand has 0.75: relative numbers are lower by that.
# No whole hand is taken for relative, 0 to 2 % of relative ones for whole (5 % of one signer's); a half stays open.
_MIDDLE_JOINTS = [9 * finger + 5 for finger in range(4)]  # z of index2, middle2, pinky2, ring2
_RELATIVE, _WHOLE, _BENT = -0.25, (-0.1, 0.4), 0.3  # straightest finger below; straightest between, and the mean above
# Less than any hand bends, whole or relative: inverse rotations or the other hand's. Noise of a fit is less on average.
_BACKWARDS, _ON_AVERAGE = -1.1, -0.4
_CONVENTIONS = np.array(["relative to the hand mean", "whole"])


def whole_hands(params: Mapping[str, np.ndarray], told: bool | None) -> tuple[np.ndarray, list[Remark]]:
    """Whether finger rotations are whole, (2,) int for left and right: as told, or as the fingers bend; and a remark.

    Raises:
        MotionFileError: nobody tells, and the fingers bend as either may; or as none does.
    """
    least, mean = np.full((2, 2), np.nan)
    for side, name in enumerate(("left_hand_pose", "right_hand_pose")):
        seen = params[name].any(-1) & np.isfinite(params[name]).all(-1)
        if seen.any():
            fingers = params[name][seen][:, _MIDDLE_JOINTS] * (2 * side - 1)  # the left hand bends about -z
            least[side], mean[side] = np.percentile(fingers, 5), fingers.mean()
    back = (least < _BACKWARDS) & ((mean < _ON_AVERAGE) | (told is None))
    if back.any():
        sides = " and ".join(np.array(["left", "right"])[back])
        kind = "fingers bend backwards, whole and relative to the mean hand: left for right, inverse or other rotations"
        raise MotionFileError(f"{sides} {kind}; expected axis times angle, x, y and z of each joint", kind=kind)
    whole = (_WHOLE[0] < least) & (least < _WHOLE[1]) & (mean > _BENT)
    seems = np.where(whole, 1, np.where(least < _RELATIVE, 0, np.nan))
    if told is None and np.isfinite(seems).any():
        flat = np.where(np.isnan(seems), seems[::-1], seems).astype(int)
        kind = f"hands taken as {' and '.join(_CONVENTIONS[flat])}, as the fingers bend; if they are not"
        return flat, [Remark(kind, "flat_hand_mean", not flat[0])]
    if told is None and np.isfinite(mean).any():
        kind = "no word whether finger rotations are whole or relative to the mean hand, and they bend as both may"
        raise MotionFileError(kind, "flat_hand_mean")
    kind = "fingers bend backwards" if told else "fingers are never straight with the mean hand added"
    wrong = " and ".join(np.array(["left", "right"])[seems == 1 - bool(told)])
    return np.full(2, int(bool(told))), [Remark(f"{wrong} {kind}", "flat_hand_mean", not told, kind)] if wrong else []
