"""A folder with one file per frame -> SMPL-X parameters or landmarks of one clip."""

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..array_files import MAX_FRAMES, numbers
from ..motion import open_file
from ..motion_errors import MotionFileError, Remark
from ..smplx_formats import SmplxClip, mapping_to_clip
from .clips import no_clips
from .compressed import unpacked
from .landmark_formats import check_frame_shapes, read_landmark_frames
from .other_formats import refusal
from .people import follow, one_person, places
from .safe_pickle import read_pickle

SUFFIXES = (".pkl", ".npz", ".npy")
_FRAME_FOLDERS = ("smplx", "smplx_params", "predictions")  # of SMPLer-X, OpenASL3D, AiOS
# 00012_0 of SMPLer-X; img12_personId_0 of AiOS; HELLO_12_p0 of aslAvatar: frame, then person
_FRAME_AND_PERSON = re.compile(r"^(?:(?P<bare>\d+)_(?P<box>\d+)|(?P<stem>.*)(?:_personId_|_p)(?P<person>\d+))$")


def read_folder(
    path: Path, format: str | None = None, clip: str | None = None
) -> tuple[SmplxClip | dict, list[Remark]]:
    """The frames of a folder, or of the folder in it where some program keeps them, in the order of their numbers.

    Of several people that one is taken who is there in most frames, or else is `clip`: its number in order of coming.

    Returns:
        a clip of SMPL-X parameters with NaN in lost frames, or the dictionary of `read_landmark_frames`; and remarks.

    Raises:
        IsADirectoryError: there are no frames. ValueError: they do not make one clip; names the file.
    """
    files: list[Path] = []
    for folder in (path, *(path / name for name in _FRAME_FOLDERS)):
        if folder.is_dir():
            files = [file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()]
        if files:
            break
    if not files:
        if file := next(path.glob("*.json"), None):
            with open(file, "rb") as frame:
                raise refusal(frame.read(500), ".json")
        hint = f"this is a directory without frames ({', '.join(SUFFIXES)}); name a motion file or such a folder"
        raise IsADirectoryError(21, hint, str(path))
    if len(files) > 4 * MAX_FRAMES:
        raise ValueError(f"{len(files)} files, the limit is {MAX_FRAMES} frames; cut the clip into utterances")
    ordered = _in_order(files)
    if len(ordered) > MAX_FRAMES:
        raise ValueError(f"{len(ordered)} frames, the limit is {MAX_FRAMES}; cut the clip into utterances")
    shapes: set[tuple[int, ...]] = set()
    read = [[(people[n], _read_frame(people[n], format, shapes)) for n in sorted(people)] for people in ordered]
    kinds = {type(content) for people in read for _, content in people}
    if len(kinds) > 1:
        raise ValueError(
            "some files hold SMPL-X parameters and some landmarks; one folder holds the frames of one clip"
        )
    notes: list[Remark] = []
    taken = {frame: 0 for frame, people in enumerate(read) if people}
    if kinds == {SmplxClip} and (where := places(read)):
        taken = one_person(follow(where), clip, notes)
    elif len({number for people in ordered for number in people}) > 1:
        kind = "several people in the frames, and nothing tells who is who"
        raise MotionFileError(f"{kind}: keep the files of one, or `meta` with their boxes beside them", kind=kind)
    elif clip is not None:
        raise no_clips(clip)
    frames = [people[taken[frame]][1] if frame in taken else None for frame, people in enumerate(read)]
    if kinds != {SmplxClip}:
        return read_landmark_frames(frames), notes
    motion = _one_clip(frames, notes)
    if motion.format == "smplx" and (folder.name == "smplx" or (folder.parent / "meta").is_dir()):
        motion.format = "smplerx"  # the only one of them that writes such folders
    return motion, []


def _read_frame(file: Path, format: str | None, shapes: set[tuple[int, ...]]) -> SmplxClip | np.ndarray:
    """Parameters, or the landmarks of a frame, whose shape is that of the others in `shapes`."""
    try:
        with contextlib.ExitStack() as stack:
            content = open_file(file, stack)
            if isinstance(content, str) and content in ("pickle", "torch"):
                content = read_pickle(unpacked(file.read_bytes()))
            if isinstance(content, np.ndarray) and content.ndim == 1:
                shapes.add(content.shape)
                check_frame_shapes(shapes)  # before all frames are in memory
                return numbers({"the frame": content}, "the frame")
            clip = mapping_to_clip(content, format) if isinstance(content, Mapping) else None
        if clip is None or clip.num_frames != 1:
            raise ValueError(
                "this is not one frame of SMPL-X parameters or landmarks; name one motion file, or a folder with one "
                "frame per file"
            )
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    return clip


def _one_clip(frames: list[SmplxClip | None], notes: list[Remark]) -> SmplxClip:
    """Clips of one frame each, in order, to one clip, with NaN where a frame is missing.

    Raises:
        ValueError: a frame is of another format or holds other parts than the first.
    """
    first = next(frame for frame in frames if frame is not None)
    for number, frame in enumerate(frames):
        if frame is not None and _layout(frame) != _layout(first):
            raise ValueError(f"frame {number} holds {_layout(frame)}, the first one {_layout(first)}")
    params = {
        part: np.concatenate(
            [np.full(values.shape, np.nan) if frame is None else frame.params[part] for frame in frames]
        )
        for part, values in first.params.items()
    }
    return SmplxClip(first.format, params, first.fps, first.gender, notes=first.notes + notes)


def _layout(frame: SmplxClip) -> str:
    return f"{frame.format}: " + ", ".join(f"{part} ({values.shape[1]})" for part, values in frame.params.items())


def _in_order(files: list[Path]) -> list[dict[int, Path]]:
    """{number of the person: file} of each frame, by the last number that differs between names; {}: the frame is
    lost."""
    frames: dict[str, dict[int, Path]] = {}
    for file in files:
        stem, person = file.stem, 0
        if match := _FRAME_AND_PERSON.match(stem):
            stem, person = match["bare"] or match["stem"], int(match["box"] or match["person"])
        frames.setdefault(stem, {})[person] = file
    return [{} if stem is None else frames[stem] for stem in frame_order(list(frames))]


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
