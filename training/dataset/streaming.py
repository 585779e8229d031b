"""Training on more clips than memory holds: they are read from the shards while training goes on (`stream: true`)."""

import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from accelerate.data_loader import prepare_data_loader
from datasets import IterableDataset, load_dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, get_worker_info
from transformers import Trainer

from ...hub_cards.data_sets import data_folder
from ...processing.feature_extraction_lslm import SignMotionFeatureExtractor, resample
from ...processing.readers.wording import counted
from .augmentation import VARIATION_KEYS, Variation
from .motion_text import (
    MAX_SECONDS,
    MotionText,
    check_columns,
    feature_statistics,
    read_array,
    read_clip,
    split_files,
    with_floor,
)

ROWS_AT_ONCE = 64
MOTION = ("joints_mm", "joints", "valid")  # columns of arrays
STATISTICS = "statistics.json"  # in a data set folder, from `lslm data build`


class StreamedMotionText(torch.utils.data.IterableDataset):
    """Clips and their texts as they come from the shards of a split, epoch after epoch without an end.

    Row groups come in random order, and their rows through a buffer. A reader is a worker of a process; in each epoch
    it reads row groups that no other reads (where there are fewer than readers, all of them, and keeps its share of the
    rows), and goes on with the next epoch by itself. The order follows from (seed, epoch) and the number of readers;
    what a clip looks like, from (seed, epoch, its joints), whoever reads it.

    A resumed run draws all batches that it has seen and drops them. Set `seen_batches`, and their items are `None`:
    rows are passed over, and of whole epochs only the small columns are read.

    Args:
        folder, split: as for `load_split`. A column `num_frames` makes passing over fast.
        fps: frame rate of the model.
        shuffle_buffer: clips that a reader mixes; 0: in the order of the shards.
        rank, world_size: number of this process, and how many there are.
        fits: whether a clip of so many frames at `fps` and this text is to be used.
        max_seconds: see [`read_clip`]. variation: see [`Variation`].

    Raises:
        FileNotFoundError: no such folder or split. ValueError: a column is missing; when read, a clip that contradicts
            its columns, or no clip at all for a reader.
    """

    def __init__(
        self,
        folder: str,
        split: str,
        fps: float,
        *,
        seed: int = 0,
        shuffle_buffer: int = 1000,
        rank: int = 0,
        world_size: int = 1,
        fits: Callable[[int, str], bool] | None = None,
        max_seconds: float = MAX_SECONDS,
        **variation,
    ):
        self.files, self.name = split_files(folder, split), f"{folder}, {split}"
        self.fps, self.seed, self.shuffle_buffer = fps, seed, shuffle_buffer
        self.rank, self.world_size, self.fits, self.vary = rank, world_size, fits, Variation(**variation)
        self.max_seconds, self.batch_size, self.seen_batches = max_seconds, 1, 0
        names = self._read(None).column_names
        check_columns(self.files[0], names)
        small = [name for name in ("id", "text", "fps", "num_frames") if name in names]
        self.rows = self._read(small + [name for name in MOTION if name in names])
        # enough to tell which clips are used
        self.small_rows = self._read(small) if "num_frames" in names else self.rows

    def __iter__(self) -> Iterator[dict | None]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        share = (self.rank * workers + number, self.world_size * workers)
        seen = len(range(number, self.seen_batches, workers)) * self.batch_size  # batches come from workers in turn
        for epoch in itertools.count():
            if seen:
                size = sum(len(self._usable(table)) for table in self._tables(self.small_rows, epoch, *share))
            if seen and size <= seen:
                yield from itertools.repeat(None, size)
            else:
                size = 0
                for item in self.items(epoch, *share, seen):
                    size += 1
                    yield item
            if not size:
                raise ValueError(
                    f"{self.name}: reader {share[0] + 1} of {share[1]} found no clip with a text and at least 2 frames "
                    "that is short enough; use fewer processes or workers, or look at the data set"
                )
            seen = max(seen - size, 0)

    def items(self, epoch: int, reader: int = 0, readers: int = 1, seen: int = 0) -> Iterator[dict | None]:
        """The items of one reader in one epoch; `None` for the first `seen`."""
        used = rows = 0
        for table in self._tables(self.rows, epoch, reader, readers):
            rows += len(table)
            for row in self._usable(table):
                used += 1
                if used <= seen:
                    yield None
                    continue
                joints, valid, text = self._clip(table, row)
                rng = np.random.default_rng((self.seed, epoch, zlib.crc32(joints.tobytes())))
                yield {"text": text, "rng": rng} | self.vary(joints, valid, rng)
        if epoch == 0 and used < rows:
            print(
                f"{self.name}: reader {reader + 1} of {readers} left out {rows - used} of {counted(rows, 'clip')}: "
                f"without text, of fewer than 2 frames{', or too long' if self.fits else ''}",
                file=sys.stderr,
            )

    @property
    def joints(self) -> Iterator[np.ndarray]:
        """(T, 52, 3) float32 of every clip, one after the other, as [`MotionText`] holds them."""
        for table in self.rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
            for row in self._usable(table):
                yield self._clip(table, row)[0]

    def lengths(self) -> Iterator[tuple[int, str]]:
        """Frames at the model's rate and text of every clip that could be used; motion is not read where a column
        `num_frames` counts it."""
        for table in self.small_rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
            yield from ((frames, text) for _, frames, text in self._clips(table))

    def _read(self, columns: list[str] | None) -> IterableDataset:
        options = {"data_files": {"train": self.files}, "columns": columns, "batch_size": ROWS_AT_ONCE}
        return load_dataset("parquet", split="train", streaming=True, **options).reshard()  # by row group

    def _tables(self, rows: IterableDataset, epoch: int, reader: int, readers: int) -> Iterator[pa.Table]:
        """The rows of one reader in one epoch, in their order."""
        if self.shuffle_buffer:
            # More than one input shard would be read by threads, and each epoch end with a pause of five seconds.
            rows = rows.shuffle(self.seed, buffer_size=self.shuffle_buffer, max_buffer_input_shards=1)
        strategy = "shards" if rows.num_shards >= readers else "examples"
        rows = split_dataset_by_node(rows.with_format("arrow"), reader, readers, strategy)
        if self.shuffle_buffer:
            rows.set_epoch(epoch)  # the last thing: whatever is made from `rows` begins with epoch 0 again
        # not iter(rows): in a worker it would deal out the shards once more
        return rows.iter(batch_size=ROWS_AT_ONCE)

    def _usable(self, table: pa.Table) -> list[int]:
        """Numbers of the rows that have a text, two frames and a length that fits."""
        fits = self.fits
        return [row for row, frames, text in self._clips(table) if fits is None or not frames or fits(frames, text)]

    def _clips(self, table: pa.Table) -> Iterator[tuple[int, int, str]]:
        """Number, frames at the model's rate and text of the rows that have a text and two frames. Frames are 0 where
        the row's own rate is none: an error when the clip is read."""
        if "num_frames" in table.column_names:
            frames = table["num_frames"].to_pylist()
        else:
            joints = table["joints_mm" if "joints_mm" in table.column_names else "joints"]
            clips = (read_array(joints, row) for row in range(len(table)))
            frames = [0 if clip is None else len(clip) for clip in clips]
        texts, rates = table["text"].to_pylist(), table["fps"].to_pylist()
        for row, (text, rate, count) in enumerate(zip(texts, rates, frames, strict=True)):
            if (count or 0) >= 2 and (text or "").strip():
                valid_rate = (rate or 0) > 0  # one that is none is an error when the clip is read
                yield row, len(resample(np.empty((count, 0, 0)), float(rate), self.fps)) if valid_rate else 0, text

    def _clip(self, table: pa.Table, row: int) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Joints, which of them were observed, and the text of a row of a table."""
        arrays = {name: read_array(table[name], row) for name in MOTION if name in table.column_names}
        clip = {name: table[name][row].as_py() for name in table.column_names if name not in MOTION} | arrays
        joints, valid = read_clip(clip, self.fps, self.files, self.max_seconds)
        if len(joints) < 2:
            raise ValueError(
                f"{self.name}: clip {clip.get('id', '')} has {counted(len(joints), 'frame')}, and more by its column "
                "num_frames; build the data set again"
            )
        return joints, valid, clip["text"]


def training_clips(
    args,
    extractor: SignMotionFeatureExtractor,
    window: int | None = None,
    fits: Callable[[int, str], bool] | None = None,
) -> MotionText | StreamedMotionText:
    """The training split as the `StageArguments` want it, at the extractor's frame rate.

    Args:
        window: see [`Variation`].
        fits: see [`StreamedMotionText`]; of clips in memory, leave out the long ones afterwards.

    Raises:
        ValueError: a variation that the extractor takes away again.
    """
    if args.body_proportions and extractor.target_skeleton is not None:
        raise ValueError(
            "body_proportions changes nothing, since the target skeleton gives everybody the same bones; leave it out, "
            "or train the sign tokenizer with target_skeleton: none"
        )
    options = {key: getattr(args, key) for key in ("seed", "augment", *VARIATION_KEYS)}
    options |= {"window": window, "max_seconds": extractor.max_seconds}
    if not args.stream:
        return MotionText(args.data, "train", extractor.fps, limit=args.limit, **options)
    options |= {"rank": args.process_index, "world_size": args.world_size, "shuffle_buffer": args.shuffle_buffer}
    return StreamedMotionText(args.data, "train", extractor.fps, fits=fits, **options)


def train_loader(trainer: Trainer) -> DataLoader:
    """The `get_train_dataloader` of a Trainer whose training data is a [`StreamedMotionText`]. The Trainer's own would
    divide what has been divided among the processes once more."""
    data, args = trainer.train_dataset, trainer.args
    data.batch_size = args.train_batch_size
    keys = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")
    options = {key: getattr(args, f"dataloader_{key}") for key in keys}
    collate = partial(_collate, trainer.data_collator)
    loader = DataLoader(data, batch_size=data.batch_size, collate_fn=collate, **options)
    return prepare_data_loader(loader, args.device, num_processes=1, put_on_device=True, dispatch_batches=False)


def _collate(collator: Callable, items: list[dict | None]) -> dict:
    """A batch, or nothing in place of one that the Trainer is about to drop."""
    return {} if items[0] is None else collator(items)


def streamed_statistics(data: StreamedMotionText, folder: str, extractor: SignMotionFeatureExtractor):
    """Mean and standard deviation as of `feature_statistics`: those in the data set's statistics.json if they are of
    such features, or else from one pass over the clips.

    Raises:
        ValueError: a statistics.json of another form.
    """
    path = data_folder(folder, "train") / STATISTICS
    if path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            mean, std = (np.array(stored[name], np.float64).reshape(extractor.feature_size) for name in ("mean", "std"))
            if not (np.isfinite([mean, std]).all() and (std >= 0).all()):
                raise ValueError("one of them is not finite, or a std is below 0")
            shared = ("fps", "convention", "target_skeleton")
            differing = [name for name in shared if stored[name] != getattr(extractor, name)]
            differing += ["mirror"] * (data.vary.mirror > 0)  # the file is of clips as they are
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected fps, convention, target_skeleton and {extractor.feature_size} numbers each of mean "
                f"and std ({error}); remove the file or build the data set again"
            ) from error
        if not differing:
            return mean, with_floor(std)  # the file has them as they are
        print(f"{path}: of another {' and '.join(differing)}; not used", flush=True)
    print("mean and deviation of the features: reading all clips once", flush=True)
    return feature_statistics(data.joints, extractor, mirror=data.vary.mirror > 0)
