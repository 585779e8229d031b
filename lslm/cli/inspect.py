"""`lslm inspect`: what motion files are, and what looks wrong in them."""

import argparse
import json
import sys
from pathlib import Path

from .motion_files import FILES, load, reader_arguments


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Say what motion files are: format, length, which hands were seen, what is assumed where a file is "
        "silent, and which frames look wrong.",
        epilog=FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion file, or folder with a file per frame")
    reader_arguments(parser)
    parser.add_argument(
        "--png", metavar="OUT", help="draw stick figures: a .png, or a folder for those of several files"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
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
            if args.json:
                print(json.dumps({"file": file, "error": str(error)}, ensure_ascii=False), flush=True)
            print(f"lslm: {error}" if file in str(error) else f"lslm: {file}: {error}", file=sys.stderr)
            continue
        facts = inspect_motion(motion)
        if png is not None:
            out = png / f"{Path(file).stem}.png" if png.is_dir() else png
            draw_strip(motion, out)
            facts["png"] = str(out)
        text = json.dumps({"file": file} | facts, ensure_ascii=False) if args.json else as_text(file, facts)
        print(text, flush=True)
    return 2 if failed else 0
