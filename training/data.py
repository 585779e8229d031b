"""Data sets of motion and text: a folder of parquet files, read with `datasets`."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset

from lslm.processing.feature_extraction_lslm import SignMotionFeatureExtractor, resample
from lslm.processing.motion_features import LEFT_HAND, NUM_JOINTS, RIGHT_HAND, feature_slices, joints_to_features

# Whole millimetres make two finger joints coincide now and then; the repair is small and would be reported per batch.
warnings.filterwarnings("ignore", message="repaired NaN, infinite or zero-length joints")


def load_split(folder: str, split: str):
    """One split of a data set folder as a `datasets.Dataset`.

    Args:
        folder: holds `{split}*.parquet`, itself or in `data/`. Columns: `id`, `text`, `fps` and the motion: `joints_mm`
            ((T, 52, 3) integers, millimetres) or `joints` (metres). Other columns are kept.
        split: train, validation or test.

    Raises:
        FileNotFoundError: no such folder or split. ValueError: a column is missing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no data set at {folder}: expected a folder with {split}*.parquet")
    files = sorted(str(f) for place in (root / "data", root) for f in place.glob(f"{split}*.parquet"))
    if not files:
        found = sorted({f.name for place in (root / "data", root) for f in place.glob("*.parquet")})
        raise FileNotFoundError(f"no split {split!r} in {folder}: it has {', '.join(found) or 'no parquet files'}")
    rows = load_dataset("parquet", data_files={split: files}, split=split)
    missing = {"text", "fps"} - set(rows.column_names)
    if missing or not {"joints_mm", "joints"} & set(rows.column_names):
        raise ValueError(
            f"{files[0]}: expected the columns text, fps and joints_mm or joints, got {', '.join(rows.column_names)}"
        )
    return rows


def read_joints(row: dict) -> np.ndarray:
    """(T, 52, 3) float64 joints of a row, in metres."""
    if row.get("joints_mm") is not None:
        return np.asarray(row["joints_mm"], np.float64) / 1000.0
    return np.asarray(row["joints"], np.float64)


class MotionText(torch.utils.data.Dataset):
    """Clips and their texts in memory, at the frame rate of the model.

    With `augment`, every epoch sees each clip anew: faster or slower, starting elsewhere, the hands slightly displaced,
    the whole a little larger or smaller. What a clip looks like depends on (seed, epoch, index) alone, so a resumed run
    sees what an uninterrupted one sees.
    """

    def __init__(self, folder: str, split: str, fps: float, augment: bool = False, seed: int = 0, limit: int | None = None):
        rows = load_split(folder, split)
        rows = rows.select(range(min(limit or len(rows), len(rows))))
        rows = rows.with_format("numpy")
        column = "joints_mm" if "joints_mm" in rows.column_names else "joints"
        self.joints = [resample(read_joints(row), float(row["fps"]), fps).astype(np.float32) for row in rows]
        others = [name for name in rows.column_names if name != column]
        self.rows = rows.with_format(None).select_columns(others)
        self.texts = list(self.rows["text"])
        self.augment, self.seed, self.epoch = augment, seed, 0

    def set_epoch(self, epoch: int):
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self):
        return len(self.joints)

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        joints = augmented(self.joints[index], rng) if self.augment else self.joints[index]
        return {"joints": joints, "text": self.texts[index], "rng": rng}


def augmented(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A variation of (T, 52, 3) joints that a signer could have produced; see [`MotionText`]."""
    joints = resample(joints, 1.0, rng.uniform(0.85, 1.18))
    joints = joints[rng.integers(0, 4) :] if len(joints) > 24 else joints  # codes start every fourth frame
    frames = len(joints)
    joints = joints + _slow_noise(frames, rng, 0.006)  # metres; the body sways
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        sway = _slow_noise(frames, rng, 0.010)
        joints[:, [wrist, *hand]] += sway
        joints[:, wrist - 2] += 0.5 * sway[:, 0]  # the elbow follows half way
        joints[:, hand] += rng.normal(0.0, 0.002, (frames, len(hand), 3))
    return joints.astype(np.float32)


def _slow_noise(frames: int, rng: np.random.Generator, metres: float) -> np.ndarray:
    """(T, 1, 3) displacement that drifts between random points about a second apart."""
    knots = rng.normal(0.0, metres, (frames // 16 + 2, 3))
    at = np.linspace(0, len(knots) - 1, frames)
    return np.stack([np.interp(at, np.arange(len(knots)), knots[:, axis]) for axis in range(3)], -1)[:, None]


class WindowCollator:
    """Random windows of `window` frames as normalised features: a batch for the sign tokenizer."""

    def __init__(self, extractor: SignMotionFeatureExtractor, window: int):
        self.extractor, self.window = extractor, window

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        size = self.window + 1  # joints give one frame of features less
        windows = np.empty((len(items), size, NUM_JOINTS, 3), np.float32)
        lengths = np.empty(len(items), np.int64)
        for row, item in enumerate(items):
            joints = item["joints"]
            start = item["rng"].integers(0, max(len(joints) - size, 0) + 1)
            cut = joints[start : start + size]
            windows[row, : len(cut)], windows[row, len(cut) :] = cut, cut[-1]
            lengths[row] = len(cut) - 1
        features = joints_to_features(
            windows, target_skeleton=self.extractor.target_skeleton, convention=self.extractor.convention
        )
        mask = np.arange(self.window) < lengths[:, None]
        return {
            "input_features": torch.from_numpy(self.extractor.normalize(features)),
            "input_features_mask": torch.from_numpy(mask.astype(np.int64)),
        }


class TranslationCollator:
    """Prompt, motion and answer: a batch for the language model. One template is drawn per sample and epoch."""

    def __init__(self, processor, templates: list[str]):
        self.processor, self.templates = processor, templates

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        extractor = self.processor.feature_extractor
        features = [extractor.normalize(extractor.to_features(item["joints"])) for item in items]
        prompts = [self.templates[item["rng"].integers(len(self.templates))] for item in items]
        batch = dict(self.processor.encode_features(prompts, features, [item["text"] for item in items]))
        # Answers stand at the right end: logits are needed from the first answer token on, a quarter of the positions.
        first = int((batch["labels"] != -100).any(0).nonzero()[0])
        batch["logits_to_keep"] = batch["labels"].shape[1] - first + 1
        batch["labels"] = batch["labels"][:, -batch["logits_to_keep"] :]
        return batch


def load_templates(path: str) -> list[str]:
    """User messages with a `<motion>` from a JSON file in the form of the paper's Listing 1:
    `{category: {subtask: {"class": "m2t", "input": [...], "output": ["<Caption_Placeholder>"]}}}`."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    templates = [text for tasks in content.values() for task in tasks.values() for text in task["input"]]
    for text in templates:
        if text.count("<Motion_Placeholder>") != 1:
            raise ValueError(f"{path}: a template needs exactly one <Motion_Placeholder>: {text!r}")
    return [text.replace("<Motion_Placeholder>", "<motion>") for text in templates]


def feature_statistics(data: MotionText, extractor: SignMotionFeatureExtractor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (feature_size,) over the frames of the training split, each number on its own.

    Numbers that hardly move (legs of a standing signer) would turn noise into signal: the deviation has a floor, a
    hundredth of the number's unit or a tenth of its block's deviation.
    """
    count, total, squares = 0, 0.0, 0.0
    for joints in data.joints:
        features = extractor.to_features(joints).astype(np.float64)
        count, total, squares = count + len(features), total + features.sum(0), squares + (features**2).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    for block in feature_slices(NUM_JOINTS).values():
        std[block] = np.maximum(std[block], max(0.01, 0.1 * std[block].mean()))
    return mean, std
