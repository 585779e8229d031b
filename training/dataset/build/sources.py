"""The clips of a data set: motion files of a folder, joined with their texts, and dealt to splits.

The join is made in an SQLite file: a million clips need no more memory than a thousand.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from ....hub_cards.languages import check_code
from ....processing.readers import MOTION_SUFFIXES, VIDEO_SUFFIXES
from ....processing.readers.wording import counted
from .texts import SPLITS, Fault, Text, bare, read_texts, stem

SPLIT_UP_TO = (0.8, 0.9, 1.0)  # of clips without an official split: 80 % train, 10 % validation, 10 % test
SPLIT_BY = ("official", "video", "signer", "clip")

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl"})
TABLE_DEPTH = 2  # folders below the source; .json is taken for texts in the source itself only
TYPE_BATCH = 1000  # rows whose types are looked at together
NAMED = 20  # links that are named one by one, and videos and rows in a message


def find_tables(source: Path, skip: Path | None = None) -> list[Path]:
    """Files below `source` that may be tables of texts, in a fixed order; `skip` is a folder to leave out."""
    os.scandir(source).close()  # an error where it cannot be opened; `Catalogue.add_files` reports folders below
    tables = []
    for name, folders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        depth = len(folder.relative_to(source).parts)
        suffixes = TABLE_SUFFIXES if depth else TABLE_SUFFIXES | {".json"}
        paths = [folder / file for file in files if not file.startswith(".")]
        tables += [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]
        below = [name for name in folders if not name.startswith(".") and folder / name != skip]
        folders[:] = below if depth < TABLE_DEPTH else []
    tables.sort(key=lambda path: (len(path.parts), path), reverse=True)
    once = {os.path.realpath(path): path for path in tables}  # a link may lead back up
    return sorted(once.values())


_TABLES = """
CREATE TABLE texts (id TEXT, text TEXT, key TEXT, near TEXT, loose TEXT, recording TEXT, clip TEXT, span TEXT,
    cuts INTEGER, own INTEGER, moved INTEGER, place TEXT, line INTEGER, video TEXT, official INTEGER, split TEXT,
    row TEXT, reason TEXT, kind TEXT);
CREATE INDEX texts_id ON texts (id);
CREATE INDEX texts_key ON texts (key);
CREATE INDEX texts_near ON texts (near);
CREATE INDEX texts_loose ON texts (loose);
CREATE INDEX texts_recording ON texts (recording);
CREATE TABLE matches (text INTEGER, file TEXT, rank INTEGER, PRIMARY KEY (text, file)) WITHOUT ROWID;
CREATE TABLE lonely (id TEXT, file TEXT, reason TEXT, kind TEXT);
"""
# A bare id says nothing about folders: all files of its name fit alike. 4: the recording that a text is a part of.
# 5 to 9: the same of videos, which are for texts that no motion file fits.
_MATCH = """
INSERT INTO matches SELECT rowid, :file, 5 * :video +
    CASE WHEN near IS NULL AND key = loose AND key IN (:path, :bare, :stem) THEN 0
        WHEN :path IN (key, near) THEN 0 WHEN :bare IN (key, near) THEN 1 WHEN key = :stem THEN 2
        WHEN loose = :stem THEN 3 ELSE 4 END
FROM texts WHERE key IN (:path, :bare, :stem) OR near IN (:path, :bare) OR loose = :stem OR recording = :recording
"""
# of each text the files that fit best: their number, and one of them
_SETTLE = """
CREATE TABLE best AS
SELECT texts.rowid AS text, texts.id AS id, texts.split AS split, texts.row AS row, texts.place AS place,
    texts.line AS line, texts.moved AS moved, texts.official AS official, texts.reason AS reason, texts.kind AS kind,
    count(matches.file) AS files, min(matches.file) AS file, matches.rank AS rank,
    texts.clip AS clip, CASE WHEN texts.cuts OR matches.rank % 5 = 4 THEN texts.span END AS span, texts.video AS video
FROM texts LEFT JOIN matches ON matches.text = texts.rowid
    AND matches.rank = (SELECT min(rank) FROM matches WHERE text = texts.rowid)
GROUP BY texts.rowid;
CREATE INDEX best_split ON best (split, id);
CREATE INDEX best_file ON best (file);
CREATE INDEX best_text ON best (text);
CREATE INDEX best_video ON best (video);
UPDATE best SET video = file || coalesce('/' || clip, '') WHERE video IS NULL AND span IS NOT NULL;
INSERT INTO lonely SELECT DISTINCT NULL, file, 'no text', '' FROM matches
WHERE rank < 5 AND file NOT IN (SELECT file FROM best WHERE files = 1);
"""
_GOOD = "files = 1 AND reason IS NULL"


class Catalogue:
    """Texts and motion files of a source, joined.

    A text names its file by a path from the source's or the table's folder, with or without its suffix, or by the bare
    file name. A folder with that name and two or more motion files in it (a file for each frame) is one clip. A video
    is a text's where no motion file is.

    A row with times is a part of a recording if its column `file` names another file than its id, if its id is there
    again with other times, or if no file has its id and one has the name of its video. A row with a `clip` is about the
    clip of this name in a file that holds several. A file of several texts without either is nobody's, and so are
    several files of one text.

    Args:
        database: a scratch file; what it held is gone.
        split_by: "official": what the tables say, and clips without a split by their video; "video", "signer" or
            "clip": 80/10/10, and clips of one video (signer) stay together. A hash of (seed, video) decides, so more
            clips never move those that are there.
        seed: of these splits.
        language: of texts whose table does not tell by row.
        video_before: what stands in ids between the name of the video and the rest, say "_": clips whose ids agree up
            to the last one are of one video, whatever the tables say.

    Attributes:
        columns: extra ones of the tables, with their types. sign_languages: codes that the tables say. tables: rows of
            each. other_files: what was no motion file, by suffix. remarks: what was assumed, and what looks wrong, with
            how often.
    """

    def __init__(
        self,
        database: Path,
        *,
        split_by: str = "official",
        seed: int = 0,
        language: str | None = None,
        video_before: str | None = None,
    ):
        if split_by not in SPLIT_BY:
            raise ValueError(f"no way to split by {split_by!r}; expected one of {', '.join(SPLIT_BY)}")
        self.split_by, self.seed, self.language, self.video_before = split_by, seed, language, video_before
        self.columns: dict[str, pa.DataType] = {}
        self.sign_languages: set[str] = set()
        self.tables: dict[str, int] = {}
        self.other_files: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self._links = 0  # that lead out of the source
        database.unlink(missing_ok=True)
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()

    def add_texts(self, path: Path, near: str = "") -> None:
        """Take up the rows of one table; arguments and errors are those of [`read_texts`]."""
        batch, count = [], 0
        place = f"{near}/{path.name}" if near else path.name
        for text in read_texts(path, near, self.language, self.remarks):
            count += 1
            if isinstance(text, Text) and self.split_by == "signer" and not text.signer:
                text = Fault(text.id, None, f"{path.name}: no signer, which a split by signer needs")
            if isinstance(text, Fault):
                self._leave_out(text)
                continue
            self._learn_languages(place, text)
            row = {name: getattr(text, name) for name in ("text", "language", "fps", "signer", "extra")}
            values = {
                "id": text.id,
                "text": text.text,
                "key": _nfc(text.key),
                "near": text.near and _nfc(text.near),
                "loose": _nfc(stem(text.key)),
                "recording": text.recording and _nfc(text.recording),
                "clip": text.clip,
                "span": text.span and json.dumps(text.span),
                "cuts": text.cuts,
                "own": text.own,
                "moved": text.near is not None and "/" in text.key and _is_motion(text.key),
                "place": place,
                "line": text.line,
                "video": self._video(text),
                "official": text.official,
                "split": self._split(text),
                "row": json.dumps(row, ensure_ascii=False),
            }
            try:
                columns = f"({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
                number = self._db.execute(f"INSERT INTO texts {columns}", tuple(values.values())).lastrowid
            except UnicodeEncodeError:
                what = "half a character (a lone surrogate)"
                self._leave_out(Fault(text.id, None, f"{path.name}, line {text.line}: {what}", f"{path.name}: {what}"))
                continue
            dealt = self.split_by == "video" or (self.split_by == "official" and not text.split)
            if dealt and self._group(text) == text.id:
                self.remarks[f"{place}: no column names the video of a clip, so each is dealt by itself"] += 1
            batch.append((number, text))
            if len(batch) == TYPE_BATCH:
                self._learn_types(path, batch)
                batch = []
        self._learn_types(path, batch)
        self.tables[place] = count

    def _learn_languages(self, place: str, text: Text) -> None:
        """Which languages are signed, and codes that the card cannot name."""
        for kind, code in (("written", text.language), ("signed", text.sign_language)):
            try:
                if code:
                    check_code(kind, code)
            except ValueError as error:
                self.remarks[f"{place}: {error}; the card leaves it out"] += 1
            else:
                self.sign_languages |= {code} if code and kind == "signed" else set()

    def _leave_out(self, fault: Fault) -> None:
        values = (fault.id, fault.file, fault.reason, fault.kind)
        readable = (value and value.encode("utf-8", "backslashreplace").decode("utf-8") for value in values)
        self._db.execute("INSERT INTO lonely VALUES (?, ?, ?, ?)", tuple(readable))

    def _video(self, text: Text) -> str | None:
        """What names the video that a text's clip comes from."""
        before = text.id.rpartition(self.video_before)[0] if self.video_before else ""
        recording = "/".join([_nfc(text.key), *([text.clip] if text.clip else [])])
        return before or text.video or (recording if text.cuts and text.span else None)

    def _group(self, text: Text) -> str:
        """Clips of one group are dealt to one split."""
        return {"signer": text.signer, "clip": text.id}.get(self.split_by, self._video(text) or text.id)

    def _split(self, text: Text) -> str:
        if self.split_by == "official" and text.split:
            return text.split
        digest = hashlib.sha256(f"{self.seed}:{self._group(text)}".encode("utf-8", "backslashreplace")).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return next(split for split, up_to in zip(SPLITS, SPLIT_UP_TO, strict=True) if share < up_to)

    def _learn_types(self, path: Path, batch: Sequence[tuple[int, Text]]) -> None:
        """Find the types of extra columns. A row whose value does not fit the others' is left out."""
        for name in dict.fromkeys(name for _, text in batch for name in text.extra):
            kind = self.columns.get(name, pa.null())
            try:
                self.columns[name] = _joint_type(kind, [text.extra.get(name) for _, text in batch])
                continue
            except _NO_TYPE:
                if pa.types.is_null(kind):
                    kind = Counter(_type_of(text.extra.get(name)) for _, text in batch).most_common(1)[0][0]
            fitting = []
            for number, text in batch:
                try:
                    kind = _joint_type(kind, [text.extra.get(name)])
                    fitting.append((number, text))
                except _NO_TYPE:
                    what = f"{name} is {str(text.extra[name])[:40]!r}, where others have {kind}"
                    reason = f"{path.name}, line {text.line}: {what}"
                    self._leave_out(Fault(text.id, None, reason, f"{path.name}: {name} of another type"))
                    self._db.execute("DELETE FROM texts WHERE rowid = ?", (number,))
            self.columns[name], batch = kind, fitting

    def add_files(self, source: Path, skip: Iterable[Path] = ()) -> None:
        """Look for motion files below `source` and match them with the texts.

        Args:
            source: the folder. skip: files and folders to leave out.
        """
        skip = {os.path.abspath(path) for path in skip}
        seen, stack = {os.path.realpath(source)}, [("", os.path.abspath(source))]
        inside = os.path.join(os.path.realpath(source), "")
        while stack:
            relative, folder = stack.pop()
            mark = self._db.execute("SELECT coalesce(max(rowid), 0) FROM lonely").fetchone()[0]
            patterns, motions, matched = set(), 0, 0
            try:
                entries = os.scandir(folder)
            except OSError as error:
                self._leave_out(Fault(None, relative, f"the folder cannot be opened: {error.strerror}"))
                continue
            with entries:
                for entry in entries:
                    path = f"{relative}/{entry.name}" if relative else entry.name
                    if entry.name.startswith(".") or entry.path in skip:
                        continue
                    if (readable := os.fsencode(path).decode("utf-8", "backslashreplace")) != path:
                        self._leave_out(Fault(None, readable, "the file name is not UTF-8; rename it"))
                        continue
                    real = os.path.realpath(entry.path) if entry.is_symlink() else None
                    try:
                        is_folder = entry.is_dir()
                    except OSError as error:
                        self._leave_out(Fault(None, path, f"it cannot be opened: {error.strerror}"))
                        continue
                    counts = is_folder or _is_motion(path) or is_video(path)
                    if real and not os.path.join(real, "").startswith(inside) and counts:
                        self._remark_link(path)
                    if is_folder:
                        if _holds_motion(entry.path) and self._match(path, path, recording=False):
                            continue
                        if real not in seen:
                            seen |= {real} if real else set()  # a link may lead back up
                            stack.append((path, entry.path))
                    elif is_video(entry.name):
                        if not self._match(path, bare(path)):
                            self._leave_out(Fault(None, path, "no text"))
                    elif not _is_motion(entry.name):
                        self.other_files[os.path.splitext(entry.name)[1].lower() or "no suffix"] += 1
                    else:
                        motions += 1
                        if self._match(path, bare(path)):
                            matched += 1
                        else:
                            if len(patterns) < 2:
                                patterns.add(re.sub(r"\d+", "0", entry.name))
                            self._leave_out(Fault(None, path, "no text"))
            if motions > 1 and not matched and len(patterns) == 1 and relative:  # looks like a file for each frame
                self._db.execute("DELETE FROM lonely WHERE rowid > ? AND reason = 'no text'", (mark,))
                if self._match(relative, relative):  # of a recording
                    continue
                reason = "no text (a folder of {} files that differ by a number)"
                self._leave_out(Fault(None, relative, reason.format(motions), reason.format("many")))
        self._settle_ids()
        self._db.executescript(_SETTLE)
        self._settle_files()

    def _remark_link(self, path: str) -> None:
        self._links += 1
        further = "further links that lead out of the source"
        self.remarks[f"{path}: a link that leads out of the source" if self._links <= NAMED else further] += 1

    def _match(self, file: str, name: str, recording: bool = True) -> bool:
        """Note the texts of a file, or of a folder of frames. name: without suffix. recording: also those of a part."""
        stem = _nfc(name.rpartition("/")[2])
        names = {"file": file, "path": _nfc(file), "bare": _nfc(name), "stem": stem, "video": is_video(file)}
        return self._db.execute(_MATCH, names | {"recording": stem if recording else None}).rowcount > 0

    def _settle_ids(self) -> None:
        """What it means that several rows have one id: parts of a recording, the same again, or a contradiction."""
        ids = self._db.execute("SELECT id FROM texts GROUP BY id HAVING count(*) > 1").fetchall()
        for (id,) in ids:
            query = "SELECT rowid, own, clip, span, place, line, text, key FROM texts WHERE id = ? ORDER BY rowid"
            rows = self._db.execute(query, (id,)).fetchall()
            parts = {(clip, span) for _, own, clip, span, *_ in rows if own and (clip or span)}
            if len(parts) == len(rows) and len({place for _, _, _, _, place, *_ in rows}) == 1:
                for number, _, clip, span, *_ in rows:
                    times = ["{:g}-{:g}".format(*json.loads(span))] if span else []
                    change = "UPDATE texts SET id = ?, cuts = 1 WHERE rowid = ?"
                    self._db.execute(change, ("_".join([id, *([clip] if clip else []), *times]), number))
            elif len({(clip, *row) for _, _, clip, _, _, _, *row in rows}) == 1:
                for number, _, _, _, place, *_ in rows[1:]:
                    self._leave_out(Fault(id, None, f"{place}: the id is there a second time"))
                    self._db.execute("DELETE FROM texts WHERE rowid = ?", (number,))
            else:
                where = _places([(place, line) for _, _, _, _, place, line, *_ in rows])
                kind = "several rows with one id, and other texts or files"
                reason = f"{len(rows)} rows with this id, and other texts or files: {where}"
                self._db.execute("UPDATE texts SET reason = ?, kind = ? WHERE id = ?", (reason, kind, id))

    def _settle_files(self) -> None:
        """A file is one text's, or each of its texts is about another part of it."""
        query = f"SELECT file FROM best WHERE {_GOOD} GROUP BY file HAVING count(*) > 1"
        for (file,) in self._db.execute(query).fetchall():
            query = f"SELECT text, rank, clip, span, place, line FROM best WHERE {_GOOD} AND file = ?"
            rows = self._db.execute(f"{query} ORDER BY clip, span, rank, text", (file,)).fetchall()
            refused: list[tuple[str, int]] = []
            for part, group in groupby(rows, lambda row: row[2:4]):
                texts, is_part = list(group), any(part)
                owners = texts if is_part else [row for row in texts if row[1] == texts[0][1]]
                claims = texts if is_part else rows
                where = _places([row[4:] for row in claims])
                # a text that has less of the file's name than another has no right to it
                refused += [(f"{file} is the file of another text: {where}", row[0]) for row in texts[len(owners) :]]
                if len(owners) > 1 or len(claims) > len(texts):
                    what = "for one part of this file" if is_part else "for this file"
                    remedy = "give each its start and end, its clip of the file, or a file of its own"
                    reason = f"{counted(len(claims), 'text')} {what}: {where}; {remedy}"
                    refused += [(reason, row[0]) for row in owners]
            change = "UPDATE best SET reason = ?, kind = 'several texts for one file' WHERE text = ?"
            self._db.executemany(change, refused)
        moved = self._db.execute(f"SELECT count(*) FROM best WHERE {_GOOD} AND rank = 3 AND moved").fetchone()[0]
        if moved:
            self.remarks["texts that name a file in another folder: the one of this name was taken"] = moved

    def check_videos(self, shared: bool = False) -> None:
        """Whether all clips of a video are in one split.

        Args:
            shared: only remark it. So it is where the authors of the data dealt them so (Phoenix), or the caller asked
                for splits by clip or by signer.

        Raises:
            ValueError: they are not.
        """
        query = f"SELECT video, min(official) FROM best WHERE {_GOOD} AND video IS NOT NULL"
        found = self._db.execute(f"{query} GROUP BY video HAVING count(DISTINCT split) > 1 ORDER BY video").fetchall()
        if shared or self.split_by in ("clip", "signer"):
            found, told = [], len(found)
        else:
            found, told = [video for video, official in found if not official], sum(official for _, official in found)
        if told:
            self.remarks["videos with clips in several splits"] = told
        if not found:
            return
        query = f"SELECT split, min(id) FROM best WHERE {_GOOD} AND video = ? GROUP BY split ORDER BY split"
        clips = [f"{id!r} in {split}" for split, id in self._db.execute(query, (found[0],))]
        raise ValueError(
            f"{len(found)} videos have clips in several splits, such as {found[0]!r}: {', '.join(clips)}; deal them by "
            "video (--split-by video), correct the tables, or keep it so (--shared-videos)"
        )

    def clips(self, split: str) -> Iterator[dict]:
        """The clips of a split in the order of their ids: id, file (relative to the source), text, language, fps,
        signer, extra, and maybe clip, of a file that holds several, and span: [start, end, "s" or "frames"]."""
        query = f"SELECT id, file, clip, row, span FROM best WHERE split = ? AND {_GOOD} ORDER BY id"
        for id, file, clip, row, span in self._db.execute(query, (split,)):
            part = ({"clip": clip} if clip else {}) | ({"span": json.loads(span)} if span else {})
            yield {"id": id, "file": file, **json.loads(row), **part}

    def left_out(self) -> Iterator[Fault]:
        """Texts without a file or with several, files without a text or with several, rows that cannot be used."""
        query = f"SELECT id, files, file, reason, kind FROM best WHERE NOT ({_GOOD}) ORDER BY id, text"
        for id, files, file, reason, kind in self._db.execute(query):
            several = "files of this name; say which in a column `file`"
            if reason:
                yield Fault(id, file, reason, kind)
            else:
                yield Fault(id, file, f"{files} {several}", several) if files else Fault(id, file, "no motion file")
        for row in self._db.execute("SELECT * FROM lonely ORDER BY file, id, reason"):
            yield Fault(*row)

    def examples(self) -> tuple[str, str]:
        """A text's key and a file's name, for an error that says why nothing fits."""
        key = self._db.execute("SELECT key FROM texts ORDER BY id LIMIT 1").fetchone()
        file = self._db.execute("SELECT file FROM lonely WHERE file IS NOT NULL ORDER BY file LIMIT 1").fetchone()
        return key[0] if key else "(no text)", file[0] if file else "(no motion file)"


_NO_TYPE = (pa.ArrowException, TypeError, OverflowError)


def _joint_type(kind: pa.DataType, values: list) -> pa.DataType:
    """A type for values of `kind` and for these; raises one of `_NO_TYPE`."""
    schemas = [pa.schema([("", kind)]), pa.schema([("", pa.array(values).type)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _type_of(value) -> pa.DataType:
    try:
        return pa.array([value]).type
    except _NO_TYPE:
        return pa.null()


def _nfc(name: str) -> str:
    """The same characters in the same bytes: macOS takes accents apart in file names."""
    return unicodedata.normalize("NFC", name)


def _places(rows: Sequence[tuple[str, int]]) -> str:
    """Tables and lines, as "a.csv, line 2; a.csv, line 7"."""
    named = [f"{place}, line {line}" for place, line in rows[:NAMED]]
    return "; ".join(named + [f"and {len(rows) - NAMED} more"] * (len(rows) > NAMED))


def _is_motion(name: str) -> bool:
    return os.path.splitext(name.removesuffix(".gz"))[1].lower() in MOTION_SUFFIXES


def is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _holds_motion(folder: str) -> bool:
    """Two or more motion files in a folder, or in a folder of it."""
    for place, folders, files in os.walk(folder, followlinks=True):
        if sum(map(_is_motion, files)) > 1:
            return True
        if place != folder:
            folders.clear()
    return False
