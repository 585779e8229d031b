"""A video -> MediaPipe Holistic's landmarks of its pictures, with their times. No picture is kept.

PyAV decodes; MediaPipe 0.10.21, the last release that has Holistic's models in it, finds body and hands as it did in
the clips of the shipped checkpoint: `pip install 'lslm[video]'`.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import queue
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..array_files import MAX_FRAMES
from ..even_frames import PARTS, as_clip
from ..motion import MAX_SECONDS
from ..motion_errors import MotionFileError
from .confined import Confined

SECONDS, MEMORY = 2 * 3600.0, 2**32  # of a process that reads videos: the longest takes an hour, MediaPipe 0.5 GB
# others open further files, or addresses, that a file names
CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
NOT_INSTALLED = "a video, which needs lslm[video]"
SLACK = 0.5  # seconds by which pictures may end before the file says
LULL = 1.0  # seconds without a frame, in which nothing was seen


def check_installed() -> None:
    """Raises MotionFileError: there is nothing here that reads videos; the message says what to do."""
    missing = [name for name in ("mediapipe", "av") if importlib.util.find_spec(name) is None]
    if "mediapipe" in missing and sys.version_info >= (3, 13):
        version = ".".join(map(str, sys.version_info[:2]))
        raise MotionFileError(
            f"this is a video; MediaPipe 0.10.21, which finds its landmarks, is for Python 3.10 to 3.12, this is "
            f"{version}: make an environment with python3.12, and there pip install 'lslm[video]'",
            kind=NOT_INSTALLED,
        )
    if missing:
        raise MotionFileError(
            f"this is a video, and {' and '.join(missing)}, which reads it, is not installed; run: pip install "
            "'lslm[video]'",
            kind=NOT_INSTALLED,
        )


@contextlib.contextmanager
def estimator() -> Iterator[Callable[[np.ndarray], dict[str, np.ndarray] | None]]:
    """A function of one picture after the other, (H, W, 3) uint8 RGB, which follows a person from each to the next; it
    gives `pose` (33, 4), `left_hand` and `right_hand` (21, 3) in parts of the picture, or None where nobody is."""
    try:
        solution = importlib.import_module("mediapipe.python.solutions.holistic")
    except ImportError as error:
        raise MotionFileError(
            f"MediaPipe cannot be used ({error}); expected mediapipe 0.10.21: pip install 'lslm[video]'"
        ) from error

    def landmarks(picture: np.ndarray) -> dict[str, np.ndarray] | None:
        result = holistic.process(picture)
        found = {}
        for name, (_, width) in PARTS.items():
            if points := getattr(result, f"{name}_landmarks"):
                numbers = [(point.x, point.y, point.z, point.visibility)[:width] for point in points.landmark]
                found[name] = np.array(numbers)
        return found if "pose" in found else None

    with _hushed(), solution.Holistic(model_complexity=1) as holistic:  # the only model that is in the package
        yield landmarks


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep from standard error what MediaPipe's C++ writes of itself; only in a process that reads for another one."""
    if multiprocessing.parent_process() is None:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        before = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def pictures(path: str | os.PathLike) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures of a video as a player shows them: upright, with square pixels.

    Yields:
        seconds, as the file has them; (H, W, 3) uint8, RGB.

    Raises:
        MotionFileError: no pictures, damaged or truncated, no times, or longer than a clip may be. OSError.
    """
    import av

    count, seconds, shown = 0, 0.0, 0.0
    try:
        if not os.path.getsize(path):
            raise MotionFileError("the file is empty (0 bytes); copy or export it again")
        options = {"format_whitelist": CONTAINERS}
        with open(path, "rb") as file, av.open(file, options=options, metadata_errors="replace") as container:
            streams = [
                one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                sound = "only sound" if container.streams.audio else "no pictures"
                raise MotionFileError(f"the video holds {sound}; expected pictures of somebody who signs")
            stream = streams[0]
            stream.codec_context.thread_count = 1  # each core has a video of its own
            _check_length((container.duration or 0) / av.time_base)
            start = last = None
            for count, frame in enumerate(container.decode(stream), 1):
                if frame.pts is None:
                    raise MotionFileError(f"picture {count} of the video has no time; {_convert(path)}")
                seconds = float(frame.pts * frame.time_base)
                if last is not None and not seconds > last:
                    what = f"picture {count} of the video is at {seconds:.3f} s, the one before at {last:.3f} s"
                    raise MotionFileError(f"{what}; {_convert(path)}", kind="pictures of a video that go back in time")
                start, last = seconds if start is None else start, seconds
                _check_length(seconds - start, count)
                width = round(frame.width * (stream.sample_aspect_ratio or 1))
                picture = frame.reformat(width=width, format="rgb24").to_ndarray()
                yield seconds, _upright(picture, frame.side_data.get("DISPLAYMATRIX"))
                shown = float((frame.duration or 0) * frame.time_base)
            if not count:
                raise MotionFileError("the video has no frames; expected at least 2. Copy or export it again")
            _check_end(seconds + shown, stream, container)
    except av.error.FFmpegError as error:
        where = f"after {seconds:.1f} s and {count} frames" if count else "at its beginning"
        raise MotionFileError(
            f"the video cannot be decoded {where} ({error.strerror}): truncated, damaged or of no known kind; copy or "
            "export it again",
            kind="a video that cannot be decoded",
        ) from error


def _convert(path: str | os.PathLike) -> str:
    return f"write them anew: ffmpeg -i {Path(path).name} -fps_mode vfr OUT.mp4"


def _check_length(seconds: float, frames: int = 0) -> None:
    if seconds > MAX_SECONDS or frames > MAX_FRAMES:
        length = f"{seconds / 60:.0f} minutes" if seconds > MAX_SECONDS else f"more than {MAX_FRAMES} frames"
        raise MotionFileError(
            f"the video has {length}, the limit is {MAX_SECONDS / 60:.0f} minutes and {MAX_FRAMES} frames; cut it into "
            "utterances",
            kind=f"a video of more than {MAX_SECONDS / 60:.0f} minutes",
        )


def _check_end(seconds: float, stream, container) -> None:
    """Raises MotionFileError: the pictures end well before the file says, as they do where its end is missing."""
    told = (container.start_time or 0) / 1e6 + (container.duration or 0) / 1e6
    if stream.duration is not None:
        told = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    elif "DURATION" in stream.metadata:  # of Matroska: 00:00:05.000000000
        hours, minutes, rest = stream.metadata["DURATION"].split(":")
        told = 3600 * int(hours) + 60 * int(minutes) + float(rest)
    if told - seconds > SLACK:
        raise MotionFileError(
            f"the pictures of the video end at {seconds:.1f} s, expected {told:.1f} s: truncated; copy it again, or, "
            "if only its sound goes on, cut that: ffmpeg -i IN -c copy -shortest OUT",
            kind="a video whose end is missing",
        )


def _upright(picture: np.ndarray, matrix) -> np.ndarray:
    """The picture as the display matrix of its file turns and mirrors it: x' = ax + cy, y' = bx + dy."""
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def landmarks_of_video(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The landmarks of a video, as the arrays of a file.

    Returns:
        pose (T, 33, 4), left_hand and right_hand (T, 21, 3) float32, evenly in time, zeros where nothing was found;
        fps and image_size (width, height); seconds (N,), when each of the video's own frames is shown.

    Raises:
        MotionFileError: a ValueError; nobody in the picture, what [`pictures`] says, or nothing here reads videos.
        OSError: it cannot be opened.
    """
    check_installed()
    frames, size = [], None
    with estimator() as landmarks:
        for seconds, picture in pictures(path):
            shape = (picture.shape[1], picture.shape[0])
            if size not in (None, shape):
                raise MotionFileError(
                    f"the pictures of the video are {size[0]}x{size[1]} and from {seconds:.1f} s on {shape[0]}x"
                    f"{shape[1]}, expected one size; cut it there",
                    kind="a video whose pictures change their size",
                )
            size = shape
            frames.append((seconds, landmarks(picture)))
    if len(frames) < 2:
        raise MotionFileError("the video has 1 frame, expected at least 2: one frame has no motion")
    if all(frame is None for _, frame in frames):
        raise MotionFileError(
            f"MediaPipe finds nobody in the {len(frames)} frames of the video ({size[0]}x{size[1]}); record one "
            "person, from the head to the hips, facing the camera",
            kind="a video in which nobody is found",
        )
    seconds = np.array([second for second, _ in frames])
    gaps = np.diff(seconds)
    step = np.median(gaps)
    for index in np.flatnonzero((gaps > LULL) & (gaps > 3 * step)):
        frames += [(seconds[index] + step, None), (seconds[index + 1] - step, None)]
    return as_clip(sorted(frames, key=lambda frame: frame[0]), size) | {"seconds": seconds}


# --- many videos ------------------------------------------------------------------------------------------------------


def extract(video: Path, out: Path) -> None:
    """Write the landmarks of a video to the `.npz` file `out`, which is there whole or not at all. It holds what
    [`landmarks_of_video`] returns, and `video`, the name of the file. Raises what that raises."""
    try:
        arrays = landmarks_of_video(video)
    except MotionFileError as error:
        raise MotionFileError.of(video, error) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "wb") as file:
            np.savez_compressed(file, **arrays, video=np.array(video.name))
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)


def is_extracted(video: Path, out: Path) -> bool:
    """Whether `out` holds the landmarks of the video as it is.

    Raises:
        ValueError: it is of another video, or no such file. OSError: one of them cannot be read.
    """
    if not out.exists():
        return False
    try:
        with np.load(out, allow_pickle=False) as file:
            name = str(file["video"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        name = "another program"
    if name != video.name:
        raise ValueError(f"{out} is there and comes from {name}; name another folder, or move it away")
    return out.stat().st_mtime >= video.stat().st_mtime


def extract_all(
    videos: Sequence[tuple[Path, Path]], workers: int = 1, progress: bool = True
) -> Mapping[Path, ValueError | OSError]:
    """Extract several videos, each in one of `workers` processes, with limits of time and memory.

    Args:
        videos: each with the file that its landmarks go to. workers: 0: this process does all.
        progress: show a bar on stderr.

    Returns:
        Those that failed, and why.
    """
    from tqdm import tqdm

    confined = Confined(workers, SECONDS, MEMORY) if workers else lambda function, *args: function(*args)
    todo, done = iter(videos), queue.SimpleQueue()

    def work() -> None:
        for video, out in todo:
            try:
                done.put((video, confined(extract, video, out)))
            except Exception as error:
                done.put((video, error))

    if workers:
        for _ in range(min(workers, len(videos))):
            threading.Thread(target=work, daemon=True).start()  # and its process ends with us, whatever it is at
    else:
        work()
    failures = {}
    for _ in tqdm(videos, unit="video", dynamic_ncols=True, disable=not progress):
        video, error = done.get()
        if error is not None and not isinstance(error, (ValueError, OSError)):
            raise error
        if error is not None:
            failures[video] = error
    return failures
