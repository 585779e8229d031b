"""A recipe: one flat YAML file, then flags on top. Nothing else configures a run."""

import argparse
import dataclasses
import difflib
import math
import os
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy

from ..hub_cards.yaml_files import read_yaml
from ..modeling_lslm.configuration_lslm import RANGES as NETWORK_RANGES
from ..modeling_lslm.configuration_lslm import check_ranges
from ..processing.motion_errors import printable
from .blame import naming
from .recipe_keys import CHOICES, PATHS, RANGES, DataKeys

Arguments = TypeVar("Arguments")
JSON = object()  # a kind of value: text that stands for keys and values
# Arguments of the Trainer that transformers has renamed since 5.16, our oldest. Either name is taken.
RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


@dataclass
class StageArguments(DataKeys, TrainingArguments):
    """Keys that every stage has, beside all fields of `TrainingArguments`."""

    # what metric_for_best_model may be, and whether more is better
    metrics: ClassVar[dict[str, bool]] = {"loss": False}

    def __post_init__(self):
        if not torch.cuda.is_available():
            self.use_cpu = True  # Trainer refuses bf16 otherwise
        if self.stream and self.max_steps <= 0:
            raise ValueError("stream: the clips are not counted, so the run needs an end: say max_steps, not epochs")
        if self.stream and self.limit is not None:
            raise ValueError("limit is for clips in memory: leave it out, or leave out stream")
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor: the Trainer of transformers shifts the labels of its own models alone; ours "
                "would learn to repeat what it reads. Leave it out"
            )
        self.remove_unused_columns = False  # our data sets have no columns that match the model's arguments
        self._choose_best()
        super().__post_init__()
        for name in self.report_to:
            if name not in (*INTEGRATION_TO_CALLBACK, "none", "all"):
                known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
                raise ValueError(f"report_to is {reprlib.repr(name)}, expected none, all, or some of {known}")
            if name in INTEGRATION_TO_CALLBACK and name not in get_available_reporting_integrations():
                raise ValueError(f"report_to: {name} is not installed; run: pip install {name}, or leave it out")

    def _choose_best(self) -> None:
        """Which checkpoint is the best: transformers would take every metric but a loss for one of which more is
        better, so the best WER would be the worst."""
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1 or IntervalStrategy(self.eval_strategy) == IntervalStrategy.NO:
                raise ValueError(
                    "early_stopping_patience counts evaluations, 1 or more: it needs eval_strategy, and eval_steps or "
                    "epochs"
                )
            self.load_best_model_at_end = True
            self.restore_callback_states_from_checkpoint = True  # a run that goes on has waited as long
        if self.metric_for_best_model is not None:
            name = self.metric_for_best_model.removeprefix("eval_")
            if name not in self.metrics:
                raise ValueError(f"metric_for_best_model: no {name!r} here; there are {', '.join(self.metrics)}")
            if self.greater_is_better not in (None, self.metrics[name]):
                raise ValueError(
                    f"greater_is_better: {name} is better the {'higher' if self.metrics[name] else 'lower'}"
                )
            self.greater_is_better = self.metrics[name]


def parse(stage: type[Arguments], argv: list[str], prog: str) -> Arguments:
    """Arguments of a stage, or of the evaluation, from `--config recipe.yaml --any_flag value ...`; flags win.

    Args:
        stage: a dataclass: the stage's arguments, derived from `StageArguments`, or `EvaluateKeys`.
        argv: the command line after the command's name.
        prog: the command, for messages.

    Raises:
        ValueError: an unknown key in the file or an unknown flag, and the message suggests the nearest one; or a value
            of the wrong kind. FileNotFoundError: no such recipe.

    Returns:
        A `stage` with two attributes more: `stage`, its name, and `recipe`, the keys that were given and their values.
    """
    parser = _Parser(stage, prog=prog, allow_abbrev=False)
    flags = {f.name for f in dataclasses.fields(stage) if f.init}
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    argv = [_flag_here(word, flags) if word.startswith("--") else word for word in argv]
    values = {}
    if "--config" in argv:
        at = argv.index("--config")
        if not any(argv[at + 1 : at + 2]):
            raise ValueError("--config needs a recipe file")
        path = Path(argv[at + 1])
        values = _read(path, flags)
        del argv[at : at + 2]
    for action in parser._actions:
        if action.nargs == "?" and values.get(action.dest) is True:
            values[action.dest] = action.const  # as the flag alone
        # argparse takes a default as it stands, and 5e-5 without a dot is a string to YAML
        told = isinstance(values.get(action.dest), str) and not dataclasses.is_dataclass(action.type)
        if told and action.type is not None:
            try:
                if action.nargs in ("*", "+"):
                    values[action.dest] = [action.type(word) for word in values[action.dest].split()]
                else:
                    values[action.dest] = action.type(values[action.dest])
            except (ValueError, argparse.ArgumentTypeError) as error:
                raise ValueError(f"{path}: {action.dest}: {' '.join(str(error).split())}") from error
        if action.dest in values:
            action.required = False
    hints = get_type_hints(stage)
    _check_kinds(values, hints)
    parser.set_defaults(**values)
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}{_suggestion(unknown[0].lstrip('-'), flags, '--')}")
    words = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    names = [*values, *sorted(words & flags - values.keys())]
    recipe = {name: getattr(given, name) for name in names}
    _check_kinds(recipe, hints)
    _check_values(stage, vars(given), recipe)
    with naming(recipe):
        arguments = stage(**{name: value for name, value in vars(given).items() if name in flags})
    require(arguments, "data")
    arguments.stage = prog.rpartition(" ")[2]
    arguments.recipe = {name: plain(getattr(arguments, name)) for name in names}
    return arguments


def require(args, *keys: str) -> None:
    """Raise a ValueError that explains the first of `keys` which neither the recipe nor a flag gave."""
    for key in keys:
        if not getattr(args, key):
            about = type(args).__dataclass_fields__[key].metadata["help"]
            raise ValueError(f"which {key}? Give {key}: in the recipe or --{key}: {about}")


def _check_values(stage: type, values: dict, recipe: dict) -> None:
    """Raise a ValueError that names the first value with which there can be no run. `recipe`: those that are given."""
    check_ranges(values, NETWORK_RANGES | RANGES)
    for name, value in recipe.items():
        if name in CHOICES and value not in (*CHOICES[name], stage.__dataclass_fields__[name].default, None):
            raise ValueError(f"{name} is {reprlib.repr(value):.40}, expected one of {', '.join(CHOICES[name])}")
        if name in PATHS and value == "" != stage.__dataclass_fields__[name].default:
            raise ValueError(f"{name} is empty: name one, or leave it out")


def plain(value):
    """A value as a recipe file holds it: the Trainer's enumerations are strings there, its dataclasses keys."""
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return value.value if isinstance(value, Enum) else value


class _Parser(HfArgumentParser):
    def error(self, message):
        """Instead of the usage, which runs over the 130 fields of `TrainingArguments`."""
        raise ValueError(message)


def _read(path: Path, known: set[str]) -> dict:
    values = read_yaml(path)
    here = {_name_here(name, known): value for name, value in values.items()}
    if len(here) < len(values):
        raise ValueError(f"{path}: two keys are names of one thing; leave out {', '.join(values.keys() - here.keys())}")
    check_keys(path, here, known)
    return here


def _check_kinds(values: dict, hints: dict) -> None:
    """Raise a ValueError that names the first key whose value is none of the kinds that it may have."""
    for name, value in values.items():
        kinds = _kinds(hints[name])
        if not any(_fits(value, kind) for kind in kinds):
            expected = " or ".join(dict.fromkeys(word for kind in kinds if (word := _in_words(kind))))
            came = printable(reprlib.repr(value))
            known_as = next((f"{old}, now {name}," for old, new in RENAMED.items() if new == name), name)
            raise ValueError(f"{known_as} is {came}, expected {expected or 'nothing: leave it out'}")


def _kinds(hint) -> list:
    """The kinds that a type hint allows. Text beside an enumeration is one of its values, text beside keys and values
    is JSON, or a file with it."""
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    if str in kinds and any(isinstance(kind, type) and issubclass(kind, Enum) for kind in kinds):
        kinds.remove(str)
    if str in kinds and any((get_origin(kind) or kind) is dict for kind in kinds):
        kinds[kinds.index(str)] = JSON
    return kinds


def _fits(value, kind) -> bool:
    """Whether a value is of a kind of [`_kinds`]."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if kind is JSON:
        return isinstance(value, str) and (value.lstrip().startswith("{") or os.path.isfile(value))
    if origin is Literal:
        return any(value is part for part in parts)
    if origin is list:
        return isinstance(value, list) and all(any(_fits(item, one) for one in _kinds(parts[0])) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if issubclass(kind, Enum):
        return isinstance(value, kind) or value in [member.value for member in kind]
    if kind in (int, float):  # no NaN, no infinity, nothing that a library would not take
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        return number and abs(value) < (2**63 if isinstance(value, int) else math.inf)
    return isinstance(value, kind)


def _in_words(kind) -> str:
    words = {str: "text (in quotation marks)", bool: "true or false", int: "a whole number", float: "a number"}
    words |= {dict: "keys and values", list: "a list", JSON: "a JSON file with them"}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(member.value for member in kind)}"
    return words.get(get_origin(kind) or kind, "")


def _name_here(name: str, known: set[str]) -> str:
    """What the transformers at hand calls an argument that it has renamed."""
    for old, new in RENAMED.items():
        if name in (old, new):
            return new if new in known else old
    return name


def _flag_here(flag: str, known: set[str]) -> str:
    name, equals, value = flag.removeprefix("--").partition("=")
    here = _name_here(name.replace("-", "_"), known)
    return flag if here == name.replace("-", "_") else f"--{here}{equals}{value}"


def check_keys(where: str | Path, keys: Iterable[str], known: set[str]) -> None:
    """Raise a ValueError that names the first key of `keys` which is not `known`, and the nearest one that is."""
    for key in keys:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{_suggestion(key, known)}")


def _suggestion(key: str, known: set[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(key.partition("=")[0].replace("-", "_"), known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
