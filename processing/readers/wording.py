"""What is said about motion files and sets of them, in the words of the command line."""

import shlex
from collections.abc import Mapping


def counted(number: int, thing: str) -> str:
    """A number of things: "1 clip", "2 clips"."""
    return f"{number} {thing}{'s' if number != 1 else ''}"


def flag_of(argument: str, flags: Mapping[str, str] | None = None) -> str:
    """What the command line calls an argument of `load_motion`. `flags`: of the command at hand, where another name."""
    return (flags or {}).get(argument, f"--{argument.replace('_', '-')}")


def as_flags(of, text: str, flags: Mapping[str, str] | None = None) -> str:
    """`text` of a `MotionFileError` or a `Remark`, with its remedy as a flag: `; pass --fps 15`. `flags`: see
    [`flag_of`]."""
    if of.argument is None:
        return text
    example = "x".join(map(str, of.example)) if isinstance(of.example, tuple) else of.example
    value = {None: "", True: "true", False: "false"}.get(example, str(example))
    joined = "=" if value.startswith("-") else " " if value else ""  # it would look like a flag
    return f"{text}; pass {flag_of(of.argument, flags)}{joined}{shlex.quote(value) if value else ''}"
