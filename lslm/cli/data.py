"""`lslm data build` and `lslm data push`: data sets."""

import argparse
import sys

from .errors import printable
from .motion_files import reader_arguments
from .publish import hub_arguments, license_arguments


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    _build_arguments(commands)
    push = commands.add_parser(
        "push",
        help="send a data set folder to the Hub",
        description="Send the parquet files of a data set folder and its README.md (or a card made of what is known) "
        "to the Hub in one commit, then read it from there in a fresh process.",
        epilog="Example: lslm data push examples/asl_cafe me/asl-cafe --private",
    )
    push.add_argument("folder", metavar="DIR", help="data set folder with SPLIT*.parquet")
    hub_arguments(push)
    return parser


def run(args) -> int:
    args = vars(args)
    if args.pop("command") == "build":
        return _build(args)
    from lslm.hub_cards.publish import publish_data

    print(publish_data(args.pop("folder"), args.pop("repo_id"), **args))
    return 0


def _build_arguments(commands) -> None:
    build = commands.add_parser(
        "build",
        help="motion files and their texts to a training set",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Join the motion files of a folder with their texts and write a training set: OUT/data/*.parquet for `datasets`, mean and
deviation of the motion features (statistics.json), a report (report.md, report.json), a card (README.md), and every
clip that could not be used with the reason (dropped.jsonl). A bad clip never stops the build.
Videos are read where no motion file has their name (pip install 'lslm[video]'); what is found in them stays in
OUT/.build/landmarks.

The same command again reads only what is new or changed, and goes on after a kill; the bytes are those of a build
without interruption, with any number of workers.""",
        epilog="""\
texts
  How2Sign    how2sign_realigned_train.csv, ..._val.csv, ..._test.csv as they come, joined on SENTENCE_NAME; where no
              file has that name, the recording VIDEO_NAME is cut by START_REALIGNED and END_REALIGNED (YouTube-ASL too)
  Phoenix     PHOENIX-2014-T.train.corpus.csv, ... as they come, joined on name
  HamNoSys    SignAvatars' data.json
  your own    csv, tsv, jsonl or json with a column id, name or file, and text. Read as well: fps, language,
              sign_language, signer, split, video (clips of one video stay in one split). All other columns are carried
              into the data set.
              A row with start and end (seconds), or start_frame and end_frame, cuts the recording that its column file
              or video names; a file that has the row's own id was cut before, and stays whole. A column clip names the
              animation, sequence or person in a file that holds several.
  A file name with train, val, dev or test in it says the split of its rows. Clips without one are dealt 80/10/10.

examples
  lslm data build How2Sign/ sets/how2sign --source-fps 24 --fps 20 --workers 8
  lslm data build clips/ sets/mine --texts clips/words.csv --split-by signer --license cc-by-4.0
docs/scale.md has the figures for a million clips.""",
    )
    build.add_argument(
        "source", metavar="SOURCE", help="folder with motion files or videos; a folder of frames is a clip"
    )
    build.add_argument("out", metavar="OUT", help="folder of the data set")
    add = build.add_argument_group("texts and splits").add_argument
    add("--texts", nargs="+", metavar="FILE", help="tables of texts (default: those found in SOURCE)")
    add("--language", metavar="CODE", help="of texts whose table does not tell (ISO 639-1): en, de, ...")
    add(
        "--sign-language",
        metavar="CODE",
        help="what is signed (ISO 639-3): ase, bfi, gsg, ... (default: as the tables say)",
    )
    add(
        "--split-by",
        choices=["official", "video", "signer", "clip"],
        default="official",
        help="official: as the texts say, without it by video (official)",
    )
    add(
        "--video-before",
        metavar="MARK",
        help="ids begin with the name of their video, up to the last MARK: _ for video_1, video_2",
    )
    add(
        "--shared-videos",
        action="store_true",
        help="keep splits that share videos or motion (an error otherwise, but for videos of Phoenix)",
    )
    add("--seed", type=int, default=0, help="of splits that are not official (0)")
    reader_arguments(build, "--source-fps")
    add = build.add_argument_group("what is written").add_argument
    add("--fps", type=float, help="resample every clip to this rate (default: each keeps its own)")
    add("--convention", default="humanml3d", help="of statistics.json: humanml3d (default) or signing")
    longest = "drop longer clips (120: no model takes more; utterances last seconds, say 30)"
    add("--max-seconds", type=float, default=120.0, metavar="S", help=longest)
    add("--columns", nargs="+", metavar="NAME", help="only these, in this order (default: all)")
    add("--shard-size", type=int, default=1000, metavar="N", help="most clips in a parquet file (1000)")
    add(
        "--compression-level",
        type=int,
        default=3,
        metavar="N",
        help="of zstd (3); from 20 on a file is one page: slow, and small where the same takes recur",
    )
    card = build.add_argument_group("for the card")
    license_arguments(card)
    card.add_argument("--origin", metavar="URL", help="where the recordings come from: an address, or in words")
    build.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")


def _build(args: dict) -> int:
    """`lslm data build`."""
    from . import light  # noqa: F401 (the package without its models)

    from lslm.training.dataset.build import build as building  # isort: skip

    source, out, workers = (args.pop(name) for name in ("source", "out", "workers"))
    reader = {name: args.pop(name) for name in ("format", "clip", "up", "flat_hand_mean", "image_size", "body_model")}
    reader["fps"] = args.pop("source_fps")
    args["reader"] = {name: value for name, value in reader.items() if value is not None}
    names = ("license", "license_name", "license_link", "origin")
    license = {name: value for name in names if (value := args.pop(name))}
    if workers < 1:
        raise ValueError(f"--workers {workers}: expected 1 or more")
    report = building.build(source, out, workers=workers, **args, **license)
    for remark, count in report["remarks"].items():
        print(printable(f"lslm: {remark}") + (f" ({count})" if count > 1 else ""), file=sys.stderr)
    if not report["sign_languages"]:
        print("lslm: which sign language it is, nobody says: give --sign-language (ase, gsg, ...)", file=sys.stderr)
    from lslm.processing.readers.wording import counted

    splits = ", ".join(f"{split} {summary['clips']}" for split, summary in report["splits"].items())
    clips = counted(report["clips"], "clip")
    print(f"written to {out}: {clips} ({splits}); {report['dropped']} dropped, see {out}/report.md")
    return 0
