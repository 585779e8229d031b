"""`lslm inspect`: what motion files are, and what looks wrong in them."""

import argparse
import json
from collections import Counter
from pathlib import Path

from .motion_files import files_parser, load, report_failure, start_reader


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = files_parser(
        prog,
        "Say what motion files are: format, length, which hands were seen, what is assumed where a file is silent, and "
        "which frames look wrong.",
        "what is printed without it, or error",
    )
    parser.add_argument("--png", metavar="OUT", help="draw stick figures: a .png for one file, or a folder")
    return parser


def run(args) -> int:
    """`lslm inspect`: facts about every file; exit code 2 if any could not be read."""
    start_reader()
    from lslm.processing.readers.inspection import as_text, draw_strip, inspect_motion

    failed = False
    pictures = [] if args.png is None else _pictures(args.files, Path(args.png))
    for number, file in enumerate(args.files):
        try:
            motion = load(file, args)
        except ValueError as error:
            failed = True
            report_failure(file, str(error), args)
            continue
        facts = inspect_motion(motion)
        if pictures:
            pictures[number].parent.mkdir(parents=True, exist_ok=True)
            draw_strip(motion, pictures[number])
            facts["png"] = str(pictures[number])
        text = json.dumps({"file": file} | facts, ensure_ascii=False) if args.json else as_text(file, facts)
        print(text, flush=True)
    return 2 if failed else 0


def _pictures(files: list[str], out: Path) -> list[Path]:
    """Where the picture of each file goes: files of one name, from several folders, have their folders in it."""
    if len(files) == 1 and out.suffix.lower() == ".png" and not out.is_dir():
        return [out]
    paths = [Path(file).with_suffix("") for file in files]
    count = Counter(path.name for path in paths)
    return [out / f"{path.name if count[path.name] == 1 else '_'.join(path.resolve().parts[1:])}.png" for path in paths]
