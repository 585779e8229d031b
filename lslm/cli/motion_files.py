"""Motion files on the command line: what can be said of them, and reading one."""

import argparse
import re
import sys
import warnings

from .errors import one_line

FILES = """\
files, told apart by what is in them
  our .npz: joints (T, 52, 3) in metres, y up, and fps
  SMPL-X parameters: SignAvatars, SOKE / Neural Sign Actors, SignSparK, SMPLer-X, AiOS, OpenASL3D, Motion-X, AMASS,
    SignMotionGPT; a folder with a file per frame is one clip
  landmarks: MediaPipe Holistic (.npz, .npy, a folder of .npy, asl-signs .parquet), .pose
  motion capture: .bvh, .glb, .gltf
"""


def true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def reader_arguments(parser: argparse.ArgumentParser, fps: str = "--fps") -> None:
    """What a motion file cannot tell: the arguments of `load_motion`."""
    group = parser.add_argument_group("what a file cannot tell")
    group.add_argument(fps, type=float, metavar="FPS", help="frame rate, for files that do not store one")
    group.add_argument("--format", help="where a file fits several formats; the error names them")
    group.add_argument("--up", help="axis of the file that points up: y, z, or --up=-y")
    group.add_argument(
        "--flat-hand-mean",
        type=true_or_false,
        metavar="true|false",
        help="are finger rotations whole, or relative to the mean hand of SMPL-X (default: as the format has it)",
    )
    group.add_argument(
        "--body-model",
        metavar="DIR",
        help="folder of your SMPL-X model files, for exact joints (default: $LSLM_SMPLX, or a built-in skeleton)",
    )


def as_flags(message: str) -> str:
    """A message for Python in the words of the command line: up='y' becomes --up=y."""
    message = re.sub(r"\b(fps|format|up|flat_hand_mean)='?([\w.-]+)'?", r"--\1=\2", message)
    return message.replace("=...", "").replace("--flat_hand_mean", "--flat-hand-mean")


def load(file: str, args):
    """One file as the flags say; what the reader remarks goes to standard error.

    Returns:
        A `Motion`.

    Raises:
        ValueError, OSError: as `load_motion`, in the words of the command line.
    """
    import lslm

    names = ("fps", "format", "up", "flat_hand_mean", "body_model")
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            motion = lslm.load_motion(file, **{name: getattr(args, name) for name in names})
    except (ValueError, OSError) as error:
        raise ValueError(as_flags(one_line(error))) from error
    for remark in remarks:
        if remark.category is UserWarning:
            print(f"lslm: {file}: {as_flags(one_line(remark.message))}", file=sys.stderr)
    return motion
