"""Motion files on the command line: what can be said of them, and reading one."""

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys

from .errors import one_line, printable

FILES = """\
files, told apart by what is in them
  our .npz: joints (T, 52, 3) in metres, y up, and fps
  SMPL-X parameters: SignAvatars, SOKE / Neural Sign Actors, SignSparK, SMPLer-X, AiOS, OpenASL3D, Motion-X, AMASS,
    SignMotionGPT; a folder with a file per frame is one clip
  landmarks: MediaPipe Holistic (.npz, .npy, a folder of .npy, asl-signs .parquet), .pose
  motion capture: .bvh, .glb, .gltf
  videos, by MediaPipe: pip install 'lslm[video]'
"""


def true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def width_and_height(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected width and height in pixels, like 1280x720, got {text!r}")
    return int(width), int(height)


def reader_arguments(parser: argparse.ArgumentParser, fps: str = "--fps") -> None:
    """What a motion file cannot tell: the arguments of `load_motion`."""
    group = parser.add_argument_group("what a file cannot tell")
    group.add_argument(fps, type=float, metavar="FPS", help="frame rate, for files that do not store one")
    group.add_argument("--format", help="where a file fits several formats; the error names them")
    group.add_argument("--clip", metavar="NAME", help="which clip of a file that holds several; the error names them")
    group.add_argument(
        "--up", help="axis of the file that points up: x, y, z, or --up=-y (default: as the person stands)"
    )
    group.add_argument(
        "--flat-hand-mean",
        type=true_or_false,
        metavar="true|false",
        help="are finger rotations whole, or relative to the mean hand of SMPL-X (default: as the format has it)",
    )
    group.add_argument(
        "--image-size",
        type=width_and_height,
        metavar="WxH",
        help="pixels of the video that landmarks were found in (default: stored, or by the proportions of the body)",
    )
    group.add_argument(
        "--body-model",
        metavar="DIR",
        help="folder of your SMPL-X model files, for exact joints (default: $LSLM_SMPLX, or a built-in skeleton)",
    )


def files_parser(prog: str, description: str, fields: str) -> argparse.ArgumentParser:
    """The parser of a command that reads motion files; with --json it prints `fields`."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog=FILES, formatter_class=layout)
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion file, or folder with a file per frame")
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object per file: file, {fields}")
    return parser


def report_failure(file: str, message: str, args) -> None:
    """Say why a file could not be used: on standard error, with --json also as an object."""
    if args.json:
        print(json.dumps({"file": file, "error": message}, ensure_ascii=False), flush=True)
    file, message = printable(file), printable(message)
    print(f"lslm: {message}" if file in message else f"lslm: {file}: {message}", file=sys.stderr)


def start_reader() -> None:
    """Begin what reads the files: it imports its libraries while the command imports its own."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"  # no torch.py of the folder we happen to be in
        forkserver.set_forkserver_preload(["lslm_cli.light"])
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the command: no traceback of imports
        with contextlib.suppress(OSError):  # of a TMPDIR whose name is too long; what reads starts later, then
            forkserver.ensure_running()
        signal.signal(signal.SIGINT, interrupt)
        os.environ.pop("PYTHONSAFEPATH") if before is None else os.environ.update(PYTHONSAFEPATH=before)


@functools.cache
def _reader(video: bool):
    from lslm.processing.readers import confined
    from lslm.processing.readers import video as videos

    return confined.Confined(seconds=videos.SECONDS, memory=videos.MEMORY) if video else confined.Confined()


def load(file: str, args):
    """One file as the flags say; remarks that need attention go to standard error.

    It is read in a process of its own, which no file can keep busy or make swell beyond the limits of `Confined`.

    Returns:
        A `Motion`.

    Raises:
        ValueError, OSError: as `load_motion`, in the words of the command line.
    """
    import lslm
    from lslm.processing import MotionFileError
    from lslm.processing.readers import VIDEO_SUFFIXES
    from lslm.processing.readers.wording import as_flags

    names = ("fps", "format", "clip", "up", "flat_hand_mean", "image_size", "body_model")
    try:
        reader = _reader(os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES)
        motion = reader(lslm.load_motion, file, **{name: getattr(args, name) for name in names})
    except MotionFileError as error:
        raise ValueError(as_flags(error, f"{file}: {error.problem}")) from error
    except OSError as error:
        raise ValueError(one_line(error)) from error
    for remark in motion.notes:
        if remark.argument is not None:
            print(printable(f"lslm: {file}: {as_flags(remark, remark.text)}"), file=sys.stderr)
    return motion
