"""Known motions as people store them, each with one thing wrong or unsaid, and what `load_motion` makes of each file.

A file is

    right            each joint of body, left hand and right hand within 5 mm of the motion, from the pelvis and but for
                     the heading, in 95 % of the frames; the frame rate within 1 %; nothing counts as observed that was
                     not, and what does not count is named
    refused          with a message
    said             wrong, and a remark has the argument that mends what is wrong with files of this kind, or names
                     what no argument mends
    silently wrong   else

The motions: clips of examples/asl_cafe, which are landmarks of real signers, and smooth random SMPL-X parameters on the
built-in skeleton. Formats follow their documentation, and are written here without any code of the readers. What no
file can tell is left out: a picture mirrored before detection, left for right in all names, parameters that lie about
the hand mean with bent fingers, angles in another order than a BVH file says.
"""

import bz2
import csv
import gzip
import io
import itertools
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lslm.processing import MotionFileError, load_motion
from lslm.processing.motion_features import JOINT_NAMES, LEFT_HAND, PARENTS, RIGHT_HAND
from lslm.processing.skeleton import HANDS_MEAN, T_POSE, posed_joints

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe" / "clips"
LIMIT, NEVER = 0.005, 1e3  # metres
FRAMES, FPS = 40, 25.0  # of the random motions
GROUPS = {"body": range(22), "left hand": LEFT_HAND, "right hand": RIGHT_HAND}
# the argument of a remark that says what is wrong with files of a kind; other remarks do not count
ARGUMENTS = {
    **dict.fromkeys(("axes of joints", "axes of parameters", "axes of motion capture"), "up"),
    **{"hand mean": "flat_hand_mean", "sizes of pictures": "image_size", "frames": "fps", "several": "clip"},
}
SAYS = {"from between the shoulders": "between the shoulders"}  # words of a remark on what no argument mends, by file
ARMS = range(12, 22)  # and head: what every file of the upper body has
HEAD = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")
REST = np.array([T_POSE[name] for name in JOINT_NAMES])

Known = namedtuple("Known", "joints fps seen")  # (T, 52, 3) metres, y up; (T, 52) bool
# content: arrays by name, one array, text, bytes, {file name: content} of a folder, or a function that writes a path
Case = namedtuple("Case", "kind name suffix content known options")

# axes of a file from ours (x left, y up, z front), as rows: where they point
TURNS = {
    "y up": ("x", "y", "z"),
    "y up, facing -z": ("-x", "y", "-z"),
    "y up, facing x": ("z", "y", "-x"),
    "y down (camera)": ("x", "-y", "-z"),
    "z up, facing -y": ("x", "-z", "y"),
    "z up, facing y": ("-x", "z", "y"),
    "z up, facing x": ("z", "x", "y"),
    "z down": ("x", "z", "-y"),
    "x up": ("y", "-x", "z"),
    "x down": ("-y", "x", "z"),
}
MIRRORS = {
    "y up, x mirrored": ("-x", "y", "z"),
    "y up, z mirrored (Unity)": ("x", "y", "-z"),
    "z up, left-handed (Unreal)": ("x", "z", "y"),
    "y down alone": ("x", "-y", "z"),
    "all three negated": ("-x", "-y", "-z"),
}
UNITS = {"centimetres": 100, "millimetres": 1000, "inches": 1 / 0.0254, "feet": 1 / 0.3048, "decimetres": 10}


def axes(words: tuple[str, ...]) -> np.ndarray:
    """(3, 3): the rows that the words name."""
    return np.array([np.eye(3)["xyz".index(word[-1])] * (-1 if word[0] == "-" else 1) for word in words])


# --- known motions ----------------------------------------------------------------------------------------------------


def cafe(number: int = 0) -> Known:
    """A clip of real signs."""
    with np.load(CAFE / f"test-{number:04d}.npz") as clip:
        joints, fps = clip["joints"].astype(float), float(clip["fps"])
    joints[:, 16:18, 2] = joints[:, 16:18, 2].mean(1, keepdims=True)  # as shoulders are read that hardly turn
    return Known(joints, fps, np.ones(joints.shape[:2], bool))


def signer(seed: int, bend=(0.0, 1.6), frames: int = FRAMES) -> tuple[dict[str, np.ndarray], Known]:
    """SMPL-X parameters of an upright signer, y up, whole fingers that bend within `bend` radians; and the joints."""
    rng = np.random.default_rng(seed)

    def way(low, high, n):  # (frames, n), smoothly from one random place to the next
        places, time = rng.uniform(low, high, (6, n)), np.linspace(0, 4.999, frames)
        step = (1 - np.cos(np.pi * (time % 1)))[:, None] / 2
        return places[time.astype(int)] * (1 - step) + places[time.astype(int) + 1] * step

    body = way(-0.05, 0.05, 63).reshape(frames, 21, 3)
    params = {"global_orient": way(-0.12, 0.12, 3)}
    for side, sign in enumerate((1, -1)):
        body[:, 15 + side] = way((-0.2, -0.4, -1.3), (0.2, 0.2, -0.8), 3) * (1, sign, sign)  # arms hang
        body[:, 17 + side] = way((-0.2, -2.0, -0.2), (0.2, -0.7, 0.2), 3) * (1, sign, sign)  # elbows bend to the front
        body[:, 19 + side] = way(-0.4, 0.4, 3)
        hand = way(-0.1, 0.1, 45).reshape(frames, 5, 3, 3)
        knuckle, middle = way(bend[0], bend[1] * 0.75, 4), way(*bend, 4)
        hand[:, :4, :, 2] = -sign * np.stack([knuckle, middle, middle * 0.6], axis=-1)
        hand[:, 4] = way(-0.3, 0.3, 9).reshape(frames, 3, 3)
        params[HEAD[2 + side]] = hand.reshape(frames, 45)
    params["body_pose"] = body.reshape(frames, 63)
    params |= {"jaw_pose": way(0, 0.1, 3), "betas": np.zeros((frames, 10)), "expression": way(-1, 1, 10)}
    params["transl"] = way(-0.1, 0.1, 3)
    joints = posed_joints(params, 0.0)
    return params, Known(joints, FPS, np.ones(joints.shape[:2], bool))


# --- rotations --------------------------------------------------------------------------------------------------------


def matrices(vectors: np.ndarray) -> np.ndarray:
    """(..., 3 J) rotation vectors -> (..., J, 3, 3)."""
    vectors = vectors.reshape(*vectors.shape[:-1], -1, 3)
    angle = np.maximum(np.linalg.norm(vectors, axis=-1), 1e-12)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0) / angle[..., 0, 0]
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def quaternions(turns: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4), w last and positive: the eigenvector of Bar-Itzhack's matrix."""
    a, b = turns, np.swapaxes(turns, -1, -2)
    k = np.zeros((*turns.shape[:-2], 4, 4))
    k[..., :3, :3] = a + b - np.eye(3) * np.trace(a, axis1=-2, axis2=-1)[..., None, None]
    k[..., 3, :3] = k[..., :3, 3] = np.stack([(a - b)[..., i, j] for i, j in ((2, 1), (0, 2), (1, 0))], axis=-1)
    k[..., 3, 3] = np.trace(a, axis1=-2, axis2=-1)
    q = np.linalg.eigh(k)[1][..., -1]
    return q * np.where(q[..., 3:] < 0, -1, 1)


def vectors(turns: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 3) rotation vectors."""
    q = quaternions(turns)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    return q[..., :3] * np.where(sine > 1e-9, 2 * np.arctan2(sine, q[..., 3:]) / np.maximum(sine, 1e-9), 2)


def in_axes(params: dict, turn: np.ndarray) -> dict:
    """The same parameters for a world with other axes."""
    root = vectors(turn @ matrices(params["global_orient"])[:, 0])
    return params | {"global_orient": root, "transl": params["transl"] @ turn.T}


def relative(params: dict, sides: str = "left right") -> dict:
    """Fingers counted from the mean hand."""
    keys = {f"{side}_hand_pose": HANDS_MEAN[int(side == "right")] for side in sides.split()}
    return params | {key: params[key] - mean for key, mean in keys.items()}


def row(params: dict, *names: str) -> np.ndarray:
    return np.concatenate([params[name] for name in names], axis=1).astype(np.float32)


CAMERA = axes(TURNS["y down (camera)"])


def signavatars(params: dict, hands="left right", turn=CAMERA) -> np.ndarray:
    """(T, 182)."""
    return row(in_axes(relative(params, hands), turn), *HEAD, "jaw_pose", "betas", "expression", "transl")


def motion_x(params: dict) -> np.ndarray:
    """(T, 322)."""
    return row(params | {"face": np.zeros((len(params["transl"]), 150))}, *HEAD, "jaw_pose", "face", "transl", "betas")


def amass(params: dict, turn="z up, facing -y", **more) -> dict:
    view = in_axes(params, axes(TURNS[turn]))
    return {"poses": row(view, *HEAD), "trans": view["transl"], "betas": np.zeros(16), "gender": "male", **more}


def smplerx(params: dict, first: int = 1, person: int = 0, at=(0, 0, 0)) -> dict:
    """{file of a frame: content}."""
    view = in_axes(relative(params), CAMERA)
    view["transl"] = view["transl"] + np.array((0, 0.7, 20)) + at
    names = [*HEAD, "jaw_pose", "betas", "expression", "transl"]
    return {
        f"{t + first:05d}_{person}.npz": {name: view[name][t : t + 1] for name in names}
        for t in range(len(view["transl"]))
    }


# --- landmarks --------------------------------------------------------------------------------------------------------


def landmarks(known: Known, size=(1280, 720)) -> dict[str, np.ndarray]:
    """What MediaPipe Holistic would find of the joints: `pose` (T, 33, 4), `face`, `left_hand`, `right_hand`.

    x and y over width and height of the picture, y down, z in widths and towards the back; MediaPipe's depths of the
    body are 1 / 0.3 of those in the clips. Fingertips lie a third bone further.
    """
    joints, (width, height) = known.joints, size
    scale = 1.1 * min(size)  # pixels a metre

    def picture(points, depth=1.0):
        x, y, z = np.moveaxis(points, -1, 0)
        y = 0.45 * height - (y - 1.40) * scale
        return np.stack([0.5 + x * scale / width, y / height, -z * scale / width / depth], axis=-1)

    nose = np.array((0, -0.03, 0.11))
    ears = joints[:, 15] - 0.2 * nose
    face = {
        1: (0.018, 0.005, 0.08),
        2: (0.032, 0.005, 0.08),
        3: (0.045, 0.005, 0.07),
        7: (0.072, 0, 0),
        9: (0.025, -0.065, 0.08),
    }
    body = np.zeros((len(joints), 33, 3)) + joints[:, :1] - (0, 0.9, 0)
    body[:, 0] = ears + nose
    for point, place in face.items():
        body[:, point] = ears + place
        body[:, {1: 4, 2: 5, 3: 6, 7: 8, 9: 10}[point]] = ears + np.array(place) * (-1, 1, 1)
    body[:, 11:17], body[:, 23:25] = joints[:, 16:22], joints[:, 1:3]
    for side, (wrist, hand) in enumerate(((20, LEFT_HAND), (21, RIGHT_HAND))):
        for point, first in ((17, 6), (19, 0), (21, 12)):
            body[:, point + side] = joints[:, wrist] + (joints[:, hand[first]] - joints[:, wrist]) * (1, 1, 0.3)
    pose = np.full((len(joints), 33, 4), 0.98)
    pose[..., :3], pose[:, 25:, 3] = picture(body, 0.3), 0.01
    oval = np.random.default_rng(0).uniform(-1, 1, (468, 3)) * (0.07, 0.1, 0.03) + (0, -0.03, 0.05)
    found = {"pose": pose, "face": picture(ears[:, None] + oval)}
    for side, wrist, hand in (("left_hand", 20, LEFT_HAND), ("right_hand", 21, RIGHT_HAND)):
        points = np.zeros((len(joints), 21, 3))
        points[:, 0] = joints[:, wrist]
        for finger, first in enumerate((12, 0, 3, 9, 6)):  # thumb, index, middle, ring, little finger
            bones = joints[:, hand][:, first : first + 3]
            points[:, 1 + 4 * finger : 4 + 4 * finger] = bones
            points[:, 4 + 4 * finger] = bones[:, 2] + (bones[:, 2] - bones[:, 1]) * 0.7
        found[side] = picture(points)
        found[side][..., 2] -= found[side][:, :1, 2]
    return found


def rows_of(found: dict, *names: str, size=4) -> np.ndarray:
    """(T, n): the landmarks one after the other."""
    parts = [
        found[name][..., : size if name == "pose" else 3]
        for name in names or ("pose", "face", "left_hand", "right_hand")
    ]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32)


def pose_file(found: dict, size=(1280, 720), fps=FPS) -> bytes:
    """.pose 0.2, after docs/specs of sign-language-processing/pose: x and y in pixels."""
    points = re.findall(r"\S+", POINTS)
    components = {"POSE_LANDMARKS": points, "LEFT_HAND_LANDMARKS": HAND_POINTS, "RIGHT_HAND_LANDMARKS": HAND_POINTS}

    def text(word):
        return struct.pack("<H", len(word)) + word.encode()

    out = struct.pack("<fHHHH", 0.2, *size, 0, len(components))
    for name, words in components.items():
        out += text(name) + text("XYZC") + struct.pack("<HHH", len(words), 1, 1) + b"".join(map(text, words))
        out += struct.pack("<HHHHH", 0, 1, 255, 0, 0)
    values = np.concatenate([found[name][..., :3] for name in ("pose", "left_hand", "right_hand")], axis=1) * (
        *size,
        size[0],
    )
    out += struct.pack("<fIH", fps, len(values), 1) + values.astype("<f4").tobytes()
    return out + np.ones(values.shape[:2], "<f4").tobytes()


EYES = "{0}_EYE_INNER {0}_EYE {0}_EYE_OUTER "
SIDES = "SHOULDER ELBOW WRIST PINKY INDEX THUMB HIP KNEE ANKLE HEEL FOOT_INDEX".split()
POINTS = "NOSE " + EYES.format("LEFT") + EYES.format("RIGHT") + "LEFT_EAR RIGHT_EAR MOUTH_LEFT MOUTH_RIGHT "
POINTS += " ".join(f"LEFT_{name} RIGHT_{name}" for name in SIDES)
HAND_POINTS = [
    "WRIST",
    *(f"{f}_{j}" for f in ("THUMB", "INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY") for j in "1234"),
]


def kaggle(found: dict) -> pa.Table:
    """asl-signs: a row for each point of each frame."""
    parts = {
        "face": found["face"],
        "left_hand": found["left_hand"],
        "pose": found["pose"],
        "right_hand": found["right_hand"],
    }
    rows = [
        (frame, f"{frame}-{name}-{point}", name, point, *map(float, values[frame, point, :3]))
        for frame in range(len(found["pose"]))
        for name, values in parts.items()
        for point in range(values.shape[1])
    ]
    names = ("frame", "row_id", "type", "landmark_index", "x", "y", "z")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


# --- motion capture ---------------------------------------------------------------------------------------------------

BONES = (
    "Hips LeftUpLeg RightUpLeg Spine LeftLeg RightLeg Spine1 LeftFoot RightFoot Spine2 LeftToeBase RightToeBase Neck "
)
BONES += "LeftShoulder RightShoulder Head LeftArm RightArm LeftForeArm RightForeArm LeftHand RightHand"
FINGERS = [f"{finger}{bone}" for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb") for bone in (1, 2, 3)]
MIXAMO = [*BONES.split(), *(f"{side}Hand{finger}" for side in ("Left", "Right") for finger in FINGERS)]


def rig(params: dict, turn=None, scale=1.0, root_alone=False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (52, 3), local rotations (T, 52, 3, 3) and root positions (T, 3) of a skeleton in other axes.

    root_alone: the rest pose keeps its axes, and only the root turns the body.
    """
    turn = np.eye(3) if turn is None else turn
    turns = matrices(row(params, *HEAD).astype(float))
    offsets = (REST - REST[PARENTS]) * scale
    root = (params["transl"] + (0, 0.95, 0)) @ turn.T * scale
    if root_alone:
        turns[:, 0] = turn @ turns[:, 0]
        return offsets, turns, root
    return offsets @ turn.T, turn @ turns @ turn.T, root


def euler(turns: np.ndarray, order: str) -> np.ndarray:
    """Degrees about the axes of `order`, for intrinsic rotations one after the other."""
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1 if (j - i) % 3 == 1 else -1
    first = np.arctan2(-sign * turns[..., j, k], turns[..., k, k])
    last = np.arctan2(-sign * turns[..., i, j], turns[..., i, i])
    return np.degrees(np.stack([first, np.arcsin(np.clip(sign * turns[..., i, k], -1, 1)), last], axis=-1))


def bvh(offsets, turns, root, order="ZXY", names=MIXAMO, places="root", time=1 / FPS, radians=False, last="") -> str:
    """Text. places: channels of position at the "root" alone, at "all", or "none". last: a second tree."""
    lines, sequence, children = (
        ["HIERARCHY"],
        [],
        {j: [c for c in range(52) if PARENTS[c] == j and c] for j in range(52)},
    )

    def joint(index, indent):
        sequence.append(index)
        with_place = places == "all" or (places == "root" and not index)
        lines.extend([f"{indent}{'JOINT' if index else 'ROOT'} {names[index]}", f"{indent}{{"])
        lines.append(f"{indent}\tOFFSET " + " ".join(f"{v:.6f}" for v in offsets[index] * bool(index)))
        channels = ["Xposition", "Yposition", "Zposition"] * with_place + [f"{axis}rotation" for axis in order]
        lines.append(f"{indent}\tCHANNELS {len(channels)} {' '.join(channels)}")
        for child in children[index]:
            joint(child, indent + "\t")
        if not children[index]:
            lines.extend([f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\tOFFSET 0 0.02 0", f"{indent}\t}}"])
        lines.append(f"{indent}}}")

    joint(0, "")
    degrees = euler(turns, order) * (np.pi / 180 if radians else 1)
    lines += [last] * bool(last) + ["MOTION", f"Frames: {len(root)}", f"Frame Time: {time:.6f}"]
    for frame in range(len(root)):
        values = []
        for index in sequence:
            place = root[frame] if not index else offsets[index]
            values += [*(place if places == "all" or (places == "root" and not index) else ()), *degrees[frame, index]]
        lines.append(" ".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"


def places_bvh(known: Known) -> str:
    """BVH of joints without rotations: each has its place as three channels."""
    still = np.tile(np.eye(3), (len(known.joints), 52, 1, 1))
    text = bvh(np.zeros((52, 3)), still, known.joints[:, 0], places="all", time=1 / known.fps)
    head, motion = text.split("MOTION\n")
    sequence = [MIXAMO.index(name) for name in re.findall(r"(?:ROOT|JOINT) (\S+)", head)]
    local = known.joints - known.joints[:, PARENTS] * (np.arange(52) > 0)[:, None]
    table = np.concatenate([local, np.zeros_like(local)], axis=-1)[:, sequence].reshape(len(local), -1)
    lines = [" ".join(f"{value:.6f}" for value in values) for values in table]
    return head + "MOTION\n" + "\n".join([*motion.split("\n")[:2], *lines]) + "\n"


def glb(
    offsets,
    turns,
    root,
    *,
    names=MIXAMO,
    how=None,
    signs=None,
    above=({},),
    times=None,
    order=slice(None),
    more=(),
    clips=1,
):
    """The bytes of a .glb: nodes `above` the hips, one in the other, the skeleton, and `more` nodes beside it."""
    times = np.arange(len(root)) / FPS if times is None else times
    data, views, accessors, nodes = b"", [], [], []

    def add(values):
        nonlocal data
        raw = np.asarray(values, "<f4").tobytes()
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(raw)})
        kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
        accessors.append({"bufferView": len(views) - 1, "componentType": 5126, "count": len(values), "type": kind})
        accessors[-1] |= {"min": [float(values.min())], "max": [float(values.max())]} if values.ndim == 1 else {}
        data += raw
        return len(accessors) - 1

    def keys(values):  # CUBICSPLINE: tangent, value, tangent; those of the straight way between frames
        if how != "CUBICSPLINE":
            return add(values)
        slope = np.gradient(values, times, axis=0)
        return add(np.stack([slope, values, slope], axis=1).reshape(-1, values.shape[1]))

    top = len(above)
    nodes += [{"name": "Armature", "children": [number + 1]} | node for number, node in enumerate(above)]
    for joint in range(52):
        node = {"name": names[joint], "translation": (root[0] if not joint else offsets[joint]).tolist()}
        children = [top + child for child in range(1, 52) if PARENTS[child] == joint]
        nodes.append(node | {"children": children} if children else node)
    nodes += more
    animations, time = [], add(times)
    for clip in range(clips):
        samplers, channels = [], []
        q = quaternions(turns)[..., order] if not clip else np.tile([0.0, 0, 0, 1], (len(root), 52, 1))
        for joint, path in ((0, "translation"), *((joint, "rotation") for joint in range(52))):
            values = root if path == "translation" else q[:, joint] * (1 if signs is None else signs[:, None])
            samplers.append({"input": time, "output": keys(values)} | ({"interpolation": how} if how else {}))
            channels.append({"sampler": len(samplers) - 1, "target": {"node": top + joint, "path": path}})
        animations.append({"name": f"sign{clip}", "samplers": samplers, "channels": channels})
    document = {"asset": {"version": "2.0"}, "scene": 0, "nodes": nodes, "buffers": [{"byteLength": len(data)}]}
    document |= {"scenes": [{"nodes": [0, *range(top + 52, len(nodes))]}], "bufferViews": views, "accessors": accessors}
    text = json.dumps(document | {"animations": animations}).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


# --- the corpus -------------------------------------------------------------------------------------------------------

KINDS = {}  # name -> function of the seed that yields (name, suffix, content, known motion, what the caller says)


def kind(function):
    KINDS[function.__name__.replace("_", " ")] = function
    return function


def own(known: Known, joints=None, **more) -> dict:
    """Our .npz."""
    return {"joints": (known.joints if joints is None else joints).astype(np.float32), "fps": known.fps, **more}


@kind
def axes_of_joints(seed: int) -> Iterator:
    real, (_, made) = cafe(seed % 6), signer(seed)
    for (name, words), known in itertools.product((TURNS | MIRRORS).items(), (real, made)):
        yield f"{name}, {len(known.joints)} frames", ".npz", own(known, known.joints @ axes(words).T), known


@kind
def axes_of_parameters(seed: int) -> Iterator:
    params, known = signer(seed)
    for name, words in TURNS.items():
        view = in_axes(params, axes(words))
        yield f"smplx, {name}", ".npz", {part: view[part] for part in (*HEAD, "transl")}, known
        yield f"AMASS, {name}", ".npz", amass(params, name), known
        yield f"Motion-X, {name}", ".npy", motion_x(view), known
        yield f"SignAvatars, {name}", ".pkl", {"smplx": signavatars(params, turn=axes(words))}, known


@kind
def axes_of_motion_capture(seed: int) -> Iterator:
    params, known = signer(seed)
    for name, words in (TURNS | MIRRORS).items():
        yield f"BVH, {name}", ".bvh", bvh(*rig(params, axes(words))), known
        yield f"glTF, {name}", ".glb", glb(*rig(params, axes(words), 1.0)), known
        if name in TURNS:
            yield f"BVH, {name} by the root alone", ".bvh", bvh(*rig(params, axes(words), 100, root_alone=True)), known
    real = cafe(seed % 6)
    for name in ("y up", "y up, x mirrored", "z up, facing -y"):
        turned = real._replace(joints=real.joints @ axes((TURNS | MIRRORS)[name]).T * 100)
        yield f"BVH of places, {name}", ".bvh", places_bvh(turned), real


@kind
def units(seed: int) -> Iterator:
    params, known = signer(seed)
    real = cafe(seed % 6)
    for (name, size), motion in itertools.product(
        (UNITS | {"shoulder widths": 1 / 0.36, "statures": 1 / 1.7}).items(), (real, known)
    ):
        yield f"joints in {name}, {len(motion.joints)} frames", ".npz", own(motion, motion.joints * size), motion
    cube = real.joints - real.joints.min((0, 1))
    yield "joints from 0 to 1", ".npz", own(real, cube / cube.max()), real
    yield "joints in pixels", ".npz", own(real, real.joints * (400, -400, -400) + (640, 700, 0)), real
    yield "each axis by its own range", ".npz", own(real, cube / cube.max((0, 1))), real
    for name, size in (UNITS | {"CMU's units": 0.45 / 0.0254}).items():
        yield f"BVH in {name}", ".bvh", bvh(*rig(params, scale=size)), known
        yield f"glTF in {name}", ".glb", glb(*rig(params, scale=size)), known
    yield (
        "translation in millimetres",
        ".npz",
        amass(params | {"transl": params["transl"] * 1000}, mocap_framerate=FPS),
        known,
    )
    told = {"fps": FPS, "flat_hand_mean": True}
    yield "rotations in degrees", ".npz", {part: np.degrees(params[part]) for part in HEAD}, known, told
    yield (
        "Motion-X in degrees",
        ".npy",
        motion_x({k: np.degrees(v) if k in HEAD else v for k, v in params.items()}),
        known,
    )
    yield (
        "fingers alone in degrees",
        ".npz",
        {p: np.degrees(params[p]) if "hand" in p else params[p] for p in HEAD},
        known,
        told,
    )


@kind
def shapes_of_rotations(seed: int) -> Iterator:
    params, known = signer(seed)
    turns = {part: matrices(params[part]) for part in HEAD}
    flat = {part: np.round(params[part], 6) for part in HEAD}
    q = {part: quaternions(turns[part]) for part in HEAD}
    forms = {
        "axis-angle by joint": {part: params[part].reshape(FRAMES, -1, 3) for part in HEAD},
        "axis-angle, people": {part: params[part][:, None] for part in HEAD},
        "axis-angle, batch": {part: params[part][None] for part in HEAD},
        "axis-angle, time last": {part: params[part].T for part in HEAD},
        "axis-angle, joint before time": {p: params[p].reshape(FRAMES, -1, 3).swapaxes(0, 1) for p in HEAD},
        "matrices": turns,
        "matrices, batch": {part: values[None] for part, values in turns.items()},
        "matrices, flat": {part: values.reshape(FRAMES, -1) for part, values in turns.items()},
        "matrices, transposed": {part: values.swapaxes(-1, -2) for part, values in turns.items()},
        "matrices 4 x 4": {p: np.pad(v, [(0, 0)] * 2 + [(0, 1)] * 2) for p, v in turns.items()},
        "matrices, fingers transposed": {p: v.swapaxes(-1, -2) if "hand" in p else v for p, v in turns.items()},
        "matrices, but vectors for hands": {p: params[p] if "hand" in p else turns[p] for p in HEAD},
        "matrices in half precision": {part: values.astype(np.float16) for part, values in turns.items()},
        "six, columns": {p: v[..., :2].swapaxes(-1, -2).reshape(*v.shape[:2], 6) for p, v in turns.items()},
        "six, interleaved columns": {p: v[..., :2].reshape(*v.shape[:2], 6) for p, v in turns.items()},
        "six, rows": {p: v[..., :2, :].reshape(*v.shape[:2], 6) for p, v in turns.items()},
        "six, interleaved rows": {p: v[..., :2, :].swapaxes(-1, -2).reshape(*v.shape[:2], 6) for p, v in turns.items()},
        "six, rows, flat": {p: v[..., :2, :].reshape(FRAMES, -1) for p, v in turns.items()},
        "quaternions xyzw": q,
        "quaternions wxyz": {part: np.roll(values, 1, axis=-1) for part, values in q.items()},
        "quaternions wxyz, flat": {part: np.roll(values, 1, axis=-1).reshape(FRAMES, -1) for part, values in q.items()},
        "23 joints of SMPL": flat | {"body_pose": np.pad(flat["body_pose"], ((0, 0), (0, 6)))},
        "hands of 12 components": flat | {part: flat[part][:, :12] for part in HEAD[2:]},
        "hands of 45 components": flat
        | {part: np.random.default_rng(seed).normal(0, 1, (FRAMES, 45)) for part in HEAD[2:]},
        "no root": {part: flat[part] for part in HEAD[1:]},
        "no hands": {part: flat[part] for part in HEAD[:2]},
        "root in the body": {"body_pose": row(params, *HEAD[:2]), **{part: flat[part] for part in HEAD[2:]}},
        "inverse rotations": {part: -params[part] for part in HEAD},
        "inverse rotations of the fingers": flat | {part: -params[part] for part in HEAD[2:]},
    }
    for name, arrays in forms.items():
        seen = known.seen & ~np.isin(np.arange(52), [*LEFT_HAND, *RIGHT_HAND] if name == "no hands" else [])
        yield name, ".npz", arrays, known._replace(seen=seen)


@kind
def hand_mean(seed: int) -> Iterator:
    bends = {"flat": (0, 0.1), "relaxed": (0.3, 0.7), "fists": (1.2, 1.6), "signing": (0, 1.6), "curved": (0.6, 1.2)}
    for number, (name, bend) in enumerate(bends.items()):
        params, known = signer(seed + number, bend)
        for sides in ("", "left", "right", "left right"):
            view = relative(params, sides)
            yield f"smplx, {name}, relative: {sides or 'none'}", ".npz", {part: view[part] for part in HEAD}, known
        if bend[0] > 0.4:  # such a hand may be either
            continue
        if name != "flat":  # or at rest
            yield f"SignAvatars, {name}, whole", ".pkl", {"smplx": signavatars(params, "")}, known
        yield f"Motion-X, {name}, relative", ".npy", motion_x(relative(params)), known
        yield f"AMASS, {name}, relative", ".npz", amass(relative(params), mocap_framerate=FPS), known
    params, known = signer(seed)
    yield "SignAvatars, right hand whole", ".pkl", {"smplx": signavatars(params, "left")}, known
    frames = {
        file: content | {part: content[part] + HANDS_MEAN[int(part[0] == "r")] for part in HEAD[2:]}
        for file, content in smplerx(params).items()
    }
    yield "SMPLer-X folder, whole", "", frames, known


@kind
def order_of_joints(seed: int) -> Iterator:
    (params, known), real = signer(seed), cafe(seed % 6)
    swap = [
        JOINT_NAMES.index(re.sub("left|right", lambda m: {"left": "right", "right": "left"}[m[0]], n))
        for n in JOINT_NAMES
    ]
    hands = [*range(22), *RIGHT_HAND, *LEFT_HAND]
    thumb = [
        *range(22),
        *(first + 3 * finger + bone for first in (22, 37) for finger in (4, 0, 1, 3, 2) for bone in range(3)),
    ]
    for motion in (known, real):
        joints, many = motion.joints, len(motion.joints)
        full = np.insert(joints, [22] * 3, joints[:, [15, 15, 15]] + (0, 0, 0.05), axis=1)
        forms = {
            "SMPL-X, 55": full,
            "SMPL-X, 127": np.concatenate([full, np.tile(joints[:, 15:16], (1, 72, 1))], axis=1),
            "SMPL-X, 144": np.concatenate([full, np.tile(joints[:, 15:16], (1, 89, 1))], axis=1),
            "SMPL-H, 73": np.concatenate([joints, joints[:, :21]], axis=1),
            "SMPL-X, the first 52 of 55": full[:, :52],
            "right hand before the left": joints[:, hands],
            "hands before the body": np.roll(joints, 30, axis=1),
            "thumb first, then to the little finger": joints[:, thumb],
            "fingers from the tip": joints[:, [*range(22), *(f + b for f in range(22, 52, 3) for b in (2, 1, 0))]],
            "BVH order": joints[:, sorted(range(52), key=lambda j: MIXAMO[j])],
            "body from the pelvis, hands from the wrist": joints - joints[:, [*[0] * 22, *[20] * 15, *[21] * 15]],
            "each joint from its parent": joints - joints[:, [0, *PARENTS[1:]]] * (np.arange(52) > 0)[:, None],
        }
        for name, values in forms.items():
            yield f"{name}, {many} frames", ".npz", own(motion, values), motion
    exchanged = params | {HEAD[2]: params[HEAD[3]], HEAD[3]: params[HEAD[2]]}
    yield "parameters, hands exchanged", ".npz", {part: exchanged[part] for part in HEAD}, known
    yield "Motion-X, hands exchanged", ".npy", motion_x(exchanged), known
    fingers = [j if j < 22 else swap[j] for j in range(52)]
    yield "glTF, names of the fingers exchanged", ".glb", glb(*rig(params), names=[MIXAMO[j] for j in fingers]), known


@kind
def batches(seed: int) -> Iterator:
    params, known = signer(seed)
    joints = known.joints.astype(np.float32)
    for name, array in {
        "a batch of one": joints[None],
        "one person": joints[:, None],
        "joints before frames": joints.swapaxes(0, 1),
        "coordinates first": np.moveaxis(joints, -1, 0),
        "coordinates before joints": joints.swapaxes(1, 2),
        "flat": joints.reshape(FRAMES, -1),
        "two of a batch": np.stack([joints, joints[::-1]]),
        "frames last": np.moveaxis(joints, 0, -1),
    }.items():
        yield f"joints, {name}", ".npz", own(known, array), known
        yield f"bare array, {name}", ".npy", array, known
    yield "Motion-X, a batch of one", ".npy", motion_x(params)[None], known
    yield "Motion-X, two of a batch", ".npy", np.stack([motion_x(params)] * 2), known
    yield "Motion-X, frames last", ".npy", motion_x(params).T, known
    yield "four coordinates", ".npz", own(known, np.pad(joints, ((0, 0), (0, 0), (0, 1)), constant_values=1)), known
    square = signer(seed, frames=52)[1]
    yield "as many joints as frames, exchanged", ".npz", own(square, square.joints.swapaxes(0, 1)), square


def changed(found: dict, factors, add=(0, 0, 0), parts=("pose", "face", "left_hand", "right_hand")) -> dict:
    """Landmarks with x, y and z multiplied, and moved."""

    def change(values):
        return np.concatenate([values[..., :3] * factors + add, values[..., 3:]], axis=-1)

    return found | {name: change(values) for name, values in found.items() if name in parts}


@kind
def sizes_of_pictures(seed: int) -> Iterator:
    real = cafe(seed % 6)
    for size in ((1280, 720), (720, 1280), (640, 480), (480, 640), (500, 500), (2560, 1080)):
        found, of = landmarks(real, size), "of {} x {}".format(*size)
        yield f"stored, {of}", ".npz", found | {"image_size": size}, real
        yield f"unsaid, {of}", ".npz", found, real
        yield f"unsaid, rows of 1662, {of}", ".npy", rows_of(found), real
        if size[0] != size[1]:
            yield f"height before width, {of}", ".npz", found | {"image_size": size[::-1]}, real
    found = landmarks(real)
    yield "asl-signs of 16:9", ".parquet", lambda path: pq.write_table(kaggle(found), path), real
    parts = changed(found, (1 / 1280, 1 / 720, 1 / 1280))
    yield ".pose, coordinates from 0 to 1", ".pose", pose_file(parts, fps=real.fps), real


@kind
def landmarks_of_pictures(seed: int) -> Iterator:
    real = cafe(seed % 6)
    size = {"image_size": np.array((1280, 720))}
    found = landmarks(real)
    pose, left, right = found["pose"], found["left_hand"], found["right_hand"]
    hands = ("left_hand", "right_hand")
    unseen, part = real.seen.copy(), real.seen.copy()
    unseen[:, LEFT_HAND] = part[20:40, LEFT_HAND] = False
    unseen, part = real._replace(seen=unseen), real._replace(seen=part)
    lost = np.isin(np.arange(len(left)), range(20, 40))[:, None, None]
    centre = pose[:, 11:13, :3].mean(1, keepdims=True)
    fingers = [0, *(1 + 4 * finger + bone for finger in (4, 3, 2, 1, 0) for bone in range(4))]
    transforms = {
        "y up": changed(found, (1, -1, 1), (0, 1, 0)),
        "y up, negative": changed(found, (1, -1, 1)),
        "x mirrored after detection (selfie)": changed(found, (-1, 1, 1), (1, 0, 0)),
        "in pixels": changed(found, (1280, 720, 1280)),
        "x and y in pixels, z not": changed(found, (1280, 720, 1)),
        "from -1 to 1": changed(found, (2, 2, 2), (-1, -1, 0)),
        "z negated": changed(found, (1, 1, -1)),
        "no depth": changed(found, (1, 1, 0)),
        "z of the hands in pixels": changed(found, (1, 1, 1280), parts=hands),
    }
    for name, arrays in transforms.items():
        yield name, ".npz", arrays | size, real
        if name in ("y up", "x mirrored after detection (selfie)", "z negated"):
            yield f".pose, {name}", ".pose", pose_file(arrays, fps=real.fps), real
    for name, arrays, known in (
        ("left and right hand exchanged", {"left_hand": right, "right_hand": left}, real),
        ("x and y exchanged", {n: found[n][..., [1, 0, 2, 3][: found[n].shape[-1]]] for n in ("pose", *hands)}, real),
        ("hands from their wrists", {n: found[n] - found[n][:, :1] for n in hands}, real),
        ("hands in their own boxes", {n: (found[n] - found[n].min(1, keepdims=True)) * 5 for n in hands}, real),
        ("left hand zeros", {"left_hand": left * 0}, unseen),
        ("left hand NaN", {"left_hand": left * np.nan}, unseen),
        ("left hand -1", {"left_hand": left * 0 - 1}, unseen),
        ("left hand of one frame for ever", {"left_hand": left * 0 + left[:1]}, unseen),
        ("left hand a copy of the right", {"left_hand": right}, unseen),
        ("left hand lost for 20 frames, zeros", {"left_hand": np.where(lost, 0, left)}, part),
        ("left hand lost for 20 frames, NaN", {"left_hand": np.where(lost, np.nan, left)}, part),
        ("left hand lost for 20 frames, -1", {"left_hand": np.where(lost, -1, left)}, part),
        ("left hand held for 20 frames", {"left_hand": np.where(lost, left[20], left)}, part),
        ("fingers from little to thumb", {n: found[n][:, fingers] for n in hands}, real),
        ("wrist last", {n: np.roll(found[n], -1, axis=1) for n in hands}, real),
        ("pose of 25 points", {"pose": pose[:, :25]}, real),
        ("visibility in place of depth", {"pose": pose[..., [0, 1, 3]]}, real),
        ("visibility first", {"pose": pose[..., [3, 0, 1, 2]]}, real),
        ("from between the shoulders", changed(found, 1, -centre, ("pose", *hands)), real),
    ):  # fmt: skip
        yield name, ".npz", found | arrays | size, known
    world = real._replace(joints=real.joints - real.joints[:, [1, 2]].mean(1, keepdims=True) + (0, 1.4, 0))
    metres = changed(landmarks(world, (1000, 1000)), 1 / 1.1, np.array((-0.5, -0.45, 0)) / 1.1)
    yield "world landmarks", ".npz", metres, real
    yield "world landmarks of the body alone", ".npz", found | {"pose": metres["pose"]}, real
    yield "world landmarks of the hands alone", ".npz", found | {name: metres[name] for name in hands}, real
    for order in itertools.permutations(("pose", "face", *hands)):
        if order.index("left_hand") < order.index("right_hand") or order[:2] == ("pose", "face"):
            yield f"rows of 1662: {', '.join(order)}", ".npy", rows_of(found, *order), real
    for order in itertools.permutations(("pose", *hands)):
        yield f"rows of 258: {', '.join(order)}", ".npy", rows_of(found, *order), real
        yield f"points (75, 3): {', '.join(order)}", ".npy", rows_of(found, *order, size=3).reshape(-1, 75, 3), real
    points = rows_of(found, "face", "left_hand", "pose", "right_hand", size=3).reshape(-1, 543, 3)
    yield "points (543, 3), asl-signs' order", ".npy", points, real
    yield "rows of 543 x, then y, then z", ".npy", points.swapaxes(1, 2).reshape(-1, 1629), real
    yield "irises in the face", ".npy", rows_of(found | {"face": found["face"][:, [*range(468), *[5] * 10]]}), real
    yield "hands alone, 126", ".npy", rows_of(found, *hands), real
    yield ".pose", ".pose", pose_file(found, fps=real.fps), real
    other = found | {"left_hand": right, "right_hand": left}
    yield ".pose with its hands exchanged", ".pose", pose_file(other, fps=real.fps), real

    def table(path, shuffle=False):
        rows = kaggle(landmarks(real, (720, 960)))
        pq.write_table(rows.take(np.random.default_rng(seed).permutation(len(rows))) if shuffle else rows, path)

    yield "asl-signs", ".parquet", table, real
    yield "asl-signs, rows shuffled", ".parquet", lambda path: table(path, True), real
    yield "a folder of rows, 1, 10, 2", "", {f"{t + 1}.npy": values for t, values in enumerate(rows_of(found))}, real


@kind
def frames(seed: int) -> Iterator:
    params, known = signer(seed)
    joints = own(known)
    del joints["fps"]
    plain = {part: params[part] for part in HEAD}
    yield "rate unsaid, joints", ".npz", joints, known, {}
    yield "rate unsaid, parameters", ".npz", plain, known, {}
    yield "rate unsaid, SignAvatars", ".pkl", {"smplx": signavatars(params)}, known, {}
    yield "rate unsaid, Motion-X", ".npy", motion_x(params), known, {}
    yield "rate unsaid, landmarks", ".npy", rows_of(landmarks(cafe(1))), cafe(1)._replace(fps=30.0), {}
    numbers = (29.97, 0, -25, 1000, 25000, np.nan, np.inf, 1e-3, 1 / 25)
    for rate in (*numbers, "25", "25 fps", b"25", [25.0] * FRAMES, [], True, None, {"a": 25}):
        truth = known._replace(fps=rate if rate in (29.97, 1000) else FPS)
        yield f"rate {str(rate)[:24]}", ".npz", joints | {"fps": np.array(rate)}, truth, {}
    yield "rate in milliseconds a frame", ".npz", joints | {"frame_time": 40.0}, known, {}
    yield "times of frames instead", ".npz", joints | {"timestamps": np.arange(FRAMES) / FPS}, known, {}
    yield "AMASS, rate unsaid", ".npz", amass(params), known, {}
    yield "AMASS, two rates", ".npz", amass(params, mocap_framerate=120.0, mocap_frame_rate=25.0), known, {}
    yield "two rates", ".npz", joints | {"fps": 25.0, "frame_rate": 50.0}, known, {}
    yield "BVH, time in milliseconds", ".bvh", bvh(*rig(params), time=40.0), known, {}
    yield "BVH, time 0", ".bvh", bvh(*rig(params), time=0.0), known, {}
    yield "BVH, rate in place of time", ".bvh", bvh(*rig(params), time=25.0), known, {}
    yield "glTF, times in frames", ".glb", glb(*rig(params), times=np.arange(FRAMES) * 1.0), known, {}
    yield "glTF, times in milliseconds", ".glb", glb(*rig(params), times=np.arange(FRAMES) * 40.0), known, {}
    doubled = np.repeat(known.joints, 2, axis=0)
    yield "each frame twice", ".npz", own(known, doubled), Known(doubled, FPS, np.repeat(known.seen, 2, axis=0))
    yield "one frame", ".npz", own(known, known.joints[:1]), known
    yield "no frame", ".npz", own(known, known.joints[:0]), known
    yield "three hours", ".npy", np.broadcast_to(known.joints[:1].astype(np.float16), (270_000, 52, 3)), known
    real = smplerx(params)
    view = list(real.values())
    yield "folder, 1, 10, 2", "", {f"{t + 1}.npz": content for t, content in enumerate(view)}, known
    yield "folder, 9 of it lost", "", {file: c for t, (file, c) in enumerate(real.items()) if t % 5 or not t}, known
    yield "folder, names in hexadecimal", "", {f"{t:02x}.npz": content for t, content in enumerate(view)}, known
    yield (
        "folder, frames counted backwards",
        "",
        {f"frame-{FRAMES - t}.npz": content for t, content in enumerate(view)},
        known._replace(joints=known.joints[::-1]),
    )
    yield "folder, times as names", "", {f"{t / FPS:.3f}.npz": content for t, content in enumerate(view)}, known
    yield "folder, letters", "", {f"{'abcdefgh'[t // 5]}{t % 5}.npz": content for t, content in enumerate(view)}, known
    yield "folder of two clips", "", {f"clip{t % 2}_{t // 2}.npz": content for t, content in enumerate(view)}, known
    yield "folder, a frame twice", "", real | {"1_0.npz": view[0]}, known
    yield (
        "folder, every frame named 1 of 40",
        "",
        {f"{t + 1}_of_40.npz": content for t, content in enumerate(view)},
        known,
    )
    nan = known.joints.copy()
    nan[10:15] = np.nan
    hole = known.seen.copy()
    hole[10:15] = False
    yield "five frames NaN", ".npz", own(known, nan), known._replace(seen=hole)
    yield "five frames of zeros", ".npz", own(known, np.nan_to_num(nan)), known._replace(seen=hole)
    zeroed = {part: np.where(hole[:, :1], params[part], 0) for part in HEAD}
    yield "five frames of parameters zeros", ".npz", zeroed, known._replace(seen=hole)
    yield (
        "five frames of parameters NaN",
        ".npz",
        {p: np.where(hole[:, :1], params[p], np.nan) for p in HEAD},
        known._replace(seen=hole),
    )


@kind
def several(seed: int) -> Iterator:
    (params, known), (other, second) = signer(seed), signer(seed + 1)
    a, b = smplerx(params, at=(-0.5, 0, 0)), smplerx(other, person=1, at=(0.5, 0, 0))
    yield "SMPLer-X, two people", "", a | b, known
    mixed = {}
    for t, (mine, theirs) in enumerate(zip(a.items(), b.items(), strict=True)):
        first, last = (mine, theirs) if t < 20 else ((mine[0], theirs[1]), (theirs[0], mine[1]))
        mixed |= dict([first, last])
    yield "SMPLer-X, two people whose order swaps", "", mixed, known
    yield "SMPLer-X, the second comes later", "", a | dict(list(b.items())[25:]), known
    yield (
        "SMPLer-X, one is lost and takes the other's number",
        "",
        {file: (c if t < 20 else list(b.values())[t]) for t, (file, c) in enumerate(a.items())},
        known,
    )
    joints = np.stack([known.joints, second.joints], axis=1)
    yield "joints (T, 2, 52, 3)", ".npz", own(known, joints), known
    yield "joints (T, 104, 3)", ".npz", own(known, joints.reshape(FRAMES, 104, 3)), known
    yield "two keys of joints", ".npz", {"joints": known.joints, "joints2": second.joints, "fps": FPS}, known
    yield "people by number, pickled", ".pkl", {0: {p: params[p] for p in HEAD}, 1: {p: other[p] for p in HEAD}}, known
    yield "list of two, pickled", ".pkl", [{p: params[p] for p in HEAD}, {p: other[p] for p in HEAD}], known
    people = {part: np.stack([params[part], other[part]], axis=1) for part in HEAD}
    yield "parameters (T, 2, n)", ".npz", people, known
    yield (
        "parameters, the people's rows in turn",
        ".npz",
        {part: people[part].reshape(2 * FRAMES, -1) for part in HEAD},
        known,
    )
    yield (
        "SignAvatars both kinds of parameters",
        ".pkl",
        {"smplx": signavatars(params), "unsmooth_smplx": signavatars(other)[:, :169]},
        known,
    )
    yield "glTF, two animations", ".glb", glb(*rig(params), clips=2), known
    yield (
        "BVH, two people",
        ".bvh",
        bvh(*rig(params), last="ROOT Hips2\n{\n\tOFFSET 0 0 0\n\tCHANNELS 3 Xrotation Yrotation Zrotation\n}"),
        known,
    )
    real = cafe(2)

    def tables(path, numbered):
        both = [kaggle(landmarks(cafe(number), (720, 960))) for number in (2, 3)]
        if numbered:
            both = [table.append_column("sequence_id", pa.array([n] * len(table))) for n, table in enumerate(both)]
        pq.write_table(pa.concat_tables(both), path)

    yield "asl-signs, two sequences", ".parquet", lambda path: tables(path, True), real
    yield "asl-signs, two sequences, unsaid", ".parquet", lambda path: tables(path, False), real


@kind
def names(seed: int) -> Iterator:
    (params, known), (other, _) = signer(seed), signer(seed + 1)
    plain, wrong = ({part: values[part] for part in HEAD} for values in (params, other))
    aliases = {"soke": ("smplx_root_pose", "smplx_body_pose", "smplx_lhand_pose", "smplx_rhand_pose")}
    aliases |= {
        "openasl3d": ("root_pose", "body_pose", "lhand_pose", "rhand_pose"),
        "other": ("root", "body", "lhand", "rhand"),
    }
    camera = in_axes(relative(params), CAMERA)
    for name, keys in aliases.items():
        yield f"names of {name}", ".npz", dict(zip(keys, (camera[part] for part in HEAD), strict=True)), known
        yield f"names of {name}, y up and whole", ".npz", dict(zip(keys, plain.values(), strict=True)), known
        yield (
            f"names of smplx and, of another motion, {name}",
            ".npz",
            plain | dict(zip(keys, wrong.values(), strict=True)),
            known,
        )
    yield "capitals", ".npz", {part.upper(): values for part, values in plain.items()}, known
    yield "joints in capitals", ".npz", {"JOINTS": known.joints, "FPS": FPS}, known
    yield "joints beside parameters of another motion", ".npz", own(known) | wrong, known
    yield "joints beside landmarks of another motion", ".npz", own(cafe(2)) | landmarks(cafe(3)), cafe(2)
    yield "parameters beside `poses` of another motion", ".npz", plain | amass(other), known
    yield "parameters beside `smplx` of another motion", ".npz", plain | {"smplx": signavatars(other)}, known
    yield "joints under keypoints", ".npz", {"keypoints": known.joints, "fps": FPS}, known
    yield "joints under params", ".npz", {"params": known.joints, "fps": FPS}, known
    yield (
        "valid says the contrary",
        ".npz",
        own(known, valid=np.zeros((FRAMES, 52), bool)),
        known._replace(seen=known.seen & False),
    )
    yield "valid of frames", ".npz", own(known, valid=np.ones(FRAMES, bool)), known
    yield "confidence of 0 to 1 as valid", ".npz", own(known, valid=np.full((FRAMES, 52), 0.9)), known
    yield "extra keys", ".npz", own(known, text="hello", meta=np.array({"a": 1}, object)), known
    yield "AMASS with `up` that is not so", ".npz", amass(params, "y up", up="z", mocap_framerate=FPS), known
    yield "left hand under both names", ".npz", plain | {"lhand_pose": wrong["left_hand_pose"]}, known
    yield "name of the file is another format", ".pkl", lambda path: np.savez(open(path, "wb"), **own(known)), known
    yield (
        "the two hands under pose_hand",
        ".npz",
        {
            "root_orient": params[HEAD[0]],
            "pose_body": params[HEAD[1]],
            "pose_hand": row(params, *HEAD[:1:-1]),
            "trans": params["transl"],
        },
        known,
    )


@kind
def BVH(seed: int) -> Iterator:
    params, known = signer(seed)
    for order in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"):
        yield f"channels {order}", ".bvh", bvh(*rig(params), order=order), known
    offsets, turns, root = rig(params)
    text = bvh(offsets, turns, root)
    yield "positions of all joints", ".bvh", bvh(offsets, turns, root, places="all"), known
    yield "no positions", ".bvh", bvh(offsets, turns, root, places="none"), known
    yield "radians", ".bvh", bvh(offsets, turns, root, radians=True), known
    yield "commas for points", ".bvh", text.replace(".", ","), known
    yield "lines of Windows and tabs", ".bvh", text.replace("\n", "\r\n").replace(" ", "\t", 0), known
    yield "a frame more than promised", ".bvh", text + text.split("\n")[-2] + "\n", known
    yield "a frame less than promised", ".bvh", "\n".join(text.split("\n")[:-2]) + "\n", known
    yield (
        "offset of the root",
        ".bvh",
        text.replace("OFFSET 0.000000 0.000000 0.000000", "OFFSET 5.0 95.0 3.0", 1),
        known,
    )
    first = np.concatenate([np.tile(np.eye(3), (1, 52, 1, 1)), turns])
    yield (
        "T-pose as first frame",
        ".bvh",
        bvh(offsets, first, np.insert(root, 0, root[0], axis=0)),
        Known(forward(offsets, first), FPS, np.ones((FRAMES + 1, 52), bool)),
    )
    yield "names of SMPL-X", ".bvh", bvh(offsets, turns, root, names=JOINT_NAMES), known
    yield (
        "names without sides",
        ".bvh",
        bvh(offsets, turns, root, names=[re.sub("Left|Right", "", name) for name in MIXAMO]),
        known,
    )
    yield (
        "fingers unnamed",
        ".bvh",
        bvh(offsets, turns, root, names=[n if i < 22 else f"b{i}" for i, n in enumerate(MIXAMO)]),
        known,
    )
    double = offsets * np.where(np.arange(52) > 21, 1, 1.15)[:, None]
    yield (
        "a body 15 % larger than life",
        ".bvh",
        bvh(double, turns, root * 1.15),
        Known(forward(double, turns), FPS, known.seen),
    )
    child = offsets * 0.7
    yield "a child", ".bvh", bvh(child, turns, root * 0.7), Known(forward(child, turns), FPS, known.seen)
    yield (
        "a child in centimetres",
        ".bvh",
        bvh(child * 100, turns, root * 70),
        Known(forward(child, turns), FPS, known.seen),
    )


def forward(offsets, turns):
    world, joints = turns.copy(), np.zeros(turns.shape[:3])
    for joint in range(1, 52):
        joints[:, joint] = joints[:, PARENTS[joint]] + world[:, PARENTS[joint]] @ offsets[joint]
        world[:, joint] = world[:, PARENTS[joint]] @ turns[:, joint]
    return joints


@kind
def glTF(seed: int) -> Iterator:
    params, known = signer(seed)
    body = rig(params)
    lie = {"rotation": [-np.sqrt(0.5), 0, 0, np.sqrt(0.5)]}
    signs = np.where(np.random.default_rng(seed).random(FRAMES) < 0.5, -1, 1)
    yield "signs of quaternions", ".glb", glb(*body, signs=signs), known
    yield "CUBICSPLINE", ".glb", glb(*body, how="CUBICSPLINE"), known
    yield "CUBICSPLINE and signs", ".glb", glb(*body, how="CUBICSPLINE", signs=signs), known
    yield "STEP", ".glb", glb(*body, how="STEP"), known
    yield "quaternions wxyz", ".glb", glb(*body, order=[3, 0, 1, 2]), known
    yield "armature of 0.01", ".glb", glb(*rig(params, scale=100), above=({"scale": [0.01] * 3},)), known
    yield "armature of 100 left out", ".glb", glb(*rig(params, scale=0.01)), known
    yield "armature mirrored", ".glb", glb(*body, above=({"scale": [-1, 1, 1]},)), known
    yield "z up under a lying armature", ".glb", glb(*rig(params, axes(TURNS["z up, facing -y"])), above=(lie,)), known
    yield "z up, armature left out", ".glb", glb(*rig(params, axes(TURNS["z up, facing -y"]))), known
    yield (
        "two armatures",
        ".glb",
        glb(*rig(params, axes(TURNS["z up, facing -y"]), 100), above=(lie, {"scale": [0.01] * 3})),
        known,
    )
    yield "stretched", ".glb", glb(*body, above=({"scale": [1, 1.3, 1]},)), known
    yield "a mesh named like a joint", ".glb", glb(*body, more=[{"name": "LeftHand", "translation": [3, 3, 3]}]), known
    yield (
        "a camera and a light",
        ".glb",
        glb(*body, more=[{"name": "Camera", "translation": [0, 1, 4]}, {"name": "Head"}]),
        known,
    )
    yield "times that start at 10 s", ".glb", glb(*body, times=np.arange(FRAMES) / FPS + 10), known
    yield "times backwards", ".glb", glb(*body, times=np.arange(FRAMES)[::-1] / FPS), known


@kind
def numbers_and_types(seed: int) -> Iterator:
    params, known = signer(seed)
    joints, plain = known.joints, {part: params[part] for part in HEAD}
    for name, array in {
        "float16": joints.astype(np.float16),
        "big-endian": joints.astype(">f4"),
        "Fortran order": np.asfortranarray(joints),
        "long double": joints.astype(np.longdouble),
        "millimetres as int16": (joints * 1000).round().astype(np.int16),
        "centimetres as int8": (joints * 100).round().clip(-128, 127).astype(np.int8),
        "metres as int32": joints.round().astype(np.int32),
        "millimetres as uint16": (joints * 1000).round().astype(np.int16).view(np.uint16),
        "objects": joints.astype(object),
        "complex": joints + 0j,
        "text": joints.round(4).astype(str),
        "masked": np.ma.masked_array(joints, np.zeros_like(joints, bool)),
        "named fields": np.ascontiguousarray(joints).view([("x", "f8"), ("y", "f8"), ("z", "f8")])[..., 0],
    }.items():
        yield f"joints, {name}", ".npz", {"joints": array, "fps": FPS}, known
    for dtype in ("f2", ">f8", "O", "U8"):
        yield f"parameters, {dtype}", ".npz", {p: values.round(5).astype(dtype) for p, values in plain.items()}, known
    yield "Motion-X, float16", ".npy", motion_x(params).astype(np.float16), known
    yield "Motion-X, big-endian in Fortran order", ".npy", np.asfortranarray(motion_x(params).astype(">f8")), known
    yield "Motion-X in thousandths, int16", ".npy", (motion_x(params) * 1000).astype(np.int16), known


@kind
def containers(seed: int) -> Iterator:
    params, known = signer(seed)
    plain, joints = {part: params[part] for part in HEAD}, own(known)
    lists = {"joints": known.joints.round(5).tolist(), "fps": FPS}

    def zipped(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("clip.json", json.dumps(lists))

    def table(path):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(f"{name}_{axis}" for name in JOINT_NAMES for axis in "xyz")
            writer.writerows(known.joints.reshape(FRAMES, -1).round(5).tolist())

    def torch_file(content):
        return lambda path: torch.save({k: torch.as_tensor(np.asarray(v)) for k, v in content.items()}, path)

    for name, content in (("joints", joints), ("parameters", plain), ("Motion-X", motion_x(params))):
        yield f"{name}, gzip", ".npz.gz", gzip.compress(saved(content)), known
        yield f"{name}, bzip2", ".npz.bz2", bz2.compress(saved(content)), known
        yield f"{name}, joblib", ".joblib", lambda path, content=content: joblib.dump(content, path), known
        yield (
            f"{name}, joblib compressed",
            ".joblib",
            lambda p, content=content: joblib.dump(content, p, compress=3),
            known,
        )
        yield f"{name}, pickle", ".pkl", content, known
        yield f"{name}, in a list", ".pkl", [content], known
        yield f"{name}, in a dict", ".pkl", {"data": content}, known
        if isinstance(content, dict):
            yield (
                f"{name}, saved dict",
                ".npy",
                lambda p, c=content: np.save(p, np.array(c, object), allow_pickle=True),
                known,
            )
            yield f"{name}, torch", ".pt", torch_file(content), known
            yield f"{name}, lists", ".pkl", {k: np.asarray(v).tolist() for k, v in content.items()}, known
    yield "json", ".json", json.dumps(lists), known
    yield "json lines", ".jsonl", "\n".join(json.dumps(frame) for frame in lists["joints"]), known
    yield "json in a zip", ".zip", zipped, known
    yield "table", ".csv", table, known
    yield "text", ".txt", lambda path: np.savetxt(path, motion_x(params)), known
    yield "npz named npy", ".npy", lambda path: path.write_bytes(saved(joints)), known
    yield (
        "a frame a pickle",
        ".pkl",
        [{part: values[t] for part, values in plain.items()} for t in range(FRAMES)],
        known,
    )
    yield (
        "two arrays in a row",
        ".npy",
        lambda path: path.write_bytes(b"".join(saved(part) for part in np.split(motion_x(params), 2))),
        known,
    )


def saved(content: dict | np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content) if isinstance(content, dict) else np.save(file, content)
    return file.getvalue()


# --- reading ----------------------------------------------------------------------------------------------------------


def cases(seed: int = 0, of_kind: str = "", word: str = "") -> Iterator[Case]:
    """All of them, those of a kind, or those with a word in their name."""
    for name, function in KINDS.items():
        for what, suffix, content, known, *options in function(seed) if of_kind in ("", name) else ():
            if word in what:
                yield Case(name, what, suffix, content, known, *options or [{"fps": known.fps}])


def put(path: Path, content) -> None:
    if callable(content):
        content(path)
    elif path.suffix == "":
        path.mkdir()
        for name, part in content.items():
            put(path / name, part)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def errors(joints: np.ndarray, valid: np.ndarray, known: Known) -> dict[str, float]:
    """Group -> the worst joint's error in metres: median, or 95th percentile of its observed frames."""
    joints, truth = (motion - motion[:, :1] for motion in (joints, known.joints))
    both = valid & known.seen & np.isfinite(joints).all(-1)
    here, there = (points[..., 0] + 1j * points[..., 2] for points in (joints, truth))
    turned = np.vdot(here[both], there[both])  # about y: files have no front, and the features turn each clip to it
    here = here * turned / abs(turned) if turned else here
    joints = np.stack([here.real, joints[..., 1], here.imag], axis=-1)
    apart = np.linalg.norm(joints - truth, axis=-1)
    apart[valid & ~known.seen] = NEVER  # said to be observed
    apart[~valid] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joints that nobody observed
        worst = np.nanpercentile(apart, 95, axis=0)
    return {name: float(np.nanmax(worst[list(group)], initial=0)) for name, group in GROUPS.items()}


def judge(case: Case, folder: Path) -> dict:
    """{"verdict", "why"} of a case whose file is put into an empty folder."""
    path = folder / f"clip{case.suffix}"
    put(path, case.content)
    try:
        motion = load_motion(path, **case.options)
    except (MotionFileError, OSError) as error:
        return {"verdict": "refused", "why": str(error).replace(str(path), path.name)}
    known, argument, words = case.known, ARGUMENTS.get(case.kind, ""), SAYS.get(case.name, "\0")
    said = [str(note) for note in motion.notes if note.argument == argument or words in note.text]
    wrong = []
    if motion.joints.shape != known.joints.shape:
        wrong.append(f"{motion.num_frames} frames, not {len(known.joints)}")
    else:
        far = {name: error for name, error in errors(motion.joints, motion.valid, known).items() if not error <= LIMIT}
        wrong += [f"{name} {1000 * error:.0f} mm" for name, error in far.items()]
        lost = known.seen & ~motion.valid
        unsaid = [name for name in GROUPS if not any(name in note.text for note in motion.notes)]
        wrong += [
            f"{name} not observed"
            for name in unsaid
            if lost[:, list(ARMS if name == "body" else GROUPS[name])].mean() > 0.3
        ]
    if not abs(motion.fps / known.fps - 1) < 0.01:
        wrong.append(f"{motion.fps:g} fps, not {known.fps:g}")
    verdict = "right" if not wrong else "said" if said else "silently wrong"
    notes = said if verdict != "silently wrong" else [str(note) for note in motion.notes]
    return {"verdict": verdict, "why": "; ".join(wrong), "notes": notes}
