"""`lslm translate`: motion files to English."""

import argparse
import json
import os
import time

from .errors import one_line, printable
from .motion_files import files_parser, load, report_failure, start_reader


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = files_parser(
        prog,
        "Translate motion files into English. One line per file; a file that cannot be read is reported and the others "
        "are translated all the same.",
        "text or error, seconds, fps; with --min-confidence also confidence, and reason where there is no text",
    )
    parser.add_argument("--model", help="checkpoint folder or Hub id (default: the shipped ASL Cafe model)")
    parser.add_argument("--prompt", help="what to ask; contains <motion>")
    parser.add_argument("--num-beams", type=int, help="beam search with this many beams (default: greedy)")
    parser.add_argument(
        "--min-confidence",
        type=float,
        metavar="C",
        help="print no text of a confidence (expected share of right words) below this, from 0 to 1, but say so",
    )
    return parser


def run(args) -> int:
    """`lslm translate`: every readable file to one line; exit code 2 if any could not be read."""
    start_reader()
    # Read when tqdm is imported. transformers draws a bar of its own while it unpacks a GGUF file for the first time.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from .checkpoints import load_pipeline, quiet, shipped_or

    quiet()
    folder = shipped_or(args.model)
    if any("\ud800" <= character <= "\udfff" for character in args.prompt or ""):  # what Python makes of other bytes
        raise ValueError(f"--prompt {printable(args.prompt)}: expected text in UTF-8")
    motions, failures = {}, {}
    for file in args.files:
        try:
            motions[file] = load(file, args)
        except ValueError as error:
            failures[file] = str(error)
    pipe = None
    for file in args.files:
        started = time.time()
        if file in motions:
            if pipe is None:
                pipe = load_pipeline(folder)
                if args.min_confidence is not None:  # once, not for each file
                    pipe.model.check_confidence(args.min_confidence)
            names = ("prompt", "num_beams", "min_confidence")
            options = {name: value for name in names if (value := getattr(args, name)) is not None}
            try:
                answer = dict(pipe(motions[file], **options)[0])
            except ValueError as error:
                failures[file] = one_line(error)
        if file in failures:
            report_failure(file, failures[file], args)
        elif args.json:
            motion = motions[file]
            result = {"file": file, "text": answer.pop("translation_text"), **answer}
            result |= {"frames": motion.num_frames, "fps": motion.fps}
            print(json.dumps(result | {"seconds": round(time.time() - started, 3)}, ensure_ascii=False), flush=True)
        else:
            line = f"({answer['reason']})" if "reason" in answer else " ".join(answer["translation_text"].split())
            print(printable(f"{file}: {line}" if len(args.files) > 1 else line), flush=True)
    return 2 if failures else 0
