"""How a clip differs from epoch to epoch."""

from dataclasses import dataclass, fields

import numpy as np

from ...processing.feature_extraction_lslm import resample
from ...processing.motion_features import HEADING_JOINTS, LEFT_HAND, NUM_JOINTS, PARENTS, RIGHT_HAND, mirrored
from .validity import ALL_OBSERVED

# Augmentation in time: how many times as many frames, and how many frames later it starts (a code stands for four).
STRETCH, DELAY = (0.8, 1.25), 4
LOWEST_RATE = 0.6  # of the frame rate, for `frame_rate_jitter`: 12 of 20 frames per second
ARMS, HANDS = [18, 19, 20, 21], [*LEFT_HAND, *RIGHT_HAND]  # whose bones `body_proportions` scales apart


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
        camera_tilt: deviation, in degrees, of a camera that is pitched and rolled.
        depth_scale: deviation of the depth, as a camera in front of the signer judges it; 0.3: about a third.
        tremor: millimetres; each clip gets noise of up to this deviation on every coordinate.
        tempo: the clip is up to so many times slower or faster; 1: as it is.
        hand_turn: deviation, in degrees about each axis, of how each hand is held throughout the clip.
    """

    augment: bool = False
    window: int | None = None
    frame_rate_jitter: float = 0.0
    body_proportions: float = 0.0
    mirror: float = 0.0
    camera_tilt: float = 0.0
    depth_scale: float = 0.0
    tremor: float = 0.0
    tempo: float = 1.0
    hand_turn: float = 0.0

    def __post_init__(self):
        for name in ("frame_rate_jitter", "mirror"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability from 0 to 1")
        least = {"body_proportions": (0, "a deviation from 0 on; 0.1: a tenth"), "tempo": (1, "a factor from 1 on")}
        least |= dict.fromkeys(("camera_tilt", "hand_turn"), (0, "a deviation in degrees, from 0 on"))
        least |= {"tremor": (0, "millimetres, from 0 on")}
        least |= {"depth_scale": (0, "a deviation from 0 on; 0.3: a third")}
        for name, (low, what) in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {what}")

    @property
    def changes_clips(self) -> bool:
        """Whether a clip differs from epoch to epoch at all."""
        return self != Variation()

    def __call__(self, joints: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator) -> dict:
        """`joints` (T', 52, 3) float32 of a clip (T, 52, 3) this time, and `valid` (T', 52) if that is not None."""
        if valid is not None:
            # as a fourth number beside x, y and z: what happens in time happens to both
            joints = np.concatenate([joints, valid[..., None]], -1)
        if self.window:
            enough = int(self.window * self.tempo / STRETCH[0]) + DELAY + 2  # for a window after augmentation
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
        if self.tempo > 1:
            joints = resample(joints, 1.0, self.tempo ** rng.uniform(-1, 1)).astype(np.float32)
        if self.hand_turn:
            joints = with_turned_hands(joints, rng, self.hand_turn)
        if self.camera_tilt or self.depth_scale:
            joints = seen_by_another_camera(joints, rng, self.camera_tilt, self.depth_scale)
        if self.tremor:
            joints = joints.copy()
            deviation = rng.uniform(0.0, self.tremor) / 1000
            joints[..., :3] += rng.normal(0.0, deviation, (*joints.shape[:-1], 3)).astype(np.float32)
        item = {"joints": joints[..., :3]}
        return item if valid is None else item | {"valid": joints[..., 3] > ALL_OBSERVED}


# what a recipe says of it, but for `augment` and what each stage chooses itself
VARIATION_KEYS = [field.name for field in fields(Variation) if field.name not in ("augment", "window")]


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


def with_turned_hands(joints: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """(T, 52, 3) joints with each hand turned about its wrist, alike in all frames: people hold them differently."""
    joints = joints.copy()
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        x, y, z = (rotation(axis, angle) for axis, angle in enumerate(np.deg2rad(rng.normal(0.0, deviation, 3))))
        arms = joints[:, hand, :3] - joints[:, [wrist], :3]
        joints[:, hand, :3] = joints[:, [wrist], :3] + arms @ (x @ y @ z).T
    return joints


def facing_the_camera(joints: np.ndarray) -> np.ndarray:
    """(T, 52, 3) joints turned about y and moved so that the signer starts at the origin and faces +z, as features have
    it: there the camera is."""
    left_hip, right_hip, left_shoulder, right_shoulder = joints[0, HEADING_JOINTS, :3].astype(np.float64)
    across = left_hip - right_hip + left_shoulder - right_shoulder
    facing = joints.copy()
    facing[..., :3] = (joints[..., :3] - joints[:1, :1, :3]) @ rotation(1, np.arctan2(across[2], across[0])).T
    return facing


def seen_by_another_camera(joints: np.ndarray, rng: np.random.Generator, tilt: float, depth: float) -> np.ndarray:
    """(T, 52, 3) joints from a camera in front that is pitched and rolled (deviation `tilt`, in degrees) and takes
    depths for larger or smaller (deviation of their factor `depth`)."""
    joints = facing_the_camera(joints)
    pitch, roll = np.deg2rad(rng.normal(0.0, 1.0, 2) * tilt)
    joints[..., 2] *= np.exp(rng.normal(0.0, 1.0) * depth)
    joints[..., :3] = joints[..., :3] @ (rotation(0, pitch) @ rotation(2, roll)).T
    return joints


def rotation(axis: int, radians: float) -> np.ndarray:
    """(3, 3): about x, y or z, from the next axis towards the one after it."""
    matrix, (b, c) = np.eye(3), ((axis + 1) % 3, (axis + 2) % 3)
    matrix[b, b] = matrix[c, c] = np.cos(radians)
    matrix[c, b] = np.sin(radians)
    matrix[b, c] = -matrix[c, b]
    return matrix


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
