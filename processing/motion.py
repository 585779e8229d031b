"""Motion files -> one `Motion`: (T, 52, 3) joints in metres, y up.

What a file is follows from its bytes and keys, never from its name or width alone: docs/formats.md lists the formats.

Arrays are read here. This file and those that it imports are copied beside the weights of a checkpoint; containers of
other programs, and pickles, are read by `lslm.processing.readers`, which is not: it turns them into the same arrays.

Axes, here and everywhere in LSLM: +x is the person's left, +y is up, +z is where the person faces.
"""

import contextlib
import io
import os
import zipfile
from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from .array_files import MAX_BYTES, MAX_FRAMES, NpzFile, numbers, one_clip, one_number, read_array
from .mediapipe_landmarks import ROW_WIDTHS, image_shape, landmarks_of_rows, mediapipe_to_joints, misplaced
from .motion_errors import MotionFileError, Remark, package_readers
from .motion_features import FEATURE_SIZE, NUM_JOINTS, all_three, feature_slices, features_to_joints, fill_in_time
from .smplx_formats import (
    LAYOUTS,
    UP_TURNS,
    SmplxClip,
    agree,
    array_to_clip,
    clip_to_joints,
    main_axis,
    mapping_to_clip,
    unseen_hands,
)

MAX_SECONDS = 20 * 60.0  # an utterance lasts seconds; a longer file is a recording that nobody has cut yet
MAX_FPS = 1000.0
MAX_COORDINATE = 100.0  # metres; beyond it the numbers are millimetres, centimetres or pixels
MEDIAPIPE_FPS = 15.0  # landmark dumps rarely store a frame rate; a webcam loop with MediaPipe runs at 10 to 20

# What the package reads: name -> what it is, the format of what comes of it (None: its arrays tell), and how a file
# begins, in capitals.
CONTAINERS = {
    "folder": ("a folder with a file per frame", None, ()),
    "pickle": ("a pickle", None, (b"\x80",)),
    "torch": ("a file of torch.save", None, ()),
    "bvh": ("a BVH file", "bvh", (b"HIERARCHY",)),
    "gltf": ("a glTF file", "gltf", (b"GLTF", b"{")),
    "parquet": ("a parquet file", "mediapipe", (b"PAR1",)),
    "pose": ("a .pose file", "pose", (b"\xcd\xcc\xcc\x3d", b"\xcd\xcc\x4c\x3e")),  # its version as float32: 0.1, 0.2
    "other": ("a file of another kind", None, ()),
}
FORMATS = ("lslm", "features", *LAYOUTS, *dict.fromkeys(format for _, format, _ in CONTAINERS.values() if format))
COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # gzip, and zlib's levels
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth")  # protocols 0 and 1 have no first byte of their own


@dataclass
class Motion:
    """One clip of body motion.

    Attributes:
        joints: (T, 52, 3) float32, metres, +y up, +x the person's left, +z front; NaN where a file had no number.
        fps: frames per second.
        valid: (T, 52) bool, False where a joint was filled in instead of observed.
        smplx: SMPL-X parameters of the same frames, name -> (T, n) float64, in the axes and with the hand mean of the
            file, for files that hold them; else None.
        format: what the file was, one of `FORMATS`.
        notes: what was assumed or filled in, and what looks wrong.
    """

    joints: np.ndarray
    fps: float
    valid: np.ndarray
    smplx: dict[str, np.ndarray] | None = None
    format: str = "lslm"
    notes: tuple[Remark, ...] = ()

    @property
    def num_frames(self) -> int:
        return len(self.joints)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.fps


# What the caller says about a file; None: as the file or its format has it.
Given = namedtuple("Given", "fps format up flat_hand_mean body_model image_size", defaults=[None] * 6)


def load_motion(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    format: str | None = None,
    clip: str | None = None,
    up: str | None = None,
    flat_hand_mean: bool | None = None,
    body_model: str | os.PathLike | None = None,
    image_size: tuple[float, float] | None = None,
) -> Motion:
    """Read one clip: a motion file of any format of the field, or a folder with one file per frame.

    Args:
        path: the file or folder.
        fps: frames per second; replaces what the file says. Needed where neither the file nor the authors of its format
            tell it; what only the authors tell is used, with a remark in `Motion.notes`.
        format: one of `FORMATS`, where the content fits several or none.
        clip: which clip of a file that holds several (animations); the error of such a file names them.
        up: the axis of the file that points up, like "z" or "-y". None: as the format has it, or the person stands.
        flat_hand_mean: for SMPL-X parameters: whether finger rotations are whole (True) or relative to the mean hand
            (False), in smplx's word. None: as the format has it, or as the fingers bend, with a remark.
        body_model: folder of the SMPL-X model files (SMPLX_NEUTRAL.npz, ...): exact joints. None: the folder in the
            environment variable LSLM_SMPLX, or else a neutral skeleton that comes with LSLM.
        image_size: width and height of the video in which MediaPipe found the landmarks; replaces what the file says.
            None: as stored (`image_size`), or by the proportions of the face, with a remark. `.pose` holds pixels.

    Returns:
        `Motion`: joints (T, 52, 3) float32 in metres, y up; valid (T, 52).

    Raises:
        OSError: the file is missing or unreadable (`FileNotFoundError`, `PermissionError`), or a folder that holds no
            frames (`IsADirectoryError`).
        MotionFileError: a ValueError; the content cannot be used. The message is one line and says what to do.
    """
    path = Path(path)
    try:
        if format is not None and format not in FORMATS:
            raise ValueError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
        if up is not None and up not in UP_TURNS:
            raise ValueError(f"up is {up!r}, expected {', '.join(map(repr, UP_TURNS))}")
        fps = None if fps is None else check_fps(fps, "the fps argument")
        given = Given(fps, format, up, flat_hand_mean, body_model and str(body_model), image_size)
        with contextlib.ExitStack() as stack:
            content = "folder" if path.is_dir() else open_file(path, stack)
            if not isinstance(content, str):
                if clip is not None:
                    raise MotionFileError(f"one clip, with no name to be {clip!r}; leave clip out", kind="no clips")
                return motion_of(content, given)
            about, container_format, _ = CONTAINERS[content]
            content, notes = package_readers(about).read(path, content, format, clip, up)
            return motion_of(content, given, container_format, notes)
    except ValueError as error:
        raise MotionFileError.of(path, error) from error
    except (Exception, RecursionError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # these name the file themselves
            raise
        # zipfile (a bare OSError, too), zlib and numpy raise a dozen types on damaged bytes; callers are promised two
        reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}".rstrip(": ")
        raise MotionFileError.of(path, error, f"damaged file ({reason}); copy or export it again") from error


def open_file(path: Path, stack: contextlib.ExitStack) -> np.ndarray | Mapping | str:
    """A file's array or named arrays, open until the stack is closed; or which of `CONTAINERS` it is.

    Raises:
        OSError: there is no such file. ValueError: it is damaged, too large or no regular file.
    """
    if not path.exists():
        raise FileNotFoundError(2, "no such file; check the path", str(path))
    if not path.is_file():
        raise ValueError("not a regular file; expected a motion file on disk")
    size, file = path.stat().st_size, stack.enter_context(open(path, "rb"))
    start = file.read(64)
    if size > MAX_BYTES and not start.startswith(b"PAR1"):  # thousands of clips, of which one is read
        raise ValueError(f"the file has {size >> 20} MB, the limit is {MAX_BYTES >> 20} MB; cut it into utterances")
    if start.startswith(COMPRESSED):
        file = io.BytesIO(package_readers("a compressed file").unpacked(path.read_bytes()))
        size, start = len(file.getbuffer()), file.read(64)
    file.seek(0)
    if not start:
        raise MotionFileError("the file is empty (0 bytes); export the clip again")
    if start.startswith(npy_format.MAGIC_PREFIX):
        return "pickle" if b"'|O'" in start else read_array(file, size, "the array")
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        try:
            if file.read().count(b"PK\1\2") > 10_000:  # each takes a kilobyte of memory, whatever the archive says
                raise ValueError("the archive has over 10,000 members; expected a few arrays")
            archive = stack.enter_context(zipfile.ZipFile(file))
        except zipfile.BadZipFile as error:
            raise ValueError(f"truncated or damaged .npz ({error}); copy or export it again") from error
        npz = NpzFile(archive)
        return "torch" if any(name.endswith("data.pkl") for name in archive.namelist()) else npz if npz else "other"
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip().upper()
    for name, (_, _, beginnings) in CONTAINERS.items():
        if start.startswith(beginnings):
            return name
    return "pickle" if path.suffix in PICKLE_SUFFIXES else "other"


def motion_of(content, given: Given, format: str | None = None, notes: Sequence[Remark] = ()) -> Motion:
    """The motion of an array, named arrays or an `SmplxClip`. format, notes: of a container of another program."""
    if isinstance(content, np.ndarray):
        return _array_motion(content, given)
    if not isinstance(content, Mapping):
        return _smplx_motion(content, given)
    if "joints" in content and "params" not in content:
        return _joints_motion(content, given, agree(given.format, format or "lslm"), notes)
    if {"pose", "left_hand", "right_hand"} <= content.keys():
        return _landmark_motion(content, given, agree(given.format, format or "mediapipe"), notes)
    clip = mapping_to_clip(content, given.format)
    if clip is None:
        names = ", ".join(sorted(content)[:8]) or "no arrays"
        expected = "`joints` and `fps`, MediaPipe `pose`, `left_hand` and `right_hand`, or SMPL-X parameters"
        raise MotionFileError(f"unknown file: it holds {names[:200]}; expected {expected}", kind="unknown arrays")
    return _smplx_motion(clip, given)


def _array_motion(array: np.ndarray, given: Given) -> Motion:
    numbers({"the array": array}, "the array")
    if array.shape in ((width,) for width in ROW_WIDTHS):
        raise ValueError(f"1 frame of landmarks {array.shape}, expected a clip; stack its frames, or give their folder")
    array = one_clip(array, 3) if array.ndim == 4 or array.shape[2:] == (3,) else one_clip(array, 2)
    if array.ndim == 3 and array.shape[1] * array.shape[2] in ROW_WIDTHS:
        array = array.reshape(len(array), -1)
    if array.ndim == 3 and array.shape[1] * array.shape[2] > 0:
        return _joints_motion({"joints": array}, given)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"the array has shape {array.shape}, expected MediaPipe landmarks (frames, 1662) or (frames, 258), "
            "SMPL-X parameters (frames, numbers) or joints (frames, 52, 3)"
        )
    if array.shape[1] in ROW_WIDTHS and given.format in (None, "mediapipe"):
        return _landmark_motion(landmarks_of_rows(array), given)
    if array.shape[1] == FEATURE_SIZE and given.format in (None, "features"):
        return _feature_motion(array, given)
    return _smplx_motion(array_to_clip(array, given.format), given)


def _joints_motion(mapping: Mapping, given: Given, format: str = "lslm", notes: Sequence[Remark] = ()) -> Motion:
    joints = one_clip(numbers(mapping, "joints"), 3)
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3):
        hint = ""
        if joints.ndim == 3 and joints.shape[1] in (55, 127, 144):
            hint = "; of SMPL-X joints take list(range(22)) + list(range(25, 55))"
        elif joints.ndim == 3 and joints.shape[1] in (17, 18, 25, 133, 134, 135, 137):
            hint = "; keypoints of a picture (OpenPose, DWPose, RTMW) have no depth: find MediaPipe's landmarks instead"
        raise ValueError(f"`joints` has shape {joints.shape}, expected (frames, {NUM_JOINTS}, 3){hint}")
    if joints.dtype.kind != "f":
        raise ValueError(f"`joints` has dtype {joints.dtype}, expected metres as float32; divide millimetres by 1000")
    fps, _ = _frame_rate(given, len(joints), one_number(mapping, "fps"))
    told = "valid" in mapping
    valid = one_clip(np.asarray(mapping["valid"]), 2) if told else np.ones(joints.shape[:2], bool)
    if valid.shape != joints.shape[:2] or valid.dtype.kind not in "biu":
        raise ValueError(f"`valid` is {valid.dtype} {valid.shape}, expected bool {joints.shape[:2]}: frames and joints")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is reported below
        joints = joints.astype(np.float32)
    if format == "lslm":  # other programs' axes were looked at when they were read
        up = given.up or main_axis(joints)
        joints = joints if up == "y" else joints @ np.array(UP_TURNS[up], np.float32).T
        notes = [] if up in ("y", given.up) else [Remark(f"{up} up, turned to y up; if it is not", "up", "y")]
        if given.up is None and (readers := package_readers()):
            joints, remarks = readers.right_handed(joints, valid.astype(bool), up)
            notes += remarks
    return _motion(joints, fps, valid.astype(bool), format, notes, told=told and format == "lslm")


def _feature_motion(array: np.ndarray, given: Given) -> Motion:
    """HumanML3D's vector back to joints. What is normalised cannot be undone: mean and deviation are in other files."""
    fps, notes = _frame_rate(given, len(array), None, None, "HumanML3D feature")
    features = array.astype(np.float64)
    contacts = features[:, feature_slices()["contacts"]]
    rotations = features[:, feature_slices()["rotations"]].reshape(len(array), -1, 2, 3)
    unit = np.abs(np.linalg.norm(rotations, axis=-1) - 1).max() <= 0.1
    if not np.isfinite(features).all() or not unit or contacts.min() < -0.1 or contacts.max() > 1.1:
        remedy = "multiply by its deviation and add its mean first"
        raise MotionFileError(f"623 numbers a frame, but not HumanML3D's vector as it is computed: {remedy}")
    joints = features_to_joints(features)
    notes.append(Remark("joints rebuilt from HumanML3D features"))
    return _motion(joints.astype(np.float32), fps, np.ones(joints.shape[:2], bool), "features", notes)


def _smplx_motion(clip: SmplxClip, given: Given) -> Motion:
    layout = LAYOUTS[clip.format]
    fps, notes = _frame_rate(given, clip.num_frames, clip.fps, layout.fps, layout.about)
    joints, valid, assumptions = clip_to_joints(
        clip, up=given.up, flat_hand_mean=given.flat_hand_mean, body_model=given.body_model
    )
    notes += assumptions
    present = np.isfinite(joints).all((1, 2))
    if not present.all():
        joints = fill_in_time(joints, present)
        kind = "frames missing, filled in between their neighbours"
        notes.append(Remark(f"{(~present).sum()} of {len(present)} {kind}", kind=kind))
    return _motion(joints.astype(np.float32), fps, valid, clip.format, notes, clip.params)


def _landmark_motion(mapping: Mapping, given: Given, format: str = "mediapipe", notes: Sequence[Remark] = ()) -> Motion:
    arrays = {key: one_clip(numbers(mapping, key), 3) for key in ("pose", "left_hand", "right_hand")}
    stored = one_number(mapping, "fps")
    fps, assumptions = _frame_rate(given, len(arrays["pose"]), stored, MEDIAPIPE_FPS, "webcam landmarks")
    size = numbers(mapping, "image_size") if "image_size" in mapping else None
    if given.image_size is not None and format == "mediapipe":  # others come in pixels
        size, notes = given.image_size, []
    if size is None:
        size = image_shape(arrays["pose"]) if arrays["pose"].ndim == 3 and arrays["pose"].shape[1] > 10 else (640, 480)
        about = "the picture's size is not stored: taken as {} x {}, by the proportions of the face".format(*size)
        assumptions.append(Remark(about, "image_size", size))
    readers = package_readers()
    arrays = readers.mended(arrays, size, assumptions, mapping.get("order")) if readers else arrays
    joints, valid = mediapipe_to_joints(**arrays, image_size=size)
    if problem := misplaced(**arrays):
        raise MotionFileError(problem)
    if readers:
        assumptions += readers.check_landmarks(**arrays, size=size, joints=joints, valid=valid, up=given.up)
    return _motion(joints, fps, valid, format, [*notes, *assumptions])


def _motion(joints, fps: float, valid, format: str, notes: Sequence[Remark], smplx=None, told=False) -> Motion:
    check_joints(joints)
    if readers := package_readers():
        readers.check_one_person(joints)
    if (axis := main_axis(joints)) != "y":
        notes = [*notes, Remark(f"the head is along {axis} of the pelvis, expected y up", "up")]
    present = all_three(~np.isnan(joints))
    if not present.all():
        joints = np.where(present[..., None], joints, np.float32(np.nan))  # a joint has three numbers or none
    valid = valid & present
    return Motion(joints, fps, valid, smplx, format, (*notes, *unseen_hands(joints, valid, told)))


def check_fps(fps: Any, source: str) -> float:
    """`fps`, which comes from `source`, as a number. Raises ValueError if it is no frame rate."""
    try:
        number = float(fps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source} is {fps!r}, expected frames per second as a number") from error
    if not 1 <= number <= MAX_FPS or fps is True:  # also False for NaN
        expected = f"expected 1 to {MAX_FPS:g} frames per second, not seconds per frame"
        raise MotionFileError(f"{source} is {number:g}, {expected}", "fps", kind="no possible frame rate")
    return number


def _frame_rate(
    given: Given, frames: int, stored: float | None, documented: float | None = None, about: str | None = None
) -> tuple[float, list[Remark]]:
    """Frames per second, and a remark if nobody but the authors of the format says so.

    Raises:
        MotionFileError: nobody says so, or at this rate the clip is too short or too long.
    """
    fps, notes = stored if given.fps is None else given.fps, []
    if fps is None:
        if documented is None:
            problem = f"{about} files do not hold one" if about else "add `fps` to the file"
            raise MotionFileError(f"no frame rate: {problem}", "fps", kind="no frame rate")
        fps = documented
        notes.append(Remark(f"no frame rate in the file: taken as {fps:g} fps, as usual for {about}", "fps"))
    fps = check_fps(fps, "`fps`")
    if frames < 2:
        what = f"{frames} frame{'s' if frames != 1 else ''}, expected at least 2: one frame has no motion"
        raise MotionFileError(f"{what}; of a clip with a file per frame, give the folder")
    if frames / fps > MAX_SECONDS or frames > MAX_FRAMES:
        limit = f"{MAX_SECONDS / 60:.0f}"
        problem = f"{frames} frames at {fps:g} fps last {frames / fps / 60:.0f} minutes, the limit is {limit}"
        raise MotionFileError(f"{problem}; cut the file into utterances", kind=f"longer than {limit} minutes")
    return fps, notes


def check_joints(joints: np.ndarray) -> None:
    """Refuse (T, J, 3) joints that cannot be a body in metres.

    Raises:
        MotionFileError: a ValueError; nothing but NaN, coordinates too large for metres, or all joints in one place.
    """
    if not all_three(~np.isnan(joints)).any():
        raise MotionFileError("no joint has a number in any frame (all NaN); export the clip again")
    size = np.nanmax(np.abs(joints))
    if size > MAX_COORDINATE:
        problem = f"coordinates reach {size:g}, expected metres up to {MAX_COORDINATE:g}; divide millimetres by 1000"
        raise MotionFileError(f"{problem}, turn pixels into metres first", kind="coordinates are no metres")
    if np.nanmax([np.nanmax(axis) - np.nanmin(axis) for axis in np.moveaxis(joints, -1, 0)]) < 1e-3:
        raise MotionFileError("all joints are in one place, expected a body in metres; export the clip again")
