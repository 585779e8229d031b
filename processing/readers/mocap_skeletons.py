"""Joints named as some program names them -> the 52 joints of SMPL-H, in metres, y up.

Known are the names of Mixamo, MotionBuilder and CMU, Poser and most BVH files (`LeftShoulder`, `LeftElbow`), VRM and
Unity, VRoid (`J_Bip_L_UpperArm`), Rokoko, Unreal (`upperarm_l`), Character Creator, 3ds Max Biped and SMPL-X.
There is no list of skeletons: every joint has a list of its names, and a skeleton may mix them.
"""

import re

import numpy as np

from ..mediapipe_landmarks import rest_hand
from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES, LEFT_HAND, NUM_JOINTS, RIGHT_HAND
from ..smplx_formats import UP_TURNS
from .handedness import right_handed

# What one step of the numbers may be, in metres. Old CMU files count inches divided by 0.45.
UNITS = {"metres": 1.0, "CMU's 5.6 cm": 0.0254 / 0.45, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
BODY_SIZE = 1.1  # metres from pelvis to head, and on along one arm; 0.87 to 1.2 in adults and avatars
SIZE_FACTOR = 2.0  # how far a body may be from it
STANDING = 0.7  # of the way from pelvis to head must be along one axis (45 degrees), else nobody knows what is up
SHORTEST_SPINE_BONE = 0.02  # metres; CMU's first spine joint lies in the pelvis
SAME_PLACE = 0.05  # of a body: bones that many rigs have twice
STILL = 5e-4  # metres: fingers that move less within their hand were never captured

_JOINT = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
_NECKS = ("neck", "neck1", "necklower", "necktwist1")
# Our joint without its side: what others call it, best first. Each name is used once, so the order of the rows matters:
# `shoulder` is the collar where there is an `arm`, and `foot` is the ankle unless there is an `ankle`.
_BODY_NAMES = {
    "pelvis": ("hips", "pelvis", "hip"),
    "neck": _NECKS,
    "head": ("head",),
    "hip": ("upleg", "upperleg", "thigh", "hip"),
    "knee": ("lowleg", "lowerleg", "shin", "calf", "knee", "leg"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toes", "toe", "toe0", "ball", "forefoot", "foot"),
    "shoulder": ("upperarm", "uparm", "shldr", "arm", "shoulder"),
    "collar": ("collar", "clavicle", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow"),
    "wrist": ("wrist", "hand"),
}
_CENTRAL = ("pelvis", "neck", "head")
_SPINE = re.compile(r"(spine|chest|upperchest|lowerback|upperback|back|abdomen|torso|waist|thorax)(lower|upper)?\d*")
_NEEDED = [
    *("pelvis", "head", "left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
]
_FINGERS = {  # in the order of Rokoko's and Biped's numbers
    "thumb": ("thumb",),
    "index": ("index",),
    "middle": ("middle", "mid"),
    "ring": ("ring",),
    "pinky": ("pinky", "little"),
}
# Fractions of the way up the spine at which SMPL's joints lie, and where joints go that a skeleton lacks.
_SPINE_HEIGHTS = {"spine1": 0.24, "spine2": 0.50, "spine3": 0.60}
_NECK_HEIGHT = 0.86  # of the way from pelvis to head
_LEG = {"knee": (-0.39, 0.0), "ankle": (-0.42, -0.03), "foot": (-0.05, 0.13)}  # metres up and to the front, each from
# the one before


def named_joints_to_motion_joints(
    names: list[str], positions: np.ndarray, up: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[Remark]]:
    """Joints under the names of some program -> the 52 joints, in metres, y up.

    The unit is the one in which the body is nearest to human size. The axis along which the head is above the pelvis is
    up. Where a person stands and faces is kept. If the body bends to the back, left and right handed axes were mixed
    up, and x is mirrored. Three spine joints are taken as they are, other numbers are spread over the spine.

    Args:
        names: J names, with or without namespaces; the first of equal names counts.
        positions: (T, J, 3) in any unit.
        up: the axis that points up, and then nothing is mirrored; None: as the person stands.

    Returns:
        joints (T, 52, 3) float32 in metres; valid (T, 52) bool, False for joints that the file lacks: collars, neck,
        spine, legs, and fingers, which are relaxed along the forearm; and notes on what was assumed or filled in.

    Raises:
        ValueError: pelvis, head, hips or arms are missing, no unit makes a body of it, or nobody stands.
    """
    columns, spine, necks = _match(names)
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        theirs = " ".join(", ".join(name for name in names if name)[:120].split())
        raise ValueError(
            f"the skeleton lacks {', '.join(missing)}; its joints are {theirs}; "
            "rename them as Mixamo, VRM or SMPL-X does"
        )
    left = sorted(set(range(len(names))) - {*columns.values(), *spine, *necks})
    second = _match([names[column] for column in left])[0]
    if second.keys() >= set(_NEEDED):
        away = (
            positions[:, [left[second[name]] for name in _NEEDED]] - positions[:, [columns[name] for name in _NEEDED]]
        )
        size = np.ptp(positions[:, [columns[name] for name in _NEEDED]], axis=1).max()
        if np.abs(away).max() > SAME_PLACE * size:  # else controls of the same skeleton
            raise ValueError("two skeletons in the file; export that of one person")
    keep = sorted({*columns.values(), *spine, *necks})  # avatars have hundreds of joints
    positions = positions[:, keep].astype(np.float64)
    columns = {name: keep.index(column) for name, column in columns.items()}
    spine, necks = ([keep.index(column) for column in group] for group in (spine, necks))
    notes: list[Remark] = []
    axis = up or _up(columns, positions)
    if axis != "y":
        positions = positions @ np.array(UP_TURNS[axis]).T
        notes.append(Remark(f"{axis} up, turned to y up"))
    positions = positions * _unit(columns, positions, notes)
    _choose_neck(columns, necks, positions)
    joints = np.full((len(positions), NUM_JOINTS, 3), np.nan)
    observed = [_JOINT[name] for name in columns]
    joints[:, observed] = positions[:, list(columns.values())]
    valid = np.zeros(joints.shape[:2], bool)
    valid[:, observed] = True
    _fill_spine(joints, valid, positions[:, spine])
    if up is None:
        joints, remarks = right_handed(joints, valid, axis)
        notes += remarks
    _fill_legs(joints, valid)
    _fill_fingers(joints, valid)
    lacking = [name for name, there in zip(JOINT_NAMES, valid[0], strict=True) if not there]
    if lacking:
        notes.append(Remark(f"filled in: {_in_words(lacking)}"))
    for side, hand in _HANDS.items():
        reach = np.linalg.norm(joints[:, hand] - joints[:, [_JOINT[f"{side}_wrist"]]], axis=-1)
        if valid[0, hand].any() and len(joints) > 1 and np.ptp(reach, axis=0).max() < STILL:
            notes.append(Remark(f"the {side} fingers never move"))
    return joints.astype(np.float32), valid, notes


def _in_words(lacking: list[str]) -> str:
    """Joint names, with "left hand" for its fifteen."""
    for side, hand in _HANDS.items():
        fingers = {JOINT_NAMES[joint] for joint in hand}
        if fingers <= set(lacking):
            lacking = [name for name in lacking if name not in fingers] + [f"{side} fingers"]
    return ", ".join(name.replace("_", " ") for name in lacking)


# --- names ------------------------------------------------------------------------------------------------------------


def _match(names: list[str]) -> tuple[dict[str, int], list[int], list[int]]:
    """{our joint: column}, and the columns of the spine and of all necks; the body first, then whole fingers."""
    places: dict[tuple[str, str], tuple[int, int]] = {}  # (side, key) -> (changes to the name, column)
    for column, name in enumerate(names):
        readings = [reading for reading in _keys(name) if reading[2] in _KNOWN or _SPINE.fullmatch(reading[2])]
        if readings:  # the nearest alone: `ForeArm` is never an `arm`
            changes, side, key = min(readings)
            places[side, key] = min(places.get((side, key), (changes, column)), (changes, column))
    columns: dict[str, int] = {}
    used: set[int] = set()
    for joint, candidates in _BODY_NAMES.items():
        sides = ("",) if joint in _CENTRAL else ("left", "right")
        for key in candidates:
            by_side = {side: places[side, key][1] for side in sides if (side, key) in places}
            if by_side and used.isdisjoint(by_side.values()):  # both sides of one name: an odd shoulder is a collar
                columns |= {f"{side}_{joint}".lstrip("_"): column for side, column in by_side.items()}
                used |= set(by_side.values())
                break
    for side in ("left", "right"):
        for finger, triples in _FINGER_NAMES.items():
            for triple in triples:
                bones = [places[side, key][1] for key in triple if (side, key) in places]
                if len(set(bones)) == 3:
                    columns |= {f"{side}_{finger}{number}": column for number, column in enumerate(bones, 1)}
                    break
    spine = [column for (side, key), (_, column) in places.items() if not side and _SPINE.fullmatch(key)]
    necks = [places["", key][1] for key in _NECKS if ("", key) in places]
    return columns, sorted(set(spine) - used), necks


def _keys(name: str) -> list[tuple[int, str, str]]:
    """All (changes, side, key) that a name may stand for: `mixamorig:LeftHandIndex1` is also `handindex1`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", re.split(r"[:|]", name)[-1])
    words, side = [word.lower() for word in words][:12], ""
    for place, word in enumerate(words):
        match = re.fullmatch(r"(left|right)([a-z]*)|([lr])", word)
        if match:
            side = {"l": "left", "r": "right"}[word[0]]
            words[place : place + 1] = [match[2]] if match[2] else []
            break
    keys = []
    for start in range(len(words)):
        # a rig's prefix stands before, and an exporter's running number behind: `rig1_LeftHand_09`
        for stop in {len(words), len(words) - words[-1].isdigit()}:
            if start < stop:
                left_out = len(words) - (stop - start)
                exact = "".join(words[start:stop])
                # `index_01` is `index1`, but Biped's `Finger01` and `Finger1` are bones of two fingers
                plain = "".join(word.lstrip("0") if word.isdigit() else word for word in words[start:stop])
                keys += [(2 * left_out, side, exact), (2 * left_out + 1, side, plain)]
    if not side and words and words[0][0] in "lr":  # `lhand`
        keys.append((1, {"l": "left", "r": "right"}[words[0][0]], "".join(words)[1:]))
    return keys


def _finger_names() -> dict[str, list[tuple[str, str, str]]]:
    """{finger: the three keys of its bones, in every convention}."""
    result = {}
    for number, (finger, aliases) in enumerate(_FINGERS.items()):
        triples = []
        for alias in [f"finger{number + 1}", *aliases]:
            phalanges = [("proximal", "intermediate", "distal"), ("proximal", "medial", "distal")]
            if finger == "thumb":  # VRM 1 and Rokoko begin with the metacarpal; Unity calls that one proximal
                phalanges = [("metacarpal", "proximal", "distal"), ("proximal", "intermediate", "distal")]
            triples += [tuple(f"{alias}{bone}" for bone in triple) for triple in phalanges]
        for alias in aliases:
            triples += [tuple(f"{prefix}{alias}{k}" for k in "123") for prefix in ("", "hand", "finger", "f")]
        triples.append((f"finger{number}", f"finger{number}1", f"finger{number}2"))  # Biped
        result[finger] = triples
    return result


_FINGER_NAMES = _finger_names()
_KNOWN = {key for keys in _BODY_NAMES.values() for key in keys}
_KNOWN |= {key for triples in _FINGER_NAMES.values() for triple in triples for key in triple}


# --- axes and units ---------------------------------------------------------------------------------------------------


def _up(columns: dict[str, int], positions: np.ndarray) -> str:
    way = np.median(positions[:, columns["head"]] - positions[:, columns["pelvis"]], axis=0)
    length = np.linalg.norm(way)
    if not length > 0:
        raise ValueError("head and pelvis are in one place or no numbers; export the motion again")
    x, y, z = way / length
    axis = max(UP_TURNS, key=lambda axis: np.dot(UP_TURNS[axis][1], way))
    if np.dot(UP_TURNS[axis][1], way / length) < STANDING:
        problem = f"the head is at ({x:.2f}, {y:.2f}, {z:.2f}) from the pelvis, expected it above, along an axis"
        raise MotionFileError(f"{problem}; export a standing or sitting person", "up", axis, "nobody stands upright")
    return axis


def _unit(columns: dict[str, int], positions: np.ndarray, notes: list[Remark]) -> float:
    def length(a: str, b: str) -> float:
        return float(np.median(np.linalg.norm(positions[:, columns[a]] - positions[:, columns[b]], axis=-1)))

    size = length("pelvis", "head") + length("left_shoulder", "left_elbow") + length("left_elbow", "left_wrist")
    unit = min(UNITS, key=lambda name: abs(np.log(max(size * UNITS[name], 1e-9) / BODY_SIZE)))
    if not 1 / SIZE_FACTOR < size * UNITS[unit] / BODY_SIZE < SIZE_FACTOR:
        raise ValueError(
            f"pelvis to head and one arm make {size:.4g}, expected {BODY_SIZE} {', '.join(UNITS)}; scale the skeleton"
        )
    if unit != "metres":
        notes.append(Remark(f"unit: {unit}"))
    return UNITS[unit]


def _front(joints: np.ndarray) -> np.ndarray:
    """(T, 3) unit vectors to the front, by the hips: the left one is to the left."""
    across = joints[:, _JOINT["left_hip"]] - joints[:, _JOINT["right_hip"]]
    front = np.cross(across, (0.0, 1.0, 0.0))
    length = np.linalg.norm(front, axis=-1, keepdims=True)
    return np.where(length > 1e-6, front / np.maximum(length, 1e-6), (0.0, 0.0, 1.0))


def _choose_neck(columns: dict[str, int], necks: list[int], positions: np.ndarray) -> None:
    """Of several necks the lowest above the shoulders, in place: CMU's first lies in the middle of the chest."""
    heights = np.median(positions[..., 1], axis=0)
    shoulders = (heights[columns["left_shoulder"]] + heights[columns["right_shoulder"]]) / 2
    above = [column for column in necks if heights[column] > shoulders]
    if above:
        columns["neck"] = min(above, key=lambda column: heights[column])


# --- what a skeleton lacks --------------------------------------------------------------------------------------------


def _fill_spine(joints: np.ndarray, valid: np.ndarray, spine: np.ndarray) -> None:
    """Neck, collars and spine1 to spine3 in place, from the spine joints (T, n, 3) of the file."""
    pelvis, neck, head = (_JOINT[name] for name in ("pelvis", "neck", "head"))
    if not valid[0, neck]:
        joints[:, neck] = joints[:, pelvis] + _NECK_HEIGHT * (joints[:, head] - joints[:, pelvis])
    for side in ("left", "right"):
        collar = _JOINT[f"{side}_collar"]
        if not valid[0, collar]:
            joints[:, collar] = 0.6 * joints[:, neck] + 0.4 * joints[:, _JOINT[f"{side}_shoulder"]]
    up = joints[:, neck] - joints[:, pelvis]
    heights = np.median(np.einsum("tjc,tc->tj", spine - joints[:, [pelvis]], up) / (up**2).sum(-1)[:, None], axis=0)
    inside = np.flatnonzero((heights > 0) & (heights < 1))  # glTF lists nodes in any order, the height puts them right
    chain = spine[:, inside[np.argsort(heights[inside])]]
    chain = np.concatenate([joints[:, [pelvis]], chain, joints[:, [neck]]], axis=1)
    lengths = np.median(np.linalg.norm(np.diff(chain, axis=1), axis=-1), axis=0)
    # SMPL's, Mixamo's and VRM's spines have three joints at much the same heights.
    direct = len(inside) == 3 and lengths.min() > SHORTEST_SPINE_BONE
    way = np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    for place, (name, height) in enumerate(_SPINE_HEIGHTS.items()):
        joint = _JOINT[name]
        bone = int((np.searchsorted(way, height) - 1).clip(0, len(lengths) - 1))
        weight = (height - way[bone]) / max(way[bone + 1] - way[bone], 1e-9)
        between = chain[:, bone] * (1 - weight) + chain[:, bone + 1] * weight
        joints[:, joint] = chain[:, 1 + place] if direct else between
        valid[:, joint] = len(inside) > 0


def _fill_legs(joints: np.ndarray, valid: np.ndarray) -> None:
    """Knees, ankles and feet in place, standing under the hips."""
    front = _front(joints)
    for side in ("left", "right"):
        parent = _JOINT[f"{side}_hip"]
        for name, (up, forward) in _LEG.items():
            joint = _JOINT[f"{side}_{name}"]
            if not valid[0, joint]:
                joints[:, joint] = joints[:, parent] + (0, up, 0) + forward * front
            parent = joint


def _fill_fingers(joints: np.ndarray, valid: np.ndarray) -> None:
    """Missing fingers in place, relaxed along the forearm."""
    for side, hand in _HANDS.items():
        wrist = joints[:, _JOINT[f"{side}_wrist"]]
        relaxed = wrist[:, None] + rest_hand(wrist - joints[:, _JOINT[f"{side}_elbow"]], side)
        joints[:, hand] = np.where(valid[:, hand, None], joints[:, hand], relaxed)
