"""A signer who never lived: the letters of the American manual alphabet as joint angles, signed with all that differs
between people, and seen as a tracker sees hands.

    python examples/asl_cafe/recombine.py --synthetic 0.3 --out runs/asl_cafe/data   # spells 3 of 10 names

The table `LETTERS` is the alphabet: whoever finds a letter wrong corrects its line, and
`python benchmarks/synthetic_signer.py OUT` says what real people read of it. Everything else is variation (`Signer`)
and error (`Tracker`). It only ever trains: no split of build.py has a synthetic take.

The right hand, fingers up and palm to the camera, is the zero of all angles: +x to the thumb (the person's left), +y
along the fingers, +z out of the palm. Degrees here, metres and frames elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lslm.processing.motion_features import JOINT_NAMES, RIGHT_HAND, fill_in_time

FPS = 15.0
SECONDS = 0.3, 2.0  # a letter, with the way to the next one
LEFT_HANDED = 0.1  # share of people

# --- the alphabet -----------------------------------------------------------------------------------------------------

# A finger: flexion at knuckle (MCP), PIP and DIP, and its spread, positive towards the thumb.
STRAIGHT = (8, 8, 5, -3)
FOLDED = (72, 105, 60, -15)
LOOSE = (88, 80, 50, 0)  # folded without a thumb that holds it
CURVED = (14, 42, 30, -8)
ROUND = (50, 55, 35, -8)
HOOKED = (35, 110, 60, -10)
OVER_THUMB = (70, 82, 40, -5)
# A thumb: where its metacarpal points, `out` to the side (0: along the fingers) and to the `front` of the palm, and its
# flexion across the palm at MCP and IP.
ACROSS = (12, 40, 52, 40)  # over folded fingers


@dataclass(frozen=True)
class Shape:
    """Where a letter holds fingers, thumb and palm. `palm`: `turn` about the forearm (90: the palm looks to the
    person's left, 180: at the person), `tip` of the fingers to the camera, `lean` of the fingers in the picture (90: to
    the person's left, 180: down). In this order."""

    index: tuple[float, ...] = (70, 92, 60, -10)
    middle: tuple[float, ...] = FOLDED
    ring: tuple[float, ...] = (72, 112, 60, -15)
    pinky: tuple[float, ...] = (62, 112, 60, -12)
    thumb: tuple[float, ...] = ACROSS
    palm: tuple[float, ...] = (12, 3, 3)

    def angles(self) -> np.ndarray:
        """(23,): index, middle, ring, pinky with 4 each; thumb 4; palm 3."""
        return np.array([*self.index, *self.middle, *self.ring, *self.pinky, *self.thumb, *self.palm], float)


_I = Shape(pinky=(8, 12, 5, -20), thumb=(26, 35, 34, 30), palm=(12, 0, 8))
_K = Shape((15, 6, 5, 8), (35, 10, 5, -6), LOOSE, LOOSE, thumb=(5, 30, 24, 5))
_P = Shape((25, 8, 5, -3), (45, 12, 5, -10), thumb=(5, 30, 25, 5))
_L = Shape(index=(8, 6, 5, -3), thumb=(48, 25, -8, 0))
_BENT = (70, 15, 5, -10)  # the finger points where the palm looks
# The fingers of G, H, P and Q point across the body or down, with the hand in line (first) or bent at the knuckles.
LETTERS: dict[str, tuple[Shape, ...]] = {
    "a": (Shape(thumb=(26, 15, 15, 5)),),
    "b": (Shape((5, 8, 5, -3), (5, 8, 5, -3), (5, 6, 5, -4), (5, 6, 5, -5), thumb=(18, 35, 50, 40)),),
    "c": (Shape(CURVED, CURVED, CURVED, (14, 30, 25, -8), thumb=(20, 45, 12, 20), palm=(55, 0, 12)),),
    "d": (
        Shape(STRAIGHT, ROUND, ROUND, ROUND, thumb=(18, 45, 20, 25), palm=(20, 0, 3)),
        Shape(STRAIGHT, ROUND, ROUND, ROUND, thumb=(10, 35, 20, 25), palm=(65, -5, 5)),
    ),
    "e": (
        Shape(HOOKED, HOOKED, (25, 115, 60, -10), (15, 108, 60, -10), thumb=(22, 40, 52, 50)),
        Shape(
            (25, 80, 50, -10), (25, 95, 55, -10), (20, 95, 55, -10), (10, 60, 40, -8), thumb=(36, 40, 45, 50)
        ),  # open
    ),
    "f": (Shape((55, 60, 30, 5), (10, 8, 5, -2), (5, 6, 5, -10), (3, 8, 5, -18), thumb=(26, 45, 15, 25)),),
    "g": (
        Shape(index=(15, 10, 5, -3), thumb=(25, 35, 15, 5), palm=(150, 10, 75)),
        Shape(index=_BENT, thumb=(10, 35, 12, 5), palm=(80, 15, 0)),
    ),
    "h": (
        Shape((10, 8, 5, -3), (10, 8, 5, -3), palm=(150, 10, 75)),
        Shape(_BENT, _BENT, palm=(85, 15, 5)),
    ),
    "i": (_I,),
    "j": (_I,),
    "k": (_K, replace(_K, palm=(30, 0, 3))),
    "l": (_L,),
    "m": (Shape(OVER_THUMB, OVER_THUMB, OVER_THUMB, (80, 80, 50, 10), thumb=(0, 40, 56, 30)),),
    "n": (Shape(OVER_THUMB, OVER_THUMB, LOOSE, LOOSE, thumb=(8, 40, 50, 30)),),
    "o": (Shape(ROUND, ROUND, ROUND, ROUND, thumb=(12, 45, 18, 25), palm=(50, -5, 5)),),
    "p": (replace(_P, palm=(165, 45, 160)), replace(_P, palm=(110, 30, 115))),
    "q": (
        Shape(index=(15, 10, 5, -3), thumb=(25, 35, 15, 5), palm=(150, 20, 160)),
        Shape(index=(85, 10, 5, -10), middle=(90, 80, 50, 0), thumb=(30, 45, 20, 5), palm=(30, 55, 30)),
    ),
    "r": (Shape(index=(8, 8, 5, -13), middle=(15, 10, 5, 4)),),
    "s": (Shape(thumb=(15, 45, 65, 45)),),
    "t": (Shape(index=(65, 75, 45, -3), thumb=(15, 35, 38, 15)),),
    "u": (Shape(index=(8, 6, 5, -4), middle=(8, 6, 5, -4)),),
    "v": (Shape(index=(8, 6, 5, 14), middle=(8, 6, 5, -9)),),
    "w": (Shape((5, 6, 5, 14), (3, 8, 5, -2), (6, 10, 5, -18), thumb=(12, 40, 64, 35)),),
    "x": (
        Shape(index=(35, 24, 45, 0), thumb=(10, 38, 42, 35)),
        Shape(index=(30, 30, 50, 3), thumb=(10, 38, 42, 35), palm=(40, 0, 0)),
    ),
    "y": (Shape(pinky=(8, 12, 5, -24), thumb=(40, 20, -2, 0), palm=(12, 5, -10)),),
    "z": (Shape(index=(30, 8, 5, -3), palm=(12, 5, -10)),),
}
RELAXED = Shape(*[(30, 35, 20, -5)] * 4, thumb=(25, 30, 15, 15))  # before and after a word
# J and Z draw themselves: way of the wrist, in palms, and by how much the palm (turn, tip, lean) leaves its angles.
MOVES = {
    "j": (
        ((0, 0, 0), (0, -0.5, 0), (0.2, -0.8, 0), (0.5, -0.6, 0)),
        ((0, 0, 0), (20, 10, 0), (70, 20, 10), (130, 10, 20)),
    ),
    "z": (
        ((0.4, 0.3, 0), (-0.4, 0.3, 0), (0.4, -0.4, 0), (-0.4, -0.4, 0)),
        ((0, 0, 12), (0, 0, -12), (0, 5, 12), (0, 5, -12)),
    ),
}

# --- the hand ---------------------------------------------------------------------------------------------------------

FINGERS = ("index", "middle", "ring", "pinky", "thumb")
# Proximal, middle and distal phalanx; of the thumb the metacarpal, less 10 mm that MediaPipe's first point lies up its
# shaft, and two phalanges. Metres: Buryanov and Kotiuk, Int. J. Morphology 28 (2010), radiographs of 66 adults.
BONES = np.array(
    [
        (0.0398, 0.0224, 0.0158),
        (0.0446, 0.0263, 0.0174),
        (0.0414, 0.0257, 0.0173),
        (0.0327, 0.0181, 0.0160),
        (0.0362, 0.0316, 0.0217),
    ]
)
# From the wrist to the knuckles and to the thumb's saddle joint: metacarpals of the same source behind a carpus of 35
# mm, a quarter of the hand's breadth (85 mm) apart, on the arch of the palm.
KNUCKLES = np.array(
    [(0.028, 0.092, 0.0), (0.006, 0.095, -0.003), (-0.016, 0.088, 0.0), (-0.036, 0.073, 0.004), (0.028, 0.024, 0.010)]
)
# Limits of MCP, PIP, DIP, spread; out, front, MCP, IP. Norkin and White, Measurement of Joint Motion, with what people
# can do beyond the norm.
FINGER_LIMITS = np.array([(-20, 95), (-5, 115), (-5, 85), (-25, 25)], float)
THUMB_LIMITS = np.array([(-10, 90), (-10, 75), (-10, 70), (-15, 85)], float)
LIMITS = np.concatenate([*[FINGER_LIMITS] * 4, THUMB_LIMITS])  # (20, 2): all but the palm
# Points of MediaPipe: wrist, then thumb, index, middle, ring, pinky with 4 each. The last of each, the tip, is no
# joint.
_POINT = {"thumb": 1, "index": 5, "middle": 9, "ring": 13, "pinky": 17}
OF_SKELETON = [_POINT[finger] + k for finger in ("index", "middle", "pinky", "ring", "thumb") for k in range(3)]


def hand_points(angles: np.ndarray, bones: np.ndarray = BONES, knuckles: np.ndarray = KNUCKLES) -> np.ndarray:
    """Angles (T, 23) in degrees -> (T, 21, 3) points of MediaPipe's hand from the wrist, metres, x to the person's
    left, y up, z to the camera."""
    radians = np.radians(angles)
    points = np.zeros((len(angles), 21, 3))
    for number, finger in enumerate(FINGERS):
        first, second, third, fourth = radians[:, 4 * number : 4 * number + 4].T
        if finger == "thumb":
            along = np.stack([np.sin(first) * np.cos(second), np.cos(first) * np.cos(second), np.sin(second)], -1)
            across = np.array([-1.0, 0.0, 0.0]) + along[:, :1] * along  # to the little finger, square to the thumb
            across /= np.linalg.norm(across, axis=-1, keepdims=True)
            bends = np.cumsum(np.stack([0 * third, third, fourth]), axis=0)[..., None]
            directions = np.cos(bends) * along + np.sin(bends) * across
        else:
            bends = np.cumsum(np.stack([first, second, third]), axis=0)
            up = np.cos(bends)
            directions = np.stack([up * np.sin(fourth), up * np.cos(fourth), np.sin(bends)], axis=-1)
        start = points[:, _POINT[finger]] = knuckles[number]
        for k in range(3):
            start = start + bones[number, k] * directions[k]
            points[:, _POINT[finger] + 1 + k] = start
    return np.einsum("tij,tnj->tni", palm_turn(radians[:, 20:]), points)


def palm_turn(palm: np.ndarray) -> np.ndarray:
    """(T, 3) radians turn, tip, lean -> (T, 3, 3)."""
    turn, tip, lean = palm.T
    zero, one = np.zeros_like(turn), np.ones_like(turn)

    def matrix(*rows: tuple) -> np.ndarray:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    about_y = matrix((np.cos(turn), zero, np.sin(turn)), (zero, one, zero), (-np.sin(turn), zero, np.cos(turn)))
    about_x = matrix((one, zero, zero), (zero, np.cos(tip), -np.sin(tip)), (zero, np.sin(tip), np.cos(tip)))
    about_z = matrix((np.cos(lean), np.sin(lean), zero), (-np.sin(lean), np.cos(lean), zero), (zero, zero, one))
    return about_z @ about_x @ about_y


# --- a person ---------------------------------------------------------------------------------------------------------

SPREAD_OF_PEOPLE = 0.06  # of lengths of bones, and of the whole hand
# Degrees by which people differ from the table (in all letters, and in one), and takes from their person: fingers MCP,
# PIP, DIP, spread; thumb; palm turn, tip, lean.
LAXITY = np.array([5, 4, 5, 2] * 4 + [4, 5, 6, 8] + [14, 10, 8], float)
LAXITY_OF_LETTER, LAXITY_OF_TAKE = 0.8, 0.35  # times LAXITY
ARRIVAL = 0.1, 0.35  # share of a letter's time on the way from the letter before, and as much to the next one
FEWEST_FRAMES, FEWEST_MOVED = 2, 10  # of a letter; of J and Z
TRANSITION = 3  # frames that `build.transition` adds where wrists hardly move


class Signer:
    """One person before one camera. All of both is drawn from `rng`."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.left_handed = bool(rng.random() < LEFT_HANDED)
        size = rng.normal(1, SPREAD_OF_PEOPLE)
        self.bones = (
            BONES * size * rng.normal(1, SPREAD_OF_PEOPLE, (5, 1)) * rng.normal(1, SPREAD_OF_PEOPLE / 2, (5, 3))
        )
        self.knuckles = (
            KNUCKLES * size * rng.normal(1, SPREAD_OF_PEOPLE / 2, (5, 1)) * rng.normal(1, SPREAD_OF_PEOPLE, 3)
        )
        self.seconds = float(np.exp(rng.uniform(*np.log(SECONDS))))
        self.habit = rng.normal(0, LAXITY)
        self.shapes: dict[str, np.ndarray] = {}
        self.tracker = Tracker(rng)

    def shape(self, letter: str) -> np.ndarray:
        """(23,) degrees, this person's for the letter; anything but a letter is a hand at rest."""
        if letter not in self.shapes:
            variants = LETTERS.get(letter, (RELAXED,))
            shares = self.rng.dirichlet([0.5] * len(variants))  # mostly one of them, at times something between
            angles = shares @ np.stack([variant.angles() for variant in variants])
            self.shapes[letter] = angles + self.habit + self.rng.normal(0, LAXITY_OF_LETTER * LAXITY)
        return self.shapes[letter]

    def spell(self, word: str) -> list[np.ndarray]:
        """Hands (T, 21, 3) for each letter: metres from the place where the wrist rests, x to the person's left, y up,
        z to the camera; right hands. What is left between two of them is for `build.transition`.

        Raises:
            ValueError: a character that is no letter from a to z.
        """
        if strange := set(word) - LETTERS.keys():
            raise ValueError(f"expected letters from a to z, got {sorted(strange)} in {word!r}")
        return [self._letter(*letters) for letters in zip(f" {word}", word, f"{word[1:]} ", strict=False)]

    def _letter(self, before: str, letter: str, after: str) -> np.ndarray:
        frames = round(FPS * self.seconds * self.rng.uniform(0.8, 1.2)) - TRANSITION
        frames = max(frames, FEWEST_MOVED if letter in MOVES else FEWEST_FRAMES)
        time = np.linspace(0, 1, frames)
        angles = np.tile(self.shape(letter) + self.rng.normal(0, LAXITY_OF_TAKE * LAXITY), (frames, 1))
        path = np.zeros((frames, 3))
        if letter in MOVES:
            way, turns = (np.array(part, float) for part in MOVES[letter])
            at = np.linspace(0.1, 0.9, len(way))
            path = _follow(time, at, way) * np.linalg.norm(self.knuckles[1]) * self.rng.uniform(0.6, 1.3)
            angles[:, 20:] += _follow(time, at, turns) * self.rng.uniform(0.7, 1.2)
        for neighbour, distance in ((before, time), (after, 1 - time)):
            if frames > 3 * FEWEST_FRAMES:  # a short one is all on the way
                away = np.clip(1 - distance / self.rng.uniform(*ARRIVAL), 0, 1)
                away = (away * away * (3 - 2 * away) * self.rng.uniform(0, 0.6))[:, None]
                angles += away * (self.shape(neighbour) - angles)
        angles[:, :20] = np.clip(angles[:, :20], *LIMITS.T)
        return path[:, None] + self.tracker.see(angles, self.bones, self.knuckles)


def _follow(time: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(time, at, column) for column in values.T], axis=-1)


class Tracker:
    """What a camera and MediaPipe make of hands. Sizes in metres and shares, of this camera and person."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        # A fist seen from palm or back comes out flat: less bent at the knuckles than it is, and more at PIP; a thumb
        # before the palm lies in it.
        self.flatness = rng.uniform(0.3, 0.8)
        self.depth = rng.uniform(0.6, 1.3)
        self.tremor, self.drift = rng.uniform(0.0003, 0.002), rng.uniform(0, 0.0015)
        self.lost = rng.uniform(0, 0.1)  # share of frames
        self.occlusion = rng.uniform(0, 0.4)  # share of takes in which hidden fingers are taken for one another

    def see(self, angles: np.ndarray, bones: np.ndarray, knuckles: np.ndarray) -> np.ndarray:
        """(T, 23) -> (T, 21, 3), the wrist at 0."""
        rng, frames = self.rng, len(angles)
        angles = self._confuse(angles)
        facing = np.abs(palm_turn(np.radians(angles[:, 20:]))[:, 2, 2]) * self.flatness
        for finger in range(4):
            unseen = facing * angles[:, 4 * finger].clip(0)
            angles[:, 4 * finger] -= unseen
            angles[:, 4 * finger + 1] += unseen * (angles[:, 4 * finger + 1] > 30)
        angles[:, 17] *= (1 - facing) ** 2
        points = hand_points(angles, bones, knuckles)
        points[..., 2] *= self.depth * rng.normal(1, 0.1)
        time = np.arange(frames)[:, None, None] / FPS
        sway = np.sin(2 * np.pi * (rng.uniform(0.1, 0.8, (1, 21, 3)) * time + rng.uniform(0, 1, (1, 21, 3))))
        noise = rng.normal(0, self.tremor, points.shape) + self.drift * rng.normal(0, 1, (1, 21, 3)) * sway
        points += noise * (1, 1, 2)  # depth is the least certain
        points -= points[:, :1]
        seen = rng.random(frames) >= self.lost
        return fill_in_time(points, seen) if seen.any() else points

    def _confuse(self, angles: np.ndarray) -> np.ndarray:
        """Fingers behind others, for a while: folded ones are where their neighbour is, and the thumb is anywhere."""
        rng, angles = self.rng, angles.copy()
        folded = [finger for finger in range(4) if angles[:, 4 * finger : 4 * finger + 2].sum(1).mean() > 120]
        if len(folded) < 2 or rng.random() > self.occlusion:
            return angles
        start, end = sorted(rng.integers(0, len(angles) + 1, 2)) if rng.random() < 0.5 else (0, len(angles))
        one, other = rng.choice(folded, 2, replace=False)
        angles[start:end, 4 * one : 4 * one + 4] = angles[start:end, 4 * other : 4 * other + 4]
        angles[start:end, 16:20] += rng.normal(0, (10, 10, 15, 15))
        return angles


def on_body(hand: np.ndarray, body: np.ndarray, first: int = 0) -> np.ndarray:
    """A right hand (T, 21, 3) of `Signer.spell` on the arm of somebody else: joints (T, 52, 3), metres.

    `body` (B, 52, 3), metres, is played from frame `first` on, to and fro. Its wrist follows the hand, and by half its
    elbow.
    """
    around = np.abs((first + np.arange(len(hand)) + len(body) - 1) % max(2 * len(body) - 2, 1) - (len(body) - 1))
    joints = body[around].astype(float)
    joints[:, JOINT_NAMES.index("right_elbow")] += 0.5 * hand[:, 0]
    wrist = joints[:, JOINT_NAMES.index("right_wrist")]
    wrist += hand[:, 0]
    joints[:, RIGHT_HAND] = wrist[:, None] + hand[:, OF_SKELETON] - hand[:, :1]
    return joints
