"""Which clip is meant in a file that holds several."""

import difflib
from collections.abc import Sequence

from ..motion_errors import MotionFileError

MAX_CLIPS = 50_000
MAX_LISTED = 100  # names in a message; a dictionary may hold thousands


def choose_clip(names: Sequence[object], asked: str | None, what: str) -> int:
    """The place of the clip that is meant among those of a file.

    Args:
        names: of the clips, in their order. One without a name is called by its place, from 0, as is the second of a
            name.
        asked: the argument `clip` of `load_motion`. what: they are, in the plural: "animations".

    Raises:
        MotionFileError: there are several and none is asked for, or none of that name. It lists them, `argument` is
            "clip", and `example` the nearest name.
    """
    if len(names) > MAX_CLIPS:
        raise MotionFileError(f"{len(names)} {what} in the file, the limit is {MAX_CLIPS}; cut it")
    labels: list[str] = []
    taken: set[str] = set()
    for place, name in enumerate(names):
        label = " ".join("".join(c if c.isprintable() else " " for c in str(name or place)).split())
        labels.append(f"{label} {place}" if label in taken else label)
        taken.add(label)
    if asked is None and len(labels) == 1:
        return 0
    if asked is not None and str(asked) in labels:
        return labels.index(str(asked))
    listed = ", ".join(labels[:MAX_LISTED]) + (", ..." if len(labels) > MAX_LISTED else "")
    near = labels if asked is None else difflib.get_close_matches(str(asked), labels, 1) or labels
    lacks = "" if asked is None else f", none of them {str(asked)!r}"
    kind = f"several {what}" if asked is None else "another clip"
    count = f"{len(labels)} " if len(labels) > 1 else ""
    raise MotionFileError(f"{count}{what} in the file{lacks}: {listed}", "clip", near[0], kind)


def no_clips(asked: str) -> MotionFileError:
    """What is said of a clip that is asked for in a file that holds one."""
    return MotionFileError(f"one clip, with no name to be {asked!r}; leave clip out", kind="no clips")
