"""A recipe: one flat YAML file, then flags on top. Nothing else configures a run."""

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments


@dataclass
class StageArguments(TrainingArguments):
    """Keys that every recipe has, beside all fields of `TrainingArguments`."""

    data: str = field(default="", metadata={"help": "data set folder with {train,validation}*.parquet"})
    augment: bool = field(default=True, metadata={"help": "vary the clips: speed, start, place of body and hands"})
    limit: int | None = field(default=None, metadata={"help": "use the first N training clips only"})

    def __post_init__(self):
        if not torch.cuda.is_available():
            self.use_cpu = True  # Trainer refuses bf16 otherwise
        self.remove_unused_columns = False  # our data sets have no columns that match the model's arguments
        super().__post_init__()


def parse(stage: type[StageArguments], argv: list[str], prog: str) -> StageArguments:
    """Arguments of a training stage from `--config recipe.yaml --any_flag value ...`; flags win over the file.

    Args:
        stage: the stage's arguments, a dataclass derived from `StageArguments`.
        argv: the command line after the command's name.
        prog: the command, for messages.

    Raises:
        ValueError: an unknown key in the file or an unknown flag; the message suggests the nearest one.
    """
    parser = HfArgumentParser(stage, prog=prog)
    argv = list(argv)
    values = {}
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 >= len(argv):
            raise ValueError("--config needs a recipe file")
        values = _read(Path(argv[at + 1]), {f.name for f in dataclasses.fields(stage) if f.init})
        del argv[at : at + 2]
    for action in parser._actions:
        # argparse takes a default as it stands, and 5e-5 without a dot is a string to YAML
        if action.dest in values and isinstance(values[action.dest], str) and action.type is not None:
            values[action.dest] = action.type(values[action.dest])
        if action.dest in values:
            action.required = False
    parser.set_defaults(**values)
    arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if not arguments.data:
        raise ValueError("which data set? Give data: in the recipe or --data FOLDER")
    if unknown:
        flags = {f.name for f in dataclasses.fields(stage) if f.init}
        raise ValueError(f"unknown argument {unknown[0]!r}{_suggestion(unknown[0].lstrip('-'), flags, '--')}")
    return arguments


def _read(path: Path, known: set[str]) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}")
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a recipe is a flat list of `key: value` lines")
    for key in values:
        if key not in known:
            raise ValueError(f"{path}: unknown key {key!r}{_suggestion(key, known)}")
    return values


def _suggestion(key: str, known: set[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(key.partition("=")[0].replace("-", "_"), known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
