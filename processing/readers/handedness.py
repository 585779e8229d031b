"""Whether a skeleton, or one of its hands, is a mirror image: which side is left is a matter of names, and what is in
front is seen by how a body bends."""

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES, LEFT_HAND, NUM_BODY_JOINTS, RIGHT_HAND
from ..rotations import squared_length
from .proportions import check_proportions, lost_frames

# Of 5,108 clips of real signs by six people none comes below 0.07, of 1,654 utterances none below 1.3; a mirror image
# has the negative. Arms that hang and flat hands are near 0.
MIRRORED = -0.3
# Of 1,654 utterances no hand comes below -0.3, and 3 below 0; a mirror image has the negative. MediaPipe's depth turns
# over now and then: of 4,735 hands of its landmarks 1 in 100.
MIRRORED_HAND = -0.35
_OBSERVED = 0.1  # of the frames, at least
_JOINT = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
_FINGERS = ("index", "middle", "ring", "pinky")
_CHAIN = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
_HAND = ("wrist", "thumb3", *(f"{finger}{bone}" for finger in _FINGERS for bone in (1, 3)))


def right_handed(
    joints: np.ndarray, valid: np.ndarray, up: str = "y", *, landmarks: bool = False
) -> tuple[np.ndarray, list[Remark]]:
    """Joints (T, 52, 3), y up, as no mirror image, NaN for lost frames; and remarks if they were one, or a hand is.

    Args:
        valid: (T, 52) bool, which were observed: others are not looked at.
        up: of the file, for messages: who says it wants nothing looked at.
        landmarks: of a picture, in which half the body is filled in.

    Raises:
        MotionFileError: landmarks that are a mirror image, or of a picture that is not upright; joints that are no
            body in metres, or in another order.
    """
    notes = []
    if landmarks:
        head, left, right = (joints[:, _JOINT[name]] for name in ("head", "left_shoulder", "right_shoulder"))
        x, y, _ = np.median(head - (left + right) / 2, axis=0)
        if y <= abs(x):
            problem = "the head is not above the shoulders in the picture, whose y counts downwards from the top"
            raise MotionFileError(f"{problem}; turn the video upright, or store 1 - y")
    else:
        joints, notes = lost_frames(joints)
        check_proportions(joints, valid)
    with np.errstate(all="ignore"):  # bones without length
        hands = {side: bent(joints, valid, side) for side in _HANDS}
        mirrored = bodily(joints, valid) + sum(hands.values()) / 2 < MIRRORED
    joints = joints * np.array((-1, 1, 1), joints.dtype) if mirrored else joints
    wrong = [side for side, bend in hands.items() if (-bend if mirrored else bend) < MIRRORED_HAND]
    if mirrored and landmarks:
        kind = "the landmarks are a mirror image, left is at the person's right: use 1 - x, or say that they are none"
        raise MotionFileError(kind, "up", up)
    if mirrored:
        notes.append(Remark("left-handed axes, mirrored; if they are not", "up", up))
    if wrong:
        notes.append(Remark(f"mirrored: the fingers of the {' and '.join(wrong)} hand bend to its back", "up", up))
    return joints, notes


def bodily(joints: np.ndarray, valid: np.ndarray) -> float:
    """How much points to the front that a body has there: wrists, the bend of elbows and knees, toes."""
    place = {name: _seen(joints, valid, joint) for name, joint in _JOINT.items() if joint < NUM_BODY_JOINTS}
    across = place["left_shoulder"] - place["right_shoulder"]
    front = _unit(np.cross(across, (place["left_shoulder"] + place["right_shoulder"]) / 2 - joints[:, 0]))
    score = 0.0
    for side in _HANDS:
        shoulder, elbow, wrist, hip, knee, ankle, foot = (place[f"{side}_{name}"] for name in _CHAIN)
        arm = _length(elbow - shoulder) + _length(wrist - elbow)
        for way in (
            (wrist - shoulder) / arm + (_unit(wrist - elbow) - _unit(elbow - shoulder)) / 2,
            (_unit(knee - hip) - _unit(ankle - knee)) / 2,
            (foot - ankle) / 0.02,  # metres: toes alone tell
        ):
            score += _usual(np.einsum("tc,tc->t", way, front).clip(-1, 1))
    return score


def bent(joints: np.ndarray, valid: np.ndarray, side: str) -> float:
    """How far fingers and thumb of a hand lie on the side of its palm, as its knuckles tell which that is; 0.0 without
    a hand."""
    whole = valid[:, _HANDS[side]].all(1, keepdims=True).repeat(joints.shape[1], 1)
    place = {name: _seen(joints, whole, _JOINT[f"{side}_{name}"]) for name in _HAND}
    along = (place["middle1"] + place["ring1"]) / 2 - place["wrist"]
    palm = np.cross(_unit(along), _unit(place["index1"] - place["pinky1"])) * (1 if side == "left" else -1)
    fingers = [_unit(place[f"{finger}3"] - place[f"{finger}1"]) - _unit(along) for finger in _FINGERS]
    thumb = (place["thumb3"] - place["wrist"]) / _length(along)
    return _usual(np.einsum("tc,tc->t", np.mean(fingers, axis=0) + thumb, palm), np.mean)


def _usual(values: np.ndarray, of=np.median) -> float:
    """The median of (T,) numbers; 0.0 where most are none."""
    there = np.isfinite(values)
    return float(of(values[there])) if there.mean() > _OBSERVED else 0.0


def _seen(joints: np.ndarray, valid: np.ndarray, joint: int) -> np.ndarray:
    """One joint (T, 3), NaN where it was not observed."""
    return np.where(valid[:, joint, None], joints[:, joint], np.nan).astype(np.float64)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(squared_length(vectors))[:, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / _length(vectors)
