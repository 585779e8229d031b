"""Tables of texts: what is said in which clip, or in which part of a recording.

Known are the tables of How2Sign and YouTube-ASL (tab-separated), Phoenix (`|`) and SignAvatars' HamNoSys (json), and
one of one's own: csv, tsv, jsonl or json with the columns `id`, `name` or `file`, and `text`. `tables.py` reads them.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....processing.readers import MOTION_SUFFIXES, VIDEO_SUFFIXES
from .tables import read_rows

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    "test": "test",
}
OWN_IDS = ("id", "name", "file")  # the first that a table has names the clip
# The column that says which clips were cut from one recording; and, of a row with times, the one that names the
# recording's file. How2Sign has one recording of a VIDEO_ID for each camera.
VIDEOS = ("video", "video_id", "VIDEO_ID", "VIDEO_NAME", "video_name")
RECORDINGS = ("VIDEO_NAME", "video_name", "video", "video_id", "VIDEO_ID")
# Start and end of a part of a recording: columns, in small letters, and what one of them counts. Frames count from 0,
# and the last one does not belong to the part.
SPANS = (
    ("start_realigned", "end_realigned", "s"),
    ("start", "end", "s"),
    ("start_time", "end_time", "s"),
    ("start_seconds", "end_seconds", "s"),
    ("start", "duration", "s"),  # of youtube-transcript-api
    ("start_ms", "end_ms", "ms"),
    ("start_frame", "end_frame", "frames"),
    ("frame_start", "frame_end", "frames"),
)
MISFITS = 100  # rows without the columns of a text, before a table is none


@dataclass(frozen=True)
class Layout:
    """The columns of a table of texts. `signer`: a column, or like `video` a pattern whose group in the id tells."""

    id: str
    text: str
    also: str | None = None  # another column that must be there
    language: str | None = None
    sign_language: str | None = None  # of texts in this language
    video: re.Pattern | None = None  # instead of the columns VIDEOS
    signer: str | re.Pattern | None = None

    def fits(self, columns) -> bool:
        return {self.id, self.text, self.also or self.id} <= set(columns)


LAYOUTS = (
    # `<video>_<n>-<signer>-rgb_front`; YouTube-ASL's tables have these columns too, and other names
    Layout("SENTENCE_NAME", "SENTENCE", language="en", sign_language="ase", signer=re.compile(r"-(\d+)-rgb_front$")),
    # the name is `<broadcast>-<n>`; the column `video` is a pattern of pictures, another for every clip
    Layout("name", "translation", "orth", "de", "gsg", video=re.compile(r"^(.+)-\d+$"), signer="speaker"),
    *(Layout(id, "hamnosys_text") for id in OWN_IDS),  # language: none, it is a notation
    *(Layout(id, "text", signer="signer") for id in OWN_IDS),
)


@dataclass
class Text:
    """A row of a table: what is said in one clip.

    Attributes:
        id: of the clip. key: names its file (see [`Catalogue`]). near: the same, seen from the table's folder.
        split, language, sign_language, fps, signer, video: None where the table does not tell.
        extra: all other columns.
        line: of the table.
        span: [start, end, unit] of the part of a recording, unit "s" or "frames"; None: the whole file.
        recording: bare name of the recording that `span` cuts, where no file has the key. cuts: `span` cuts the key's.
        clip: which clip of a file that holds several, by its name.
        own: of a table of one's own. official: its authors deal clips of one video to several splits.
    """

    id: str
    key: str
    text: str
    near: str | None = None
    split: str | None = None
    language: str | None = None
    sign_language: str | None = None
    fps: float | None = None
    signer: str | None = None
    video: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    line: int = 0
    span: list | None = None
    recording: str | None = None
    cuts: bool = False
    clip: str | None = None
    own: bool = True
    official: bool = False


@dataclass(frozen=True)
class Fault:
    """Something that is left out, and why; `kind`, the reason without the numbers of this one, counts them."""

    id: str | None
    file: str | None
    reason: str
    kind: str = field(default="", compare=False)


def read_texts(
    path: Path, near: str = "", language: str | None = None, remarks: Counter[str] | None = None
) -> Iterator[Text | Fault]:
    """Rows of one table of texts, in its order.

    Args:
        path: .csv, .tsv, .jsonl or .json. A name like `how2sign_realigned_val.csv` says the split of all its rows.
        near: the table's folder, relative to the source; paths in a column `file` may start from there.
        language: of rows that do not tell.
        remarks: counts what was assumed, and what looks wrong.

    Yields:
        `Text`, or `Fault` for a row that cannot be used.

    Raises:
        ValueError: it is no table of texts. OSError: it cannot be read.
    """
    remarks = Counter() if remarks is None else remarks
    words = re.findall(r"[a-z]+", path.name.lower())
    split = next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), None)
    layout, misfits = None, []
    for line, row in read_rows(path, lambda columns: any(layout.fits(columns) for layout in LAYOUTS), remarks):
        if isinstance(row, str):
            yield _fault(path, line, row)
            continue
        if layout is None or not layout.fits(row):  # objects of JSON may differ
            fitting = next((layout for layout in LAYOUTS if layout.fits(row)), None)
            if fitting is None:
                misfits.append((line, f"it has the columns {', '.join(map(str, row))[:200]}"))
                if layout is None and len(misfits) == MISFITS:
                    break
                continue
            layout = fitting
        try:
            text = _text(row, layout, split, near, language)
        except ValueError as error:
            id = None if row[layout.id] is None else str(row[layout.id])
            yield _fault(path, line, str(error), id)
            continue
        text.line = line
        if len(text.text) > 1 and text.text[0] == text.text[-1] == '"' or '""' in text.text:
            remarks[f"{path.name}: texts with quotation marks around them or doubled; are they the table's own?"] += 1
        yield text
    if layout is None and misfits:
        line, columns = misfits[0]
        raise ValueError(
            f"{path}, line {line}: {columns}; expected id, name or file, and text (or those of How2Sign: "
            "SENTENCE_NAME, SENTENCE; of Phoenix: name, orth, translation)"
        )
    for line, columns in misfits:
        yield _fault(path, line, f"{columns}; expected id, name or file, and text")


def _fault(path: Path, line: int, reason: str, id: str | None = None) -> Fault:
    return Fault(id, None, f"{path.name}, line {line}: {reason}", f"{path.name}: {reason}")


def _text(row: dict, layout: Layout, split: str | None, near: str, language: str | None) -> Text:
    row = dict(row)

    def take(name: str) -> str:
        return _string(row.pop(name, None), name)

    id, text = take(layout.id), take(layout.text)
    if not id:
        raise ValueError(f"no {layout.id}")
    key = take("file") or id
    from_file = layout.id == "file" or key != id
    key = key.replace("\\", "/").removeprefix("./")
    if layout.id == "file":
        id = bare(key)
    if "split" in row:
        word = take("split")
        if word and word.lower() not in SPLIT_WORDS:
            raise ValueError(f"split is {word!r}, expected train, validation or test")
        split = SPLIT_WORDS[word.lower()] if word else split
    fps = take("fps") or None
    try:
        fps = None if fps is None else float(fps)
    except ValueError as error:
        raise ValueError(f"fps is {fps!r}, expected a number") from error
    cuts = layout.id == "file" or (from_file and bare(key) != bare(id))
    try:
        span = _span(row)
    except ValueError:
        if cuts:
            raise
        span = None
    video = _group(layout.video, id) if layout.video else _first(row, VIDEOS)
    recording = _first(row, RECORDINGS) if span else None
    if isinstance(layout.signer, re.Pattern):
        signer = _group(layout.signer, id)
    else:
        signer = take(layout.signer) or None if layout.signer else None
    language = take("language") or language or layout.language
    signed = _string(row.get("sign_language"), "sign_language") or None  # which stays a column
    signed = signed or (layout.sign_language if language == layout.language else None)
    own = layout.id in OWN_IDS and not layout.video
    near = posixpath.normpath(posixpath.join(near, key)) if from_file else None
    about = {"span": span, "cuts": cuts, "recording": recording and stem(recording)}
    if own and "clip" in row:
        about["clip"] = row["clip"] = _string(row["clip"], "clip") or None  # stays a column of the data set
    about |= {"own": own, "official": bool(layout.video)}
    return Text(id, key, text, near, split, language, signed, fps, signer, video, row, **about)


def _string(value, name: str) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, (dict, list)):
        raise ValueError(f"{name} is {'a list' if isinstance(value, list) else 'an object'}, expected a string")
    return str(value).strip()


def _first(row: dict, names: tuple[str, ...]) -> str | None:
    words = (_string(row[name], name) for name in names if not isinstance(row.get(name, []), (dict, list)))
    return next(filter(None, words), None)


def _group(pattern: re.Pattern, id: str) -> str | None:
    return match[1] if (match := pattern.search(id)) else None


def _span(row: dict) -> list | None:
    """The part of a recording that a row is about; None: it does not tell. Raises ValueError where it tells none."""
    names = {name.lower(): name for name in row}
    for first, last, unit in SPANS:
        if first in names and last in names:
            start, end = (_time(row[names[name]], names[name]) for name in (first, last))
            if start is None and end is None:
                return None
            if start is None or end is None:
                raise ValueError(f"{names[first if start is None else last]} is missing, expected a time")
            if last == "duration":
                end += start
            if not start < end:
                raise ValueError(f"{names[first]} is {start:g} and {names[last]} {end:g}, expected a later end")
            return [start / 1000, end / 1000, "s"] if unit == "ms" else [start, end, unit]
    return None


def _time(value, name: str) -> float | None:
    """A number, or hours, minutes and seconds as 1:02:03.5; None: not told (empty, or -1 as in Phoenix)."""
    text = _string(value, name)
    if not text:
        return None
    time = 0.0
    try:
        for part in text.replace(",", ".").split(":"):
            time = 60 * time + float(part)
    except ValueError as error:
        raise ValueError(f"{name} is {text[:40]!r}, expected a time") from error
    if not math.isfinite(time):
        raise ValueError(f"{name} is {text[:40]!r}, expected a time")
    return time if time >= 0 else None


def bare(path: str) -> str:
    """A path without the suffix of a motion or video file, maybe with .gz: other dots belong to the name."""
    name, suffix = os.path.splitext(path.removesuffix(".gz"))
    return name if suffix.lower() in MOTION_SUFFIXES | VIDEO_SUFFIXES else path


def stem(path: str) -> str:
    """The bare name of a file."""
    return bare(path.replace("\\", "/").rpartition("/")[2])
