"""What is said about a motion file, as data: whoever shows it words the remedy in the user's terms."""

import os
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# of a terminal, and of the direction and the end of lines; halves of characters, which cannot be written
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """What a file says, for people: control characters are spelled out, as in a string of Python."""
    return CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def with_remedy(text: str, argument: str | None, example: Any) -> str:
    """A sentence, and the remedy as Python has it: "...; pass fps=15"."""
    return text if argument is None else f"{text}; pass {argument}={'...' if example is None else repr(example)}"


@dataclass(frozen=True)
class Remark:
    """What was assumed about a motion, was filled in, or looks wrong.

    Attributes:
        text: one line.
        argument: the keyword of `load_motion` that decides otherwise, or None. A remark that has one needs attention.
        example: a value for it, or None.
        kind: the text without the numbers of this file, so that remarks can be counted; "": the text has none.
    """

    text: str
    argument: str | None = None
    example: Any = None
    kind: str = ""

    def __str__(self) -> str:
        return with_remedy(self.text, self.argument, self.example)


class MotionFileError(ValueError):
    """A motion file that cannot be used. `str(error)` words it for Python.

    Args and attributes:
        problem: what came and what was expected, one line.
        argument, example: the keyword of `load_motion` that may help, and a value for it; see `Remark`.
        kind: the problem without the numbers and names of this file, to be counted. path: the file.
    """

    def __init__(self, problem: str, argument: str | None = None, example: Any = None, kind: str = ""):
        super().__init__(problem, argument, example, kind)
        text = " ".join(problem.split())
        self.problem = printable(text if len(text) < 700 else f"{text[:400]} ... {text[-200:]}")
        self.argument, self.example, self.kind, self.path = argument, example, kind or self.problem, None

    @classmethod
    def of(cls, path: str | os.PathLike, error: ValueError, problem: str | None = None) -> "MotionFileError":
        """What a reader raised, maybe by another copy of this code or as a plain ValueError, as the error of `path`."""
        file_error = cls(
            problem or getattr(error, "problem", str(error)),
            getattr(error, "argument", None),
            getattr(error, "example", None),
            getattr(error, "kind", f"{os.path.splitext(path)[1].lower() or 'a folder'} that cannot be read"),
        )
        file_error.path = str(path)
        return file_error

    def __str__(self) -> str:
        path = f"{printable(self.path)}: " if self.path else ""
        return path + with_remedy(self.problem, self.argument, self.example)


def package_readers(what: str = "") -> ModuleType | Any:
    """`lslm.processing.readers`, by its whole name: a checkpoint carries this file, and not those.

    Raises:
        MotionFileError: the package lslm is not installed, and `what` cannot be read without it; "": None instead.
    """
    try:
        from lslm.processing import readers
    except ImportError as error:
        if not what:
            return None
        raise MotionFileError(
            f"this is {what}, which the code of a checkpoint does not read; the package lslm reads more: "
            "pip install lslm (from a copy of its source repository: pip install .)",
            kind=f"{what}, which needs the package lslm",
        ) from error
    return readers
