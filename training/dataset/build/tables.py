"""A table's file -> its rows, whatever program wrote it: comma, semicolon, tab or `|`, JSON lines, JSON.

A line ends with \\n, \\r or \\r\\n and with nothing else: U+2028, U+2029 and U+0085 are characters of a text. Fields
are those of RFC 4180: one that begins with a quotation mark ends with the next one that is not doubled, be it lines
later. Quotation marks that do not fit this are characters of the text. Fields of a table with `|` are never quoted
(Phoenix); one with tabs is taken for unquoted if it holds quotation marks that no csv writer leaves, and none that one
makes.
"""

from __future__ import annotations

import codecs
import json
import re
import string
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ....processing.motion_errors import CONTROLS

DELIMITERS = "\t|;,"
MAX_LINES = 100  # of one field: a text that no mark ends would take the rest of the table
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 1 << 20
_LETTERS = string.ascii_letters.encode()
_CLOSED = {mark: re.compile(rf' *"([^"]*(?:""[^"]*)*)" *(?={re.escape(mark)}|\Z)') for mark in DELIMITERS}
_OPEN = re.compile(r' *"[^"]*(?:""[^"]*)*\Z')
_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?$')  # a first line that Excel heeds
_NOT_DECODED = re.compile("[\udc80-\udcff]")  # what Python makes of bytes that the encoding does not know


def read_rows(
    path: Path, known: Callable[[list[str]], bool], remarks: Counter[str]
) -> Iterator[tuple[int, dict | str]]:
    """Rows of a table in its order.

    Args:
        path: .jsonl, .json, or else a table with delimiters. known: whether these columns make a table that is looked
            for; it decides between delimiters. remarks: counts what was assumed.

    Yields:
        number of the row's first line (in .json: of the row), and the row or what is wrong with it.

    Raises:
        ValueError: it is no such table. OSError: it cannot be read.
    """
    encoding = _encoding(path, remarks)
    try:
        suffix = path.suffix.lower()
        if suffix == ".json":
            yield from _json_rows(path, encoding)
        elif suffix == ".jsonl":
            yield from _jsonl_rows(path, encoding)
        else:
            yield from _delimited_rows(path, encoding, known, remarks)
    except UnicodeError as error:
        raise ValueError(f"{path} is no {encoding} text ({error}); save it as UTF-8") from error


def json_line(row: dict) -> str:
    """A row as a line of JSON, which is one line for every reader, and steers no terminal."""
    line = json.dumps(row, ensure_ascii=False)
    return CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", line) + "\n"


def _encoding(path: Path, remarks: Counter[str]) -> str:
    """How bytes stand for characters: as a mark at the start says; UTF-16 if every second byte is 0; UTF-8, also where
    a row has other bytes; or Windows-1252, which has all of Latin-1, where nothing speaks for UTF-8.

    Raises:
        ValueError: bytes beyond ASCII are more than the letters of ASCII: it is another encoding.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
        for mark, encoding in _MARKS:
            if start.startswith(mark):
                return encoding
        for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            half = start[first::2]
            if half.count(0) > len(half) / 2:
                return encoding
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        letters = whole = broken = 0
        while block := file.read(_BLOCK):
            letters += len(block) - len(block.translate(None, _LETTERS))
            text = decoder.decode(block)
            if not text.isascii():
                beyond = len(text) - len(text.encode("ascii", "ignore"))
                escaped = len(text) - len(text.encode("utf-8", "ignore").decode("utf-8"))
                whole, broken = whole + beyond - escaped, broken + escaped
        broken += len(decoder.decode(b"", final=True))
    if broken <= whole:
        return "utf-8"
    if broken > letters:
        raise ValueError(f"{path} is not UTF-8 text, and no Latin-1 either; save it as UTF-8")
    remarks[f"{path.name}: not UTF-8, read as Windows-1252 (Latin-1); if its accents are wrong, save it as UTF-8"] += 1
    return "cp1252"


def _open(path: Path, encoding: str):
    # what cannot be decoded becomes a lone surrogate: this row is left out, and the rest is read
    errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    return open(path, encoding=encoding, errors=errors, newline="")


# --- fields between delimiters ----------------------------------------------------------------------------------------


def _delimited_rows(path, encoding, known, remarks) -> Iterator[tuple[int, dict | str]]:
    with _open(path, encoding) as file:
        first = next((line.strip("\r\n") for line in file if line.strip()), "")
    told = _EXCEL_DELIMITER.match(first)
    delimiter = told[1] if told and told[1] in DELIMITERS else None
    if delimiter is None:
        names = {mark: [name.strip() for name in _cells(first, mark)[0]] for mark in DELIMITERS}
        delimiter = max(DELIMITERS, key=lambda mark: (known(names[mark]), first.count(mark)))
    quoting, seen = delimiter != "|", Counter()
    if delimiter == "\t":
        with _open(path, encoding) as file:
            for _ in _records(file, delimiter, True, seen):
                pass
        quoting = not seen["other"] or seen["needed"] > 0
    seen.clear()
    with _open(path, encoding) as file:
        records = _records(file, delimiter, quoting, seen)
        if told:
            next(records)
        _, header = next(records, (1, []))
        yield from _named(path, [name.strip() for name in header], records, encoding, remarks)
    if delimiter == "\t" and quoting and seen["quoted"] and not seen["needed"]:
        remarks[f"{path.name}: fields in quotation marks, taken for those of csv and taken off"] = seen["quoted"]
    if seen["other"]:
        stay = f"fields with quotation marks that are not those of csv, and stay (the first in line {seen['first']})"
        remarks[f"{path.name}: {stay}"] = seen["other"]


def _named(path, header, records, encoding, remarks) -> Iterator[tuple[int, dict | str]]:
    """Cells by the names of their columns. Columns without a name, such as the index that pandas writes and what is
    behind a comma at the end of the lines, are left out."""
    names = [(place, name) for place, name in enumerate(header) if name]
    if not names or len({name for _, name in names}) < len(names):
        raise ValueError(f"{path}: the first line must name every column, each once; it has {header}")
    least, width = names[-1][0] + 1, 0
    for line, cells in records:
        if not width:  # the first row says whether lines end with a delimiter
            longer = len(cells) == len(header) + 1 and not cells[-1]
            width = len(header) + longer
        if _NOT_DECODED.search("".join(cells)):
            yield line, f"bytes that are not {encoding}"
        elif not least <= len(cells) <= width or any(cells[len(header) :]):
            yield line, f"{len(cells)} fields, expected {width}"
        else:
            nameless = [cell for cell, name in zip(cells, header, strict=False) if not name]
            if any(cell.strip() and not cell.isdecimal() for cell in nameless):
                remarks[f"{path.name}: rows with something in a column without a name, which is left out"] += 1
            yield line, {name: cells[place] or None for place, name in names}


def _records(lines: Iterable[str], delimiter: str, quoting: bool, seen: Counter) -> Iterator[tuple[int, list[str]]]:
    """(first line, fields) of the records of a table. `seen` counts fields that are `quoted`, those whose content
    `needed` it, and those with quotation marks that are `other` than csv's; `first` is the line of the first of these.
    """
    numbered, back, width = enumerate(lines, 1), deque(), 0

    def following():
        return back.popleft() if back else next(numbered, None)

    while (pair := following()) is not None:
        number, line = pair
        text = line.rstrip("\r\n")
        if not text:
            continue
        if not quoting or '"' not in text:
            cells = text.split(delimiter)
        else:
            cells, counts, opened = _cells(text, delimiter)
            taken = []
            while opened is not None and len(taken) < MAX_LINES and (pair := following()) is not None:
                taken.append(pair)
                if delimiter == "\t" and len(cells) == width == pair[1].count(delimiter) + 1:
                    break  # two whole rows: a text has no tabs
                if '"' in pair[1]:  # each line is looked at by itself, as what the open field goes on with
                    _, its_counts, opened = _cells('"' + pair[1].rstrip("\r\n"), delimiter)
                    if opened is None and not its_counts["other"]:
                        text = (line + "".join(more for _, more in taken)).rstrip("\r\n")
                        cells, counts, _ = _cells(text, delimiter)
                        taken = []
            back.extendleft(reversed(taken))
            if counts["other"]:
                seen.setdefault("first", number)
            seen.update(counts)
        width = width or len(cells)
        yield number, cells


def _cells(text: str, delimiter: str) -> tuple[list[str], Counter, int | None]:
    """Fields of a record, what `_records` counts, and the first field in which a quotation mark is open at the end;
    None: there is none, or a field before it has marks that are not csv's."""
    cells, counts, opened, place = [], Counter(), None, 0
    while place <= len(text):
        if match := _CLOSED[delimiter].match(text, place):
            cell, end = match[1], match.end()
            counts["quoted"] += 1
            counts["needed"] += any(mark in cell for mark in ('""', delimiter, "\n", "\r"))
            cells.append(cell.replace('""', '"'))
        else:
            if not counts["other"] and _OPEN.match(text, place):
                opened = len(cells)
            end = text.find(delimiter, place)
            end = len(text) if end < 0 else end
            cells.append(text[place:end])
            counts["other"] += '"' in cells[-1]
        place = end + 1
    return cells, counts, opened


# --- JSON -------------------------------------------------------------------------------------------------------------


def _jsonl_rows(path: Path, encoding: str) -> Iterator[tuple[int, dict | str]]:
    with _open(path, encoding) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if _NOT_DECODED.search(line):
                yield number, f"bytes that are not {encoding}"
                continue
            try:
                row = _loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON ({error})"
            else:
                yield number, row if isinstance(row, dict) else "not a JSON object"


def _json_rows(path: Path, encoding: str) -> Iterator[tuple[int, dict | str]]:
    """{id: {column: value}}, {id: text}, or a list of objects."""
    try:
        with _open(path, encoding) as file:
            content = _loads(file.read())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if isinstance(content, dict):
        content = [{"id": id, **(row if isinstance(row, dict) else {"text": row})} for id, row in content.items()]
    if not isinstance(content, list):
        raise ValueError(f"{path} holds neither an object nor a list; expected {{id: {{text: ...}}}}")
    for number, row in enumerate(content, 1):
        yield number, row if isinstance(row, dict) else "not an object"


def _loads(text: str):
    return json.loads(text, parse_int=_integer, object_pairs_hook=_object)


def _integer(digits: str) -> int | str:
    """A number that no column can hold (64 bits) stays the string that it was."""
    number = int(digits) if len(digits) <= 20 else 1 << 63
    return number if -(1 << 63) <= number < 1 << 63 else digits


def _object(pairs: list[tuple[str, object]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs) and (twice := [name for name, value in pairs if row[name] != value]):
        raise ValueError(f"{twice[0]!r} is there twice, with other values")
    return row
