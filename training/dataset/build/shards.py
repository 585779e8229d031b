"""One shard of a data set: clips of the plan in, a parquet file and its record out.

A shard follows from its clips and the recipe alone: the same bytes in whatever process, after whatever interruption.
The record beside it holds what the next build needs to know (a fingerprint of each clip's file and of how it was read),
sums for mean and deviation, and what the report counts. Modification times are in the record only.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import socket
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from errno import EIO
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Array3D, Features, List, Value
from datasets.arrow_writer import TypedSequence

from ....hub_cards.languages import check_code
from ....processing.feature_extraction_lslm import SignMotionFeatureExtractor, resample
from ....processing.motion import FORMATS, MAX_FPS, Motion, load_motion
from ....processing.motion_errors import MotionFileError, Remark, printable
from ....processing.motion_features import CONVENTIONS, FEATURE_SIZE, LOWER_BODY, NUM_JOINTS
from ....processing.readers.confined import Confined
from ....processing.readers.motion_repair import MAX_GAP, repair_joints, repair_motion
from ....processing.readers.wording import as_flags, flag_of
from ....processing.smplx_formats import UP_TURNS
from ..motion_text import MAX_SECONDS, read_array
from ..validity import resample_valid
from .duplicates import sketch
from .report import PARTS, summarise
from .sources import is_video

FORMAT = 3  # raised when the same clip becomes another row, or more is said about it
# what the command calls an argument of `load_motion`, and the columns that say it of one clip
FLAGS, TOLD_BY_COLUMN = {"fps": "--source-fps"}, ("fps", "clip")
SLACK = 0.5  # seconds that a part of a recording may reach over its end
FEATURE_FPS = 20.0  # of the statistics, when clips keep their own rate: the extractor's default
ROW_GROUP = 100  # clips that are held and compressed together; 200 frames each are 6 MB
# zstd from here on looks back as far as a shard is large: then a shard is one page, in which repeated takes are found
ONE_PAGE_LEVEL = 20
ONE_PAGE = {"data_page_size": 2**30, "write_batch_size": 2**20}
MOTION_COLUMNS = JOINTS, VALID = "joints_mm", "valid"
JOINT_NUMBERS = f"{JOINTS}.list.element.list.element.list.element"  # where parquet keeps them
FEATURES = "features"  # of a clip that was read just now: for the statistics, not stored
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
}
EMPTY = dict.fromkeys(("reason", "kind"), "the text is empty")
MASK = 1 << np.arange(NUM_JOINTS, dtype=np.int64)  # bit j: joint j was observed


class Places:
    """Where a build keeps things. `OUT/data` is the data set; everything in `OUT/.build` may be deleted: the next build
    then reads every clip again."""

    def __init__(self, out: str | os.PathLike):
        self.out = Path(out)
        self.data = self.out / "data"
        self.work = self.out / ".build"
        self.plan = self.work / "plan"  # clips of each shard, and the key of those that are done
        self.staged = self.work / "staged"  # finished shards of a build that is not
        self.records = self.work / "records"  # of the shards in data/
        self.landmarks = self.work / "landmarks"  # of videos, or why there are none

    def shards(self) -> dict[str, int]:
        """The shards of the plan in their order, with their number of clips."""
        return json.loads((self.plan / "shards.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Recipe:
    """How a data set is made of its clips.

    Attributes:
        source: folder of the motion files. landmarks: where those of its videos are. columns: `Features.to_dict()` of
            the data set.
        reader_version: changes with the code that reads motion.
        fps: frame rate of the data set; None: every clip keeps its own.
        convention: of the motion features that the statistics are of.
        split_by, seed, language, video_before: see `Catalogue`. sign_language: what is signed, an ISO 639-3 code; None:
            as the tables say. shared_videos: see `Catalogue.check_videos`.
        max_seconds: longer clips are dropped; at most `MAX_SECONDS`.
        shard_size: most clips in a parquet file. compression_level: of zstd; from 20 on a shard is one page.
        reader: keyword arguments of `load_motion`; an fps in a table goes before its `fps`.

    Raises:
        ValueError: options that make no sense.
    """

    source: str
    landmarks: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    reader_version: str = ""
    fps: float | None = None
    convention: str = "humanml3d"
    split_by: str = "official"
    seed: int = 0
    language: str | None = None
    sign_language: str | None = None
    video_before: str | None = None
    shared_videos: bool = False
    max_seconds: float = MAX_SECONDS
    shard_size: int = 1000
    compression_level: int = 3
    reader: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        size, level = self.shard_size, self.compression_level
        for kind, code in (("written", self.language), ("signed", self.sign_language)):
            if code is not None:
                check_code(kind, code)
        if size < 1 or not 1 <= level <= 22:
            raise ValueError(f"shards of {size} clips at level {level}; expected 1 or more, and 1 to 22")
        if not 0 < self.max_seconds <= MAX_SECONDS:
            limit = f"expected more than 0 and at most {MAX_SECONDS:g}: no model takes a longer clip"
            raise ValueError(f"max_seconds is {self.max_seconds:g}, {limit}")
        for name, fps in (("fps", self.fps), ("source_fps", self.reader.get("fps"))):
            if fps is not None and not 1 <= fps <= MAX_FPS:
                raise ValueError(f"{name} is {fps:g}, expected frames per second: 1 to {MAX_FPS:g}")
        for name, values in (("format", FORMATS), ("up", UP_TURNS)):
            if (value := self.reader.get(name)) is not None and value not in values:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(values)}")
        if (folder := self.reader.get("body_model")) and not os.path.exists(folder):
            raise FileNotFoundError(2, "no SMPL-X model files there", str(folder))
        if self.convention not in CONVENTIONS:
            raise ValueError(f"no convention {self.convention!r}; expected one of {', '.join(CONVENTIONS)}")
        if unknown := self.reader.keys() - inspect.signature(load_motion).parameters.keys():
            raise ValueError(f"the reader of motion files does not know {', '.join(sorted(unknown))}")

    @classmethod
    def load(cls, places: Places) -> Recipe:
        return cls(**json.loads((places.plan / "recipe.json").read_text(encoding="utf-8")))

    @cached_property
    def schema(self) -> Features:
        return Features.from_dict(self.columns)

    @property
    def options(self) -> dict[str, Any]:
        """What was asked for, with no path of this machine in it."""
        computed = ("source", "landmarks", "columns", "reader_version")
        given = {name: value for name, value in asdict(self).items() if name not in computed}
        if "body_model" in self.reader:
            given["reader"]["body_model"] = os.path.basename(self.reader["body_model"])
        return given

    @cached_property
    def extractor(self) -> SignMotionFeatureExtractor:
        fps = self.fps or FEATURE_FPS
        return SignMotionFeatureExtractor(fps=fps, convention=self.convention, max_seconds=float("inf"))

    def landmarks_of(self, video: str) -> Path:
        """Where the landmarks of a video, as it is now, are or will be; ending in .json, why there are none."""
        return Path(self.landmarks, f"{digest([video, state(Path(self.source, video))])}.npz")

    def fingerprint(self, clip: dict) -> str:
        """Changes when the clip has to be read again: not with its text."""
        settings = [FORMAT, self.reader, self.reader_version, self.fps, self.max_seconds, self.convention]
        stored = [column for column in MOTION_COLUMNS if column in self.columns]
        part = [clip["file"], clip["fps"], clip.get("clip"), clip.get("span")]
        return digest([*part, state(Path(self.source, clip["file"])), settings, stored])


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
        its motion (`joints_mm` (T, 52, 3) int16, `valid` (T,) int64, `features` (T-1, 623) float32), and facts.

    Raises:
        Exception: whatever a reader raises for a file that cannot be used.
    """
    keywords = dict(recipe.reader) | {name: clip[name] for name in TOLD_BY_COLUMN if clip.get(name) is not None}
    path = Path(recipe.source, clip["file"])
    if is_video(clip["file"]):
        path = recipe.landmarks_of(clip["file"])
        if path.with_suffix(".json").exists():
            fault = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            raise (
                OSError(EIO, fault["problem"])
                if fault["again"]
                else MotionFileError(fault["problem"], kind=fault["kind"])
            )
    try:
        if clip.get("span"):
            motion = cut(_recording(path, str(state(path)), tuple(sorted(keywords.items()))), *clip["span"])
        else:
            motion = _load(path, **keywords)
    except MotionFileError as error:
        if error.kind == "no clips" and clip.get("clip"):
            kind = "one clip in the file, and its text has a column clip"
            remedy = "leave that empty, or rename the column if it means something else"
            raise MotionFileError(f"{kind}, which says {clip['clip']!r}; {remedy}", kind=kind) from error
        raise
    notes = [with_flag(remark, remark.kind or remark.text) for remark in motion.notes]
    if not motion.valid[:, LOWER_BODY].any():
        notes.append("the legs are never seen: they stand as the reader has them, and training takes them for seen")
    if motion.duration > recipe.max_seconds:
        limit = f"more than the {recipe.max_seconds:g} s of --max-seconds"
        raise MotionFileError(f"it lasts {motion.duration:.1f} s, {limit}; cut it into utterances", kind=limit)
    motion, filled = repair_motion(motion)
    if filled:
        notes.append(f"gaps of up to {MAX_GAP} frames filled in")
    joints = motion.joints.astype(np.float64)
    missing = np.isnan(joints)
    if missing.any():
        joints = np.where(missing, repair_joints(joints)[0], joints)
    fps = recipe.fps or motion.fps
    joints = np.round(1000 * resample(joints, motion.fps, fps))
    valid = resample_valid(motion.valid, motion.fps, fps)
    if (reach := np.abs(joints).max()) > np.iinfo(np.int16).max:
        limit = "beyond the 32 m that 16 bits hold"
        raise MotionFileError(
            f"coordinates reach {reach / 1000:.0f} m, {limit}; move the clip to the origin", kind=limit
        )
    facts = {
        "fps": float(np.float32(fps)),
        "format": motion.format,
        "source_fps": motion.fps,
        "source_frames": motion.num_frames,
        "frames": len(joints),
        "observed": {part: int(valid[:, joints_of].sum()) for part, joints_of in PARTS.items()},
        "notes": notes,
    }
    row = {JOINTS: joints.astype(np.int16), VALID: valid @ MASK}
    row[FEATURES] = features_of(row[JOINTS], facts["fps"], recipe)  # also shows that training can read the clip
    least, frames = recipe.extractor.downsample_factor, len(row[FEATURES])
    if frames < least:
        kind = f"fewer than the {least + 1} frames that a code is made of"
        raise MotionFileError(f"it has {frames + 1} frames at {recipe.extractor.fps:g} fps, {kind}", kind=kind)
    return row, facts


@lru_cache(maxsize=1)
def _recording(path: Path, state: str, keywords: tuple[tuple[str, Any], ...]) -> Motion:
    """A whole recording; its parts follow each other, and it is read once for all of them."""
    return _load(path, **dict(keywords))


_confined: Confined | None = None  # what reads for this process; None: itself


def confine() -> None:
    """From now on this process has foreign files read by another one, with limits of time and memory."""
    global _confined
    _confined = _confined or Confined()


def _load(path: Path, **keywords) -> Motion:
    return _confined(load_motion, path, **keywords) if _confined else load_motion(path, **keywords)


def cut(motion: Motion, start: float, end: float, unit: str) -> Motion:
    """The part of a recording from `start` to before `end`, in seconds ("s") or frames.

    A file that lasts as long as the part, and ends before it does, has been cut already, and stays as it is.

    Raises:
        MotionFileError: the recording does not reach so far.
    """
    rate = motion.fps if unit == "s" else 1.0
    first, last, frames = round(start * rate), round(end * rate), motion.num_frames
    slack = max(SLACK * motion.fps, frames / 100)  # of frame rates that are not quite those of the video
    if last > frames + slack:
        if abs(frames - (last - first)) <= slack:
            remark = Remark("the file is as long as the part that its text names: taken as a whole")
            return replace(motion, notes=(*motion.notes, remark))
        other = "" if unit != "s" or end > frames else "; if its times are frames, call them start_frame and end_frame"
        raise MotionFileError(
            f"its text is about {start:g} to {end:g} {unit}, the file has {frames} frames, {motion.duration:.1f} s; "
            f"check its frame rate and the table{other}",
            kind="the text is about a part behind the end of the file",
        )
    if min(last, frames) - first < 2:
        raise MotionFileError(
            f"its text is about {start:g} to {end:g} {unit} of the file, which is less than 2 frames",
            kind="the text is about less than 2 frames",
        )
    notes = motion.notes
    if last > frames:
        notes = (*notes, Remark(f"its text is about a part that ends after the file, by up to {SLACK:g} s or 1 %"))
    smplx = {name: values[first:last] for name, values in motion.smplx.items()} if motion.smplx else motion.smplx
    return replace(motion, joints=motion.joints[first:last], valid=motion.valid[first:last], smplx=smplx, notes=notes)


def features_of(joints_mm: np.ndarray, fps: float, recipe: Recipe) -> np.ndarray:
    """(T, 52, 3) int16 millimetres -> (T-1, 623) float32 motion features, as training computes them from a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whole millimetres make two finger joints coincide now and then
        return recipe.extractor.to_features(joints_mm, fps)


def _fault(error: Exception, source: str, file: str) -> dict[str, str]:
    """`reason`, one line without the place of the source on this machine; and its `kind`, by which it is counted."""
    reason, kind = " ".join(str(error).split()) or type(error).__name__, getattr(error, "kind", None)
    if isinstance(error, MotionFileError):
        reason = as_flags(error, error.problem, FLAGS)
        kind = with_flag(error, error.kind)
        if error.argument in TOLD_BY_COLUMN:
            reason += f", or say it in a column {error.argument}"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif not isinstance(error, (ValueError, OSError)):
        reason = f"{type(error).__name__}: {reason}"
    path = os.path.join(source, file)
    reason = printable(reason.removeprefix(f"{path}: ").replace(path, file).replace(source, "SOURCE"))
    return {"reason": reason, "kind": kind or reason}


def with_flag(of: MotionFileError | Remark, kind: str) -> str:
    """What is counted of an error or a remark, and the flag that decides otherwise."""
    return kind if of.argument is None else f"{kind} ({flag_of(of.argument, FLAGS)})"


class OldShards:
    """Rows of earlier builds, so that only changed clips are read again."""

    def __init__(self, places: Places, first: str, last: str, columns: Sequence[str]):
        self._columns = columns
        self._rows: dict[str, tuple[str, int, dict]] = {}
        self.dropped: dict[str, dict] = {}  # by fingerprint: why a clip was dropped, as [`_fault`] says it
        self._groups: dict[str, tuple[int, pa.Table]] = {}  # of each file the row group that was read last
        self._records: dict[str, dict] = {}  # of files that nobody has looked at yet
        for record, parquet, begin, end in json.loads((places.plan / "old.json").read_text(encoding="utf-8")):
            if begin <= last and first <= end:
                record = json.loads(Path(record).read_text(encoding="utf-8"))
                self._records[parquet] = {"rows": bool(record["rows"]), "sha256": record.get("sha256")}
                self._rows |= {facts["fingerprint"]: (parquet, n, facts) for n, facts in enumerate(record["rows"])}
                self.dropped |= {fault["fingerprint"]: fault for fault in record["dropped"]}

    def row(self, fingerprint: str) -> tuple[dict, dict] | None:
        """What [`read_clip`] gave; None if it is not there."""
        if fingerprint not in self._rows:
            return None
        parquet, index, facts = self._rows[fingerprint]
        start, table = self._groups.get(parquet, (0, ()))
        if not start <= index < start + len(table):
            try:
                if (record := self._records.pop(parquet, None)) and not _as_recorded(record, Path(parquet)):
                    raise OSError("the file is not as it was written")
                with pq.ParquetFile(parquet) as file:
                    size = file.metadata.row_group(0).num_rows  # of every group but the last
                    start = index // size * size
                    table = file.read_row_group(index // size, columns=list(self._columns), use_threads=False)
            except (OSError, pa.ArrowException):  # deleted or damaged: the source still has it
                self._rows = {key: row for key, row in self._rows.items() if row[0] != parquet}
                return None
            self._groups[parquet] = start, table
        row = {column: read_array(table[column], index - start) for column in self._columns}
        return row, {name: value for name, value in facts.items() if name != "fingerprint"}


def to_table(rows: Sequence[dict], features: Features) -> pa.Table:
    """Rows with arrays (T, ...) in the columns of motion -> a table that `datasets` reads with types."""
    columns = {
        name: pa.array(TypedSequence([row.get(name) for row in rows], type=kind)) for name, kind in features.items()
    }
    return pa.table(columns, schema=features.arrow_schema)


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
    with open(places.plan / f"{name}.jsonl", encoding="utf-8") as lines:
        clips = [json.loads(line) for line in lines]
    prints = [recipe.fingerprint(clip) for clip in clips]
    split = name.rpartition("-")[0]
    key = digest([split, clips, prints, recipe.columns, recipe.compression_level, recipe.convention, recipe.fps])
    staged = places.staged / f"{name}-{key}"
    done = read_record(places.records / f"{name}.json", places.data / f"{name}.parquet", key)
    done = done and _as_recorded(done, places.data / f"{name}.parquet")
    if done or read_record(staged.with_suffix(".json"), staged.with_suffix(".parquet"), key):
        tick(len(clips))
    else:
        _write_shard(places, recipe, clips, prints, staged, key, split == "train", tick)
    write_whole(places.plan / f"{name}.key", key)


def read_record(record: Path, parquet: Path, key: str | None = None) -> dict | None:
    """A shard's record, if it is there, its parquet file too, and the key is the one expected."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        whole = not content["rows"] or parquet.stat().st_size == content["bytes"]
        return content if whole and key in (None, content["key"]) else None
    except (OSError, ValueError, KeyError):
        return None


def _as_recorded(record: dict, parquet: Path) -> bool:
    """Whether a shard is still what was written: a file that was changed may have the same size."""
    try:
        return not record["rows"] or _sha256(parquet) == record.get("sha256")
    except OSError:
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
    features = recipe.schema
    old = OldShards(places, clips[0]["id"], clips[-1]["id"], [c for c in MOTION_COLUMNS if c in features])
    one_page = recipe.compression_level >= ONE_PAGE_LEVEL
    sums = {"frames": 0, "sum": np.zeros(FEATURE_SIZE), "squares": np.zeros(FEATURE_SIZE)}
    rows, kept, dropped, texts, retry = [], [], [], [], False
    scratch, writer = _scratch(staged.with_suffix(".parquet")), None
    try:
        for number, (clip, fingerprint) in enumerate(zip(clips, prints, strict=True), 1):
            fault = old.dropped.get(fingerprint) if clip["text"] else EMPTY
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
                dropped.append({**fault, "id": clip["id"], "file": clip["file"], "fingerprint": fingerprint})
            else:
                values = row.pop(FEATURES, None)
                if training:
                    values = features_of(row[JOINTS], facts["fps"], recipe) if values is None else values
                    values = values.astype(np.float64)
                    sums["frames"] += len(values)
                    sums["sum"] += values.sum(0)
                    sums["squares"] += (values**2).sum(0)
                rows.append(_row(clip, row, facts))
                kept.append({"fingerprint": fingerprint, **facts, "id": clip["id"], "sketch": sketch(row[JOINTS])})
                texts.append(clip)
            if rows and (len(rows) == ROW_GROUP and not one_page or number == len(clips)):
                writer = writer or pq.ParquetWriter(
                    scratch,
                    features.arrow_schema,
                    compression="zstd",
                    compression_level=recipe.compression_level,
                    use_dictionary=False,
                    write_statistics=False,
                    column_encoding={JOINT_NUMBERS: "BYTE_STREAM_SPLIT"},
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
        "sha256": _sha256(scratch) if writer else None,
        "rows": kept,
        "dropped": dropped,
        "summary": summarise(texts, kept, dropped),
        "sums": {name: np.asarray(value).tolist() for name, value in sums.items()} if training else None,
    }
    if writer:
        os.replace(scratch, staged.with_suffix(".parquet"))
    write_whole(staged.with_suffix(".json"), json.dumps(record, ensure_ascii=False))


def _row(clip: dict, motion: dict, facts: dict) -> dict:
    row = clip["extra"] | {name: clip[name] for name in ("id", "text", "language", "signer")} | motion
    row |= {"source": clip["file"], "source_frames": facts["source_frames"]}
    return row | {"fps": facts["fps"], "num_frames": facts["frames"]}
