"""Data sets of motion and text: a folder of parquet files, read with `datasets`."""

import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import load_dataset
from tqdm import tqdm

from ...hub_cards.data_sets import data_folder
from ...processing.feature_extraction_lslm import SignMotionFeatureExtractor, resample
from ...processing.motion import MAX_FPS, check_joints
from ...processing.motion_errors import printable
from ...processing.motion_features import NUM_JOINTS, feature_slices, mirrored
from ...processing.readers.wording import counted
from .augmentation import Variation
from .validity import read_valid, resample_valid

MAX_SECONDS = SignMotionFeatureExtractor().max_seconds  # of a clip: no model takes a longer one

# Whole millimetres make two finger joints coincide now and then; the repair is small and would be reported per batch.
warnings.filterwarnings("ignore", message="repaired NaN, infinite or zero-length joints")


def load_split(folder: str, split: str):
    """One split of a data set folder as a `datasets.Dataset`.

    Args:
        folder: holds `{split}*.parquet`, itself or in `data/`; or the id of a data set on the Hub. Columns: `id`,
            `text`, `fps` and the motion: `joints_mm` ((T, 52, 3) integers, millimetres) or `joints` (metres); maybe
            `valid`, see [`read_valid`]. Other columns are kept.
        split: train, validation or test.

    Raises:
        FileNotFoundError: no such folder or split. ValueError: a column is missing.
    """
    files = split_files(folder, split)
    rows = load_dataset("parquet", data_files={split: files}, split=split)
    check_columns(files[0], rows.column_names)
    return rows


def split_files(folder: str, split: str) -> list[str]:
    """The shards of a split, sorted; errors as of [`load_split`]."""
    place = data_folder(folder, split)
    shards = [file for part in (place / "data", place) for file in part.glob("*.parquet")]
    files = sorted(str(file) for file in shards if file.name.startswith(split))
    if not files:
        names = ", ".join(sorted({file.name for file in shards})) or "no parquet files"
        raise FileNotFoundError(f"no split {split!r} in {folder}: it has {names}")
    return files


def check_columns(file: str, names: list[str]) -> None:
    """Raise a ValueError if a shard lacks a column."""
    if {"text", "fps"} - set(names) or not {"joints_mm", "joints"} & set(names):
        raise ValueError(f"{file}: expected the columns text, fps and joints_mm or joints, got {', '.join(names)}")


def read_texts(folder: str, split: str) -> list[str]:
    """All texts of a split, without its motion; errors as of [`load_split`]."""
    files = split_files(folder, split)
    return [str(text or "") for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]


def read_array(column: pa.ChunkedArray, row: int) -> np.ndarray | None:
    """One value of a column of nested lists, or of `datasets`' arrays; None where it is null."""
    value = column[row]
    if not value.is_valid:
        return None
    numbers = getattr(value, "value", value).values  # of such an array: its lists
    shape = [len(numbers)]
    while pa.types.is_nested(numbers.type):
        parent, numbers = numbers, numbers.flatten()
        shape.append(len(numbers) // max(len(parent), 1))
    return numbers.to_numpy(zero_copy_only=False).reshape(shape)


def read_joints(row: dict) -> np.ndarray:
    """(T, 52, 3) float64 joints of a row, in metres."""
    if row.get("joints_mm") is not None:
        return np.asarray(row["joints_mm"], np.float64) / 1000.0
    return np.asarray(row["joints"], np.float64)


def read_clip(
    row: dict, fps: float, files: Sequence[str] = (), max_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, np.ndarray | None]:
    """A row at another frame rate: joints (T, 52, 3) float32 in metres, and which were observed, see [`read_valid`].
    `max_seconds`: what the model takes, at most `MAX_SECONDS`.

    Raises:
        ValueError: nothing can be learnt from it; names the clip, and that of `files` that has it.
    """
    try:
        joints, rate = read_joints(row), row["fps"]
        if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3):
            raise ValueError(f"its joints have shape {joints.shape}, expected (frames, {NUM_JOINTS}, 3)")
        if rate is None or not 1 <= rate <= MAX_FPS:
            raise ValueError(f"its fps is {rate}, expected frames per second: 1 to {MAX_FPS:g}")
        if len(joints) / rate > (limit := min(max_seconds, MAX_SECONDS)):
            raise ValueError(
                f"it lasts {len(joints) / rate:.0f} s, the limit is {limit:g}; cut it into utterances, or build the "
                f"data set without it: --max-seconds {limit:g}"
            )
        if len(joints) > 1:
            check_joints(joints)
        valid = read_valid(row, len(joints))
    except ValueError as error:
        raise ValueError(f"{_place(row.get('id'), files)}: {error}") from error
    valid = None if valid is None else resample_valid(valid, float(rate), fps)
    return resample(joints, float(rate), fps).astype(np.float32), valid


def _place(id: str | None, files: Sequence[str]) -> str:
    """Which clip, and in which file: for an error alone, since the files are read for it."""
    if id is None:
        return f"a clip without an id in {Path(files[0]).parent if files else 'the data set'}"
    has_id = (file for file in files if id in pq.read_table(file, columns=["id"])["id"].to_pylist())
    return printable(f"clip {id} in {next(has_id, 'the data set')}")


def clip_features(extractor: SignMotionFeatureExtractor, joints: np.ndarray) -> np.ndarray:
    """(T, 52, 3) joints at the extractor's frame rate -> normalised (T-1, F) float32 features. Of any length: a slower
    variation of a clip may be longer than what the extractor takes from strangers."""
    return extractor.normalize(extractor.from_joints(joints))


class MotionText(torch.utils.data.Dataset):
    """Clips and their texts in memory, at the frame rate of the model.

    What a clip looks like depends on (seed, epoch, index) alone, so a resumed run sees what an uninterrupted one sees.
    `max_seconds` is that of [`read_clip`], `augment` and the further keywords are those of [`Variation`].
    """

    def __init__(
        self,
        folder: str,
        split: str,
        fps: float,
        augment: bool = False,
        seed: int = 0,
        limit: int | None = None,
        max_seconds: float = MAX_SECONDS,
        **variation,
    ):
        rows, files = load_split(folder, split), split_files(folder, split)
        rows = rows.select(range(min(limit or len(rows), len(rows))))
        names = rows.column_names
        column = "joints_mm" if "joints_mm" in names else "joints"
        self.joints, self.valid, usable, skipped = [], [], [], {"without text": [], "of fewer than 2 frames": []}
        clips = tqdm(rows.with_format("numpy"), desc=f"reading {split} clips", unit="clip", delay=1)
        for index, row in enumerate(clips):
            joints, valid = read_clip(row, fps, files, max_seconds)
            if not str(row["text"] or "").strip():
                skipped["without text"].append(str(row.get("id", index)))
            elif len(joints) < 2:
                skipped["of fewer than 2 frames"].append(str(row.get("id", index)))
            else:
                self.joints.append(joints)
                self.valid.append(valid)
                usable.append(index)
        for reason, ids in skipped.items():
            if ids:
                shown = printable(", ".join(ids[:5])) + (", ..." if len(ids) > 5 else "")
                print(
                    f"{folder}, {split}: skipped {len(ids)} of {counted(len(rows), 'clip')} {reason}: {shown}",
                    file=sys.stderr,
                )
        if not usable:
            raise ValueError(f"{folder}, {split}: no clip with a text and at least 2 frames among {len(rows)}")
        self.rows = rows.select(usable).select_columns([name for name in names if name not in (column, "valid")])
        self.texts = list(self.rows["text"])
        self.codes: list[np.ndarray] | None = None  # of the clips as they are, when a language model reads them
        self.fps, self.seed, self.vary = fps, seed, Variation(augment, **variation)

    def keep(self, indices: list[int]) -> None:
        """Forget all clips but these."""
        self.joints, self.texts = [self.joints[i] for i in indices], [self.texts[i] for i in indices]
        self.valid = [self.valid[i] for i in indices]
        self.rows = self.rows.select(indices)

    def add(self, texts: Sequence[str], joints: Sequence[np.ndarray]) -> None:
        """Further clips (T, 52, 3), float32 at `fps`, which `rows` has not."""
        self.joints, self.texts = [*self.joints, *joints], [*self.texts, *texts]
        self.valid = [*self.valid, *[None] * len(texts)]

    def __len__(self):
        return len(self.joints)

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        """Item `index`, or `(epoch, index)` as [`EpochSampler`] draws them."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        rng = np.random.default_rng((self.seed, epoch, index))
        item = {"text": self.texts[index], "rng": rng} | self.vary(self.joints[index], self.valid[index], rng)
        return item if self.codes is None else item | {"codes": self.codes[index]}


def feature_statistics(
    clips: Iterable[np.ndarray], extractor: SignMotionFeatureExtractor, mirror: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (feature_size,) over the frames of the training split, each number on its own; the
    deviation [`with_floor`].

    Args:
        clips: in any form that the extractor reads.
        mirror: joints count as they are and mirrored, as training sees them: or else the hand that rarely moves would
            be magnified where it signs.
    """
    count, total, squares = 0, 0.0, 0.0
    for joints in clips:
        for clip in (joints, mirrored(joints)) if mirror else (joints,):
            features = extractor.to_features(clip).astype(np.float64)
            count, total, squares = count + len(features), total + features.sum(0), squares + (features**2).sum(0)
    mean = total / count
    return mean, with_floor(np.sqrt(np.maximum(squares / count - mean**2, 0.0)))


def with_floor(std: np.ndarray) -> np.ndarray:
    """Standard deviations (feature_size,) to divide by. Numbers that hardly move (legs of a standing signer) would turn
    noise into signal: none is below a hundredth of the number's unit or a tenth of its block's deviation."""
    std = std.copy()
    for block in feature_slices(NUM_JOINTS).values():
        std[block] = np.maximum(std[block], max(0.01, 0.1 * std[block].mean()))
    return std
