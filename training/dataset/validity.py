"""Which joints of a clip were observed and not filled in, and which features follow from them."""

import numpy as np

from ...processing.feature_extraction_lslm import SignMotionFeatureExtractor, resample
from ...processing.motion_features import (
    FEET,
    HEADING_JOINTS,
    LEFT_HAND,
    LOWER_BODY,
    MEASURED_AGAINST,
    NUM_JOINTS,
    PARENTS,
    RIGHT_HAND,
    feature_slices,
)

ALL_OBSERVED = 1 - 1e-6  # a mean of ones and zeros above it has no zero in it, whatever the rounding of the weights


def read_valid(row: dict, frames: int) -> np.ndarray | None:
    """(T, 52) bool of a row of T `frames`, False where a joint was filled in instead of observed; None: nobody says.

    The column `valid` holds T integers a clip; bit j of a frame's is 1 where joint j was observed. Pelvis and legs that
    are never observed count as if they were: below a camera's picture they stand where the reader puts everybody's, and
    a sign tokenizer that had not learnt them could stand no body up.

    Raises:
        ValueError: not one integer for each frame.
    """
    if row.get("valid") is None:
        return None
    bits = np.asarray(row["valid"], np.int64)
    if bits.shape != (frames,):
        raise ValueError(
            f"`valid` has shape {bits.shape}, expected a bit mask for each of the {frames} frames of its joints; build "
            "the data set again"
        )
    valid = (bits[:, None] >> np.arange(NUM_JOINTS)) & 1 == 1
    stands = [0, *LOWER_BODY]
    valid[:, stands] |= ~valid[:, stands].any(0)
    return valid


def resample_valid(valid: np.ndarray, fps: float, target_fps: float) -> np.ndarray:
    """(T, J) bool of which joints were observed, as [`resample`] turns the joints: a new frame's joint is where it was
    in both frames that it is made of."""
    return resample(valid[..., None].astype(np.float64), fps, target_fps)[..., 0] > ALL_OBSERVED


def observed_mask(extractor: SignMotionFeatureExtractor, valid: np.ndarray) -> np.ndarray:
    """Which features of a clip were observed: the numbers that no filled-in joint enters.

    A number needs, in the frames it is computed from: positions, velocities and contacts the joint and the pelvis
    (fingers in the `signing` convention: their wrist), and with a target skeleton all joints between the two, since
    it lays its bones end to end; rotations both ends of the bone and of the one it is measured against; the root's
    yaw hips and shoulders, its velocity and height the pelvis. What the clip as a whole decides is not asked for:
    the floor, the size in its first frame, and the heading, smoothed over seconds, from which all is seen.

    Args:
        valid: (..., T, 52) bool, False where a joint was filled in, at the model's frame rate; T >= 2.

    Returns:
        (..., T-1, 623) bool, for the features of these T frames.
    """
    valid = np.asarray(valid, bool)
    origin = np.zeros(NUM_JOINTS, int)
    if extractor.convention == "signing":
        origin[LEFT_HAND], origin[RIGHT_HAND] = PARENTS[LEFT_HAND[0]], PARENTS[RIGHT_HAND[0]]
    placed = valid & valid[..., origin]
    if extractor.target_skeleton is not None:
        for joint in range(1, NUM_JOINTS):
            if PARENTS[joint] != origin[joint]:
                placed[..., joint] &= placed[..., PARENTS[joint]]
    bones = valid & valid[..., PARENTS]
    bones[..., 0] = valid[..., HEADING_JOINTS].all(-1)  # the heading
    now, later = slice(None, -1), slice(1, None)
    in_both = placed[..., now, :] & placed[..., later, :]
    blocks = {
        "root_yaw": bones[..., now, :1] & bones[..., later, :1],
        "root_velocity": in_both[..., :1],
        "root_height": placed[..., now, :1],
        "positions": placed[..., now, 1:],
        "rotations": (bones & bones[..., MEASURED_AGAINST])[..., now, 1:],
        "velocities": in_both,
        "contacts": in_both[..., FEET],
    }
    widths = {name: where.stop - where.start for name, where in feature_slices().items()}
    return np.concatenate(
        [np.repeat(blocks[name], width // blocks[name].shape[-1], -1) for name, width in widths.items()], -1
    )
