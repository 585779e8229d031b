"""`lslm extract`: videos to MediaPipe's landmarks, for `lslm translate`, `lslm data build` and all else."""

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path

from .errors import one_line, printable


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Find the landmarks of body and hands in videos (MediaPipe Holistic; pip install 'lslm[video]', Python 3.10 to 3.12), and
write a motion file for each: OUT/NAME.npz with pose, left_hand, right_hand, fps and image_size, and in `seconds` when
each frame of the video is shown. A variable frame rate is brought on even steps. Pictures are kept nowhere.

The same command again makes only what is not there, or older than its video: a kill loses the videos at hand alone.
Those that cannot be used are named at the end, with the reason, and the exit code is 2.""",
        epilog="Example: lslm extract clips/*.mp4 recordings/ landmarks/ --workers 8",
    )
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video, or a folder with videos at any depth")
    parser.add_argument("out", metavar="OUT", help="folder of the landmarks; those of a folder keep its order")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, each with a video (one per core)")
    return parser


def run(args) -> int:
    """`lslm extract`: landmarks of every video that has none; exit code 2 if any could not be used."""
    from lslm.processing.readers import VIDEO_SUFFIXES
    from lslm.processing.readers.video import check_installed, extract_all, is_extracted
    from lslm.processing.readers.wording import counted

    from . import light  # noqa: F401 (the package without its models)

    out, workers = Path(args.out), _cores() if args.workers is None else args.workers
    if workers < 1:
        raise ValueError(f"--workers {workers}: expected 1 or more")
    if out.is_file() or out.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"{out}: the last argument is the folder that the landmarks go to, and this is a file")
    check_installed()
    files = _results(args.videos, out, VIDEO_SUFFIXES)
    sources = defaultdict(list)
    for video, file in files.items():
        sources[str(file).casefold()].append(str(video))
    failures, todo = {}, []
    for video, file in files.items():
        try:
            if len(names := sources[str(file).casefold()]) > 1:
                raise ValueError(f"{file} would come from {' and '.join(names)}; rename one, or extract it elsewhere")
            if not is_extracted(video, file):
                todo.append((video, file))
        except (ValueError, OSError) as error:
            failures[video] = error
    print(f"{counted(len(files), 'video')}, {len(files) - len(todo) - len(failures)} there already", file=sys.stderr)
    failures |= extract_all(todo, workers) if todo else {}
    for video, error in failures.items():
        message = one_line(error)
        print(printable(f"lslm: {message}" if str(video) in message else f"lslm: {video}: {message}"), file=sys.stderr)
    print(f"landmarks in {out}: {counted(len(files) - len(failures), 'video')}; {len(failures)} could not be used")
    return 2 if failures else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(videos: list[str], out: Path, suffixes: frozenset[str]) -> dict[Path, Path]:
    """Each video, and the file that its landmarks go to.

    Raises:
        ValueError: a folder without videos. OSError: a video is not there.
    """
    results = {}
    for given in map(Path, videos):
        if not given.exists():
            raise FileNotFoundError(2, "no such file; check the path", str(given))
        found = [given]
        if given.is_dir():
            found = sorted(path for path in given.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        if not found:
            raise ValueError(f"{given}: no videos in this folder; expected {', '.join(sorted(suffixes))}")
        above = given if given.is_dir() else given.parent
        results |= {path: (out / path.relative_to(above)).with_suffix(".npz") for path in found}
    return results
