"""One shard of a data set: clips of the plan in, a parquet file and its record out.

A shard follows from its clips and the recipe alone: the same bytes in whatever process, after whatever interruption.
The record beside it holds what the next build needs to know (a fingerprint of each clip's file and of how it was read),
sums for mean and deviation, and what the report counts. Modification times are in the record only.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Array2D, Array3D, Features, List, Value

from ....processing import MotionFileError, SignMotionFeatureExtractor, load_motion
from ....processing.feature_extraction_lslm import resample
from ..validity import resample_valid
from ....processing.motion_features import FEATURE_SIZE, NUM_JOINTS
from ....processing.readers.motion_repair import MAX_GAP, repair_joints, repair_motion

from .report import summarise

FORMAT = 1  # raised when the same clip becomes another row
FEATURE_FPS = 20.0  # of the statistics, when clips keep their own rate: the extractor's default
ROW_GROUP = 100  # clips that are held and compressed together; 200 frames each are 6 MB
# zstd from here on looks back as far as a shard is large: then a shard is one page, in which repeated takes are found
ONE_PAGE_LEVEL = 20
ONE_PAGE = {"data_page_size": 2**30, "write_batch_size": 2**20}
VALUES = "list.element.list.element"  # where parquet keeps the numbers of a 2D array
JOINTS, VALID, FEATURES = "joints_mm", "valid", "features"
ALWAYS = (JOINTS, VALID, FEATURES)  # every clip has them, so many numbers a frame
FACE = ("jaw_pose", "expression")
MOTION_COLUMNS = (*ALWAYS, *FACE)
COLUMNS = {
    "id": Value("string"),
    "text": Value("string"),
    "language": Value("string"),
    "fps": Value("float32"),
    "num_frames": Value("int32"),
    "signer": Value("string"),
    "source": Value("string"),
    "source_frames": Value("int32"),
    JOINTS: Array3D((None, NUM_JOINTS, 3), "int16"),
    VALID: List(Value("int64")),
    FEATURES: Array2D((None, FEATURE_SIZE), "float32"),
    **dict.fromkeys(FACE, List(List(Value("float32")))),  # files differ in how many numbers an expression has
}
MILLIMETRES = 1000.0
EMPTY = dict.fromkeys(("reason", "kind"), "the text is empty")
MASK = 1 << np.arange(NUM_JOINTS, dtype=np.int64)  # bit j: joint j was observed


class Places:
    """Where a build keeps things. `OUT/data` is the data set; everything in `OUT/.build` may be deleted: the next build
    then reads every clip again."""

    def __init__(self, out: str | os.PathLike):
        self.out = Path(out)
        self.data = self.out / "data"
        work = self.out / ".build"
        self.work = work
        self.plan = work / "plan"  # clips of each shard, and the key of those that are done
        self.staged = work / "staged"  # finished shards of a build that is not
        self.records = work / "records"  # of the shards in data/

    def shards(self) -> dict[str, int]:
        """The shards of the plan in their order, with their number of clips."""
        return json.loads((self.plan / "shards.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Recipe:
    """What a shard depends on besides its clips.

    Attributes:
        source: folder of the motion files. reader: keyword arguments of `load_motion`. reader_version: of its code.
        fps: frame rate of the data set; None: each clip keeps its own. max_seconds: longer clips are left out.
        smooth: seconds that clips are smoothed over, 0 for none, see `repair_motion`.
        convention: of the motion features. columns: `Features.to_dict()` of the data set.
    """

    source: str
    reader: dict[str, Any]
    reader_version: str
    fps: float | None
    max_seconds: float | None
    smooth: float
    convention: str
    columns: dict[str, Any]
    compression_level: int

    @classmethod
    def load(cls, places: Places) -> Recipe:
        return cls(**json.loads((places.plan / "recipe.json").read_text(encoding="utf-8")))

    @cached_property
    def features(self) -> Features:
        return Features.from_dict(self.columns)

    @cached_property
    def extractor(self) -> SignMotionFeatureExtractor:
        return SignMotionFeatureExtractor(
            fps=self.fps or FEATURE_FPS, convention=self.convention, max_seconds=float("inf")
        )

    def fingerprint(self, clip: dict) -> str:
        """Changes when the clip has to be read again: not with its text."""
        settings = [FORMAT, self.reader, self.reader_version, self.fps, self.max_seconds, self.smooth, self.convention]
        stored = [column for column in MOTION_COLUMNS if column in self.columns]
        return digest([clip["file"], clip["fps"], state(Path(self.source, clip["file"])), settings, stored])


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:24]


def state(path: Path) -> list | None:
    """Size and modification time of a file, or of all files in a folder; None if there is none."""
    try:
        if path.is_dir():
            return [[name, state(path / name)] for name in sorted(os.listdir(path))]
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


# --- clips to rows ----------------------------------------------------------------------------------------------------


def read_clip(clip: dict, recipe: Recipe) -> tuple[dict, dict]:
    """Read one clip of the plan.

    Returns:
        its motion (`joints_mm` (T, 52, 3) int16, `valid` (T,) int64, `features` (T-1, 623) float32, `jaw_pose` (T, 3)
        and `expression` (T, n) float32 or None), and facts.

    Raises:
        Exception: whatever a reader raises for a file that cannot be used.
    """
    keywords = recipe.reader | ({} if clip["fps"] is None else {"fps": clip["fps"]})
    motion = load_motion(Path(recipe.source, clip["file"]), **keywords)
    notes = [remark.kind or remark.text for remark in motion.notes]
    if recipe.max_seconds and motion.duration > recipe.max_seconds:
        limit = f"more than --max-seconds {recipe.max_seconds:g}"
        raise MotionFileError(f"it lasts {motion.duration:.1f} s, {limit}", kind=limit)
    motion, repaired = repair_motion(motion, smooth_seconds=recipe.smooth)
    if any(part["filled_frames"] for part in repaired.values()):
        notes.append(f"gaps of up to {MAX_GAP} frames filled in")
    if recipe.smooth:
        notes.append(f"smoothed over {recipe.smooth:g} s")
    joints, valid = motion.joints.astype(np.float64), motion.valid
    unknown = np.isnan(joints)
    if unknown.any():
        joints = np.where(unknown, repair_joints(joints)[0], joints)
    fps = recipe.fps or motion.fps
    joints = resample(joints, motion.fps, fps)
    valid = resample_valid(valid, motion.fps, fps)
    joints = np.round(joints * MILLIMETRES)
    if np.abs(joints).max() > np.iinfo(np.int16).max:
        raise MotionFileError(
            f"coordinates reach {np.abs(joints).max() / MILLIMETRES:.0f} m, beyond the 32 m that 16 bits hold; "
            "move the clip to the origin",
            kind="beyond the 32 m that 16 bits hold",
        )
    hands = {"body": slice(0, 22), "left_hand": slice(22, 37), "right_hand": slice(37, 52)}
    facts = {
        "fps": float(np.float32(fps)),
        "source_fps": motion.fps,
        "source_frames": motion.num_frames,
        "frames": len(joints),
        "observed": {part: int(valid[:, joints_of].sum()) for part, joints_of in hands.items()},
        "notes": notes,
    }
    row = {JOINTS: joints.astype(np.int16), VALID: valid @ MASK}
    row[FEATURES] = features_of(row[JOINTS], facts["fps"], recipe)  # also shows that training can read the clip
    for name in FACE:
        values = (motion.smplx or {}).get(name)
        row[name] = None if values is None else resample(values[..., None], motion.fps, fps)[..., 0].astype(np.float32)
    return row, facts


def features_of(joints_mm: np.ndarray, fps: float, recipe: Recipe) -> np.ndarray:
    """(T, 52, 3) int16 millimetres -> (T-1, 623) float32 motion features, as training computes them from a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whole millimetres make two finger joints coincide now and then
        return recipe.extractor.to_features(joints_mm, fps)


def _fault(error: Exception, source: str, file: str) -> dict[str, str]:
    """`reason`, one line without the place of the source on this machine; and its `kind`, by which faults are counted."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif not isinstance(error, (ValueError, OSError)):
        reason = f"{type(error).__name__}: {reason}"
    path = os.path.join(source, file)
    reason = reason.removeprefix(f"{path}: ").replace(path, file).replace(source, "SOURCE")
    return {"reason": reason, "kind": getattr(error, "kind", reason)}


class OldShards:
    """Rows of earlier builds, so that only changed clips are read again."""

    def __init__(self, places: Places, first: str, last: str, columns: Sequence[str]):
        self._columns = columns
        self._rows: dict[str, tuple[str, int, dict]] = {}
        self._dropped: dict[str, dict] = {}
        self._groups: dict[str, tuple[int, pa.Table]] = {}  # of each file the row group that was read last
        for record, parquet, begin, end in json.loads((places.plan / "old.json").read_text(encoding="utf-8")):
            if begin <= last and first <= end:
                record = json.loads(Path(record).read_text(encoding="utf-8"))
                self._rows |= {facts["fingerprint"]: (parquet, n, facts) for n, facts in enumerate(record["rows"])}
                self._dropped |= {fault["fingerprint"]: fault for fault in record["dropped"]}

    def fault(self, fingerprint: str) -> dict[str, str] | None:
        """Why the clip was dropped, as [`_fault`] says it; None if it was not."""
        fault = self._dropped.get(fingerprint)
        return fault and {name: fault[name] for name in ("reason", "kind")}

    def row(self, fingerprint: str) -> tuple[dict, dict] | None:
        """What [`read_clip`] gave; None if it is not there."""
        parquet, index, facts = self._rows.get(fingerprint, ("", 0, {}))
        if not parquet:
            return None
        try:
            start, table = self._group(parquet, index)
        except (OSError, pa.ArrowException):  # deleted or damaged: the source still has it
            self._rows = {key: row for key, row in self._rows.items() if row[0] != parquet}
            return None
        row = {column: _to_numpy(table[column], index - start) for column in self._columns}
        return row, {name: value for name, value in facts.items() if name != "fingerprint"}

    def _group(self, parquet: str, index: int) -> tuple[int, pa.Table]:
        start, table = self._groups.get(parquet, (0, None))
        if table is None or not start <= index < start + len(table):
            with pq.ParquetFile(parquet) as file:
                start = 0
                for number in range(file.num_row_groups):
                    size = file.metadata.row_group(number).num_rows
                    if index < start + size:
                        break
                    start += size
                table = file.read_row_group(number, columns=list(self._columns), use_threads=False).combine_chunks()
            self._groups[parquet] = start, table
        return start, table


def _to_numpy(column: pa.ChunkedArray, index: int) -> np.ndarray | None:
    """One value of a nested column as an array."""
    values, shape = column.chunk(0).slice(index, 1), []
    if values.null_count:
        return None
    values = getattr(values, "storage", values).flatten()
    while isinstance(values, pa.ListArray):
        shape.append(len(values.value_lengths()) and values.value_lengths()[0].as_py())
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).reshape(-1, *shape)


def to_table(rows: Sequence[dict], features: Features) -> pa.Table:
    """Rows with arrays (T, ...) in the columns of motion -> a table that `datasets` reads with types."""
    columns = []
    for field in features.arrow_schema:
        values = [row.get(field.name) for row in rows]
        if field.name not in ALWAYS:
            plain = [list(value) if isinstance(value, np.ndarray) else value for value in values]
            columns.append(pa.array(plain, type=field.type))
            continue
        lengths, inner = [len(value) for value in values], values[0].shape[1:]
        array: pa.Array = pa.array(np.concatenate(values).reshape(-1))
        for axis in reversed(range(len(inner))):
            count = len(array) // inner[axis]
            array = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * inner[axis]), array)
        array = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), array)
        nested = isinstance(field.type, pa.ExtensionType)
        columns.append(pa.ExtensionArray.from_storage(field.type, array) if nested else array.cast(field.type))
    return pa.Table.from_arrays(columns, schema=features.arrow_schema)


# --- the shard --------------------------------------------------------------------------------------------------------


def build_shard(out: str | os.PathLike, name: str, tick: Callable[[int], None] = lambda clips: None) -> None:
    """Make the shard `name` of the plan in `out`, unless it is there already.

    Args:
        out: folder of the data set. name: like "train-00003". tick: is told how many more clips are done.

    Raises:
        OSError: the shard cannot be written. ValueError: a column has other values than its type allows.
    """
    places = Places(out)
    recipe = Recipe.load(places)
    lines = (places.plan / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    clips = [json.loads(line) for line in lines]
    prints = [recipe.fingerprint(clip) for clip in clips]
    split = name.rpartition("-")[0]
    key = digest([split, clips, prints, recipe.columns, recipe.compression_level, recipe.convention, recipe.fps])
    staged = places.staged / f"{name}-{key}"
    done = read_record(places.records / f"{name}.json", places.data / f"{name}.parquet", key)
    if done or read_record(staged.with_suffix(".json"), staged.with_suffix(".parquet"), key):
        tick(len(clips))
    else:
        _write_shard(places, recipe, clips, prints, staged, key, split == "train", tick)
    write_whole(places.plan / f"{name}.key", key)


def read_record(record: Path, parquet: Path, key: str | None = None) -> dict | None:
    """A shard's record, if it is there, its parquet file too, and the key is the one expected."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        if not found["rows"] or parquet.stat().st_size == found["bytes"]:
            return found if key in (None, found["key"]) else None
    except (OSError, ValueError, KeyError):
        pass
    return None


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    scratch = _scratch(path)
    with open(scratch, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _scratch(path: Path) -> Path:
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


def _write_shard(places, recipe, clips, prints, staged, key, training, tick) -> None:
    features = recipe.features
    old = OldShards(places, clips[0]["id"], clips[-1]["id"], [c for c in MOTION_COLUMNS if c in features])
    one_page = recipe.compression_level >= ONE_PAGE_LEVEL
    sums = {"frames": 0, "sum": np.zeros(FEATURE_SIZE), "squares": np.zeros(FEATURE_SIZE)}
    rows, kept, dropped, texts, retry = [], [], [], [], False
    scratch, writer = _scratch(staged.with_suffix(".parquet")), None
    nested = {JOINTS: f"{JOINTS}.{VALUES}.list.element", FEATURES: f"{FEATURES}.{VALUES}"}
    try:
        for number, (clip, fingerprint) in enumerate(zip(clips, prints, strict=True), 1):
            fault = old.fault(fingerprint) if clip["text"] else EMPTY
            try:
                row, facts = (None, None) if fault else old.row(fingerprint) or read_clip(clip, recipe)
            except OSError as error:  # the disk or the network, not the clip: the next build tries again
                fault = _fault(error, recipe.source, clip["file"])
                if not isinstance(error, IsADirectoryError):
                    fingerprint, retry = None, True
            except Exception as error:  # one clip must not end the run, whatever its file holds
                fault = _fault(error, recipe.source, clip["file"])
            if fault:
                fingerprint = None if fault == EMPTY else fingerprint
                dropped.append({"id": clip["id"], "file": clip["file"], **fault, "fingerprint": fingerprint})
            else:
                if training:
                    known = row.get(FEATURES)
                    values = features_of(row[JOINTS], facts["fps"], recipe) if known is None else known
                    values = values.astype(np.float64)
                    sums["frames"] += len(values)
                    sums["sum"] += values.sum(0)
                    sums["squares"] += (values**2).sum(0)
                rows.append(_row(clip, row, facts))
                kept.append({"fingerprint": fingerprint, **facts})
                texts.append(clip)
            if rows and (len(rows) == ROW_GROUP and not one_page or number == len(clips)):
                writer = writer or pq.ParquetWriter(
                    scratch,
                    features.arrow_schema,
                    compression="zstd",
                    compression_level=recipe.compression_level,
                    use_dictionary=False,
                    write_statistics=False,
                    column_encoding={path: "BYTE_STREAM_SPLIT" for name, path in nested.items() if name in features},
                    **(ONE_PAGE if one_page else {}),
                )
                writer.write_table(to_table(rows, features), row_group_size=len(rows))
                rows = []
            tick(1)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"{staged.name}: {error}") from error
    finally:
        if writer:
            writer.close()
    if writer:
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
    record = {
        "key": "" if retry else key,
        "first": clips[0]["id"],
        "last": clips[-1]["id"],
        "bytes": scratch.stat().st_size if writer else 0,
        "rows": kept,
        "dropped": dropped,
        "summary": summarise(texts, kept, dropped),
        "sums": {name: np.asarray(value).tolist() for name, value in sums.items()} if training else None,
    }
    if writer:
        os.replace(scratch, staged.with_suffix(".parquet"))
    write_whole(staged.with_suffix(".json"), json.dumps(record, ensure_ascii=False))


def _row(clip: dict, motion: dict, facts: dict) -> dict:
    own = {name: clip[name] for name in ("id", "text", "language", "signer")}
    own |= {"source": clip["file"], "source_frames": facts["source_frames"]}
    return clip["extra"] | own | {"fps": facts["fps"], "num_frames": facts["frames"]} | motion
