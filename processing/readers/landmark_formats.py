"""Landmarks of MediaPipe Holistic in other people's files -> the arrays that `mediapipe_to_joints` takes.

Three makes: sign-language-processing's `.pose` files, folders with one array per frame, and the parquet files of the
Kaggle competitions "asl-signs" and "asl-fingerspelling". Each reader returns the same dictionary:

    pose (T, 33, 4) float32        x over the image's width, y over its height, z in widths, visibility
    left_hand, right_hand (T, 21, 3) float32
    image_size (width, height)     pixels; only their ratio counts
    fps                            frames per second, or None where the file has none

As in MediaPipe dumps, zeros are what was not detected. Errors are ValueError with a message of one line; lengths in
headers are checked before anything is read or allocated.

`.pose` is parsed here: the package pose-format brings PyAV, 106 MB, for a layout of twenty lines
(github.com/sign-language-processing/pose, docs/specs), and everybody who has numpy can read the files this way.
"""

import io
import math
import struct
from collections.abc import Sequence
from itertools import permutations
from typing import IO, Any

import numpy as np

from ..array_files import MAX_FRAMES
from ..mediapipe_landmarks import (
    BODY_DEPTH,
    ROW_WIDTHS,
    SHOULDER_WIDTH,
    fill_in_time,
    image_shape,
    landmarks_of_rows,
    misplaced,
)
from ..motion_errors import MotionFileError, Remark
from .clips import choose_clip, no_clips
from .handedness import right_handed
from .people import follow, one_person
from .wording import counted

MAX_POINTS = 5_000  # points per frame in a .pose file; MediaPipe's have up to 586
MAX_KAGGLE_FRAMES = 10_000  # of a clip, and 543 times as many rows of a file
MAX_PARQUET_BYTES = 2**29  # of the columns that are read, unpacked; strings count four times, as they are copied
MAX_PARQUET_FOOTER = 2**24
MAX_KAGGLE_NUMBERS = 2**27  # rows x columns that are read: a thousand sequences have a third of it
_PARTS = {"pose": 33, "left_hand": 21, "right_hand": 21}
_KINDS = {part: number for number, part in enumerate(_PARTS)}

# Real files: z varies as much as x if it is in pixels too, and a few hundred times less if it is in image widths.
FLAT_DEPTH = 0.1
# The sizes in a header are believed if the person covers this much of the width. `Pose.normalize` of pose-format makes
# the shoulders one unit wide and leaves the header as it was.
COVERED = (0.02, 50.0)
PARTS_ACROSS = 3.0  # pictures that arms may cover, in parts of one; in pixels, or with shoulders one unit wide, more
MAX_PIXELS = 1e6  # no picture is wider; a point beyond is a broken number, and not detected
EAR_HEIGHT = 0.6  # shoulder widths from the shoulders up to the ears, where a file has no head
FREE_SIZE = 1000  # pixels for coordinates that are in none: any size does, as long as x and y keep their ratio
KAGGLE_SIZE = (3.0, 4.0)  # the signers of "asl-signs" held a phone upright; the files do not say

POSE_NAMES = (
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER LEFT_EAR RIGHT_EAR "
    "MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW LEFT_WRIST RIGHT_WRIST LEFT_PINKY "
    "RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB LEFT_HIP RIGHT_HIP LEFT_KNEE RIGHT_KNEE LEFT_ANKLE "
    "RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
).split()
_HEAD = [POSE_NAMES.index(name) for name in ("NOSE", "LEFT_EAR", "RIGHT_EAR")]
_EARS, _SHOULDERS = [7, 8], [11, 12]
_ARMS = [11, 12, 13, 14, 15, 16]
# The same three in the face mesh: reduced files leave the head out of the body but keep the outline of the face. The
# upper lip stands in for the nose, which no outline has.
_HEAD_IN_FACE = ("0", "454", "234")
_NUM_HAND = 21
_NOSE_DEPTH = -0.1  # shoulder widths from the ears; -0.6 to -1.5 in 2,420 takes of four people
_SHAPES_APART = 1.7  # the shape of a picture by its face is off by less than 4/3 in 9 of 10 takes
# Metres from an elbow forward to its wrist: the medians of four people's signs are 0.17 to 0.21, and half of
# 17,485 frames are within 0.045 of it.
_WRIST_BEFORE_ELBOW = 0.19
_HANGING = 0.72  # shoulder widths from a shoulder to the elbow, and from there to the wrist: 26 cm
_OWN_WRIST = 0.25  # shoulder widths from the other wrist; nearer to it a hand may be that one's
_SAME_DEPTH = 1e-3  # widths of the picture; that of a body's wrist never stays the same
_HANDS = {"left": (13, 15), "right": (14, 16)}  # elbow and wrist
_CENTRES = {"shoulders": [11, 12], "hips": [23, 24]}
_CENTRED = 1e-4  # parts of the picture, and the precision of float16; no picture has a body's middle in its corner
MAX_SAMPLE = 1000  # frames by which the order of an array's landmarks is told
# Ears of a body, in shoulder widths: from one to the other (0.26 to 0.46 in 3,454 takes), and above the
# shoulders (0.36 to 0.87, once the picture has its shape). A hand or a face that is taken for a body has other ones.
_EARS_APART, _EARS_ABOVE = (0.2, 0.6), (0.2, 1.2)


# --- .pose ------------------------------------------------------------------------------------------------------------


def read_pose_file(data: bytes, clip: str | None = None) -> dict[str, Any]:
    """MediaPipe landmarks of a `.pose` file, version 0.1 or 0.2.

    The body may be whole (33 points) or reduced to the arms and hips (8 points, by name); a head that is left out comes
    from the outline of the face, else it is put above the shoulders with visibility 0. Several people are followed by
    their shoulders, and the one who is there longest is taken, or `clip` (`notes` say which of how many). Points with
    confidence 0 are not detected: elbows and wrists are interpolated with visibility 0, a hand with such a point is
    left out whole. An arm whose wrist is never detected hangs, if the other one is (`hanging` names its side).

    x and y are pixels in these files. z is not: MediaPipe's image widths as a rule, pixels in some. It is taken for
    widths if it varies less than a tenth as much as x; the width is the header's depth, where it has one (resized files
    keep the width of the video there), else the header's width.

    Args:
        data: the content of the file. clip: the number of a person, in the order in which they come.

    Returns:
        The dictionary that the module describes.

    Raises:
        ValueError: no `.pose` file, another version, truncated, keypoints without depth (OpenPose), no MediaPipe body.

    Source: docs/specs of github.com/sign-language-processing/pose.
    """
    file = io.BytesIO(data)
    try:
        version, width, height, depth, num_components = _unpack(file, "fHHHH")
        version = round(version, 3)
        if version not in (0.1, 0.2):
            raise ValueError(
                f"this is no .pose file, or one of version {version:g}, expected 0.1 or 0.2; "
                "write it again with a current pose-format"
            )
        components, points, dims = _read_components(file, num_components)
        fps, stated, people = _unpack(file, "HHH" if version == 0.1 else "fIH")
    except struct.error as error:
        raise ValueError("truncated .pose file: its header breaks off; copy it again") from error
    frame_size = 4 * people * points * (dims + 1)  # coordinates and a confidence, float32
    if frame_size <= 0:
        raise ValueError(f"the .pose file holds {people} people of {points} points; export it again")
    complete = (len(data) - file.tell()) // frame_size
    # version 0.1 counts frames in 16 bits, and long clips overflow: the size of the file knows better
    frames = complete if version == 0.1 else stated
    if frames > MAX_FRAMES:
        raise ValueError(f"the .pose file has {frames} frames, the limit is {MAX_FRAMES}; cut it into utterances")
    if frames > complete or (frames - stated) % 2**16:
        raise ValueError(f"truncated .pose file: {stated} frames promised, {complete} came; copy it again")
    numbers = np.frombuffer(data, "<f4", frames * frame_size // 4, file.tell())
    split = frames * people * points * dims
    values = numbers[:split].reshape(frames, people, points, dims)
    confidence = numbers[split:].reshape(frames, people, points)
    with np.errstate(invalid="ignore"):  # broken numbers are not detected, and no reason to warn
        shoulders = _check_body(components)
        values, confidence, notes = _of_one_person(values, confidence, shoulders, clip)
        landmarks = _find_landmarks(components, values, confidence)
    fps = float(fps)
    found = _in_pixels(*landmarks, (width, height, depth)) | {"fps": fps if math.isfinite(fps) and fps > 0 else None}
    return found | ({"notes": notes} if notes else {})


def _unpack(file: io.BytesIO, layout: str) -> tuple:
    return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))


def _text(file: io.BytesIO) -> str:
    """Upper case, in which names are compared."""
    (length,) = _unpack(file, "H")
    return file.read(length).decode("utf-8", "replace").upper()


# name -> number of its first point, names of its points, layout like XYZC
_Components = dict[str, tuple[int, list[str], str]]


def _read_components(file: io.BytesIO, count: int) -> tuple[_Components, int, int]:
    """The components of the header, the number of all points, and the coordinates of a point."""
    components, points_so_far, dims = {}, 0, 0
    for _ in range(count):
        name, layout = _text(file), _text(file)
        points, limbs, colours = _unpack(file, "HHH")
        if points_so_far + points > MAX_POINTS:
            raise ValueError(f"the .pose header has over {MAX_POINTS} points a frame, MediaPipe has 586; export again")
        components.setdefault(name, (points_so_far, [_text(file) for _ in range(points)], layout))
        file.seek(4 * limbs + 6 * colours, io.SEEK_CUR)  # only for drawing
        points_so_far += points
        dims = max(dims, len(layout) - 1)
    return components, points_so_far, dims


def _check_body(components: _Components) -> list[int]:
    """The points of the shoulders; ValueError where there is no MediaPipe body with arms."""
    if "POSE_LANDMARKS" not in components:
        names = " ".join(", ".join(sorted(components)[:6])[:200].lower().split()) or "nothing"
        flat = all("Z" not in layout for _, _, layout in components.values())
        raise ValueError(
            f"the .pose file holds {names}, expected MediaPipe's POSE_LANDMARKS"
            + (" with depth: OpenPose and the like are flat" if flat else "")
            + "; estimate the video again with `video_to_pose --format mediapipe`"
        )
    first, names, _ = components["POSE_LANDMARKS"]
    missing = [POSE_NAMES[point].lower() for point in _ARMS if POSE_NAMES[point] not in names]
    if missing:
        raise ValueError(f"POSE_LANDMARKS lacks {', '.join(missing)}; without the arms there is nothing to read")
    return [first + names.index(POSE_NAMES[point]) for point in _SHOULDERS]


def _of_one_person(
    values: np.ndarray, confidence: np.ndarray, shoulders: list[int], clip: str | None
) -> tuple[np.ndarray, np.ndarray, list[Remark]]:
    """Coordinates (T, points, n) and confidence (T, points) of the one who is meant, of (T, people, points, n): where
    people stand in a frame says nothing, so that they are followed by their shoulders."""
    pairs = values[:, :, shoulders, :2].astype(np.float64)
    there = (confidence[:, :, shoulders] > 0).all(-1) & np.isfinite(pairs).all((2, 3))
    if there.any(0).sum() < 2:
        if clip is not None:
            raise no_clips(clip)
        person = there.any(0).argmax()
        return values[:, person], confidence[:, person], []
    width = np.maximum(np.linalg.norm(pairs[:, :, 0] - pairs[:, :, 1], axis=-1), 1e-9)
    places = np.concatenate([pairs.mean(2) / np.median(width[there]), np.log(width)[..., None]], axis=-1)
    notes: list[Remark] = []
    taken = one_person(follow([at[seen] for at, seen in zip(places, there, strict=True)]), clip, notes)
    frames = np.array(sorted(taken))
    person = np.zeros(len(values), int)
    person[frames] = [np.flatnonzero(there[frame])[taken[frame]] for frame in frames]
    every = np.arange(len(values))
    return values[every, person], confidence[every, person] * np.isin(every, frames)[:, None], notes


def _find_landmarks(
    components: _Components, values: np.ndarray, confidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Body (T, 33, 3) in the file's units, its visibility (T, 33), and hands (T, 21, 3); NaN is not detected."""
    _, names, _ = components["POSE_LANDMARKS"]

    def points(component: str, wanted: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(T, n, 3) and how sure they are (T, n), for n names."""
        first, names, layout = components[component]
        if not set("XYZ") <= set(layout):
            raise ValueError(f"{component} is laid out as {layout[:20]!r}, expected x, y, z and confidence (XYZC)")
        columns = [first + names.index(name) for name in wanted]
        xyz = values[:, columns][..., [layout.index(axis) for axis in "XYZ"]].astype(np.float64)
        sure = confidence[:, columns]
        seen = (sure > 0) & np.isfinite(sure) & (np.abs(xyz) < MAX_PIXELS).all(-1)
        return np.where(seen[..., None], xyz, np.nan), np.where(seen, sure, 0.0)

    body = np.full((len(values), len(POSE_NAMES), 3), np.nan)
    visibility = np.zeros(body.shape[:2])
    wanted = [name for name in POSE_NAMES if name in names]
    places = [POSE_NAMES.index(name) for name in wanted]
    body[:, places], visibility[:, places] = points("POSE_LANDMARKS", wanted)
    _, face, face_layout = components.get("FACE_LANDMARKS", (0, [], ""))
    if "NOSE" not in names and set(_HEAD_IN_FACE) <= set(face) and "Z" in face_layout:
        body[:, _HEAD], visibility[:, _HEAD] = points("FACE_LANDMARKS", _HEAD_IN_FACE)
        body[:, _HEAD, 2] = body[:, _SHOULDERS, 2].mean(1, keepdims=True)  # the face's own depth starts elsewhere
    hands = {}
    for side in ("left", "right"):
        component = f"{side.upper()}_HAND_LANDMARKS"
        _, names, _ = components.get(component, (0, [], ""))
        hands[f"{side}_hand"] = np.full((len(values), _NUM_HAND, 3), np.nan)
        if len(names) == _NUM_HAND:
            hands[f"{side}_hand"], _ = points(component, names)
    return body, visibility, hands


def _in_pixels(
    body: np.ndarray, visibility: np.ndarray, hands: dict[str, np.ndarray], header: tuple[int, int, int]
) -> dict[str, Any]:
    """Bring z into pixels too and find the image's size, for `_landmarks`."""
    width, height, depth = header
    arms = body[:, _ARMS][np.isfinite(body[:, _ARMS]).all(-1)]
    if not len(arms):
        raise ValueError("no frame has a detected body (confidence 0 everywhere); record the upper body in the picture")
    low, high = np.percentile(arms, [2, 98], axis=0)
    across, _, away = high - low
    scale = np.ones(3)
    if away < FLAT_DEPTH * across:
        scale[2] = depth if depth > 1 else width
    shoulders = body[np.isfinite(body[:, _SHOULDERS]).all((1, 2))][:, _SHOULDERS, :2]
    shoulders = np.median(shoulders, axis=0) if len(shoulders) else low[:2]  # hands that rest are below the picture
    if 0 < shoulders.min() < shoulders.max() < 1 and COVERED[0] < across < PARTS_ACROSS and min(width, height) > 1:
        scale[:2] = width, height  # parts of the picture
        scale[2] = width
    elif not (min(width, height) >= 1 and COVERED[0] < across / width < COVERED[1]):
        width = height = FREE_SIZE
        scale *= FREE_SIZE / 2 / max(*(high - low)[:2], 1 / MAX_PIXELS)
    return _landmarks(body * scale, visibility, {side: hand * scale for side, hand in hands.items()}, (width, height))


# --- arrays per frame -------------------------------------------------------------------------------------------------


def read_landmark_frames(arrays: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """MediaPipe Holistic landmarks from one flat array per frame, as tutorials on action detection save them.

    Args:
        arrays: one per frame, (1662,) (pose, face, hands) or (258,) (pose, hands), in order; None is a lost
            frame, which counts as not detected.

    Returns:
        The dictionary that the module describes, without fps and image_size: the files have none.

    Raises:
        ValueError: frames of different shapes, hands without a body ((126,) or (63,)), or another shape.
    """
    size = check_frame_shapes({array.shape for array in arrays if array is not None})
    return landmarks_of_rows(np.array([np.zeros(size) if array is None else array for array in arrays], np.float32))


def check_frame_shapes(shapes: set[tuple[int, ...]]) -> int:
    """Numbers a frame of frames of landmarks. Raises ValueError as `read_landmark_frames`."""
    if len(shapes) > 1:
        different = " and ".join(map(str, sorted(shapes)[:3]))
        raise ValueError(f"the folder holds {different}, expected frames of one shape, (1662,) or (258,)")
    (size,) = next(iter(shapes))
    if size in (126, 63):
        hands = "two hands" if size == 126 else "one hand"
        raise ValueError(
            f"frames of {size} numbers are {hands} without a body: expected (258,) or (1662,), with `pose`"
        )
    if size not in ROW_WIDTHS:
        raise ValueError(f"frames of shape ({size},), expected MediaPipe landmarks (1662,) or (258,)")
    return size


def check_landmarks(
    pose: np.ndarray,
    size: Sequence[float],
    joints: np.ndarray,
    valid: np.ndarray,
    up: str | None,
    left_hand: np.ndarray | None = None,
    right_hand: np.ndarray | None = None,
) -> list[Remark]:
    """What looks wrong with landmarks: depth, order, the shape of the picture, the way of the body.

    Args:
        pose: (T, 25..33, 3 | 4). size: of the picture. joints, valid: what became of them. up: what the user says.
        left_hand, right_hand: (T, 21, 3); older checkpoints do not give them.

    Raises:
        MotionFileError: depth of another sign or none, points of the hands in another order; see also `right_handed`.
    """
    seen = pose[_seen(pose[..., :3])]
    nose, ears, shoulders = seen[:, 0], seen[:, [7, 8]].mean(1), seen[:, 11] - seen[:, 12]
    depth = np.median(nose[:, 2] - ears[:, 2]) / max(np.median(np.linalg.norm(shoulders[:, :2], axis=-1)), 1e-6)
    # 0 is of a file without a nose, unless no point is in front of another: visibilities, say, are never negative
    if depth > _NOSE_DEPTH and (depth or seen[..., 2].min() >= 0 or not np.ptp(seen[..., 2], axis=1).any()):
        problem = "the nose is not in front of the ears: z is 0, of another sign or another number"
        raise MotionFileError(f"{problem}; expected MediaPipe's, which grows away from the camera", kind=problem)
    notes = []
    for name, pair in _CENTRES.items():
        if np.abs(seen[:, pair, :2].mean(1)).max() < _CENTRED < np.abs(seen[:, pair, :2]).max():
            kind = f"each frame counts from between the {name}: how the body sways and rises is lost"
            notes.append(Remark(f"{kind}; expected parts of the picture", kind=kind))
    for side, hand in (("left", left_hand), ("right", right_hand)):
        if hand is not None and _seen(hand).any() and not hand[_seen(hand), :, 2].any():
            kind = f"the {side} hand has no depth: its fingers lie flat in the picture"
            notes.append(Remark(f"{kind}; expected MediaPipe's z, from the wrist", kind=kind))
    width, height = image_shape(pose)
    if abs(np.log(width / height * size[1] / size[0])) > np.log(_SHAPES_APART):
        about = "a picture of {:g} x {:g} makes no human face".format(*size)
        notes.append(Remark(about, "image_size", (width, height), "the picture's size makes no human face"))
    elif left_hand is not None and right_hand is not None:
        _check_order_of_points(np.concatenate([left_hand, right_hand]) * (size[0], size[1], size[0]))
    return notes + (right_handed(joints, valid, "-y", landmarks=True)[1] if up is None else [])


def mended(
    arrays: dict[str, np.ndarray], size: Sequence[float], notes: list[Remark], order: str | None
) -> dict[str, np.ndarray]:
    """The arrays of `mediapipe_to_joints` without three faults of files that are told by their numbers; `notes` gets a
    remark for each.

    A hand that is found at the other wrist, less than a shoulder width away, while the other hand is where it belongs:
    MediaPipe took something else for it. It is left out. Frames in which both hands are the same one: it is left out at
    the wrist that is farther away.

    Wrists that are those of the hands: pose-format's `correct_wrists` copies them, and corpora are passed on like that.
    x and y are better than those of the body; but the depth of a hand counts from its wrist, so that it is 0, behind
    the person. They are put in front of the elbows.

    Args:
        size: of the picture. order: of pose, face and hands, where it was an unusual one, which is remarked as well.
    """
    if isinstance(order, str):
        notes.append(Remark(f"landmarks in the order {order}"))
    pose, hands = arrays["pose"], {side: arrays[f"{side}_hand"] for side in _HANDS}
    if (
        pose.ndim != 3
        or pose.shape[1] < 25
        or any(hand.shape != (len(pose), _NUM_HAND, 3) for hand in hands.values())
        or np.shape(size) != (2,)
    ):
        return arrays  # mediapipe_to_joints says why
    for side, hand in hands.items():  # however the file writes a hand that was not detected
        arrays = arrays | {f"{side}_hand": np.where(_seen(hand)[:, None, None], hand, 0.0)}
        hands[side] = arrays[f"{side}_hand"]
    for side, other in (("left", "right"), ("right", "left")):
        without = arrays | {f"{side}_hand": np.zeros_like(hands[side])}
        there = hands[side][:, 0, :2].any(1) & pose[:, _SHOULDERS].any((1, 2))
        if not there.any() or not hands[other].any() or not misplaced(**arrays) or misplaced(**without):
            continue
        wrists = pose[there][:, [_HANDS[other][1], *_SHOULDERS], :2]
        away = np.median(np.linalg.norm(hands[side][there, 0, :2] - wrists[:, 0], axis=-1))
        if away < np.median(np.linalg.norm(wrists[:, 1] - wrists[:, 2], axis=-1)):
            kind = f"{side} hand is at the other wrist: something else was taken for it, and it is left out"
            notes.append(Remark(f"the {kind}", kind=f"a {kind}"))
            arrays, hands[side] = without, without[f"{side}_hand"]
    twice = hands["left"].any((1, 2)) & (hands["left"] == hands["right"]).all((1, 2))
    if twice.any():
        away = np.linalg.norm(pose[:, [15, 16], :2] - hands["left"][:, :1, :2], axis=-1)
        for side, far in (("left", away[:, 0] > away[:, 1]), ("right", away[:, 0] <= away[:, 1])):
            hands[side] = np.where((twice & far)[:, None, None], 0.0, hands[side])
            arrays = arrays | {f"{side}_hand": hands[side]}
        kind = "one hand was taken for both: it is left out at the farther wrist"
        notes.append(Remark(kind.replace(":", f" in {counted(int(twice.sum()), 'frame')}:"), kind=kind))
    moved, pose = [], pose.copy()
    for side, (elbow, wrist) in _HANDS.items():
        there = hands[side].any((1, 2))
        copied = there & (pose[:, wrist, :2] == hands[side][:, 0, :2]).all(1)
        apart = pose[copied, wrist, 2] - hands[side][copied, 0, 2]  # where depth was counted from another place since
        if copied.sum() <= there.sum() / 2 or np.ptp(pose[copied, 11:15, 2]) < _SAME_DEPTH:
            continue  # its own wrists, or no depth at all
        if np.ptp(apart) < _SAME_DEPTH:
            across = (pose[copied, 11] - pose[copied, 12])[:, :2] * (1, size[1] / size[0])
            metre = np.median(np.linalg.norm(across, axis=-1)) / SHOULDER_WIDTH
            pose[copied, wrist, 2] = pose[copied, elbow, 2] - _WRIST_BEFORE_ELBOW * metre / BODY_DEPTH
            moved.append(side)
    if moved:
        kind = "wrist is the hand's own (`correct_wrists` of pose-format): put 19 cm in front of the elbow"
        notes.append(Remark(f"the depth of the {' and '.join(moved)} {kind}", kind=f"the depth of a {kind}"))
    return arrays | {"pose": pose}


def _seen(points: np.ndarray) -> np.ndarray:
    """(T, N, n) -> (T,): frames with landmarks, no zeros, NaN or another constant."""
    return np.isfinite(points).all((1, 2)) & (points != points[:, :1]).any((1, 2))


def _check_order_of_points(hands: np.ndarray) -> None:
    """Refuse (n, 21, 3) hands, in pixels, whose points are not in MediaPipe's order: by the lengths of bones, which no
    signing changes. The two ratios reach 0.4 and 0.9 in 5,088 takes; where the fingers, or the points
    of each finger, stand the other way round, they are the inverse."""
    there = hands[_seen(hands)]

    def bone(start: int | np.ndarray, end: int | np.ndarray) -> np.ndarray:
        return np.maximum(np.linalg.norm(there[:, end] - there[:, start], axis=-1), 1e-9)

    def finger(first: int) -> np.ndarray:
        return bone(np.arange(first, first + 3), np.arange(first + 1, first + 4)).sum(-1)

    if not len(there):
        return
    # The thumb begins near the wrist, far from its neighbour, and is longer than the little finger.
    thumb = bone(0, 1) * bone(13, 17) * finger(17) / (bone(0, 17) * bone(1, 5) * finger(1))
    knuckles = np.array([5, 9, 13, 17])
    tips = bone(knuckles + 2, knuckles + 3).sum(-1) / bone(knuckles, knuckles + 1).sum(-1)
    if max(np.median(thumb), np.median(tips)) > 1:
        kind = "the points of the hands are in another order"
        expected = "the wrist, then thumb, index, middle, ring and little finger, each from the palm to its tip"
        raise MotionFileError(f"{kind}, as their bones tell; expected MediaPipe's: {expected}", kind=kind)


def landmarks_in_order(rows: np.ndarray, size: int) -> dict[str, Any]:
    """(T, n) numbers of landmarks in any order of pose, face and hands, as the arrays of `mediapipe_to_joints`.

    An order fits if the body has a human head above its shoulders and visibilities from 0 to 1, and each hand is at its
    wrist. Of several the depth of a hand counts from its wrist, and a face is there whole or not at all. Where no other
    order fits better, the usual one need not have a human head.

    Args:
        size: numbers of a pose landmark, 3 or 4.

    Returns:
        pose, left_hand, right_hand; and `order` if it is not pose, face, left hand, right hand.

    Raises:
        ValueError: no order fits.
    """
    sizes = {"pose": 33 * size, "face": rows.shape[1] - 33 * size - 126, "left_hand": 63, "right_hand": 63}
    sizes = {name: width for name, width in sizes.items() if width}
    usual = tuple(sizes)

    def split(rows: np.ndarray, order: Sequence[str]) -> dict[str, Any]:
        ends = dict(zip(order, np.cumsum([sizes[name] for name in order]), strict=True))
        return {
            name: rows[:, ends[name] - sizes[name] : ends[name]].reshape(len(rows), -1, size if name == "pose" else 3)
            for name in order
        }

    sample = rows[:: max(1, len(rows) // MAX_SAMPLE)]  # there are 24 orders to try
    problem, best, fewest = None, None, 3
    for order in permutations(sizes):
        arrays = split(sample, order)
        face = arrays.pop("face", sample[:, None, :0]).any(-1)
        fault = misplaced(**arrays)
        problem = problem or fault
        flat = not np.abs(np.nan_to_num([arrays[f"{side}_hand"][:, 0, 2] for side in ("left", "right")])).max() > 1e-3
        human = _human(arrays["pose"])
        if fault or not (human or order == usual and flat and arrays["pose"].any()):
            continue
        doubts = (not human) + (not flat) + bool((face.any(1) != face.all(1)).any())
        if doubts < fewest:
            best, fewest = order, doubts
    if best is None and not np.nan_to_num(split(sample, usual)["pose"]).any():
        best = usual  # nobody in the picture, which is said later
    if best is None:
        reason = problem or "no head above shoulders, or a visibility not from 0 to 1"
        expected = ", ".join(sizes)
        raise ValueError(
            f"{rows.shape[1]} numbers a frame, but not {expected} in any order: {reason}; save them as .npz"
        )
    arrays = split(rows, best)
    arrays.pop("face", None)
    return arrays | ({} if best == usual else {"order": ", ".join(best)})


def _human(pose: np.ndarray) -> bool:
    """Whether (T, 33, 3 | 4) numbers are bodies: their ears and visibilities tell."""
    body = pose[np.isfinite(pose).all((1, 2)) & pose.any((1, 2))]
    if not len(body) or body[..., 3:].min(initial=0) < 0 or body[..., 3:].max(initial=0) > 1.001:
        return False
    ears, shoulders = (body[:, pair, :2] * image_shape(body) for pair in (_EARS, _SHOULDERS))
    width, apart = (np.median(np.linalg.norm(pair[:, 0] - pair[:, 1], axis=-1)) for pair in (shoulders, ears))
    above = np.median(shoulders[..., 1].mean(1) - ears[..., 1].mean(1))
    limits = zip((apart, above), (_EARS_APART, _EARS_ABOVE), strict=True)
    return all(low * width < size < high * width for size, (low, high) in limits)


# --- Kaggle --------------------------------------------------------------------------------------------


def read_kaggle_landmarks(file: IO[bytes], clip: str | None = None) -> dict[str, Any]:
    """Landmarks of one clip of Kaggle's "asl-signs" or "asl-fingerspelling". Needs pyarrow: the extra `parquet`.

    The first has a row for each landmark, 543 a frame in any order: frame, type, landmark_index, x, y, z. The second
    has a row for each frame of many clips: sequence_id, frame, x_face_0, ..., z_right_hand_20. NaN is what was not
    detected, and frame numbers without rows are lost frames. Rows are decoded some thousands at a time.

    Returns:
        The dictionary that the module describes; fps is None: the files have none. image_size is 3 : 4.

    Raises:
        MotionFileError: several clips and no `clip`, or none of that name.
        ValueError: pyarrow is not installed, no parquet, other columns, too large, or no body.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ValueError("reading .parquet needs pyarrow; pip install 'lslm[parquet]'") from error

    def number(table: Any, name: str) -> np.ndarray:
        return table[name].cast(arrow.float64()).to_numpy(zero_copy_only=False)

    columns = ["frame", "type", "landmark_index", "x", "y", "z"]
    try:
        file.seek(max(file.seek(0, 2) - 8, 0))
        if (footer := int.from_bytes(file.read(4), "little")) > MAX_PARQUET_FOOTER:
            raise ValueError(f"damaged .parquet: a footer of {footer} bytes, the limit is {MAX_PARQUET_FOOTER}")
        source, wide = parquet.ParquetFile(file), {}
        if "x_pose_0" in source.schema_arrow.names:
            wide = {part: [f"{axis}_{part}_{k}" for k in range(n) for axis in "xyz"] for part, n in _PARTS.items()}
            columns = ["frame", *sum(wide.values(), [])]
        elif "type" in source.schema_arrow.names:
            source = parquet.ParquetFile(file, read_dictionary=["type"])
        metadata, schema = source.metadata, source.schema_arrow
        is_number = arrow.types.is_integer, arrow.types.is_floating
        kinds = {"type": (arrow.types.is_dictionary,)}
        if not all(
            name in schema.names and any(fits(schema.field(name).type) for fits in kinds.get(name, is_number))
            for name in columns
        ):
            fields = " ".join(", ".join(f"{field.name} {field.type}" for field in schema)[:200].split())
            expected = ", ".join(columns[:6])
            raise ValueError(f"the parquet file has {fields}; expected the numbers and strings {expected}, ...")
        rows, groups = metadata.num_rows, [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        weights = {place: 4 if name in kinds else 1 for place, name in enumerate(schema.names) if name in columns}
        unpacked = sum(
            weight * group.column(place).total_uncompressed_size
            for group in groups
            for place, weight in weights.items()
        )
        too_many = rows > MAX_KAGGLE_FRAMES * 543 or rows * len(columns) > MAX_KAGGLE_NUMBERS
        if too_many or unpacked > MAX_PARQUET_BYTES:
            expected = f"clips of at most {MAX_KAGGLE_FRAMES} frames"
            raise ValueError(f"the parquet file has {rows} rows, {unpacked >> 20} MB, expected {expected}; cut it")
        frames = number(source.read(["frame"], use_threads=False), "frame")
        placed = np.isfinite(frames)
        if "sequence_id" in schema.names and is_number[0](schema.field("sequence_id").type):
            ids = number(source.read(["sequence_id"], use_threads=False), "sequence_id")
            names = np.unique(ids[placed]).astype(int)
            placed &= ids == names[choose_clip(names, clip, "sequences")] if len(names) else False
        elif clip is not None:
            raise no_clips(clip)
        if not placed.any():
            raise ValueError("the parquet file has no row with a frame; download it again")
        if np.unique(frames[placed], return_counts=True)[1].max() > (1 if wide else 543):
            raise ValueError("the parquet file has several sequences and no sequence_id; store each by itself")
        first, last = frames[placed].min(), frames[placed].max()
        if last - first >= MAX_KAGGLE_FRAMES:
            raise ValueError(f"frames are numbered {first:.0f} to {last:.0f}, expected at most {MAX_KAGGLE_FRAMES}")
        landmarks = {part: np.full((int(last - first) + 1, size, 3), np.nan) for part, size in _PARTS.items()}
        start = 0
        for number_of_group, group in enumerate(groups):
            stop = start + group.num_rows
            wanted = [number_of_group] if placed[start:stop].any() else []
            for batch in source.iter_batches(2**14, wanted, columns, use_threads=False):
                here = placed[start : start + len(batch)]
                at = (frames[start : start + len(batch)][here] - first).astype(int)
                start += len(batch)
                if wide:
                    for part, names in wide.items():
                        xyz = np.stack([number(batch, name)[here] for name in names], axis=-1)
                        landmarks[part][at] = xyz.reshape(len(at), -1, 3)
                    continue
                # never the strings of all rows: one long string would be copied a million times
                kinds = [_KINDS.get(kind, -1) for kind in batch["type"].dictionary.to_pylist()]
                kind = np.array([*kinds, -1])[batch["type"].indices.fill_null(-1).to_numpy()][here]
                index = number(batch, "landmark_index")[here]
                xyz = np.stack([number(batch, axis)[here] for axis in "xyz"], axis=-1)
                for part, size in _PARTS.items():
                    rows = (kind == _KINDS[part]) & (index >= 0) & (index < size)
                    landmarks[part][at[rows], index[rows].astype(int)] = xyz[rows]
            start = stop
    except (arrow.ArrowException, OSError, KeyError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"damaged .parquet, or not of Kaggle's asl-signs ({reason}); download it again") from error
    width, height = KAGGLE_SIZE
    for values in landmarks.values():
        values *= (width, height, width)
        values[~(np.abs(values) < MAX_PIXELS).all(-1)] = np.nan
    body = landmarks.pop("pose")
    visibility = np.isfinite(body).all(-1).astype(np.float64)
    return _landmarks(body, visibility, landmarks, KAGGLE_SIZE) | {"fps": None}


# --- what is missing --------------------------------------------------------------------------------------------------


def _landmarks(
    body: np.ndarray, visibility: np.ndarray, hands: dict[str, np.ndarray], image_size: tuple[float, float]
) -> dict[str, Any]:
    """Fill the points of the body that `mediapipe_to_joints` needs, and divide by the size of the image.

    Args:
        body: (T, 33, 3) pixels, all three coordinates; NaN where a point is not detected.
        visibility: (T, 33), 0 where a point is not detected.
        hands: left_hand and right_hand, (T, 21, 3) pixels, NaN.
        image_size: (width, height) pixels.
    """
    body, visibility = body.copy(), visibility.copy()
    seen = np.isfinite(body[:, _SHOULDERS]).all((1, 2))
    if not seen.any():
        raise ValueError("no frame has both shoulders detected; record with the upper body in the picture")
    # Some files carry an offset in z of thousands of pixels. Depths are relative to anything: why not the shoulders.
    body[..., 2] -= np.median(body[seen][:, _SHOULDERS, 2])
    there = np.isfinite(body).all(-1)
    body[:, _SHOULDERS] = fill_in_time(body[:, _SHOULDERS], seen)
    shoulders = body[:, _SHOULDERS]
    width = np.median(np.linalg.norm((shoulders[:, 0] - shoulders[:, 1])[:, :2], axis=-1))
    hanging = [side for side, wrist in (("left", 15), ("right", 16)) if not there[:, wrist].any()]
    for point in _ARMS[2:]:
        idle = len(hanging) == 1 and hanging[0].upper() in POSE_NAMES[point]
        if there[:, point].any():
            body[:, point] = fill_in_time(body[:, point], there[:, point])
        elif idle:  # such files leave out what does not sign
            body[:, point] = body[:, point - 2] + (0, _HANGING * width, 0)
        else:
            raise ValueError(f"{POSE_NAMES[point].lower()} is not detected in any frame; record the arms that sign")
    for (_, wrist), (_, other), hand in zip(_HANDS.values(), reversed(_HANDS.values()), hands.values(), strict=True):
        at = hand[:, 0, :2]  # a hand that was seen tells where its wrist is in the picture
        own = np.linalg.norm(at - body[:, other, :2], axis=-1) > _OWN_WRIST * width
        own &= ~there[:, wrist] & there[:, wrist].any() & np.isfinite(hand).all((1, 2)) & at.any(-1)
        body[own, wrist, :2] = at[own]
    lost = ~np.isfinite(body[:, _HEAD]).all((1, 2))
    body[lost[:, None] & np.isin(np.arange(33), _HEAD)] = np.repeat(
        shoulders[lost].mean(1) - (0, EAR_HEIGHT * width, 0), len(_HEAD), axis=0
    )
    visibility[:, _HEAD] = np.where(lost[:, None], 0, visibility[:, _HEAD])
    size = np.array([*image_size, image_size[0]])
    pose = np.nan_to_num(np.concatenate([body / size, visibility[..., None]], axis=-1))
    pose[~seen] = 0
    result = {"pose": pose.astype(np.float32), "image_size": (float(image_size[0]), float(image_size[1]))}
    for side, hand in hands.items():
        whole = np.isfinite(hand).all((1, 2))
        result[side] = np.where(whole[:, None, None], hand / size, 0.0).astype(np.float32)
    return result | ({"hanging": hanging[0]} if hanging else {})
