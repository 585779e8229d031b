"""The `lslm` command.

Installed as the top-level package `lslm_cli`, so that `lslm --help` answers at once: importing `lslm` itself imports
torch and transformers, which takes seconds. Each command has a module here, with `arguments(prog)`, its parser, and
`run(args)`, which returns the exit code and imports what takes time.
"""

import importlib
import logging
import os
import re
import sys

HELP = """\
usage: lslm COMMAND ...

Large Sign Language Models: 3D sign language motion to English.

use
  translate FILE...   motion files, videos to English        (lslm translate examples/asl_cafe/clips/*.npz)
  evaluate            score a model on a split of a data set (BLEU, chrF, ROUGE-L, WER; what the tokenizer keeps)
  demo                the demo page: moving skeleton and translation in your browser
  inspect FILE...     what a motion file is, what is assumed of it, what looks wrong; stick figures as PNG
  score HYP REF       score anyone's translations, one sentence a line; intervals, and a test between two systems

data
  extract VIDEO... OUT      landmarks of videos, as motion files (pip install 'lslm[video]')
  data build SOURCE OUT     motion files and their texts to a training set: resumable, a million clips in minutes

share
  publish FOLDER org/name   a checkpoint with its code and card to the Hub; then tries it from there; --code-only renews
                            the code of one that is there
  data push DIR org/name    a data set to the Hub
  export FOLDER OUT         a plain Llama or Qwen2 with a word for each motion code, for vLLM and other engines

train, one stage after the other; each takes --config RECIPE.yaml and any flag of the Hugging Face Trainer
  tokenizer           stage 1: the VQ-VAE sign tokenizer, motion to discrete codes
  align               stage 2: a projector that lets a language model read the codes
  instruct            stage 3: the language model, with many phrasings of "translate this"
  adapt               a trained model learns to read you: a few takes of each letter or word, minutes
  ablate              a matrix of trainings and its tables; by default the paper's Tables 1 to 8 and Figure 2

lslm COMMAND --help explains each. Recipes to start from: training/recipes/. LSLM_DEBUG=1 shows tracebacks.
"""
# command: its module
COMMANDS = {name: name for name in "translate inspect extract evaluate demo score publish data export".split()}
COMMANDS |= {"tokenizer": "stages", "align": "stages", "instruct": "stages", "adapt": "adapt", "ablate": "ablate"}
RECIPES = {"stages", "evaluate"}  # their keys say which may be empty


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for what the user can put right, 1 for a fault of ours, 130 or
    143 where Ctrl-C or SIGTERM ended it."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    command, *words = argv
    try:
        if command == "--version":
            print(importlib.import_module("importlib.metadata").version("lslm"))
            return 0
        if command not in COMMANDS:
            raise ValueError(f"no command {command!r}; there are {', '.join(COMMANDS)} (lslm --help)")
        # names of videos may begin with a dash, and so do those of their clips; what is there is a file and no flag
        words = [f"./{word}" if word.startswith("-") and os.path.lexists(word) else word for word in words]
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel("ERROR")  # a kernel that nothing of ours uses
        room = importlib.import_module(f".{COMMANDS[command]}", __name__)
        if COMMANDS[command] not in RECIPES:
            _refuse_empty(words)
        return room.run(room.arguments(f"lslm {command}").parse_args(words))
    except (Exception, KeyboardInterrupt) as error:
        from .errors import report

        return report(error)


def _refuse_empty(words: list[str]) -> None:
    """Raise a ValueError that names what was given as '', as a script does with a variable that is not set: a default
    would take its place, or the folder that we are in."""
    for word, before in zip(words, ["", *words], strict=False):
        if not word or re.fullmatch("--[^=]+=", word):
            what = next((flag.rstrip("=") for flag in (word, before) if flag.startswith("-")), "an argument")
            raise ValueError(f"{what} is empty ('', maybe a variable that is not set): give a value, or leave it out")
