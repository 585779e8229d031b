"""Tables of texts: what is said in which clip.

Known are the tables of How2Sign (tab-separated), Phoenix (`|`) and SignAvatars' HamNoSys (json), and one of one's own:
csv, tsv, jsonl or json with the columns `id`, `name` or `file`, and `text`. A table with commas or semicolons follows
the quoting rules of csv; one with tabs or `|` has no quoting.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    "test": "test",
}
OWN_IDS = ("id", "name", "file")  # the first that a table has names the clip
VIDEOS = ("video", "video_id", "VIDEO_ID")  # the column that says which clips were cut from one recording


@dataclass(frozen=True)
class Layout:
    """The columns of a table of texts. `signer`: a column, or like `video` a pattern whose group in the id tells."""

    id: str
    text: str
    also: str | None = None  # another column that must be there
    language: str | None = None
    video: re.Pattern | None = None  # besides the columns VIDEOS
    signer: str | re.Pattern | None = None


LAYOUTS = (
    # `<video>_<n>-<signer>-rgb_front`
    Layout("SENTENCE_NAME", "SENTENCE", language="en", signer=re.compile(r"-(\d+)-rgb_front$")),
    # the name is `<broadcast>-<n>`; the column `video` is a pattern of pictures, another for every clip
    Layout("name", "translation", "orth", "de", video=re.compile(r"^(.+)-\d+$"), signer="speaker"),
    *(Layout(id, "hamnosys_text") for id in OWN_IDS),  # language: none, it is a notation
    *(Layout(id, "text", signer="signer") for id in OWN_IDS),
)


@dataclass
class Text:
    """A row of a table: what is said in one clip.

    Attributes:
        id: of the clip. key: names its file (see [`Catalogue`]). near: the same, seen from the table's folder.
        split, language, fps, signer, video: None where the table does not tell.
        extra: all other columns.
    """

    id: str
    key: str
    text: str
    near: str | None = None
    split: str | None = None
    language: str | None = None
    fps: float | None = None
    signer: str | None = None
    video: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Something that is left out, and why; `kind`, the reason without the numbers of this one, counts them."""

    id: str | None
    file: str | None
    reason: str
    kind: str = field(default="", compare=False)


def read_texts(path: Path, near: str = "", language: str | None = None) -> Iterator[Text | Fault]:
    """Rows of one table of texts, in its order.

    Args:
        path: .csv, .tsv, .jsonl or .json. A name like `how2sign_realigned_val.csv` says the split of all its rows.
        near: the table's folder, relative to the source; paths in a column `file` may start from there.
        language: of rows that do not tell.

    Yields:
        `Text`, or `Fault` for a row that cannot be used.

    Raises:
        ValueError: it is no table of texts. OSError: it cannot be read.
    """
    words = re.findall(r"[a-z]+", path.name.lower())
    split = next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), None)
    layout = None
    for line, row in _rows(path):
        if isinstance(row, str):
            yield Fault(None, None, f"{path.name}, line {line}: {row}", f"{path.name}: {row}")
            continue
        if layout is None or layout.id not in row or layout.text not in row:  # objects of JSON may differ
            layout = _layout(path, row, line)
        try:
            yield _text(row, layout, split, near, language)
        except ValueError as error:
            id = None if row[layout.id] is None else str(row[layout.id])
            yield Fault(id, None, f"{path.name}, line {line}: {error}", f"{path.name}: {error}")


def _layout(path: Path, row: dict, line: int) -> Layout:
    for layout in LAYOUTS:
        if {layout.id, layout.text, layout.also or layout.id} <= row.keys():
            return layout
    raise ValueError(
        f"{path}, line {line}: it has the columns {', '.join(map(str, row))[:200]}; expected id, name or file, and "
        "text (or those of How2Sign: SENTENCE_NAME, SENTENCE; of Phoenix: name, orth, translation)"
    )


def _text(row: dict, layout: Layout, split: str | None, near: str, language: str | None) -> Text:
    row = dict(row)
    id, text = _string(row.pop(layout.id)), _string(row.pop(layout.text))
    if not id:
        raise ValueError(f"no {layout.id}")
    key = _string(row.pop("file", None)) or id
    from_file = layout.id == "file" or key != id
    key = key.replace("\\", "/").removeprefix("./")
    if layout.id == "file":
        id = bare(key)
    if "split" in row:
        word = _string(row.pop("split"))
        if word and word.lower() not in SPLIT_WORDS:
            raise ValueError(f"split is {word!r}, expected train, validation or test")
        split = SPLIT_WORDS[word.lower()] if word else split
    fps = _string(row.pop("fps", None)) or None
    try:
        fps = None if fps is None else float(fps)
    except ValueError as error:
        raise ValueError(f"fps is {fps!r}, expected a number") from error
    video = next((_string(row[name]) for name in VIDEOS if name in row), None)
    if layout.video:
        video = _group(layout.video, id)
    if isinstance(layout.signer, re.Pattern):
        signer = _group(layout.signer, id)
    else:
        signer = _string(row.pop(layout.signer, None)) or None
    language = _string(row.pop("language", None)) or language or layout.language
    near = f"{near}/{key}" if near and from_file else None
    return Text(id, key, text, near, split, language, fps, signer, video or None, row)


def _string(value) -> str:
    return "" if value is None else str(value).strip()


def _group(pattern: re.Pattern, id: str) -> str | None:
    return match[1] if (match := pattern.search(id)) else None


def _rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(line, row), or (line, what is wrong with it)."""
    try:
        yield from {".json": _json_rows, ".jsonl": _jsonl_rows}.get(path.suffix, _csv_rows)(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max("\t|;,", key=first.count)
        quoting = csv.QUOTE_NONE if delimiter in "\t|" else csv.QUOTE_MINIMAL
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        try:
            header = [name.strip() for name in next(reader, [])]
            if len(set(header)) < len(header) or not all(header):
                raise ValueError(f"{path}: the first line must name every column, each once; it has {header}")
            for cells in reader:
                if len(cells) == len(header):
                    yield reader.line_num, {name: cell or None for name, cell in zip(header, cells, strict=True)}
                elif cells:
                    yield reader.line_num, f"{len(cells)} fields, expected {len(header)}"
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield number, row if isinstance(row, dict) else "not a JSON object"
            except ValueError as error:
                yield number, f"not JSON ({error})"


def _json_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """{id: {column: value}}, {id: text}, or a list of objects."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if isinstance(content, dict):
        content = [{"id": id, **(row if isinstance(row, dict) else {"text": row})} for id, row in content.items()]
    if not isinstance(content, list):
        raise ValueError(f"{path} holds neither an object nor a list; expected {{id: {{text: ...}}}}")
    for number, row in enumerate(content, 1):
        yield number, row if isinstance(row, dict) else "not an object"


def bare(path: str) -> str:
    """A path without the suffix of a file: other dots belong to the name."""
    return os.path.splitext(path)[0]
