"""The clips of a data set: motion files of a folder, joined with their texts, and dealt to splits.

The join is made in an SQLite file: a million clips need no more memory than a thousand.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from .texts import SPLITS, Fault, Text, bare, read_texts

SPLIT_UP_TO = (0.8, 0.9, 1.0)  # of clips without an official split: 80 % train, 10 % validation, 10 % test
SPLIT_BY = ("official", "video", "signer", "clip")

MOTION_SUFFIXES = frozenset(
    {".npz", ".npy", ".pkl", ".pickle", ".pt", ".pth", ".pose", ".parquet", ".bvh", ".glb", ".gltf", ".vrm", ".vrma"}
)
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl"})
TABLE_DEPTH = 2  # folders below the source; .json is taken for texts in the source itself only
TYPE_BATCH = 1000  # rows whose types are looked at together


def find_tables(source: Path, skip: Path | None = None) -> list[Path]:
    """Files below `source` that may be tables of texts, in a fixed order; `skip` is a folder to leave out."""
    os.scandir(source).close()  # an error where it cannot be opened; `Catalogue.add_files` reports folders below
    tables = []
    for name, folders, files in os.walk(source, followlinks=True):
        folder = Path(name)
        depth = len(folder.relative_to(source).parts)
        suffixes = TABLE_SUFFIXES if depth else TABLE_SUFFIXES | {".json"}
        paths = [folder / file for file in files if not file.startswith(".")]
        tables += [path for path in paths if path.suffix in suffixes and path.is_file()]
        below = [name for name in folders if not name.startswith(".") and folder / name != skip]
        folders[:] = below if depth < TABLE_DEPTH else []
    return sorted(tables)


_TABLES = """
CREATE TABLE texts (id TEXT PRIMARY KEY, key TEXT, near TEXT, loose TEXT, split TEXT, row TEXT);
CREATE INDEX texts_key ON texts (key);
CREATE INDEX texts_near ON texts (near);
CREATE INDEX texts_loose ON texts (loose);
CREATE TABLE matches (text INTEGER, file TEXT, rank INTEGER, PRIMARY KEY (text, file)) WITHOUT ROWID;
CREATE TABLE lonely (id TEXT, file TEXT, reason TEXT, kind TEXT);
"""
_MATCH = """
INSERT INTO matches SELECT rowid, :path,
    CASE WHEN :path IN (key, near) THEN 0 WHEN :bare IN (key, near) THEN 1 WHEN key = :stem THEN 2 ELSE 3 END
FROM texts WHERE key IN (:path, :bare, :stem) OR near IN (:path, :bare) OR loose = :stem
"""
# of each text the files that fit best: their number, and one of them
_SETTLE = """
CREATE TABLE best AS
SELECT texts.id AS id, texts.split AS split, texts.row AS row, count(matches.file) AS files, min(matches.file) AS file
FROM texts LEFT JOIN matches ON matches.text = texts.rowid
    AND matches.rank = (SELECT min(rank) FROM matches WHERE text = texts.rowid)
GROUP BY texts.rowid;
CREATE INDEX best_split ON best (split, id);
CREATE INDEX best_file ON best (file);
INSERT INTO lonely SELECT DISTINCT NULL, file, 'no text', '' FROM matches
WHERE file NOT IN (SELECT file FROM best WHERE files = 1);
"""


class Catalogue:
    """Texts and motion files of a source, joined.

    A text names its file by a path from the source's or the table's folder, with or without its suffix, or by the bare
    file name. A folder with that name and two or more motion files in it (a file for each frame) is one clip.

    Args:
        database: a scratch file; what it held is gone.
        split_by: "official": what the tables say, and clips without a split by their video; "video", "signer" or
            "clip": 80/10/10, and clips of one video (signer) stay together. A hash of (seed, video) decides, so more
            clips never move those that are there.
        seed: of these splits.
        language: of texts whose table does not tell by row.
    """

    def __init__(self, database: Path, *, split_by: str = "official", seed: int = 0, language: str | None = None):
        if split_by not in SPLIT_BY:
            raise ValueError(f"no way to split by {split_by!r}; expected one of {', '.join(SPLIT_BY)}")
        self.split_by, self.seed, self.language = split_by, seed, language
        self.columns: dict[str, pa.DataType] = {}  # extra ones, with their types
        self.tables: dict[str, int] = {}  # rows of each table
        self.other_files: Counter[str] = Counter()  # what was no motion file, by suffix
        database.unlink(missing_ok=True)
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()

    def add_texts(self, path: Path, near: str = "") -> None:
        """Take up the rows of one table; arguments and errors are those of [`read_texts`]."""
        batch, count = [], 0
        for count, text in enumerate(read_texts(path, near, self.language), 1):
            if isinstance(text, Text) and self.split_by == "signer" and not text.signer:
                text = Fault(text.id, None, f"{path.name}: no signer, which a split by signer needs")
            if isinstance(text, Fault):
                self._leave_out(text)
                continue
            row = {name: getattr(text, name) for name in ("text", "language", "fps", "signer", "extra")}
            loose = text.key.rpartition("/")[2]
            loose = bare(loose) if text.near or text.key != text.id else loose
            values = (text.id, text.key, text.near, loose, self._split(text), json.dumps(row, ensure_ascii=False))
            try:
                new = self._db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?, ?, ?)", values).rowcount
            except UnicodeEncodeError:
                what = "half a character (a lone surrogate)"
                self._leave_out(Fault(None, None, f"{path.name}, row {count}: {what}", f"{path.name}: {what}"))
                continue
            if not new:
                self._leave_out(Fault(text.id, None, f"{path.name}: the id is there a second time"))
                continue
            batch.append(text.extra)
            if len(batch) == TYPE_BATCH:
                self._learn_types(path, batch)
                batch = []
        self._learn_types(path, batch)
        self.tables[f"{near}/{path.name}" if near else path.name] = count

    def _leave_out(self, fault: Fault) -> None:
        self._db.execute("INSERT INTO lonely VALUES (?, ?, ?, ?)", (fault.id, fault.file, fault.reason, fault.kind))

    def _split(self, text: Text) -> str:
        if self.split_by == "official" and text.split:
            return text.split
        group = {"signer": text.signer, "clip": text.id}.get(self.split_by, text.video or text.id)
        digest = hashlib.sha256(f"{self.seed}:{group}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return next(split for split, up_to in zip(SPLITS, SPLIT_UP_TO, strict=True) if share < up_to)

    def _learn_types(self, path: Path, batch: list[dict]) -> None:
        for name in dict.fromkeys(name for extra in batch for name in extra):
            try:
                kind = pa.array([extra.get(name) for extra in batch]).type
                schemas = [pa.schema([(name, self.columns.get(name, pa.null()))]), pa.schema([(name, kind)])]
                self.columns[name] = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
            except (pa.ArrowException, TypeError, OverflowError) as error:
                raise ValueError(f"{path}: the column {name!r} has values of several types ({error})") from error

    def add_files(self, source: Path, skip: Iterable[Path] = ()) -> None:
        """Look for motion files below `source` and match them with the texts.

        Args:
            source: the folder. skip: files and folders to leave out.
        """
        skip = {os.path.abspath(path) for path in skip}
        seen, stack = {os.path.realpath(source)}, [("", os.path.abspath(source))]
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
                    elif entry.is_dir():
                        if _holds_motion(entry.path) and self._match(path, path):
                            continue
                        if not entry.is_symlink() or (real := os.path.realpath(entry.path)) not in seen:
                            seen |= {real} if entry.is_symlink() else set()  # a link may lead back up
                            stack.append((path, entry.path))
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
                self._db.execute("DELETE FROM lonely WHERE rowid > ?", (mark,))
                reason = "no text (a folder of {} files that differ by a number)"
                self._leave_out(Fault(None, relative, reason.format(motions), reason.format("many")))
        self._db.executescript(_SETTLE)

    def _match(self, path: str, name: str) -> bool:
        names = {"path": path, "bare": name, "stem": name.rpartition("/")[2]}
        return self._db.execute(_MATCH, names).rowcount > 0

    def clips(self, split: str) -> Iterator[dict]:
        """The clips of a split in the order of their ids: id, file (relative to the source), text, language, fps,
        signer, extra."""
        query = "SELECT id, file, row FROM best WHERE split = ? AND files = 1 ORDER BY id"
        for id, file, row in self._db.execute(query, (split,)):
            yield {"id": id, "file": file, **json.loads(row)}

    def left_out(self) -> Iterator[Fault]:
        """Texts without a file or with several, files without a text, rows that cannot be used."""
        for id, files, file in self._db.execute("SELECT id, files, file FROM best WHERE files != 1 ORDER BY id"):
            several = "files of this name; say which in a column `file`"
            yield Fault(id, file, f"{files} {several}", several) if files else Fault(id, file, "no motion file")
        for row in self._db.execute("SELECT * FROM lonely ORDER BY file, id, reason"):
            yield Fault(*row)

    def examples(self) -> tuple[str, str]:
        """A text's key and a file's name, for an error that says why nothing fits."""
        key = self._db.execute("SELECT key FROM texts ORDER BY id LIMIT 1").fetchone()
        file = self._db.execute("SELECT file FROM lonely WHERE file IS NOT NULL ORDER BY file LIMIT 1").fetchone()
        return key[0] if key else "(no text)", file[0] if file else "(no motion file)"


def _is_motion(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in MOTION_SUFFIXES


def _holds_motion(folder: str) -> bool:
    """Two or more motion files in a folder, or in a folder of it."""
    for place, folders, files in os.walk(folder, followlinks=True):
        if sum(map(_is_motion, files)) > 1:
            return True
        if place != folder:
            folders.clear()
    return False
