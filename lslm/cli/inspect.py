"""`lslm inspect`: what motion files are, and what looks wrong in them."""

import argparse
import json
from pathlib import Path

from .motion_files import files_parser, load, report_failure


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = files_parser(
        prog,
        "Say what motion files are: format, length, which hands were seen, what is assumed where a file is silent, and "
        "which frames look wrong.",
        "what is printed without it, or error",
    )
    parser.add_argument(
        "--png", metavar="OUT", help="draw stick figures: a .png, or a folder for those of several files"
    )
    return parser


def run(args) -> int:
    """`lslm inspect`: facts about every file; exit code 2 if any could not be read."""
    from lslm.processing.readers.inspection import as_text, draw_strip, inspect_motion

    failed = False
    png = None if args.png is None else Path(args.png)
    if png is not None:
        (png if len(args.files) > 1 else png.parent).mkdir(parents=True, exist_ok=True)
    for file in args.files:
        try:
            motion = load(file, args)
        except ValueError as error:
            failed = True
            report_failure(file, str(error), args)
            continue
        facts = inspect_motion(motion)
        if png is not None:
            out = png / f"{Path(file).stem}.png" if png.is_dir() else png
            draw_strip(motion, out)
            facts["png"] = str(out)
        text = json.dumps({"file": file} | facts, ensure_ascii=False) if args.json else as_text(file, facts)
        print(text, flush=True)
    return 2 if failed else 0
