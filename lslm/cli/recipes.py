"""The parser of commands that take a recipe: it only explains. `training.recipe.parse` reads file and flags."""

import argparse
import importlib.util
import runpy
import sys
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path

METAVARS = {int: "N", float: "X", bool: "true|false", int | None: "N", float | None: "X"}


class RecipeParser(argparse.ArgumentParser):
    """Prints the help of a command from the keys of its recipe.

    Args:
        prog: "lslm tokenizer"; the keys are those of `KEYS["tokenizer"]` in training/recipe_keys.py.
        trainer: names of some of the Trainer's arguments, if the command takes them.
    """

    def __init__(self, prog: str, *, trainer: str = "", **kwargs):
        usage = "%(prog)s --config RECIPE.yaml [--KEY VALUE ...]"
        layout = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32, width=120)
        super().__init__(prog=prog, usage=usage, formatter_class=layout, add_help=False, **kwargs)
        # by its path: importing the package would import torch
        package = Path(importlib.util.find_spec("lslm").submodule_search_locations[0])
        keys = runpy.run_path(str(package / "training" / "recipe_keys.py"))["KEYS"][prog.rpartition(" ")[2]]
        last = {key.name: key for key in fields(keys)}
        for part in reversed(keys.__mro__[:-1]):
            group = self.add_argument_group(part.__doc__)
            for name in part.__annotations__:
                if name in last:
                    key = last.pop(name)
                    default = _shown(key.default if key.default_factory is MISSING else key.default_factory())
                    about = key.metadata["help"].replace("%", "%%") + (f" ({default})" if default else "")
                    group.add_argument(f"--{name}", metavar=METAVARS.get(key.type, "NAME"), help=about)
        if trainer:
            self.add_argument_group("any flag of the Hugging Face Trainer", trainer)

    def parse_args(self, words: list[str]) -> argparse.Namespace:
        """`prog` and `words`, as they are. Without words, or with --help: the help, and the end."""
        if not words or {"-h", "--help"} & set(words):
            self.print_help()
            sys.exit(0)
        return argparse.Namespace(prog=self.prog, words=words)


def _shown(default) -> str:
    """A default as the help shows it; "" for one that says nothing."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return " ".join(default)
    # of a file that comes with the package, the name
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default).split("/")[-1]
