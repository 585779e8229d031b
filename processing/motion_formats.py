"""Motion files of the field -> one `Motion`: (T, 52, 3) joints in metres, y up.

What a file is follows from its bytes and keys, never from its name or width alone:

| format | file |
|---|---|
| `lslm` | our `.npz`: `joints` (T, 52, 3) in metres, `fps`, optionally `valid` (T, 52) |
| `features` | `.npy` of (T, 623): HumanML3D's vector, not normalised |
| the names in `smplx_formats.LAYOUTS` | SMPL-X parameters: `.pkl`, `.npz`, `.npy`, or a folder with a file per frame |
| `mediapipe` | Holistic landmarks: `.npz`, `.npy`, a folder with an `.npy` per frame, or asl-signs `.parquet` |
| `pose` | `.pose` of pose-format |
| `bvh`, `gltf` | motion capture with the joint names of Mixamo, VRM, Rokoko or CMU |

A file that cannot be used raises ValueError or OSError with a one-line message that says what came, what was expected
and what to do. No code of a pickle is run, and sizes are read from the headers before any data.

Axes, here and everywhere in LSLM: +x is the person's left, +y is up, +z is where the person faces.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from .array_files import MAX_BYTES, MAX_FRAMES, NpzFile, numbers, read_array
from .landmark_formats import landmarks_of_rows, read_kaggle_landmarks, read_landmark_frames, read_pose_file
from .mediapipe_landmarks import fill_in_time, mediapipe_to_joints
from .mocap_bvh import read_bvh
from .mocap_gltf import read_gltf
from .mocap_skeletons import named_joints_to_motion_joints
from .motion_features import NUM_JOINTS, feature_slices, features_to_joints
from .safe_pickle import load_pickle, load_torch_archive
from .smplx_formats import (
    LAYOUTS,
    UP_TURNS,
    SmplxClip,
    array_to_clip,
    clip_to_joints,
    frames_to_clip,
    main_axis,
    mapping_to_clip,
)

FORMATS = ("lslm", "features", *LAYOUTS, "mediapipe", "pose", "bvh", "gltf")
MAX_SECONDS = 20 * 60.0  # an utterance lasts seconds; a longer file is a recording that nobody has cut yet
MAX_FPS = 1000.0
MAX_COORDINATE = 100.0  # metres; beyond it the numbers are millimetres, centimetres or pixels
MEDIAPIPE_FPS = 15.0  # landmark dumps rarely store a frame rate; a webcam loop with MediaPipe runs at 10 to 20
_LANDMARKS = (1662, 258)  # numbers a frame of MediaPipe dumps: pose, face, hands; or pose, hands


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
        notes: what was assumed or filled in, for people.
    """

    joints: np.ndarray
    fps: float
    valid: np.ndarray
    smplx: dict[str, np.ndarray] | None = None
    format: str = "lslm"
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        return len(self.joints)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class _Asked:
    """What the caller says about a file; None: as the file or its format has it."""

    fps: float | None = None
    format: str | None = None
    up: str | None = None
    flat_hand_mean: bool | None = None
    body_model: str | None = None


def load_motion(
    path: str | os.PathLike,
    *,
    fps: float | None = None,
    format: str | None = None,
    up: str | None = None,
    flat_hand_mean: bool | None = None,
    body_model: str | os.PathLike | None = None,
) -> Motion:
    """Read one clip: a motion file of any format of the field, or a folder with one file per frame.

    Args:
        path: the file or folder.
        fps: frames per second; replaces what the file says. Needed where neither the file nor the authors of its format
            tell it; what only the authors tell is used with a warning.
        format: one of `FORMATS`, where the content fits several or none.
        up: the axis of the file that points up: "y", "-y" or "z". None: as the format has it, checked.
        flat_hand_mean: for SMPL-X parameters: whether finger rotations are whole (True) or relative to the mean hand
            (False), in smplx's word. None: as the format has it.
        body_model: folder of the SMPL-X model files (SMPLX_NEUTRAL.npz, ...): exact joints. None: the folder in the
            environment variable LSLM_SMPLX, or else a neutral skeleton that comes with LSLM.

    Returns:
        `Motion`: joints (T, 52, 3) float32 in metres, y up; valid (T, 52).

    Raises:
        OSError: the file is missing or unreadable (`FileNotFoundError`, `PermissionError`), or a folder that holds no
            frames (`IsADirectoryError`).
        ValueError: the content cannot be used. The message is one line and says what to do.
    """
    path = Path(path)
    try:
        if format is not None and format not in FORMATS:
            near = difflib.get_close_matches(str(format), FORMATS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown format {format!r}; {hint}known are {', '.join(FORMATS)}")
        if up is not None and up not in UP_TURNS:
            raise ValueError(f"up is {up!r}, expected {', '.join(map(repr, UP_TURNS))}")
        if fps is not None:
            fps = _check_fps(fps, "the fps argument")
        return _read(path, _Asked(fps, format, up, flat_hand_mean, None if body_model is None else str(body_model)))
    except OSError as error:
        # zipfile reports some damage as a bare OSError; those that carry an errno already name the file.
        if error.errno is not None:
            raise
        raise ValueError(_one_line(f"{path}: damaged file ({error}); copy or export it again")) from error
    except ValueError as error:
        raise ValueError(_one_line(f"{path}: {error}")) from error
    except (Exception, RecursionError, MemoryError) as error:
        # zipfile, zlib and numpy raise a dozen other types on damaged bytes. Callers are promised two.
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValueError(_one_line(f"{path}: damaged file ({reason}); copy or export it again")) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- what it is -------------------------------------------------------------------------------------------------------


def _read(path: Path, asked: _Asked) -> Motion:
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            return _read_folder(path, asked)
        content = _open(path, stack)
        if isinstance(content, np.ndarray):
            return _array_motion(content, asked)
        if isinstance(content, Mapping):
            return _mapping_motion(content, asked)
        return _foreign_motion(path, content, asked)


def _open(path: Path, stack: contextlib.ExitStack) -> np.ndarray | Mapping | str:
    """A file's array or named arrays; or, for the formats that name themselves, which of them it is."""
    if not path.exists():
        raise FileNotFoundError(2, "no such file; check the path", str(path))
    if not path.is_file():
        raise ValueError("not a regular file; expected a motion file on disk")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"the file has {size >> 20} MB, the limit is {MAX_BYTES >> 20} MB; cut it into utterances")
    with open(path, "rb") as file:
        start = file.read(64)
        file.seek(0)
        if not start:
            raise ValueError("the file is empty (0 bytes); export the clip again")
        if start.startswith(npy_format.MAGIC_PREFIX):
            return read_array(file, size, "the array")
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            try:
                archive = stack.enter_context(zipfile.ZipFile(path))
            except zipfile.BadZipFile as error:
                raise ValueError(f"truncated or damaged .npz ({error}); copy or export it again") from error
            npz = NpzFile(archive)
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                return _named_arrays(load_torch_archive(archive))
            return npz
        for format, recognised in _MAGIC:
            if recognised(start):
                return format
        if start.startswith(b"\x80") or path.suffix in (".pkl", ".pickle", ".pt", ".pth"):
            return _named_arrays(load_pickle(file.read()))
    raise ValueError(
        "not a motion file: its first bytes are of no format known here, whatever its name; "
        "save the joints with np.savez(path, joints=..., fps=...)"
    )


_MAGIC = (
    ("bvh", lambda start: start.removeprefix(b"\xef\xbb\xbf").lstrip().upper().startswith(b"HIERARCHY")),
    ("gltf", lambda start: start.startswith(b"glTF") or start.lstrip().startswith(b"{")),
    ("parquet", lambda start: start.startswith(b"PAR1")),
    # the header starts with its version as a float32: 0.1 or 0.2
    ("pose", lambda start: start[:4] in (b"\xcd\xcc\xcc\x3d", b"\xcd\xcc\x4c\x3e")),
)


def _named_arrays(content: Any) -> Mapping:
    if not isinstance(content, Mapping):
        kind = (
            f"an array of shape {content.shape}" if isinstance(content, np.ndarray) else f"a {type(content).__name__}"
        )
        raise ValueError(f"the pickle holds {kind}, expected a dict of named arrays")
    return {str(key): value for key, value in content.items()}


def _array_motion(array: np.ndarray, asked: _Asked) -> Motion:
    numbers({"the array": array}, "the array")
    if array.shape in ((width,) for width in _LANDMARKS):
        raise ValueError(
            f"1 frame of landmarks {array.shape}, expected a clip; stack its frames to (frames, {len(array)}), "
            "or give the folder of all frames"
        )
    if array.ndim == 3 and array.shape[1] * array.shape[2] > 0:
        return _joints_motion({"joints": array}, asked)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"the array has shape {array.shape}, expected MediaPipe landmarks (frames, 1662) or (frames, 258), "
            "SMPL-X parameters (frames, numbers) or joints (frames, 52, 3)"
        )
    if array.shape[1] in _LANDMARKS and asked.format in (None, "mediapipe"):
        return _landmark_motion(**landmarks_of_rows(array), fps=None, asked=asked)
    if array.shape[1] == feature_slices()["contacts"].stop and asked.format in (None, "features"):
        return _feature_motion(array, asked)
    if asked.format is not None and asked.format not in LAYOUTS:
        raise ValueError(f"an array of shape {array.shape} is no {asked.format} file; leave format out or name another")
    return _smplx_motion(array_to_clip(array.astype(np.float64), asked.format), asked)


def _mapping_motion(mapping: Mapping, asked: _Asked) -> Motion:
    if "joints" in mapping and "params" not in mapping:
        _agree(asked.format, "lslm")
        return _joints_motion(mapping, asked)
    if {"pose", "left_hand", "right_hand"} <= mapping.keys():
        _agree(asked.format, "mediapipe")
        return _landmark_file(mapping, asked)
    clip = mapping_to_clip(mapping, asked.format)
    if clip is None:
        found = ", ".join(sorted(mapping)[:8]) or "no arrays"
        raise ValueError(
            f"unknown file: it holds {found[:200]}; expected `joints` and `fps`, MediaPipe `pose`, `left_hand` and "
            "`right_hand`, or SMPL-X parameters"
        )
    return _smplx_motion(clip, asked)


def _agree(asked: str | None, found: str) -> None:
    if asked not in (None, found):
        raise ValueError(f"the file is of format {found}, not {asked}; leave format out")


def _foreign_motion(path: Path, found: str, asked: _Asked) -> Motion:
    """Formats that a module of their own reads."""
    _agree(asked.format, "mediapipe" if found == "parquet" else found)
    if found == "pose":
        return _landmark_motion(**read_pose_file(path.read_bytes()), asked=asked, format="pose")
    if found == "parquet":
        return _landmark_motion(**read_kaggle_landmarks(path), asked=asked)
    names, positions, stored = (read_bvh if found == "bvh" else read_gltf)(path)
    fps, notes = _frame_rate(asked, stored, None, found)
    _check_length(len(positions), fps)
    joints, valid, more = named_joints_to_motion_joints(names, positions)
    return _motion(joints.astype(np.float32), fps, valid, found, [*notes, *more])


# --- frame rate and length --------------------------------------------------------------------------------------------


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


def _frame_rate(asked: _Asked, stored: float | None, documented: float | None, about: str) -> tuple[float, list[str]]:
    """-> frames per second, and a note if nobody but the authors of the format says so."""
    if asked.fps is not None:
        return asked.fps, []
    if stored is not None:
        return _check_fps(stored, "`fps`"), []
    if documented is None:
        raise ValueError(f"no frame rate: {about} files do not hold one; pass fps=...")
    note = f"no frame rate in the file: taken as {documented:g} fps, as usual for {about}; pass fps=..."
    warnings.warn(note, stacklevel=6)
    return documented, [note]


def _stored_fps(mapping: Mapping) -> float | None:
    if "fps" not in mapping:
        return None
    value = numbers(mapping, "fps")
    if value.size != 1:
        raise ValueError(f"`fps` has shape {value.shape}, expected one number")
    return float(value.reshape(()))


def _check_length(frames: int, fps: float) -> None:
    if frames < 2:
        raise ValueError(
            f"{frames} frame{'s' if frames != 1 else ''}, expected at least 2: one frame has no motion; "
            "of a clip with a file per frame, give the folder"
        )
    if frames / fps > MAX_SECONDS or frames > MAX_FRAMES:
        raise ValueError(
            f"{frames} frames at {fps:g} fps last {frames / fps / 60:.0f} minutes, "
            f"the limit is {MAX_SECONDS / 60:.0f}; cut the file into utterances"
        )


# --- joints and features ----------------------------------------------------------------------------------------------


def _joints_motion(mapping: Mapping, asked: _Asked) -> Motion:
    joints = numbers(mapping, "joints")
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3):
        hint = ""
        if joints.ndim == 3 and joints.shape[1] in (55, 127, 144):
            hint = "; of SMPL-X joints take list(range(22)) + list(range(25, 55))"
        raise ValueError(f"`joints` has shape {joints.shape}, expected (frames, {NUM_JOINTS}, 3){hint}")
    if joints.dtype.kind == "b":
        raise ValueError("`joints` has dtype bool, expected metres as float32")
    stored = _stored_fps(mapping)
    if stored is None and asked.fps is None:
        raise ValueError("no frame rate: add `fps` to the file or pass fps=...")
    fps, _ = _frame_rate(asked, stored, None, "")
    _check_length(len(joints), fps)
    valid = np.ones(joints.shape[:2], bool)
    if "valid" in mapping:
        valid = np.asarray(mapping["valid"])
        if valid.shape != joints.shape[:2] or valid.dtype.kind not in "biu":
            raise ValueError(
                f"`valid` is {valid.dtype} {valid.shape}, expected bool {joints.shape[:2]}: frames and joints"
            )
        valid = valid.astype(bool)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is reported below
        joints = joints.astype(np.float32)
    notes = []
    if asked.up is not None:
        joints = joints @ np.array(UP_TURNS[asked.up], np.float32).T
    elif (found := main_axis(joints)) in ("-y", "z"):
        notes.append(f"the head is along {found} of the pelvis, expected y up: if so, pass up={found!r}")
        warnings.warn(notes[0], stacklevel=5)
    return _motion(joints, fps, valid, "lslm", notes)


def _feature_motion(array: np.ndarray, asked: _Asked) -> Motion:
    """HumanML3D's vector back to joints. What is normalised cannot be undone: mean and deviation are in other files."""
    fps, notes = _frame_rate(asked, None, None, "HumanML3D feature")
    _check_length(len(array), fps)
    features = array.astype(np.float64)
    contacts = features[:, feature_slices()["contacts"]]
    rotations = features[:, feature_slices()["rotations"]].reshape(len(array), -1, 2, 3)
    lengths = np.linalg.norm(rotations, axis=-1)
    if (
        not np.isfinite(features).all()
        or np.abs(lengths - 1).max() > 0.1
        or contacts.min() < -0.1
        or contacts.max() > 1.1
    ):
        raise ValueError(
            "623 numbers a frame, but not HumanML3D's vector as it is computed: multiply by its deviation and add its "
            "mean first"
        )
    joints = features_to_joints(features)
    notes.append("joints rebuilt from HumanML3D features")
    return _motion(joints.astype(np.float32), fps, np.ones(joints.shape[:2], bool), "features", notes)


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


def _motion(
    joints: np.ndarray,
    fps: float,
    valid: np.ndarray,
    format: str,
    notes: list[str] | tuple[str, ...] = (),
    smplx: dict[str, np.ndarray] | None = None,
) -> Motion:
    check_joints(joints)
    known = ~np.isnan(joints).any(-1)
    joints = np.where(known[..., None], joints, np.float32(np.nan))  # a joint is known as a whole or not at all
    return Motion(joints, fps, valid & known, smplx, format, tuple(notes))


# --- SMPL-X parameters ------------------------------------------------------------------------------------------------


def _smplx_motion(clip: SmplxClip, asked: _Asked) -> Motion:
    layout = LAYOUTS[clip.format]
    fps, notes = _frame_rate(asked, clip.fps, layout.fps, layout.about)
    _check_length(clip.num_frames, fps)
    joints, valid, more = clip_to_joints(
        clip, up=asked.up, flat_hand_mean=asked.flat_hand_mean, body_model=asked.body_model
    )
    there = np.isfinite(joints).all((1, 2))
    if not there.any():
        raise ValueError("no frame has numbers in all of its parameters (NaN or infinity); export the clip again")
    if not there.all():
        joints = fill_in_time(joints, there)
        more.append(f"{(~there).sum()} of {len(there)} frames missing, filled in between their neighbours")
    return _motion(joints.astype(np.float32), fps, valid, clip.format, notes + more, clip.params)


# --- a folder with one file per frame ---------------------------------------------------------------------------------

_FRAME_FOLDERS = ("smplx", "smplx_params", "predictions")  # of SMPLer-X, OpenASL3D, AiOS
# 00012_0 of SMPLer-X; img12_personId_0 of AiOS; HELLO_12_p0 of aslAvatar: frame, then person
_FRAME_AND_PERSON = re.compile(r"^(?:(?P<bare>\d+)_(?P<box>\d+)|(?P<stem>.*)(?:_personId_|_p)(?P<person>\d+))$")


def _read_folder(path: Path, asked: _Asked) -> Motion:
    folder = path
    files: list[Path] = []
    for folder in (path, *(path / name for name in _FRAME_FOLDERS)):
        if folder.is_dir():
            files = [file for file in folder.iterdir() if file.suffix in (".pkl", ".npz", ".npy") and file.is_file()]
        if files:
            break
    if not files:
        raise IsADirectoryError(
            21, "this is a directory without frames (.pkl, .npz, .npy); name a motion file or such a folder", str(path)
        )
    if len(files) > MAX_FRAMES:
        raise ValueError(f"{len(files)} files, the limit is {MAX_FRAMES} frames; cut the clip into utterances")
    numbered, notes = _in_order(files)
    frames = []
    for file in numbered:
        try:
            with contextlib.ExitStack() as stack:
                frames.append(None if file is None else _read_frame(_open(file, stack), asked))
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
    if isinstance(next(frame for frame in frames if frame is not None), SmplxClip):
        clip = frames_to_clip(frames)
        clip.notes += notes
        return _smplx_motion(clip, asked)
    return _landmark_motion(**read_landmark_frames(frames), asked=asked, notes=notes)


def _read_frame(content: np.ndarray | Mapping | str, asked: _Asked) -> SmplxClip | np.ndarray:
    if isinstance(content, np.ndarray) and content.ndim == 1:
        return content
    clip = mapping_to_clip(content, asked.format) if isinstance(content, Mapping) else None
    if clip is None or clip.num_frames != 1:
        raise ValueError(
            "this is not one frame of SMPL-X parameters or landmarks; name one motion file, or a folder with one frame "
            "per file"
        )
    return clip


def _in_order(files: list[Path]) -> tuple[list[Path | None], list[str]]:
    """Files by the last number that differs between their names, one person of each frame; None: the frame is lost."""
    notes: list[str] = []
    frames: dict[str, dict[int, Path]] = {}
    for file in files:
        stem, person = file.stem, 0
        if match := _FRAME_AND_PERSON.match(stem):
            stem, person = match["bare"] or match["stem"], int(match["box"] or match["person"])
        frames.setdefault(stem, {})[person] = file
    people = [person for persons in frames.values() for person in persons]
    chosen = max(sorted(set(people)), key=people.count)
    if len(set(people)) > 1:
        notes.append(f"{len(set(people))} people in the frames: number {chosen} is read")
    present = {stem: persons[chosen] for stem, persons in frames.items() if chosen in persons}
    return [present.get(stem) for stem in frame_order(list(present))], notes


def frame_order(names: list[str]) -> list[str | None]:
    """Names of per-frame files in the order of their numbers, with None for each frame that is lost.

    >>> frame_order(["f_10_3D", "f_8_3D", "f_11_3D"])
    ['f_8_3D', None, 'f_10_3D', 'f_11_3D']

    The number that counts is the last one in which the names differ, so that "_3D" is no matter. If every second or
    third frame was kept, none is lost.

    Raises:
        ValueError: names that differ in more than numbers, a number twice, or most of the frames lost.
    """
    names = sorted(names)
    if len(names) < 2:
        return list(names)
    numbers = [[int(digits[:18]) for digits in re.findall(r"\d+", name)] for name in names]
    texts = {re.sub(r"\d+", "0", name) for name in names}
    if len(texts) > 1 or not numbers[0]:
        raise ValueError(f"{names[0][:60]!r} and {names[-1][:60]!r} are not numbered alike; one folder holds one clip")
    columns = list(zip(*numbers, strict=True))
    frames = next((column for column in reversed(columns) if len(set(column)) > 1), columns[-1])
    ordered = dict(sorted(zip(frames, names, strict=True)))
    if len(ordered) < len(names):
        raise ValueError("two files have the same frame number; one folder holds the frames of one clip")
    first, last = min(ordered), max(ordered)
    step = math.gcd(*(number - first for number in ordered))
    length = (last - first) // step + 1
    if length > 10 * len(names):
        raise ValueError(f"{len(names)} files numbered {first} to {last}: most frames are lost; renumber the files")
    return [ordered.get(first + step * frame) for frame in range(length)]


# --- landmarks --------------------------------------------------------------------------------------------------------


def _landmark_file(mapping: Mapping, asked: _Asked) -> Motion:
    arrays = {key: numbers(mapping, key) for key in ("pose", "left_hand", "right_hand")}
    if "image_size" in mapping:
        stored = numbers(mapping, "image_size")
        if stored.shape != (2,):
            raise ValueError(f"`image_size` has shape {stored.shape}, expected (width, height) in pixels")
        arrays["image_size"] = (float(stored[0]), float(stored[1]))
    return _landmark_motion(**arrays, fps=_stored_fps(mapping), asked=asked)


def _landmark_motion(
    pose: np.ndarray,
    left_hand: np.ndarray,
    right_hand: np.ndarray,
    fps: float | None,
    asked: _Asked,
    image_size: tuple[float, float] = (640.0, 480.0),
    format: str = "mediapipe",
    notes: list[str] | None = None,
) -> Motion:
    rate, more = _frame_rate(asked, fps, MEDIAPIPE_FPS, "webcam landmarks")
    _check_length(len(pose), rate)
    joints, valid = mediapipe_to_joints(pose, left_hand, right_hand, image_size=image_size)
    return _motion(joints, rate, valid, format, [*(notes or []), *more])
