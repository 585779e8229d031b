"""Clips of people who do not sign, made by code: what a model says of them is a guess, and its confidence has to know.

A neutral body (processing/skeleton.py) moves its wrists along paths of a kind, each time in another way; elbows and
hands follow, and legs stand, as where a camera did not see them. Another body, camera, tremor and speed for each clip.
Some kinds calibrate a model, the others test it.
"""

from collections.abc import Callable

import numpy as np

from ...processing.motion_features import LEFT_HAND, RIGHT_HAND, UPPER_BODY
from ...processing.skeleton import HANDS_MEAN, POSE_WIDTHS, posed_joints
from ..dataset.augmentation import of_another_body, seen_by_another_camera

SECONDS = (2.0, 8.0)  # how long clips last
SURE = 0.5  # a sentence of more confidence than that is one too many
DOWN = np.array([0.08, -0.50, 0.03])  # a hanging hand from its shoulder: outward, up, to the front; metres
LAP = np.array([-0.10, -0.46, 0.25])
Paths = tuple[np.ndarray, np.ndarray]  # (T, 3) of the left and of the right wrist from its shoulder, outward first


def _wander(rng, time, deviation, seconds=1.0) -> np.ndarray:
    """(T, 3): smoothly about zero, between random points so many seconds apart."""
    knots = rng.normal(0.0, deviation, (int(time[-1] / seconds) + 4, 3))
    at = time / seconds
    below = at.astype(int)
    part = 0.5 - 0.5 * np.cos(np.pi * (at - below))[:, None]
    return knots[below] * (1 - part) + knots[below + 1] * part


def _swing(rng, time, low, high) -> np.ndarray:
    """(T, 1): a sine of `low` to `high` swings a second, of any phase."""
    return np.sin(2 * np.pi * (rng.uniform(low, high) * time + rng.random()))[:, None]


def _still(rng, time) -> Paths:
    return tuple(DOWN + rng.normal(0.0, 0.04, 3) + _wander(rng, time, 0.008) for _ in range(2))


def _raised(rng, time, place, move) -> Paths:
    """One hand is lifted to `place` for most of the time, where it does `move` (T, 3); the other one hangs."""
    start, end = rng.uniform(0.0, 0.2), rng.uniform(0.8, 1.2)
    share = time / time[-1]
    up = np.clip(np.minimum(share - start, end - share) / 0.12, 0, 1)[:, None]
    up = up * up * (3 - 2 * up)
    left, right = _still(rng, time)
    lifted = right + up * (place + rng.normal(0.0, 0.03, 3) + move - right)
    return (left, lifted) if rng.random() < 0.7 else (lifted, left)


def _walking(rng, time) -> Paths:
    size, step = rng.uniform(0.1, 0.3), _swing(rng, time, 0.7, 1.1)
    forward = step * [0.0, 0.15, 1.0] * size
    left, right = _still(rng, time)
    return left + forward, right - forward * [1.0, -1.0, 1.0]


def _waving_about(rng, time) -> Paths:
    middle, size, pace = [0.05, -0.15, 0.30], rng.uniform(0.1, 0.3), rng.uniform(0.3, 1.0)
    return tuple(middle + _wander(rng, time, size, pace) for _ in range(2))


def _clapping(rng, time) -> Paths:
    gap = (0.02 + rng.uniform(0.05, 0.2) * np.abs(_swing(rng, time, 0.7, 2.0))) - 0.18
    place = np.array([0.0, rng.uniform(-0.35, 0.0), rng.uniform(0.25, 0.4)])
    return tuple(place + gap * [1.0, 0.0, 0.0] + _wander(rng, time, 0.01) for _ in range(2))


def _typing(rng, time) -> Paths:
    place = np.array([-0.05, -0.38, 0.32]) + rng.normal(0.0, 0.03, 3)
    return tuple(place + _wander(rng, time, 0.02, 0.5) + 0.006 * _swing(rng, time, 2, 5) for _ in range(2))


def _noise(rng, time) -> Paths:
    """Wrists leap anywhere in front of the body, from frame to frame."""
    return tuple([0.0, -0.2, 0.3] + rng.normal(0.0, rng.uniform(0.02, 0.2), (len(time), 3)) for _ in range(2))


def _sitting(rng, time) -> Paths:
    return tuple(LAP + rng.normal(0.0, 0.04, 3) + _wander(rng, time, 0.006) for _ in range(2))


def _scratching(rng, time) -> Paths:
    rub = _swing(rng, time, 2, 4) * rng.normal(0.0, 0.02, 3)
    return _raised(rng, time, np.array([-0.06, rng.uniform(0.15, 0.3), 0.08]), rub)


def _drinking(rng, time) -> Paths:
    return _raised(rng, time, np.array([-0.14, 0.10, 0.18]), 0.03 * _swing(rng, time, 0.2, 0.5) * [0.0, 1.0, 1.0])


def _stretching(rng, time) -> Paths:
    up = 0.5 - 0.5 * np.cos(2 * np.pi * np.clip(time / time[-1] * rng.uniform(1, 2), 0, 2))[:, None]
    high = np.array([rng.uniform(0.0, 0.4), rng.uniform(0.2, 0.5), 0.05])
    return tuple(hand + up * (high - hand) for hand in _still(rng, time))


def _arms_crossed(rng, time) -> Paths:
    sway = _wander(rng, time, 0.008)
    return tuple([-0.25, -0.22 - low, 0.14] + sway for low in rng.permutation([0.0, 0.05]))


def _jumping(rng, time) -> Paths:
    lift = 0.5 + 0.5 * _swing(rng, time, 0.6, 1.2)
    angle = np.pi * (lift - 0.5) * rng.uniform(0.7, 0.95)
    arm = 0.50 * np.concatenate([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    return arm, arm.copy()


def _stirring(rng, time) -> Paths:
    turn = 2 * np.pi * rng.uniform(0.7, 1.8) * time
    circle = rng.uniform(0.03, 0.08) * np.stack([np.cos(turn), np.zeros_like(turn), np.sin(turn)], -1)
    return _raised(rng, time, np.array([-0.05, -0.33, 0.30]), circle)


def _on_the_phone(rng, time) -> Paths:
    return _raised(rng, time, np.array([-0.08, 0.16, 0.05]), _wander(rng, time, 0.008))


Kind = Callable[[np.random.Generator, np.ndarray], Paths]
CALIBRATION: dict[str, Kind] = {
    "standing still": _still,
    "walking": _walking,
    "waving the arms about": _waving_about,
    "clapping": _clapping,
    "typing": _typing,
    "noise": _noise,
}
TEST: dict[str, Kind] = {
    "sitting, hands in the lap": _sitting,
    "scratching the head": _scratching,
    "drinking": _drinking,
    "stretching": _stretching,
    "arms crossed": _arms_crossed,
    "jumping jacks": _jumping,
    "stirring": _stirring,
    "on the phone": _on_the_phone,
}


def no_signing(kinds: dict[str, Kind], count: int, fps: float, seed: int) -> list[np.ndarray]:
    """`count` clips of `kinds`, one kind after the other: (T, 52, 3) float32 metres, +y up, facing +z."""
    names = list(kinds)
    return [_clip(kinds[names[i % len(names)]], fps, np.random.default_rng([seed, i])) for i in range(count)]


def _clip(kind: Kind, fps: float, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(round(rng.uniform(*SECONDS) * fps)) / fps
    pose = {name: np.zeros((len(time), width)) for name, width in POSE_WIDTHS.items()}
    for name, at_rest in zip(("left_hand_pose", "right_hand_pose"), HANDS_MEAN, strict=True):
        pose[name] = at_rest * (rng.uniform(0.5, 1.6) + _wander(rng, time, 0.15)[:, :1])
    joints = posed_joints(pose, 0.0)
    joints[:, UPPER_BODY[1:]] += _wander(rng, time, 0.006, 1.5)[:, None]  # sways
    for side, hand, wrist, path in zip((1.0, -1.0), (LEFT_HAND, RIGHT_HAND), (20, 21), kind(rng, time), strict=True):
        _reach(joints, hand, wrist, path * [side, 1.0, 1.0], side, rng.uniform(-1.2, 1.2))
    joints = of_another_body(seen_by_another_camera(joints, rng, 4.0, 0.15), rng, 0.08)
    return (joints + rng.normal(0.0, rng.uniform(0.0, 0.003), joints.shape)).astype(np.float32)


def _reach(joints: np.ndarray, hand: list[int], wrist: int, path: np.ndarray, side: float, twist: float) -> None:
    """Put `wrist` of (T, 52, 3) `joints` where `path` (T, 3) has it, from its shoulder, or as near as the arm reaches;
    the elbow points down and out, the hand goes on along the forearm, turned about it by `twist` radians."""
    shoulder, offsets = joints[:, wrist - 4].copy(), joints[:, hand] - joints[:, [wrist]]
    upper, fore = (np.linalg.norm(joints[0, a] - joints[0, a - 2]) for a in (wrist - 2, wrist))
    far = np.linalg.norm(path, axis=-1, keepdims=True)
    distance = far.clip(0.15, 0.98 * (upper + fore))
    along = path / far
    down = _across(np.array([0.5 * side, -1.0, -0.4]), along)
    part = (upper**2 + distance**2 - fore**2) / (2 * distance)  # of the way is the foot of the elbow
    joints[:, wrist - 2] = shoulder + part * along + np.sqrt(np.maximum(upper**2 - part**2, 0.0)) * down
    joints[:, wrist] = shoulder + distance * along
    x = side * (joints[:, wrist] - joints[:, wrist - 2]) / fore
    y = _across(np.array([0.5 * side, -1.0, -0.4]), x)
    z = np.cross(x, y)
    y, z = np.cos(twist) * y + np.sin(twist) * z, np.cos(twist) * z - np.sin(twist) * y
    joints[:, hand] = joints[:, [wrist]] + offsets @ np.stack([x, y, z], axis=1)


def _across(vector: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(T, 3): what of `vector` (3,) is at right angles to (T, 3) `along`, of length one."""
    rest = vector - (along @ vector)[:, None] * along
    return rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-6)


def sure_of_nothing(texts: list[str], words: list[list[float]]) -> dict:
    """Translations of `no_signing(TEST, ...)` and the confidence of their words: `clips`, and how many percent of them
    got a sentence of a confidence above `SURE`: `sure`, and of each of the `kinds`."""
    told = np.array([bool(text) and np.mean(clip or [0.0]) > SURE for text, clip in zip(texts, words, strict=True)])
    kinds = {name: round(100 * float(told[at :: len(TEST)].mean()), 2) for at, name in enumerate(TEST)}
    return {"clips": len(told), "sure": round(100 * float(told.mean()), 2), "kinds": kinds}
