"""Data sets of motion and text: a folder of parquet files, read with `datasets`."""

import json
import sys
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import load_dataset

from ...processing.feature_extraction_lslm import (
    ALL_OBSERVED,
    SignMotionFeatureExtractor,
    resample,
    resample_valid,
)
from ...processing.motion_features import (
    JOINT_NAMES,
    LEFT_HAND,
    LOWER_BODY,
    NUM_JOINTS,
    PARENTS,
    RIGHT_HAND,
    feature_slices,
    joints_to_features,
)
from .spelling import spelled

# Whole millimetres make two finger joints coincide now and then; the repair is small and would be reported per batch.
warnings.filterwarnings("ignore", message="repaired NaN, infinite or zero-length joints")

# Augmentation in time: how many times as many frames, and how many frames later it starts (a code stands for four).
STRETCH, DELAY = (0.8, 1.25), 4
LOWEST_RATE = 0.6  # of the frame rate, for `frame_rate_jitter`: 12 of 20 frames per second
ARMS, HANDS = [18, 19, 20, 21], [*LEFT_HAND, *RIGHT_HAND]  # whose bones `body_proportions` scales apart

_SIDES = {"left": "right", "right": "left"}
_MIRROR = [
    JOINT_NAMES.index("_".join(_SIDES.get(part, part) for part in name.split("_"))) for name in JOINT_NAMES
]  # the joint of the other side


def load_split(folder: str, split: str):
    """One split of a data set folder as a `datasets.Dataset`.

    Args:
        folder: holds `{split}*.parquet`, itself or in `data/`. Columns: `id`, `text`, `fps` and the motion: `joints_mm`
            ((T, 52, 3) integers, millimetres) or `joints` (metres); maybe `valid`, see [`read_valid`]. Other columns
            are kept.
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
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no data set at {folder}: expected a folder with {split}*.parquet")
    files = sorted(str(f) for place in (root / "data", root) for f in place.glob(f"{split}*.parquet"))
    if not files:
        found = sorted({f.name for place in (root / "data", root) for f in place.glob("*.parquet")})
        raise FileNotFoundError(f"no split {split!r} in {folder}: it has {', '.join(found) or 'no parquet files'}")
    return files


def check_columns(file: str, names: list[str]) -> None:
    """Raise a ValueError if a shard lacks a column."""
    if {"text", "fps"} - set(names) or not {"joints_mm", "joints"} & set(names):
        raise ValueError(f"{file}: expected the columns text, fps and joints_mm or joints, got {', '.join(names)}")


def read_texts(folder: str, split: str) -> list[str]:
    """All texts of a split, without its motion; errors as of [`load_split`]."""
    files = split_files(folder, split)
    return [str(text or "") for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]


def read_joints(row: dict) -> np.ndarray:
    """(T, 52, 3) float64 joints of a row, in metres."""
    if row.get("joints_mm") is not None:
        return np.asarray(row["joints_mm"], np.float64) / 1000.0
    return np.asarray(row["joints"], np.float64)


def read_valid(row: dict, frames: int) -> np.ndarray | None:
    """(T, 52) bool of a row of T `frames`, False where a joint was filled in instead of observed; None: nobody says.

    The column `valid` holds T integers a clip; bit j of a frame's is 1 where joint j was observed. Pelvis and legs that
    are never observed count as if they were: below a camera's picture they stand where the reader puts everybody's, and
    a sign tokenizer that had not learnt them could stand no body up.

    Raises:
        ValueError: not one integer for each frame.
    """
    if row.get("valid") is None:
        return None
    bits = np.asarray(row["valid"], np.int64)
    if bits.shape != (frames,):
        raise ValueError(
            f"clip {row.get('id', '')}: `valid` has shape {bits.shape}, expected a bit mask for each of the {frames} "
            "frames of its joints; build the data set again"
        )
    valid = (bits[:, None] >> np.arange(NUM_JOINTS)) & 1 == 1
    stands = [0, *LOWER_BODY]
    valid[:, stands] |= ~valid[:, stands].any(0)
    return valid


def read_clip(row: dict, fps: float) -> tuple[np.ndarray, np.ndarray | None]:
    """A row at another frame rate: joints (T, 52, 3) float32 in metres, and which were observed, see [`read_valid`]."""
    joints, rate = read_joints(row), float(row["fps"])
    valid = read_valid(row, len(joints))
    return (
        resample(joints, rate, fps).astype(np.float32),
        None if valid is None else resample_valid(valid, rate, fps),
    )


class MotionText(torch.utils.data.Dataset):
    """Clips and their texts in memory, at the frame rate of the model.

    What a clip looks like depends on (seed, epoch, index) alone, so a resumed run sees what an uninterrupted one sees.
    `augment` and the further keywords are those of [`Variation`].
    """

    def __init__(
        self,
        folder: str,
        split: str,
        fps: float,
        augment: bool = False,
        seed: int = 0,
        limit: int | None = None,
        **variation,
    ):
        rows = load_split(folder, split)
        rows = rows.select(range(min(limit or len(rows), len(rows))))
        column = "joints_mm" if "joints_mm" in rows.column_names else "joints"
        self.joints, self.valid, use, skipped = [], [], [], {}
        for index, row in enumerate(rows.with_format("numpy")):
            joints, valid = read_clip(row, fps)
            if not str(row["text"] or "").strip():
                skipped.setdefault("without text", []).append(str(row.get("id", index)))
            elif len(joints) < 2:
                skipped.setdefault("of fewer than 2 frames", []).append(str(row.get("id", index)))
            else:
                self.joints.append(joints)
                self.valid.append(valid)
                use.append(index)
        for reason, names in skipped.items():
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            print(f"{folder}, {split}: skipped {len(names)} of {len(rows)} clips {reason}: {shown}", file=sys.stderr)
        if not use:
            raise ValueError(f"{folder}, {split}: no clip with a text and at least 2 frames among {len(rows)}")
        kept = [name for name in rows.column_names if name not in (column, "valid")]
        self.rows = rows.select(use).select_columns(kept)
        self.texts = list(self.rows["text"])
        self.codes: list[np.ndarray] | None = None  # of the clips as they are, when a language model reads them
        self.fps, self.seed, self.vary = fps, seed, Variation(augment, **variation)

    def keep(self, indices: list[int]) -> None:
        """Forget all clips but these."""
        self.joints, self.texts = [self.joints[i] for i in indices], [self.texts[i] for i in indices]
        self.valid = [self.valid[i] for i in indices]
        self.rows = self.rows.select(indices)

    def __len__(self):
        return len(self.joints)

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        """Item `index`, or `(epoch, index)` as [`EpochSampler`] draws them."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        rng = np.random.default_rng((self.seed, epoch, index))
        item = {"text": self.texts[index], "rng": rng} | self.vary(self.joints[index], self.valid[index], rng)
        return item if self.codes is None else item | {"codes": self.codes[index]}


@dataclass(frozen=True)
class Variation:
    """How a clip differs from epoch to epoch. Nothing is drawn for what is off, and new keys are drawn after old ones,
    so that a recipe keeps its random numbers when a key is added.

    Attributes:
        augment: faster or slower, starting elsewhere, elbows and hands slightly displaced, hands turned.
        window: take a random part of the clip that is at least so many frames long (shorter clips stay whole):
            variations of frames that nobody uses would cost half the time of a training step.
        frame_rate_jitter: probability that it is seen at a lower frame rate.
        body_proportions: deviation of the lengths of body, arms and hands; 0.1: a tenth.
        mirror: probability that it is mirrored.
    """

    augment: bool = False
    window: int | None = None
    frame_rate_jitter: float = 0.0
    body_proportions: float = 0.0
    mirror: float = 0.0

    def __post_init__(self):
        for name in ("frame_rate_jitter", "mirror"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability from 0 to 1")
        if not self.body_proportions >= 0:
            raise ValueError(
                f"body_proportions is {self.body_proportions}, expected a deviation from 0 on; 0.1: a tenth"
            )

    @property
    def changes_clips(self) -> bool:
        """Whether a clip differs from epoch to epoch at all."""
        return any((self.augment, self.window, self.frame_rate_jitter, self.body_proportions, self.mirror))

    def __call__(self, joints: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator) -> dict:
        """`joints` (T', 52, 3) float32 of a clip (T, 52, 3) this time, and `valid` (T', 52) if that is not None."""
        if valid is not None:
            # as a fourth number beside x, y and z: what happens in time happens to both
            joints = np.concatenate([joints, valid[..., None]], -1)
        if self.window:
            enough = int(self.window / STRETCH[0]) + DELAY + 2  # for a window after augmentation
            start = rng.integers(0, max(len(joints) - enough, 0) + 1)
            joints = joints[start : start + enough]
        if self.augment:
            joints = augmented(joints, rng)
        if self.frame_rate_jitter and rng.random() < self.frame_rate_jitter:
            joints = at_a_lower_rate(joints, rng)
        if self.body_proportions:
            joints = of_another_body(joints, rng, self.body_proportions)
        if self.mirror and rng.random() < self.mirror:
            joints = mirrored(joints)
        item = {"joints": joints[..., :3]}
        return item if valid is None else item | {"valid": joints[..., 3] > ALL_OBSERVED}


class EpochSampler(torch.utils.data.Sampler):
    """Draws `(epoch, index)` in an order that follows from (seed, epoch).

    The epoch travels with the index, because nothing else tells a data set reliably which epoch it is in: after a
    resume, or in several processes, `set_epoch` reaches the sampler only. With `lengths`, clips of similar length
    meet in a batch.
    """

    def __init__(self, size: int, seed: int, lengths: list[int] | None = None, batch_size: int = 1):
        self.size, self.seed, self.lengths, self.batch_size, self.epoch = size, seed, lengths, batch_size, 0

    def set_epoch(self, epoch: int):
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.size)
        if self.lengths is not None:
            # sorted within pools of 16 batches, then the batches shuffled: alike in length, and still a mixture
            pool = 16 * self.batch_size
            order = np.concatenate(
                [sorted(order[i : i + pool], key=self.lengths.__getitem__) for i in range(0, self.size, pool)]
            )
            full = self.size // self.batch_size * self.batch_size
            batches = order[:full].reshape(-1, self.batch_size)
            order = np.concatenate([rng.permutation(batches).ravel(), order[full:]])
        return iter([(self.epoch, int(index)) for index in order])


def augmented(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A variation of (T, 52, 3) joints that a signer could have produced; see [`Variation`]. A fourth number of a joint
    goes through time with the others and stays, here and below.

    A sign tokenizer trained without it rebuilds takes it knows and blurs those it does not: recordings differ in
    posture, in where the hands are held and how they are turned more than a few thousand takes show.
    """
    joints = resample(joints, 1.0, rng.uniform(*STRETCH))
    joints = joints[rng.integers(0, DELAY) :] if len(joints) > 24 else joints
    frames = len(joints)
    joints = joints.astype(np.float64)
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        turn = rng.normal(0.0, 0.10, 3) + _slow_noise(frames, rng, 0.05)
        joints[:, hand, :3] = _turned(joints[:, hand, :3], joints[:, [wrist], :3], turn)
        shift = rng.normal(0.0, 0.012, 3) + _slow_noise(frames, rng, 0.010)  # metres
        joints[:, [wrist, *hand], :3] += shift
        elbow = rng.normal(0.0, 0.010, 3) + _slow_noise(frames, rng, 0.008)
        joints[:, [wrist - 2], :3] += 0.5 * shift + elbow  # the elbow follows half way
        joints[:, hand, :3] += rng.normal(0.0, 0.002, (len(hand), 3)) + rng.normal(0.0, 0.001, (frames, len(hand), 3))
    return joints.astype(np.float32)


def at_a_lower_rate(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, 52, 3) joints as a slower camera would have seen them, between 60 % of the frame rate and all of it."""
    rate = rng.uniform(LOWEST_RATE, 1.0)
    return resample(resample(joints, 1.0, rate), rate, 1.0).astype(np.float32)


def of_another_body(joints: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """(T, 52, 3) joints with longer or shorter bones in the same directions: the whole body by one factor, arms and
    hands by one more each. A target skeleton takes all of it away again."""
    body, arms, hands = np.exp(rng.normal(0.0, deviation, 3))
    factors = np.full(NUM_JOINTS, body)
    factors[ARMS] *= arms
    factors[HANDS] *= hands
    scaled = joints.copy()
    scaled[:, 0, :3] = body * joints[:, 0, :3]
    for joint in range(1, NUM_JOINTS):
        bone = joints[:, joint, :3] - joints[:, PARENTS[joint], :3]
        scaled[:, joint, :3] = scaled[:, PARENTS[joint], :3] + factors[joint] * bone
    return scaled


def mirrored(joints: np.ndarray) -> np.ndarray:
    """(..., 52, 3) joints as a mirror shows them: what a left-handed signer does."""
    joints = joints[..., _MIRROR, :]
    joints[..., 0] *= -1
    return joints


def _turned(points: np.ndarray, centre: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(T, N, 3) points about (T, 1, 3) `centre` by small rotation vectors (T, 1, 3), to the second order."""
    arms = points - centre
    across = np.cross(turn, arms)
    return centre + arms + across + 0.5 * np.cross(turn, across)


def _slow_noise(frames: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """(T, 1, 3) noise that drifts between random points about a second apart."""
    knots = rng.normal(0.0, deviation, (frames // 16 + 2, 3))
    at = np.linspace(0, len(knots) - 1, frames)
    return np.stack([np.interp(at, np.arange(len(knots)), knots[:, axis]) for axis in range(3)], -1)[:, None]


class WindowCollator:
    """Random windows of `window` frames as normalised features: a batch for the sign tokenizer. Clips that say which
    joints were observed come with an `observed_mask`."""

    def __init__(self, extractor: SignMotionFeatureExtractor, window: int):
        self.extractor, self.window = extractor, window

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        size = self.window + 1  # joints give one frame of features less
        windows = np.empty((len(items), size, NUM_JOINTS, 3), np.float32)
        valid = np.ones((len(items), size, NUM_JOINTS), bool)
        lengths = np.empty(len(items), np.int64)
        for row, item in enumerate(items):
            joints = item["joints"]
            start = item["rng"].integers(0, max(len(joints) - size, 0) + 1)
            frames = np.minimum(np.arange(start, start + size), len(joints) - 1)  # the last one stays to the end
            windows[row] = joints[frames]
            if "valid" in item:
                valid[row] = item["valid"][frames]
            lengths[row] = min(len(joints) - start, size) - 1
        features = joints_to_features(
            windows, target_skeleton=self.extractor.target_skeleton, convention=self.extractor.convention
        )
        mask = np.arange(self.window) < lengths[:, None]
        batch = {
            "input_features": torch.from_numpy(self.extractor.normalize(features)),
            "input_features_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if any("valid" in item for item in items):
            batch["observed_mask"] = torch.from_numpy(self.extractor.observed_mask(valid))
        return batch


class TranslationCollator:
    """Prompt, motion and answer: a batch for the language model. One template is drawn per sample and epoch, and the
    answer says the words of `spelled_words` letter by letter."""

    def __init__(self, processor, templates: list[str], spelled_words: Collection[str] = ()):
        self.processor, self.templates, self.spelled_words = processor, templates, spelled_words

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        prompts = [self.templates[item["rng"].integers(len(self.templates))] for item in items]
        texts = [spelled(item["text"], self.spelled_words) for item in items]
        batch = dict(self.inputs(prompts, items, texts))
        # Answers stand at the right end: logits are needed from the first answer token on, a quarter of the positions.
        first = int((batch["labels"] != -100).any(0).nonzero()[0])
        batch["logits_to_keep"] = batch["labels"].shape[1] - first + 1
        batch["labels"] = batch["labels"][:, -batch["logits_to_keep"] :]
        return batch

    def inputs(self, prompts: list[str], items: list[dict], answers: list[str] | None = None):
        """Prompts and motion as the processor gives them, from codes where they are known."""
        if "codes" in items[0]:
            return self.processor(prompts, motion_codes=[item["codes"] for item in items], answer=answers)
        extractor = self.processor.feature_extractor
        features = [extractor.normalize(extractor.to_features(item["joints"])) for item in items]
        return self.processor.encode_features(prompts, features, answers)


def load_templates(path: str) -> list[str]:
    """User messages with a `<motion>` from a JSON file in the form of the paper's Listing 1:
    `{category: {subtask: {"class": "m2t", "input": [...], "output": ["<Caption_Placeholder>"]}}}`.

    Raises:
        ValueError: another form, no template, a repeated one, or one without exactly one `<Motion_Placeholder>`.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        inputs = [task["input"] for tasks in content.values() for task in tasks.values()]
        if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in inputs):
            raise TypeError("input is no list of strings")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: not a template file ({error}); expected {{category: {{subtask: {{"input": [...]}}}}}}'
        ) from error
    templates = [text for texts in inputs for text in texts]
    if not templates:
        raise ValueError(f"{path}: no templates in it")
    for text in templates:
        if text.count("<Motion_Placeholder>") != 1 or "<motion>" in text:
            raise ValueError(f"{path}: a template needs exactly one <Motion_Placeholder>: {text!r}")
        if templates.count(text) > 1:  # it would be drawn more often than the others
            raise ValueError(f"{path}: this template is there {templates.count(text)} times: {text!r}")
    return [text.replace("<Motion_Placeholder>", "<motion>") for text in templates]


def feature_statistics(data: MotionText, extractor: SignMotionFeatureExtractor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (feature_size,) over the frames of the training split, each number on its own; the
    deviation [`with_floor`]."""
    count, total, squares = 0, 0.0, 0.0
    for joints in data.joints:
        features = extractor.to_features(joints).astype(np.float64)
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
