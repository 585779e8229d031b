"""Motion to normalised, padded model input. Everything that makes two runs comparable travels with it: frame rate,
feature convention, target skeleton, mean and standard deviation."""

import os
from collections.abc import Mapping

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import logging

from .motion import Motion, check_fps, check_joints, load_motion
from .motion_features import NUM_JOINTS, all_three, features_to_joints, joints_to_features, right_handed

logger = logging.get_logger(__name__)


class SignMotionFeatureExtractor(SequenceFeatureExtractor):
    """Motion -> (T, 623) features -> normalised and padded (N, T, 623) `input_features` with their mask.

    Args:
        feature_size: numbers per frame.
        fps: frames per second that the model was trained on; clips of another rate are resampled to it.
        downsample_factor: frames per code of the sign tokenizer that reads the features.
        convention: see `joints_to_features`.
        target_skeleton: see `joints_to_features`.
        mean: (feature_size,) subtracted from the features; None: 0.
        std: (feature_size,) the features are divided by; None: 1.
        max_seconds: longer clips are refused: LSLM translates utterances.
        right_handed: joints of who signs with the left hand are mirrored, and decoded so; features stay as they are.
    """

    model_input_names = ["input_features", "input_features_mask"]
    _auto_class = "AutoFeatureExtractor"  # checkpoints carry the code

    def __init__(
        self,
        feature_size: int = 623,
        fps: float = 20.0,
        downsample_factor: int = 4,
        convention: str = "humanml3d",
        target_skeleton: str | list | None = "humanml3d",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        max_seconds: float = 120.0,
        padding_value: float = 0.0,
        right_handed: bool = False,
        **kwargs,
    ):
        kwargs.pop("sampling_rate", None)  # the base class's word for it; here it would read as hertz of audio
        super().__init__(feature_size=feature_size, sampling_rate=fps, padding_value=padding_value, **kwargs)
        self.fps = fps
        self.downsample_factor = downsample_factor
        self.convention = convention
        self.target_skeleton = target_skeleton
        self.mean = None if mean is None else [float(x) for x in np.atleast_1d(mean)]
        self.std = None if std is None else [float(x) for x in np.atleast_1d(std)]
        self.max_seconds = max_seconds
        self.right_handed = right_handed

    def to_features(self, motion, fps: float | None = None) -> np.ndarray:
        """One clip in any form to (T, feature_size) float32 features, not normalised.

        Args:
            motion: a path, a `Motion`, joints (T, 52, 3) - floats in metres, integers in millimetres - or motion
                features (T, feature_size), as numpy array, torch tensor or nested list.
            fps: frame rate of an array; None: that of the model. A file or `Motion` knows its own.

        Raises:
            ValueError: none of these; the message says what came and what to do. OSError: no such file.
        """
        if isinstance(motion, (str, os.PathLike)):
            motion = self.load(motion, fps)
        if not isinstance(motion, Motion):
            motion, fps = self._array(motion, fps)
            if motion.ndim == 2 and motion.shape[1] == self.feature_size:
                self._check_length(len(motion), fps or self.fps, shortest=1)
                if not np.isfinite(motion).all():
                    raise ValueError("the motion features hold NaN or infinity; compute them again from the joints")
                if fps is not None and abs(fps - self.fps) > 1e-3:
                    raise ValueError(f"features cannot be resampled from {fps:g} to {self.fps:g} fps; pass the joints")
                return motion.astype(np.float32)
        motion = self.to_motion(motion, fps)
        return self.from_joints(resample(motion.joints.astype(np.float64), motion.fps, self.fps))

    def from_joints(self, joints: np.ndarray) -> np.ndarray:
        """(T, 52, 3) joints in metres at the model's frame rate -> (T-1, feature_size) float32, not normalised."""
        joints = (right_handed(joints) if self.right_handed else joints).astype(np.float64)
        features = joints_to_features(joints, target_skeleton=self.target_skeleton, convention=self.convention)
        return features.astype(np.float32)

    @staticmethod
    def load(path, fps: float | None = None) -> Motion:
        """`load_motion` for where the `Motion` goes no further: remarks that need attention are logged."""
        motion = load_motion(path, fps=fps)
        for remark in (note for note in motion.notes if note.argument is not None):
            logger.warning(f"{remark}")
        return motion

    def to_motion(self, motion, fps: float | None = None) -> Motion:
        """One clip in any form but motion features to a `Motion`: joints (T, 52, 3) in metres at the clip's own rate.

        Args and errors as in [`to_features`].
        """
        valid, notes = None, ()
        if isinstance(motion, (str, os.PathLike)):
            motion = load_motion(motion, fps=fps)
        if isinstance(motion, Motion):
            motion, fps, valid, notes = motion.joints, motion.fps, motion.valid, motion.notes
        array, fps = self._array(motion, fps)
        if array.ndim != 3 or array.shape[1:] != (NUM_JOINTS, 3):
            expected = f"joints (frames, {NUM_JOINTS}, 3) or motion features (frames, {self.feature_size})"
            raise ValueError(f"expected {expected}, got an array of shape {array.shape}")
        fps = self.fps if fps is None else fps
        self._check_length(len(array), fps, shortest=2)
        joints = array / 1000.0 if array.dtype.kind in "iu" else array
        check_joints(joints)
        return Motion(joints, fps, all_three(np.isfinite(joints)) if valid is None else valid, notes=notes)

    @staticmethod
    def _array(motion, fps: float | None) -> tuple[np.ndarray, float | None]:
        """A clip of numbers as an array, and its frame rate, checked."""
        if fps is not None:
            fps = check_fps(fps, "the fps argument")
        try:
            array = np.asarray(motion.detach().cpu() if hasattr(motion, "detach") else motion)
        except ValueError as error:
            raise ValueError("the clip is not one array: its frames have different shapes") from error
        if array.dtype.kind not in "fiu":
            raise ValueError(f"a clip must be an array of numbers, not of {array.dtype}")
        return array, fps

    def _check_length(self, frames: int, fps: float, shortest: int):
        if frames < shortest:
            raise ValueError(f"the clip has {frames} frame(s); motion needs at least {shortest}")
        if frames / fps > self.max_seconds:
            lasts = f"lasts {frames / fps:.0f} s ({frames} frames at {fps:g} fps), the limit is {self.max_seconds:g} s"
            raise ValueError(f"the clip {lasts}: cut it into utterances and translate them one by one")

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """(..., feature_size) features -> normalised float32 features."""
        if self.mean is None:
            return np.asarray(features, np.float32)
        return ((features - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)

    def to_joints(self, features: np.ndarray) -> np.ndarray:
        """(..., T, feature_size) normalised features -> (..., T, 52, 3) joints in metres, facing +z."""
        if self.mean is not None:
            features = np.asarray(features) * np.asarray(self.std) + np.asarray(self.mean)
        joints = features_to_joints(np.asarray(features, np.float64), convention=self.convention)
        return joints.astype(np.float32)

    def num_codes(self, num_frames: int) -> int:
        """Codes for a clip of `num_frames` feature frames: ceil(num_frames / downsample_factor)."""
        return -(-num_frames // self.downsample_factor)

    def __call__(self, motion, fps: float | None = None, return_tensors: str | None = "pt", **padding) -> BatchFeature:
        """Clips to model input.

        Args:
            motion: a clip in any form that [`to_features`] takes, a list of clips, or what came of a call before.
            fps: frame rate of clips that are arrays.
            padding: see [`pad`].

        Returns:
            `input_features` (N, T, feature_size) float32, normalised, zero past each clip's end, and
            `input_features_mask` (N, T) int64, 1 inside the clip.
        """
        if isinstance(motion, Mapping) and "input_features" in motion:
            return BatchFeature(motion)
        clips = motion if isinstance(motion, (list, tuple)) and not is_clip(motion) else [motion]
        if not clips:
            raise ValueError("no clip to read: the list is empty")
        features = [self.normalize(self.to_features(clip, fps)) for clip in clips]
        return self.pad(features, return_tensors=return_tensors, **padding)

    def pad(self, features, return_tensors: str | None = "pt", padding_side: str = "right", **padding) -> BatchFeature:
        """Normalised features of several clips to one padded batch, as [`__call__`] gives it.

        Args:
            features: (T, feature_size) of each clip; or as other feature extractors take them, a dict with a list of
                them as `input_features`, or a list of such dicts. What an `input_features_mask` excludes is left out.
            padding: `padding`, `max_length`, `truncation` and `pad_to_multiple_of` as tokenizers take them, in frames.
                With `truncation` what is too long is refused: half an utterance says something else.

        Raises:
            ValueError: what cannot be done with motion. TypeError: an unknown keyword.
        """
        if padding_side != "right":
            raise ValueError(f"padding_side is {padding_side!r}, but motion is padded at the right")
        clips = _clips_of(features)
        lengths = [len(clip) for clip in clips]
        size = padded_size(lengths, "frames of a clip", **padding)
        if size is None and min(lengths) < max(lengths):
            raise ValueError(f"without padding clips need one length; these have {min(lengths)} to {max(lengths)}")
        size = size or lengths[0]
        batch = {
            "input_features": pad_rows(clips, size, self.padding_value),
            "input_features_mask": pad_rows([np.ones(length, np.int64) for length in lengths], size, 0),
        }
        return BatchFeature(batch, tensor_type=return_tensors)


def padded_size(lengths, what, limit=None, padding=True, max_length=None, truncation=None, pad_to_multiple_of=None):
    """The common length of a batch, from the own `lengths` of what is in it; None: as they are. `limit`: without a
    `max_length`. Raises ValueError where something would have to be cut, or for an unknown value."""
    longest, limit = max(lengths), max_length or limit
    if truncation not in (None, False, "do_not_truncate") and limit is not None and longest > limit:
        raise ValueError(f"{longest} {what}, the limit is {limit}: motion is not cut. Cut the clip into utterances")
    if padding in (False, "do_not_pad"):
        return None
    if padding not in (None, True, "longest", "max_length") or (padding == "max_length" and max_length is None):
        raise ValueError(f"padding is {padding!r}, expected True, 'longest', False, or 'max_length' with max_length")
    longest = max(longest, max_length) if padding == "max_length" else longest
    return longest + -longest % (pad_to_multiple_of or 1)


def pad_rows(rows: list[np.ndarray], size: int, value: float, side: str = "right") -> np.ndarray:
    """Rows of up to `size` entries to one array (N, size, ...), filled up with `value` at that side."""
    padded = []
    for row in rows:
        blank = np.full((size - len(row), *row.shape[1:]), value, row.dtype)
        padded.append(np.concatenate([row, blank] if side == "right" else [blank, row]))
    return np.stack(padded)


def _clips_of(features) -> list[np.ndarray]:
    """What [`SignMotionFeatureExtractor.pad`] takes, as a list of (T, F) arrays."""
    if not isinstance(features, Mapping):
        rows = list(features)
        dicts = rows and isinstance(rows[0], Mapping)
        features = {key: [row[key] for row in rows] for key in rows[0]} if dicts else {"input_features": rows}
    if "input_features" not in features:
        raise ValueError(f"expected input_features, got {', '.join(map(str, features)) or 'nothing'}")
    clips = [np.asarray(clip, np.float32) for clip in features["input_features"]]
    masks = features.get("input_features_mask", [None] * len(clips))
    return [clip if mask is None else clip[np.asarray(mask, bool)] for clip, mask in zip(clips, masks, strict=True)]


def is_clip(value) -> bool:
    """True for a list of frames, each (52, 3) or (F,): one clip as nested lists. False for a list of clips."""
    if not isinstance(value, (list, tuple)) or not value or not isinstance(value[0], (list, tuple, np.ndarray)):
        return False
    try:
        shape = np.shape(value[0])
    except ValueError:  # ragged
        return False
    return len(shape) == 1 or shape == (NUM_JOINTS, 3)


def resample(joints: np.ndarray, fps: float, target_fps: float) -> np.ndarray:
    """Linear interpolation in time of (T, J, 3) joints from `fps` to `target_fps`; NaN joints stay NaN."""
    if abs(fps - target_fps) < 1e-3 or len(joints) < 2:
        return joints
    times = np.arange(0, len(joints) - 1 + 1e-9, fps / target_fps)
    if len(times) < 2:
        times = np.array([0.0, len(joints) - 1.0])
    before = np.minimum(times.astype(int), len(joints) - 2)
    part = (times - before)[:, None, None]
    return joints[before] * (1 - part) + joints[before + 1] * part


__all__ = ["SignMotionFeatureExtractor", "resample"]
