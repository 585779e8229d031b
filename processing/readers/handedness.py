"""Whether a skeleton, or one of its hands, is a mirror image: which side is left is a matter of names, and what is in
front is seen by how a body bends."""

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES, LEFT_HAND, RIGHT_HAND

# Of 5,108 clips of real signs by six people none comes below 0.07, of 1,654 utterances none below 1.3; a mirror image
# has the negative. Arms that hang and flat hands are near 0.
MIRRORED = -0.3
# Of 1,654 utterances no hand comes below -0.3, and 3 below 0; a mirror image has the negative. MediaPipe's depth turns
# over now and then: of 4,735 hands of its landmarks 1 in 100.
MIRRORED_HAND = -0.35
FLAT = 1e-6  # metres
_OBSERVED = 0.1  # of the frames, at least
_JOINT = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
_FINGERS = ("index", "middle", "ring", "pinky")


def right_handed(
    joints: np.ndarray, valid: np.ndarray, up: str = "y", *, landmarks: bool = False
) -> tuple[np.ndarray, list[Remark]]:
    """Joints (T, 52, 3), y up, as no mirror image; and remarks if they were one, or a hand is.

    Args:
        valid: (T, 52) bool, which were observed: others are not looked at.
        up: of the file, for messages: who says it wants nothing looked at.
        landmarks: of a picture, in which half the body is filled in.

    Raises:
        MotionFileError: landmarks that are a mirror image, or of a picture that is not upright.
    """
    notes = []
    if landmarks:
        shoulders = joints[:, _JOINT["left_shoulder"]] + joints[:, _JOINT["right_shoulder"]]
        x, y, _ = np.median(joints[:, _JOINT["head"]] - shoulders / 2, axis=0)
        if y <= abs(x):
            problem = "the head is not above the shoulders in the picture, whose y counts downwards from the top"
            raise MotionFileError(f"{problem}; turn the video upright, or store 1 - y")
        if not np.ptp(joints[:, _JOINT["left_shoulder"] : _JOINT["right_wrist"] + 1, 2]) > FLAT:
            raise MotionFileError("the landmarks have no depth: z is the same everywhere; keep MediaPipe's z")
    if bodily(joints, valid) < MIRRORED:
        kind = "left-handed axes, mirrored; if they are not"
        if landmarks:
            kind = "the landmarks are a mirror image, left is at the person's right: use 1 - x; if they are none"
            raise MotionFileError(kind, "up", up)
        joints = joints * np.array((-1, 1, 1), joints.dtype)
        notes.append(Remark(kind, "up", up))
    wrong = [side for side, hand in _HANDS.items() if bent(joints, valid[:, hand].all(1), side) < MIRRORED_HAND]
    if wrong:
        notes.append(Remark(f"mirrored: the fingers of the {' and '.join(wrong)} hand bend to its back", "up", up))
    return joints, notes


def bodily(joints: np.ndarray, valid: np.ndarray) -> float:
    """How much points to the front that a body has there: wrists, the bend of elbows and knees, toes, palms, thumbs."""
    joints = joints.astype(np.float64)
    seen = np.isfinite(joints).all(-1)
    joints, observed = np.where(seen[..., None], joints, 0.0), valid & seen

    def track(side: str, name: str) -> np.ndarray:
        return joints[:, _JOINT[f"{side}_{name}"]]

    def frames(side: str, *names: str) -> np.ndarray:
        both = [observed[:, _JOINT[f"{of}_shoulder"]] for of in ("left", "right")]
        return np.all([*both, seen[:, 0], *(observed[:, _JOINT[f"{side}_{name}"]] for name in names)], axis=0)

    across = track("left", "shoulder") - track("right", "shoulder")
    spine = (track("left", "shoulder") + track("right", "shoulder")) / 2 - joints[:, 0]
    front = _unit(np.cross(across, spine))
    score = 0.0
    for side, hand in _HANDS.items():
        upper, fore = track(side, "elbow") - track(side, "shoulder"), track(side, "wrist") - track(side, "elbow")
        length = np.linalg.norm(upper, axis=-1) + np.linalg.norm(fore, axis=-1)
        arm = (upper + fore) / np.maximum(length, 1e-6)[:, None] + (_unit(fore) - _unit(upper)) / 2
        thigh, shin = track(side, "knee") - track(side, "hip"), track(side, "ankle") - track(side, "knee")
        foot = track(side, "foot") - track(side, "ankle")
        for names, way in (
            (("elbow", "wrist"), arm),
            (("hip", "knee", "ankle"), (_unit(thigh) - _unit(shin)) / 2),
            (("ankle", "foot"), foot / 0.02),  # metres: toes alone tell
        ):
            if (there := frames(side, *names)).mean() > _OBSERVED:
                score += np.median(np.einsum("tc,tc->t", way, front)[there].clip(-1, 1))
        palm = bent(joints, observed[:, hand].all(1) & frames(side, "wrist"), side)
        score += 0.0 if np.isnan(palm) else palm / 2
    return float(score)


def bent(joints: np.ndarray, seen: np.ndarray, side: str) -> float:
    """How far fingers and thumb of a hand lie on the side of its palm, as its knuckles tell which that is, mean of the
    frames `seen` (T,); NaN without a hand."""
    seen = seen & np.isfinite(joints).all((1, 2))
    if seen.mean() <= _OBSERVED:
        return float("nan")

    def track(name: str) -> np.ndarray:
        return joints[seen, _JOINT[f"{side}_{name}"]].astype(np.float64)

    along = (track("middle1") + track("ring1")) / 2 - track("wrist")
    palm = np.cross(_unit(along), _unit(track("index1") - track("pinky1"))) * (1 if side == "left" else -1)
    fingers = [_unit(track(f"{finger}3") - track(f"{finger}1")) - _unit(along) for finger in _FINGERS]
    thumb = (track("thumb3") - track("wrist")) / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    return float(np.einsum("tc,tc->t", np.mean(fingers, axis=0) + thumb, palm).mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
