"""What is said about motion files and sets of them, in the words of the command line."""

import shlex
from collections.abc import Mapping


def counted(number: int, thing: str) -> str:
    """A number of things: "1 clip", "2 clips"."""
    return f"{number} {thing}{'s' if number != 1 else ''}"


def as_flags(of, text: str, flags: Mapping[str, str] | None = None) -> str:
    """`text` of a `MotionFileError` or a `Remark`, with its remedy as a flag: `; pass --fps 15`. `flags`: what the
    command at hand calls an argument of `load_motion`, where that is another name."""
    if of.argument is None:
        return text
    example = "x".join(map(str, of.example)) if isinstance(of.example, tuple) else of.example
    value = {None: "", True: "true", False: "false"}.get(example, str(example))
    joined = "=" if value.startswith("-") else " " if value else ""  # it would look like a flag
    flag = (flags or {}).get(of.argument, f"--{of.argument.replace('_', '-')}")
    return f"{text}; pass {flag}{joined}{shlex.quote(value) if value else ''}"
