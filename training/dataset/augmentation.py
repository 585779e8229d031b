"""How a clip differs from epoch to epoch."""

from dataclasses import dataclass

import numpy as np

from ...processing.feature_extraction_lslm import resample
from ...processing.motion_features import JOINT_NAMES, LEFT_HAND, NUM_JOINTS, PARENTS, RIGHT_HAND
from .validity import ALL_OBSERVED

# Augmentation in time: how many times as many frames, and how many frames later it starts (a code stands for four).
STRETCH, DELAY = (0.8, 1.25), 4
LOWEST_RATE = 0.6  # of the frame rate, for `frame_rate_jitter`: 12 of 20 frames per second
ARMS, HANDS = [18, 19, 20, 21], [*LEFT_HAND, *RIGHT_HAND]  # whose bones `body_proportions` scales apart

_SIDES = {"left": "right", "right": "left"}
_OTHER_SIDE = ["_".join(_SIDES.get(part, part) for part in name.split("_")) for name in JOINT_NAMES]
_MIRROR = [JOINT_NAMES.index(name) for name in _OTHER_SIDE]


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
        if not (deviation := self.body_proportions) >= 0:
            raise ValueError(f"body_proportions is {deviation}, expected a deviation from 0 on; 0.1: a tenth")

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
    scaled[:, 0, :3] *= body
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
