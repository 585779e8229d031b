"""The commands that need the model: imported when one of them runs."""

import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging

import lslm

from . import _one_line

SHIPPED = Path(lslm.__file__).parent.parent / "examples" / "asl_cafe" / "checkpoint"


def shipped_or(model: str | None) -> str:
    """The model that the user named, or else the checkpoint of the repository.

    Raises:
        FileNotFoundError: neither is there.
    """
    if model is not None:
        return model
    if not SHIPPED.is_dir():
        raise FileNotFoundError("the shipped checkpoint lies in the source repository only; name a model with --model")
    return os.path.relpath(SHIPPED)


def _quiet():
    """Leave standard error to what the user has to read."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="repaired NaN")


def _as_flags(message: str) -> str:
    """A message for Python in the words of the command line."""
    return message.replace("pass fps=...", "pass --fps")


@torch.no_grad()
def translate(args) -> int:
    """`lslm translate`: every readable file to one line; exit code 2 if any could not be read."""
    _quiet()
    folder = shipped_or(args.model)
    motions, failures = {}, {}
    for file in args.files:
        try:
            with warnings.catch_warnings(record=True) as remarks:
                warnings.simplefilter("always")
                motions[file] = lslm.load_motion(file, fps=args.fps)
        except (ValueError, OSError) as error:
            failures[file] = _as_flags(_one_line(error))
        for remark in remarks if file in motions else ():
            print(f"lslm: {file}: {_as_flags(_one_line(remark.message))}", file=sys.stderr)
    pipe = None
    for file in args.files:
        started = time.time()
        if file in motions:
            if pipe is None:
                from transformers import pipeline

                try:
                    pipe = pipeline("sign-translation", model=folder)
                except SafetensorError as error:
                    raise ValueError(f"{folder}: damaged checkpoint ({error}); copy it again") from error
            options = {k: v for k, v in (("prompt", args.prompt), ("num_beams", args.num_beams)) if v is not None}
            try:
                text = pipe(motions[file], **options)[0]["translation_text"]
            except ValueError as error:
                failures[file] = _one_line(error)
        if file in failures:
            if args.json:
                print(json.dumps({"file": file, "error": failures[file]}, ensure_ascii=False), flush=True)
            message = failures[file] if file in failures[file] else f"{file}: {failures[file]}"
            print(f"lslm: {message}", file=sys.stderr)
        elif args.json:
            motion = motions[file]
            result = {"file": file, "text": text, "frames": motion.num_frames, "fps": motion.fps}
            print(json.dumps(result | {"seconds": round(time.time() - started, 3)}, ensure_ascii=False), flush=True)
        else:
            line = " ".join(text.split())
            print(f"{file}: {line}" if len(args.files) > 1 else line, flush=True)
    return 2 if failures else 0


def evaluate(args, command: str) -> int:
    """`lslm evaluate`."""
    _quiet()
    from lslm.training.evaluate import evaluate as run

    results = run(
        args.data,
        args.split,
        args.output,
        shipped_or(args.model),
        command=command,
        batch_size=args.batch_size,
        num_beams=args.num_beams,
        controls=args.controls,
        limit=args.limit,
        seed=args.seed,
    )
    for name, value in results["metrics"].items():
        print(f"{name:32} {value:10.2f}" if isinstance(value, float) else f"{name:32} {value:10d}")
    print(f"written to {args.output}/results.json")
    return 0
