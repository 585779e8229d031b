"""Signing as it comes: frames of a camera in, text out while somebody signs, one utterance after the other.

Hands that rise begin an utterance, hands that rest end it. Until then it is translated again and again; what is whole
is translated as its file would be.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers.utils import logging

from .array_files import numbers
from .even_frames import PARTS, as_clip
from .motion import Given, motion_of
from .pipeline_lslm import SignTranslationPipeline

logger = logging.get_logger(__name__)

# How far the higher wrist is below the shoulders, in shoulder widths: under 0.85 in 99 of 100 frames of 2,364 signs,
# 1.4 and more with the hands in the lap or hanging.
RAISED, RESTING = 1.0, 1.15
GUESSED = 0.5  # visibility: below it MediaPipe mostly makes up where a wrist is
REST = 0.5  # seconds of it end an utterance
HINT = 0.1  # seconds of it: the utterance is translated as if it were over, so that the text is there when it is
BEFORE = 0.3  # seconds that are kept from before the hands rose
SHORTEST = 0.4  # seconds: less is a hand that went through the picture
LONGEST = 20.0  # seconds: who never rests is cut here
EVERY = 0.5  # seconds from one translation of an unfinished utterance to the next
# A lull ends an utterance, too: seconds without a frame, and so many times as long as from one frame to the next.
LULL, LULLS = 1.0, 10.0
_SHOULDERS_AND_WRISTS = {"landmarks": [11, 12, 15, 16], "joints": [16, 17, 20, 21]}


@dataclass(frozen=True)
class Caption:
    """What is to be read at a moment of a stream.

    Attributes:
        text: of the utterance as far as it has come, or "" with a `reason`.
        settled: the beginning of `text` that the translation before had, too, in whole words; all of a final text.
        final: whether the utterance is over.
        start, end: seconds, of the frames that were translated.
        reason: why there is no text; None.
        clip: of a final one, the arrays of our `.npz` format (`np.savez(path, **caption.clip)`); else None.
    """

    text: str
    settled: str
    final: bool
    start: float
    end: float
    reason: str | None = None
    clip: dict[str, np.ndarray] | None = field(default=None, repr=False)


class LiveTranslator:
    """A stream of frames that one push after the other becomes captions; see [`translate_stream`].

    It holds one utterance, of at most `LONGEST` seconds, whatever comes.
    """

    def __init__(
        self,
        pipe: SignTranslationPipeline,
        *,
        image_size: tuple[float, float] | None = None,
        every: float = EVERY,
        **told,
    ):
        if image_size is not None and not _is_size(image_size):
            raise ValueError(f"`image_size` is {image_size!r}, expected width and height in pixels")
        if not (_is_number(every) and every > 0):
            raise ValueError(f"`every` is {every!r}, expected seconds, more than 0")
        self.pipe, self.image_size, self.every, self.told = pipe, image_size, every, told
        self.kind: str | None = None  # of frames: joints or landmarks
        self.waiting: deque[tuple[float, Any]] = deque()  # the last frames before somebody signs
        self.frames: list[tuple[float, Any]] = []  # of the utterance
        self.rested: float | None = None  # since when the hands rest
        self.ahead: Caption | None = None  # of the utterance, should the rest last
        self.asked, self.before = 0.0, ""  # when it was last translated, and as what

    def push(self, seconds: float, frame: Mapping | np.ndarray | None) -> Caption | None:
        """Take a frame, of which a copy is kept; a caption, if there is a new one.

        Raises:
            ValueError: no time, or one that goes back; no frame, or one of another kind than those before.
        """
        if not _is_number(seconds):
            raise ValueError(f"a frame at {seconds!r}, expected seconds, as a finite number")
        seconds, last = float(seconds), self.frames or self.waiting
        if last and not seconds > last[-1][0]:
            raise ValueError(
                f"a frame at {seconds:.16g} s after one at {last[-1][0]:.16g} s: frames come in their order"
            )
        frame = _arrays(frame, self.image_size)
        if frame is not None:
            kind = "landmarks" if isinstance(frame, dict) else "joints"
            if kind != (self.kind or kind):
                raise ValueError(f"a frame of {kind} after {self.kind}; a stream is of one kind")
            self.kind = kind
        if self.frames and seconds - self.frames[-1][0] > LULL:
            usual = np.median(np.diff([second for second, _ in self.frames])) if len(self.frames) > 1 else np.inf
            if seconds - self.frames[-1][0] > LULLS * usual:
                caption = self._whole(self.frames[-1][0])
                self.push(seconds, frame)
                return caption
        below = _wrists_below_shoulders(frame, self.image_size)
        if not self.frames:
            self.waiting.append((seconds, frame))
            while self.waiting[0][0] < seconds - BEFORE:
                self.waiting.popleft()
            if below < RAISED:
                self.frames, self.asked, self.before = list(self.waiting), seconds, ""
                self.rested = self.ahead = None
                self.waiting.clear()
            return None
        self.frames.append((seconds, frame))
        if below < RESTING:
            self.rested = self.ahead = None
        elif self.rested is None:
            self.rested = seconds
        if self.rested is not None and seconds - self.rested >= REST:
            return self._whole(self.rested)
        if seconds - self.frames[0][0] >= LONGEST:
            return self._whole(seconds)
        if self.rested is None and seconds - self.asked >= self.every:
            return self._unfinished(seconds)
        if self.rested is not None and self.ahead is None and seconds - self.rested >= HINT:
            self.ahead = self._caption(self.rested)
        return None

    def finish(self) -> Caption | None:
        """The stream is over: the caption of what was begun."""
        return self._whole(self.frames[-1][0]) if self.frames else None

    def _unfinished(self, seconds: float) -> Caption | None:
        began = time.monotonic()
        text, reason, _ = self._translate(self.frames)
        # who translates more slowly than somebody signs asks less often, and does not fall behind
        self.asked = seconds + max(time.monotonic() - began - self.every, 0.0)
        if reason or not text:
            return None
        settled, self.before = _common_words(self.before, text), text
        return Caption(text, settled, False, self.frames[0][0], seconds)

    def _whole(self, end: float) -> Caption | None:
        caption = self.ahead if self.ahead and self.ahead.end == end else self._caption(end)
        # what came after it is before the next one
        self.waiting.extend((seconds, frame) for seconds, frame in self.frames if seconds > end)
        self.frames = []
        return caption

    def _caption(self, end: float) -> Caption | None:
        """The final one, of what came until then; None: that is too short."""
        frames = [(seconds, frame) for seconds, frame in self.frames if seconds <= end]
        start = frames[0][0]
        if len(frames) < 2 or end - start < SHORTEST + BEFORE:
            return None
        text, reason, clip = self._translate(frames)
        return Caption(text, text, True, start, end, reason, clip)

    def _translate(self, frames: list[tuple[float, Any]]) -> tuple[str, str | None, dict[str, np.ndarray]]:
        clip = as_clip(frames, self.image_size)
        try:
            motion = motion_of(clip, Given())
            for remark in motion.notes:
                if remark.argument is not None:
                    logger.warning_once(f"{remark}")
            result, *_ = self.pipe({"motion": motion}, **self.told)  # the best one, of `num_return_sequences`
        except ValueError as error:
            return "", str(error), clip
        return result["translation_text"], result.get("reason"), clip


def translate_stream(
    frames: Iterable[tuple[float, Mapping | np.ndarray | None]],
    pipe: SignTranslationPipeline,
    *,
    image_size: tuple[float, float] | None = None,
    every: float = EVERY,
    **told,
) -> Iterator[Caption]:
    """Captions of a source of frames, whatever its rate, as long as it lasts.

    ```python
    for caption in lslm.translate_stream(camera(), pipe, image_size=(1280, 720)):
        print(caption.text, end="\\n" if caption.final else "\\r")
    ```

    An utterance that is over is what `pipe` makes of `caption.clip`, saved as a file: the same features and codes.

    Args:
        frames: (seconds, frame): MediaPipe Holistic's landmarks of a picture, a dict of `pose` (33, 3 or 4),
            `left_hand` and `right_hand` (21, 3), None or left out where it found none; or joints (52, 3) in metres, y
            up. None is a picture of nobody.
        pipe: `pipeline("sign-translation", ...)`.
        image_size: width and height of the picture, in pixels; needed with landmarks.
        every: seconds until an unfinished utterance is translated again.
        told: keyword arguments for `pipe`, like `min_confidence=0.5`.

    Raises:
        ValueError: no times, frames out of order, of another shape or kind, or landmarks without `image_size`.
    """
    live = LiveTranslator(pipe, image_size=image_size, every=every, **told)
    for seconds, frame in frames:
        if caption := live.push(seconds, frame):
            yield caption
    if caption := live.finish():
        yield caption


def _is_number(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "iuf" and array.size == 1 and bool(np.isfinite(array).all())


def _is_size(value: Any) -> bool:
    return np.shape(value) == (2,) and all(_is_number(length) and length >= 1 for length in value)


def _arrays(frame: Mapping | np.ndarray | None, image_size: tuple[float, float] | None) -> dict | np.ndarray | None:
    """A frame as arrays of its own: who gives it may write the next one into the same memory.

    Raises:
        ValueError: the frame is none.
    """
    if frame is None:
        return None
    if not isinstance(frame, Mapping):
        if np.shape(frame) != (52, 3):
            raise ValueError(f"a frame has shape {np.shape(frame)}, expected joints (52, 3), or a dict of landmarks")
        return np.array(numbers({"a frame": frame}, "a frame"), np.float64)
    if frame and not frame.keys() & PARTS:
        names = ", ".join(sorted(map(str, frame))[:8])[:200]
        raise ValueError(f"a frame holds {names}, expected pose, left_hand and right_hand, or an array of joints")
    arrays = {}
    for name, shape in PARTS.items():
        if frame.get(name) is not None:
            if np.shape(frame[name]) not in (shape, (shape[0], 3)):
                raise ValueError(f"`{name}` of a frame has shape {np.shape(frame[name])}, expected {shape}")
            arrays[name] = np.array(numbers(frame, name), np.float64)
    if image_size is None:
        raise ValueError("landmarks are parts of a picture: give its image_size=(width, height)")
    return arrays


def _wrists_below_shoulders(frame: dict | np.ndarray | None, image_size: tuple[float, float] | None) -> float:
    """How far the higher wrist is below the shoulders, in shoulder widths; far where nobody is seen."""
    kind = "landmarks" if isinstance(frame, dict) else "joints"
    points, scale = (frame.get("pose"), image_size) if kind == "landmarks" else (frame, (1, -1, 1))
    if points is None or not np.any(points):
        return np.inf
    left, right, *wrists = points[_SHOULDERS_AND_WRISTS[kind], : len(scale)] * scale
    if points.shape[1] == 4:  # out of the picture a wrist is a guess, unless its hand was found
        hands = [np.nan_to_num(frame.get(f"{side}_hand", 0)).any() for side in ("left", "right")]
        wrists = np.where((points[[15, 16], 3:] < GUESSED) & ~np.array(hands)[:, None], np.nan, wrists)
    higher = np.fmin(*(wrist[1] for wrist in wrists))  # of those that have a number
    below = (higher - (left[1] + right[1]) / 2) / max(np.linalg.norm(left - right), 1e-9)
    return float(below) if np.isfinite(below) else np.inf


def _common_words(before: str, now: str) -> str:
    """The words with which both begin."""
    same = 0
    for old, new in zip(before.split(), now.split(), strict=False):
        if old != new:
            break
        same += 1
    return " ".join(now.split()[:same])


__all__ = ["Caption", "LiveTranslator", "translate_stream"]
