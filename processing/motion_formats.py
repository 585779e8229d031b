"""Motion files of several makes -> one `Motion`: (T, 52, 3) joints in metres, y up.

Two formats are read, told apart by their content and never by the file name alone:

- our own `.npz`: `joints` (T, 52, 3) in metres and `fps`, optionally `valid` (T, 52);
- MediaPipe Holistic landmarks: an `.npz` with `pose` (T, 25..33, 3 | 4), `left_hand`, `right_hand` (T, 21, 3),
  optionally `fps`
  and `image_size`; or an `.npy` of (T, 1662) (pose, face, hands) or (T, 258) (pose, hands) numbers.

A file that cannot be used raises ValueError or OSError with a one-line message that says what came, what was expected
and what to do; nothing is ever unpickled, and sizes are read from the headers before any data.

Axes, here and everywhere in LSLM: +x is the person's left, +y is up, +z is where the person faces.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from .motion_features import JOINT_NAMES, NUM_JOINTS

MAX_SECONDS = 20 * 60.0  # an utterance lasts seconds; a longer file is a recording that nobody has cut yet
MAX_FPS = 1000.0
MAX_FRAMES = 144_000  # MAX_SECONDS at 120 frames per second: bounds memory when a file claims a huge frame rate
MAX_BYTES = 2**30  # of arrays in one file, unpacked
MAX_HEADER = 10_000  # bytes that describe one array; numpy refuses longer ones too, but reads them first
MAX_COORDINATE = 100.0  # metres; beyond it the numbers are millimetres, centimetres or pixels
MEDIAPIPE_FPS = 15.0  # landmark dumps rarely store a frame rate; a webcam loop with MediaPipe runs at 10 to 20

SHOULDER_WIDTH = 0.36  # metres: sets the scale of landmarks, which have none of their own
SHOULDER_HEIGHT = 1.40  # metres above the floor
# MediaPipe exaggerates the depth of the body. On real signing, forearm length varies least within a take at this factor
# (coefficient of variation 0.124 at 0, 0.060 at 0.3, no better above); hand depth is consistent as it comes.
BODY_DEPTH = 0.3
HAND_DEPTH = 1.0
# The depths of the shoulders tremble by centimetres while a person faces the camera. The heading follows the shoulders,
# and everything is measured from it: a turn of less than 10 degrees is taken for none.
TWIST = 0.06
MIN_VISIBILITY = 0.1  # below it MediaPipe extrapolates the landmark from outside the picture

_NOSE, _LEFT_EAR, _RIGHT_EAR = 0, 7, 8
_ARMS = {
    "left_shoulder": 11,
    "right_shoulder": 12,
    "left_elbow": 13,
    "right_elbow": 14,
    "left_wrist": 15,
    "right_wrist": 16,
}
# MediaPipe hand landmarks in SMPL-X order; fingertips have no joint there. The thumb's first joint is CMC, the fingers'
# MCP.
_FINGERS = {"index": (5, 6, 7), "middle": (9, 10, 11), "pinky": (17, 18, 19), "ring": (13, 14, 15), "thumb": (1, 2, 3)}
_HAND_LANDMARKS = np.array([landmark for finger in _FINGERS.values() for landmark in finger])

# A standing rest pose for what a webcam does not see: metres from the shoulder centre of the clip, person's left side.
_PELVIS = np.array([0.0, 0.93 - SHOULDER_HEIGHT, 0.0])
_LEFT_LEG = {
    "hip": (0.07, 0.85 - SHOULDER_HEIGHT, 0.0),
    "knee": (0.10, 0.47 - SHOULDER_HEIGHT, 0.01),
    "ankle": (0.10, 0.08 - SHOULDER_HEIGHT, -0.02),
    "foot": (0.12, 0.02 - SHOULDER_HEIGHT, 0.10),
}
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


@dataclass
class Motion:
    """One clip of body motion.

    Attributes:
        joints: (T, 52, 3) float32, metres, +y up, +x the person's left, +z front; NaN where a file had no number.
        fps: frames per second.
        valid: (T, 52) bool, False where a joint was filled in instead of observed.
        smplx: SMPL-X parameters of the same frames, for files that hold them; else None.
    """

    joints: np.ndarray
    fps: float
    valid: np.ndarray
    smplx: dict[str, np.ndarray] | None = None

    @property
    def num_frames(self) -> int:
        return len(self.joints)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.fps


def load_motion(path: str | os.PathLike, *, fps: float | None = None) -> Motion:
    """Read one motion file: our own `.npz`, or MediaPipe Holistic landmarks (`.npz` or `.npy`).

    Args:
        path: the file.
        fps: frames per second; replaces what the file says, and is needed where our own format lacks it. Landmark files
            without
            a frame rate are taken as 15 fps, with a warning.

    Returns:
        `Motion`: joints (T, 52, 3) float32 in metres, y up; valid (T, 52).

    Raises:
        OSError: the file is missing, a directory or unreadable (`FileNotFoundError`, `IsADirectoryError`,
            `PermissionError`).
        ValueError: the content cannot be used. The message is one line and says what to do.
    """
    path = Path(path)
    try:
        return _read(path, fps)
    except OSError as error:
        # zipfile reports some damage as a bare OSError; those that carry an errno already name the file.
        if error.errno is not None:
            raise
        raise ValueError(_one_line(f"{path}: damaged file ({error}); copy or export it again")) from error
    except ValueError as error:
        raise ValueError(_one_line(f"{path}: {error}")) from error
    except Exception as error:
        # zipfile, zlib and numpy raise a dozen other types on damaged bytes. Callers are promised two.
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValueError(_one_line(f"{path}: damaged file ({reason}); copy or export it again")) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _read(path: Path, fps: float | None) -> Motion:
    if fps is not None:
        fps = _check_fps(fps, "the fps argument")
    if path.is_dir():
        raise IsADirectoryError(
            21, "this is a directory, expected one motion file (.npz or .npy); name the files in it", str(path)
        )
    if not path.exists():
        raise FileNotFoundError(2, "no such file; check the path", str(path))
    if not path.is_file():
        raise ValueError("not a regular file; expected a .npz or .npy file on disk")
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        if not start:
            raise ValueError("the file is empty (0 bytes); export the clip again")
        if start.startswith(npy_format.MAGIC_PREFIX):
            return _read_mediapipe_npy(_read_array(file, path.stat().st_size, "the array"), fps)
        if start.startswith(b"PK\x03\x04") or start.startswith(b"PK\x05\x06"):
            try:
                with zipfile.ZipFile(file) as archive:
                    _check_archive(archive)
                    return _read_npz(archive, fps)
            except zipfile.BadZipFile as error:
                raise ValueError(f"truncated or damaged .npz ({error}); copy or export it again") from error
    if start.startswith(b"\x80"):
        raise ValueError(
            "this is a pickle, which can run code when opened; save the joints with np.savez(path, joints=..., fps=...)"
        )
    raise ValueError(
        "not a motion file: its first bytes are neither .npz nor .npy, whatever its name; "
        "save the joints with np.savez(path, joints=..., fps=...)"
    )


# --- arrays from files, headers first ---------------------------------------------------------------------------------


def _check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse a zip bomb by what its directory says; zipfile reads no more of an entry than the directory promises."""
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > MAX_BYTES:
        raise ValueError(
            f"the .npz unpacks to {unpacked / 2**20:.0f} MB, the limit is {MAX_BYTES >> 20} MB; "
            "cut the file into utterances"
        )
    # zipfile unpacks the other methods without a bound on what one read may yield
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist()):
        raise ValueError("the .npz is compressed in a way that numpy does not write; save it with np.savez_compressed")


def _read_array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """One .npy stream of `size` bytes. A header may promise anything: it is checked before any data is read."""
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{name} has .npy version {version}, expected 1.0 to 3.0; save it again with a current numpy")
    start = file.tell()
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > MAX_HEADER:
        raise ValueError(f"{name} has a header of {length} bytes, the limit is {MAX_HEADER}; export the file again")
    file.seek(start)
    # Version 3 differs from 2 only in utf-8 names of structured fields, and those are refused below.
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which only unpickling could read; save plain numbers")
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {dtype}, expected real numbers; save it as float32")
    if any(length < 0 for length in shape):
        raise ValueError(f"{name} has the impossible shape {shape}; export the file again")
    if shape and shape[0] > MAX_FRAMES:
        raise ValueError(f"{name} has {shape[0]} frames, the limit is {MAX_FRAMES}; cut the file into utterances")
    # 2000 numbers a frame covers every layout known here; more means another kind of array.
    if math.prod(shape[1:]) > 2000 or len(shape) > 4:
        raise ValueError(f"{name} has shape {shape}, expected (frames, joints, coordinates); it is no motion array")
    if math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{name} has shape {shape}, more than {MAX_BYTES >> 20} MB; cut the file into utterances")
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(
            f"truncated file: {name} promises {math.prod(shape) * dtype.itemsize} bytes of {size}; copy it again"
        )
    file.seek(0)
    return npy_format.read_array(file, allow_pickle=False)


def _read_member(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as file:
        return _read_array(file, info.file_size, f"`{key}`")


def _read_npz(archive: zipfile.ZipFile, fps: float | None) -> Motion:
    keys = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    for needed, reader in NPZ_READERS:
        if needed <= keys:
            return reader(archive, keys, fps)
    found = ", ".join(sorted(keys)[:8]) or "no arrays"
    raise ValueError(
        f"unknown .npz: it holds {found[:200]}; expected `joints` and `fps`, "
        "or MediaPipe `pose`, `left_hand` and `right_hand`"
    )


def _read_number(archive: zipfile.ZipFile, key: str) -> float:
    value = _read_member(archive, key)
    if value.size != 1:
        raise ValueError(f"`{key}` has shape {value.shape}, expected one number")
    return float(value.reshape(()))


def _check_fps(fps: Any, source: str) -> float:
    try:
        number = float(fps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} is {fps!r}, expected frames per second as a number") from error
    if not 0 < number <= MAX_FPS:  # also False for NaN
        raise ValueError(
            f"{source} is {number:g}, expected above 0 and at most {MAX_FPS:g} frames per second; pass fps=..."
        )
    return number


def _stored_fps(archive: zipfile.ZipFile, keys: set[str], fps: float | None) -> float | None:
    if fps is None and "fps" in keys:
        return _check_fps(_read_number(archive, "fps"), "`fps`")
    return fps


def _check_length(frames: int, fps: float) -> None:
    if frames < 2:
        raise ValueError(f"{frames} frame{'s' if frames != 1 else ''}, expected at least 2: one frame has no motion")
    if frames / fps > MAX_SECONDS:
        raise ValueError(
            f"{frames} frames at {fps:g} fps last {frames / fps / 60:.0f} minutes, "
            f"the limit is {MAX_SECONDS / 60:.0f}; cut the file into utterances"
        )


# --- our own format ---------------------------------------------------------------------------------------------------


def _read_own_npz(archive: zipfile.ZipFile, keys: set[str], fps: float | None) -> Motion:
    joints = _read_member(archive, "joints")
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3):
        hint = ""
        if joints.ndim == 3 and joints.shape[1] in (55, 127, 144):
            hint = "; of SMPL-X joints take list(range(22)) + list(range(25, 55))"
        raise ValueError(f"`joints` has shape {joints.shape}, expected (frames, {NUM_JOINTS}, 3){hint}")
    if joints.dtype.kind == "b":
        raise ValueError("`joints` has dtype bool, expected metres as float32")
    fps = _stored_fps(archive, keys, fps)
    if fps is None:
        raise ValueError("no frame rate: add `fps` to the file or pass fps=...")
    _check_length(len(joints), fps)
    valid = np.ones(joints.shape[:2], bool)
    if "valid" in keys:
        valid = _read_member(archive, "valid")
        if valid.shape != joints.shape[:2] or valid.dtype.kind not in "biu":
            raise ValueError(
                f"`valid` is {valid.dtype} {valid.shape}, expected bool {joints.shape[:2]}: frames and joints"
            )
        valid = valid.astype(bool)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is reported below
        joints = joints.astype(np.float32)
    return _motion(joints, fps, valid)


def check_joints(joints: np.ndarray) -> None:
    """Refuse (T, J, 3) joints that cannot be a body in metres.

    Raises:
        ValueError: nothing but NaN, coordinates too large for metres, or all joints in one place.
    """
    if np.isnan(joints).any(-1).all():
        raise ValueError("no joint has a number in any frame (all NaN); export the clip again")
    size = np.nanmax(np.abs(joints))
    if size > MAX_COORDINATE:
        raise ValueError(
            f"coordinates reach {size:g}, expected metres (at most {MAX_COORDINATE:g}); "
            "divide millimetres by 1000, and turn pixels into metres first"
        )
    if np.nanmax(np.nanmax(joints, axis=(0, 1)) - np.nanmin(joints, axis=(0, 1))) < 1e-3:
        raise ValueError("all joints are in one place, expected a body in metres; export the clip again")


def _motion(joints: np.ndarray, fps: float, valid: np.ndarray) -> Motion:
    check_joints(joints)
    known = ~np.isnan(joints).any(-1)
    joints = np.where(known[..., None], joints, np.float32(np.nan))  # a joint is known as a whole or not at all
    return Motion(joints=joints, fps=fps, valid=valid & known)


# --- MediaPipe Holistic -----------------------------------------------------------------------------------------------


def _read_mediapipe_npz(archive: zipfile.ZipFile, keys: set[str], fps: float | None) -> Motion:
    pose, left_hand, right_hand = (_read_member(archive, key) for key in ("pose", "left_hand", "right_hand"))
    image_size = (640.0, 480.0)
    if "image_size" in keys:
        stored = _read_member(archive, "image_size")
        if stored.shape != (2,):
            raise ValueError(f"`image_size` has shape {stored.shape}, expected (width, height) in pixels")
        image_size = (float(stored[0]), float(stored[1]))
    return _mediapipe_motion(pose, left_hand, right_hand, image_size, _stored_fps(archive, keys, fps))


def _read_mediapipe_npy(array: np.ndarray, fps: float | None) -> Motion:
    if array.shape in ((1662,), (258,)):
        raise ValueError(
            f"1 frame of landmarks {array.shape}, expected a clip; stack its frames to (frames, {len(array)})"
        )
    if array.ndim != 2 or array.shape[1] not in (1662, 258):
        raise ValueError(
            f"the array has shape {array.shape}, expected MediaPipe landmarks (frames, 1662) or (frames, 258); "
            "save joints with np.savez(path, joints=..., fps=...)"
        )
    frames = len(array)
    pose, hands = (
        array[:, :132],
        array[:, -126:],
    )  # 33 x (x, y, z, visibility), then maybe the face, then 2 x 21 x (x, y, z)
    return _mediapipe_motion(
        pose.reshape(frames, 33, 4),
        hands[:, :63].reshape(frames, 21, 3),
        hands[:, 63:].reshape(frames, 21, 3),
        (640.0, 480.0),
        fps,
    )


def _mediapipe_motion(
    pose: np.ndarray, left: np.ndarray, right: np.ndarray, image_size: tuple[float, float], fps: float | None
) -> Motion:
    if fps is None:
        warnings.warn(f"no frame rate in the landmark file: taken as {MEDIAPIPE_FPS:g} fps; pass fps=...", stacklevel=5)
        fps = MEDIAPIPE_FPS
    _check_length(len(pose), fps)
    joints, valid = mediapipe_to_joints(pose, left, right, image_size=image_size)
    return _motion(joints, fps, valid)


# The first reader whose keys are all in the file takes it. A new .npz layout is one more line here.
NPZ_READERS: tuple[tuple[set[str], Callable[[zipfile.ZipFile, set[str], float | None], Motion]], ...] = (
    ({"joints"}, _read_own_npz),
    ({"pose", "left_hand", "right_hand"}, _read_mediapipe_npz),
)


def mediapipe_to_joints(
    pose: np.ndarray, left_hand: np.ndarray, right_hand: np.ndarray, *, image_size: tuple[float, float] = (640, 480)
) -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe Holistic landmarks -> the 52 joints of SMPL-H, in metres, y up.

    Landmarks are image-normalised: x over width, y over height and downwards, z in widths and away from the camera. The
    scale is set by the median shoulder width; the median shoulder centre of the clip comes to (0, 1.40, 0). Depth is
    MediaPipe's estimate.
    Legs are mostly outside a webcam picture: they stand under the shoulders. A hand that is not detected (all zeros or
    NaN) is interpolated between the frames where it is, or relaxed along the forearm if it never is.

    Args:
        pose: (T, 25..33, 3 | 4) x, y, z and maybe visibility. A frame of zeros or NaN is not detected.
        left_hand, right_hand: (T, 21, 3) x, y, z; z relative to the wrist.
        image_size: (width, height) in pixels.

    Returns:
        joints (T, 52, 3) float32 in metres, and valid (T, 52) bool: False where a joint was filled in (always for
        pelvis and legs).

    Raises:
        ValueError: shapes that do not fit, no detected pose at all, or shoulders of no width.

    Layout: ai.google.dev/edge/mediapipe, Pose and Hand Landmarker; joint order: spec of the 52-joint feature (SMPL-X
        order).
    """
    pose, left_hand, right_hand = (np.asarray(array) for array in (pose, left_hand, right_hand))
    frames = len(pose) if pose.ndim else 0
    if pose.ndim != 3 or not 25 <= pose.shape[1] <= 33 or pose.shape[2] not in (3, 4):
        raise ValueError(f"`pose` has shape {pose.shape}, expected (frames, 25 to 33, 3 or 4)")
    for name, hand in (("left_hand", left_hand), ("right_hand", right_hand)):
        if hand.shape != (frames, 21, 3):
            raise ValueError(
                f"`{name}` has shape {hand.shape}, expected {(frames, 21, 3)} like the {frames} frames of `pose`"
            )
    for name, array in (("pose", pose), ("left_hand", left_hand), ("right_hand", right_hand)):
        if array.dtype.kind not in "iuf":
            raise ValueError(f"`{name}` has dtype {array.dtype}, expected real numbers")
    width, height = image_size
    if not (1 <= width <= 1e5 and 1 <= height <= 1e5):
        raise ValueError(f"image size is {width:g} x {height:g}, expected width and height in pixels")
    pixels = np.array([width, height, width])
    seen = _detected(pose[..., :3])
    if not seen.any():
        raise ValueError("no frame has a detected pose (all zeros or NaN); record with the upper body in the picture")

    # Image axes to ours: y and z change sign; x stays, as a person who faces the camera has the left side on the
    # image's right.
    body = _fill_in_time(pose[..., :3] * pixels * (1.0, -1.0, -BODY_DEPTH), seen)
    shoulders = body[:, [_ARMS["left_shoulder"], _ARMS["right_shoulder"]]]
    shoulder_width = np.median(np.linalg.norm((shoulders[:, 0] - shoulders[:, 1])[:, :2], axis=-1))
    if not shoulder_width > 1e-3 * width:
        raise ValueError("the shoulders have no width, so the scale is unknown; record facing the camera")
    if np.abs(body).max() > 100 * width:
        raise ValueError(
            "landmarks lie far outside the picture, expected x and y from 0 to 1; divide pixels by the image size"
        )
    scale = SHOULDER_WIDTH / shoulder_width
    centre = np.median(shoulders.mean(1), axis=0)
    body = (body - centre) * scale
    _face_camera(body)
    # Below the shoulders, not below where the shoulders mostly are: who sways on a chair does not bend.
    pelvis = (body[:, 11] + body[:, 12]) / 2 * (1.0, 0.0, 1.0) + _PELVIS

    joints = np.zeros((frames, NUM_JOINTS, 3))
    valid = np.zeros((frames, NUM_JOINTS), bool)
    visible = seen[:, None] & (pose[..., 3] >= MIN_VISIBILITY if pose.shape[2] == 4 else np.ones(pose.shape[:2], bool))

    def place(name: str, positions: np.ndarray, observed: np.ndarray | bool = False) -> None:
        index = JOINT_NAMES.index(name)
        joints[:, index], valid[:, index] = positions, observed

    place("pelvis", pelvis)
    for name, (x, y, z) in _LEFT_LEG.items():
        place(f"left_{name}", pelvis - _PELVIS + (x, y, z))
        place(f"right_{name}", pelvis - _PELVIS + (-x, y, z))
    for name, landmark in _ARMS.items():
        place(name, body[:, landmark], visible[:, landmark])
    between_shoulders = (body[:, 11] + body[:, 12]) / 2
    upright = visible[:, 11] & visible[:, 12]
    for name, fraction in _SPINE.items():
        place(name, pelvis + (between_shoulders - pelvis) * fraction, upright)
    neck = joints[:, JOINT_NAMES.index("neck")]
    for side in ("left", "right"):
        place(f"{side}_collar", neck * 0.6 + body[:, _ARMS[f"{side}_shoulder"]] * 0.4, upright)
    # The head joint sits inside the skull, at the height of the ears and a little in front of them.
    ears = (body[:, _LEFT_EAR] + body[:, _RIGHT_EAR]) / 2
    place("head", ears + 0.2 * (body[:, _NOSE] - ears), visible[:, _NOSE])

    for side, hand in (("left", left_hand), ("right", right_hand)):
        wrist = body[:, _ARMS[f"{side}_wrist"]]
        detected = _detected(hand)
        if detected.any():
            relative = (hand[:, _HAND_LANDMARKS] - hand[:, :1]) * (pixels * (1.0, -1.0, -HAND_DEPTH) * scale)
            relative = _fill_in_time(relative, detected)
        else:
            relative = _rest_hand(wrist - body[:, _ARMS[f"{side}_elbow"]], side)
        first = JOINT_NAMES.index(f"{side}_index1")
        joints[:, first : first + 15] = wrist[:, None] + relative
        valid[:, first : first + 15] = detected[:, None]
    joints[..., 1] += SHOULDER_HEIGHT
    return joints.astype(np.float32), valid


def _face_camera(body: np.ndarray) -> None:
    """Take up to `TWIST` metres off the difference in depth between the shoulders of (T, 33, 3) landmarks, in place."""
    half = np.clip(body[:, 11, 2] - body[:, 12, 2], -TWIST, TWIST) / 2
    body[:, 11, 2] -= half
    body[:, 12, 2] += half


def _detected(landmarks: np.ndarray) -> np.ndarray:
    """(T, N, 3) -> (T,) bool: MediaPipe dumps write zeros, some NaN, for what was not found."""
    return np.isfinite(landmarks).all((1, 2)) & (landmarks != 0).any((1, 2))


def _fill_in_time(values: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(T, ...) with (T,) bool, one True or more: linear between detected frames, held before and after them."""
    frames = np.arange(len(values))
    known = np.flatnonzero(detected)
    after = np.searchsorted(known, frames).clip(0, len(known) - 1)
    before = (np.searchsorted(known, frames, side="right") - 1).clip(0)
    start, end = known[before], known[after]
    weight = np.where(end > start, (frames - start) / np.maximum(end - start, 1), 0.0)
    weight = weight.reshape(-1, *(1,) * (values.ndim - 1))
    return values[start] * (1 - weight) + values[end] * weight


def _rest_hand(forearm: np.ndarray, side: str) -> np.ndarray:
    """(T, 3) forearm -> (T, 15, 3) finger joints from the wrist: relaxed, thumb to the front, palm to the body."""
    length = np.linalg.norm(forearm, axis=-1, keepdims=True)
    along = np.where(length > 1e-6, forearm / np.maximum(length, 1e-6), (0.0, -1.0, 0.0))
    # The thumb points to the front, or up where the forearm does so itself.
    front = np.where(np.abs(along[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    thumb = front - (front * along).sum(-1, keepdims=True) * along
    thumb /= np.linalg.norm(thumb, axis=-1, keepdims=True)
    palm = np.cross(along, thumb) if side == "left" else np.cross(thumb, along)
    return np.einsum("jk,tkc->tjc", _REST_HAND, np.stack([along, thumb, palm], axis=1))
