"""MediaPipe Holistic landmarks -> the 52 joints."""

import numpy as np

from .array_files import numbers
from .motion_errors import package_readers
from .motion_features import JOINT_NAMES, LEFT_HAND, NUM_JOINTS, RIGHT_HAND, fill_in_time

SHOULDER_WIDTH = 0.36  # metres: sets the scale of landmarks, which have none of their own
SHOULDER_HEIGHT = 1.40  # metres above the floor
# MediaPipe exaggerates the depth of the body. On real signing, forearm length varies least within a take at this factor
# (coefficient of variation 0.124 at 0, 0.060 at 0.3, no better above); hand depth is consistent as it comes.
BODY_DEPTH = 0.3
HAND_DEPTH = 1.0
# The depths of the shoulders tremble by centimetres while a person faces the camera. The heading follows the shoulders,
# and everything is measured from it: a turn of less than 10 degrees is taken for none.
TWIST = 0.06
# Numbers a frame of dumps as flat arrays: pose with visibility or without, face (mesh, none, mesh with irises), hands.
ROW_WIDTHS = tuple(33 * size + 3 * face + 126 for face in (468, 0, 478) for size in (4, 3))
# Shoulder widths from a hand's wrist to that of the pose, median of a clip: to 0.57 in 390 hands of real signs; and by
# how much farther than to the other wrist: to 0.10.
_FARTHEST, _FARTHER = 1.0, 0.25
_HELD = 5  # equal frames of a hand that a tracker lost and holds; in 6,908 hands of real signs no two are
MIN_VISIBILITY = 0.1  # below it MediaPipe extrapolates the landmark from outside the picture

_NOSE, _LEFT_EAR, _RIGHT_EAR = 0, 7, 8
_SHOULDERS = _LEFT_SHOULDER, _RIGHT_SHOULDER = [11, 12]
_SHAPES = ((1280, 720), (640, 480), (480, 480), (480, 640), (720, 1280))
_ARMS = ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")  # 11 to 16
_SIDES = {"left": (13, 15), "right": (14, 16)}  # elbow and wrist
# MediaPipe hand landmarks in SMPL-X order, which has no fingertips. The thumb's first joint is CMC, the fingers' MCP.
_FINGERS = {"index": (5, 6, 7), "middle": (9, 10, 11), "pinky": (17, 18, 19), "ring": (13, 14, 15), "thumb": (1, 2, 3)}
_HAND_LANDMARKS = np.array([landmark for finger in _FINGERS.values() for landmark in finger])

# A standing rest pose for what a webcam does not see: metres from the shoulder centre of the clip, person's left side.
_PELVIS = np.array([0.0, 0.93 - SHOULDER_HEIGHT, 0.0])
_LEFT_LEG = {"hip": (0.07, 0.85, 0), "knee": (0.1, 0.47, 0.01), "ankle": (0.1, 0.08, -0.02), "foot": (0.12, 0.02, 0.1)}
_SPINE = {"spine1": 0.25, "spine2": 0.5, "spine3": 0.65, "neck": 1.08}  # fractions of the way pelvis -> shoulder centre

# A relaxed hand, metres: along the forearm, towards the thumb, towards the palm. Order of _FINGERS.
_REST_HAND = np.array(
    [
        [(0.088, 0.024, 0.002), (0.117, 0.026, 0.013), (0.132, 0.026, 0.030)],
        [(0.086, 0.002, 0.000), (0.119, 0.002, 0.013), (0.136, 0.002, 0.033)],
        [(0.070, -0.034, 0.004), (0.092, -0.036, 0.015), (0.103, -0.036, 0.028)],
        [(0.081, -0.017, 0.002), (0.111, -0.018, 0.015), (0.127, -0.018, 0.034)],
        [(0.028, 0.026, 0.012), (0.058, 0.045, 0.024), (0.082, 0.052, 0.034)],
    ]
).reshape(15, 3)


def mediapipe_to_joints(
    pose: np.ndarray, left_hand: np.ndarray, right_hand: np.ndarray, *, image_size: tuple[float, float] = (640, 480)
) -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe Holistic landmarks -> the 52 joints of SMPL-H, in metres, y up.

    Landmarks are image-normalised: x over width, y over height and downwards, z in widths and away from the camera. The
    scale is set by the median shoulder width; the median shoulder centre of the clip comes to (0, 1.40, 0). Depth is
    MediaPipe's estimate. Legs, mostly outside a webcam picture, stand under the shoulders. A hand that is not detected
    (zeros, NaN, five equal frames) is interpolated, or relaxed along the forearm if it never is.

    Args:
        pose: (T, 25..33, 3 | 4) x, y, z and maybe visibility. A frame of zeros or NaN is not detected.
        left_hand, right_hand: (T, 21, 3) x, y, z; z relative to the wrist.
        image_size: (width, height) in pixels.

    Returns:
        joints (T, 52, 3) float32 in metres, and valid (T, 52) bool: False where a joint was filled in (always for
        pelvis and legs).

    Raises:
        ValueError: shapes that do not fit, no detected pose at all, or shoulders of no width.

    Layout: ai.google.dev/edge/mediapipe, Pose and Hand Landmarker.
    """
    arrays = {"pose": pose, "left_hand": left_hand, "right_hand": right_hand}
    pose, left_hand, right_hand = (numbers(arrays, name) for name in arrays)
    if pose.ndim != 3 or not 25 <= pose.shape[1] <= 33 or pose.shape[2] not in (3, 4):
        raise ValueError(f"`pose` has shape {pose.shape}, expected (frames, 25 to 33, 3 or 4)")
    frames = len(pose)
    for name, hand in (("left_hand", left_hand), ("right_hand", right_hand)):
        if hand.shape != (frames, 21, 3):
            raise ValueError(f"`{name}` has shape {hand.shape}, expected {(frames, 21, 3)} like the frames of `pose`")
    size = np.asarray(image_size, np.float64)
    if size.shape != (2,) or not 1 <= size.min() <= size.max() <= 1e5:
        raise ValueError(f"`image_size` is {image_size}, expected width and height in pixels")
    width, pixels = size[0], size[[0, 1, 0]]
    seen = _detected(pose[..., :3])
    if not seen.any():
        raise ValueError("no frame has a detected pose (all zeros or NaN); record with the upper body in the picture")

    # Image axes to ours: y and z change sign; x stays, as a person who faces the camera has the left side on the
    # image's right.
    body = fill_in_time(pose[..., :3] * pixels * (1.0, -1.0, -BODY_DEPTH), seen)
    shoulders = body[:, _SHOULDERS]
    shoulder_width = np.median(np.linalg.norm((shoulders[:, 0] - shoulders[:, 1])[:, :2], axis=-1))
    if not shoulder_width > 1e-3 * width:
        raise ValueError("the shoulders have no width, so the scale is unknown; record facing the camera")
    if np.abs(body).max() > 100 * width:
        raise ValueError("landmarks far outside the picture, expected x and y from 0 to 1; divide pixels by its size")
    scale = SHOULDER_WIDTH / shoulder_width
    centre = np.median(shoulders.mean(1), axis=0)
    body = (body - centre) * scale
    twist = np.clip(body[:, _LEFT_SHOULDER, 2] - body[:, _RIGHT_SHOULDER, 2], -TWIST, TWIST)
    body[:, _SHOULDERS, 2] -= twist[:, None] / 2 * (1, -1)
    shoulder_centre = (body[:, _LEFT_SHOULDER] + body[:, _RIGHT_SHOULDER]) / 2
    # Below the shoulders, not below where the shoulders mostly are: who sways on a chair does not bend.
    pelvis = shoulder_centre * (1.0, 0.0, 1.0) + _PELVIS

    joints = np.zeros((frames, NUM_JOINTS, 3))
    valid = np.zeros((frames, NUM_JOINTS), bool)
    visible = seen[:, None] & (pose[..., 3] >= MIN_VISIBILITY if pose.shape[2] == 4 else np.ones(pose.shape[:2], bool))

    def place(name: str, positions: np.ndarray, observed: np.ndarray | bool = False) -> None:
        index = JOINT_NAMES.index(name)
        joints[:, index], valid[:, index] = positions, observed

    place("pelvis", pelvis)
    for name, (x, y, z) in _LEFT_LEG.items():  # heights above the floor
        place(f"left_{name}", pelvis - _PELVIS + (x, y - SHOULDER_HEIGHT, z))
        place(f"right_{name}", pelvis - _PELVIS + (-x, y - SHOULDER_HEIGHT, z))
    for landmark, name in enumerate(_ARMS, _LEFT_SHOULDER):
        place(name, body[:, landmark], visible[:, landmark])
    upright = visible[:, _SHOULDERS].all(1)
    for name, fraction in _SPINE.items():
        place(name, pelvis + (shoulder_centre - pelvis) * fraction, upright)
    neck = joints[:, JOINT_NAMES.index("neck")]
    place("left_collar", neck * 0.6 + body[:, _LEFT_SHOULDER] * 0.4, upright)
    place("right_collar", neck * 0.6 + body[:, _RIGHT_SHOULDER] * 0.4, upright)
    # The head joint sits inside the skull, at the height of the ears and a little in front of them.
    ears = (body[:, _LEFT_EAR] + body[:, _RIGHT_EAR]) / 2
    place("head", ears + 0.2 * (body[:, _NOSE] - ears), visible[:, _NOSE])

    for side, hand, fingers in (("left", left_hand, LEFT_HAND), ("right", right_hand, RIGHT_HAND)):
        elbow, wrist = (body[:, landmark] for landmark in _SIDES[side])
        run = np.cumsum([True, *(hand[1:] != hand[:-1]).any((1, 2))])
        detected = _detected(hand) & (np.bincount(run)[run] < _HELD)
        relative = (hand[:, _HAND_LANDMARKS] - hand[:, :1]) * (pixels * (1.0, -1.0, -HAND_DEPTH) * scale)
        relative = fill_in_time(relative, detected) if detected.any() else rest_hand(wrist - elbow, side)
        joints[:, fingers], valid[:, fingers] = wrist[:, None] + relative, (detected & seen)[:, None]
    joints[..., 1] += SHOULDER_HEIGHT
    return joints.astype(np.float32), valid


def landmarks_of_rows(rows: np.ndarray) -> dict[str, np.ndarray]:
    """(T, n) numbers, n in `ROW_WIDTHS`, as the arrays of `mediapipe_to_joints`; of another order also which it is."""
    size = 4 - ROW_WIDTHS.index(rows.shape[1]) % 2
    hands = rows[:, -126:].reshape(len(rows), 2, 21, 3)
    pose = rows[:, : 33 * size].reshape(len(rows), 33, size)
    arrays = {"pose": pose, "left_hand": hands[:, 0], "right_hand": hands[:, 1]}
    usual = misplaced(**arrays) is None and not np.abs(np.nan_to_num(hands[:, :, 0, 2])).max() > 1e-3
    readers = package_readers("" if usual else "an array of landmarks in an unusual order")
    return readers.landmarks_in_order(rows, size) if readers else arrays


def image_shape(pose: np.ndarray) -> tuple[int, int]:
    """Width and height of the picture by the face, which is 1.31 times as far from eye to eye as from eyes to mouth.

    1.25 to 1.37 on seven signers, and in 9 of 10 takes of 20 frames within 13 %; a shape is 4/3 of the next.
    """
    face = pose[_detected(pose[..., :3]), :11, :2].astype(np.float64)
    across = np.abs(face[:, 3, 0] - face[:, 6, 0])
    down = np.abs(face[:, [2, 5], 1].mean(1) - face[:, [9, 10], 1].mean(1))
    ratio = np.median(across) / np.median(down) / 1.31 if across.any() and down.any() else 0.75
    number = np.log(max(ratio, 0.1) / 0.75) / np.log(4 / 3) if np.isfinite(ratio) else 0
    return _SHAPES[int(np.clip(round(number), -1, 3)) + 1]


def misplaced(pose: np.ndarray, left_hand: np.ndarray, right_hand: np.ndarray) -> str | None:
    """Why the arrays of `mediapipe_to_joints` are not landmarks of one picture; None: they may be."""
    seen = _detected(pose[..., :3])
    if not seen.any():
        return None
    shoulders, hips = (np.median(pose[seen][:, points].mean(1), axis=0) for points in (_SHOULDERS, [23, 24]))
    if shoulders[1] < 0 and np.abs(hips[:2]).max() < 0.05:
        return "`pose` holds world landmarks, metres from the hips; expected pose_landmarks, in parts of the picture"
    width = np.median(np.linalg.norm((pose[seen, 11] - pose[seen, 12])[:, :2], axis=-1))
    for side, hand in (("left", left_hand), ("right", right_hand)):
        both = seen & _detected(hand) & hand[:, 0, :2].any(1)  # a hand whose wrist is 0 counts from it
        apart = np.linalg.norm(hand[both, :1, :2] - pose[both, 15:17, :2], axis=-1)  # from the left and the right wrist
        own, other = np.median(apart, axis=0)[:: 1 if side == "left" else -1] if both.any() else (0, 0)
        if own > _FARTHEST * width or own - other > _FARTHER * width:
            problem = f"`{side}_hand` is not at the {side} wrist of `pose`"
            return f"{problem}; expected landmarks of the same picture, no world landmarks and no cut-out"
    return None


def _detected(landmarks: np.ndarray) -> np.ndarray:
    """(T, N, 3) -> (T,) bool: dumps write zeros, another constant or NaN for what was not found."""
    return np.isfinite(landmarks).all((1, 2)) & (landmarks != landmarks[:, :1]).any((1, 2))


def rest_hand(forearm: np.ndarray, side: str) -> np.ndarray:
    """(T, 3) forearm -> (T, 15, 3) finger joints from the wrist: relaxed, thumb to the front, palm to the body."""
    length = np.linalg.norm(forearm, axis=-1, keepdims=True)
    along = np.where(length > 1e-6, forearm / np.maximum(length, 1e-6), (0.0, -1.0, 0.0))
    # The thumb points to the front, or up where the forearm does so itself.
    front = np.where(np.abs(along[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    thumb = front - (front * along).sum(-1, keepdims=True) * along
    thumb /= np.linalg.norm(thumb, axis=-1, keepdims=True)
    palm = np.cross(along, thumb) if side == "left" else np.cross(thumb, along)
    return np.einsum("jk,tkc->tjc", _REST_HAND, np.stack([along, thumb, palm], axis=1))
