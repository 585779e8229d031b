"""BVH and glTF files of a body whose joints are known, under the names of many programs; damaged and hostile files."""

import base64
import json
import os
import re
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_writers import rotation_vector

from lslm.processing import MotionFileError, Remark, load_motion
from lslm.processing.motion_features import HUMANML3D_BONE_LENGTHS, JOINT_NAMES, PARENTS, RAW_DIRECTIONS
from lslm.processing.readers import mocap_bvh, mocap_gltf
from lslm.processing.readers.mocap_bvh import read_bvh
from lslm.processing.readers.mocap_skeletons import UNITS, named_joints_to_motion_joints
from lslm.processing.smplx_formats import UP_TURNS

read_gltf = partial(mocap_gltf.read_gltf, folder=Path("nowhere"))
FRAMES, FPS = 6, 30.0
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
OFFSETS = RAW_DIRECTIONS * HUMANML3D_BONE_LENGTHS[:, None]
for name, offset in {  # those directions are no pose that a person takes
    "collar": (0.08, 0.1, 0.0),
    "shoulder": (0.1, 0.02, 0.0),
    "elbow": (0.1, -0.24, 0.0),
    "wrist": (0.0, -0.15, 0.2),
}.items():
    OFFSETS[[JOINT[f"left_{name}"], JOINT[f"right_{name}"]]] = np.array([offset, offset]) * ((1, 1, 1), (-1, 1, 1))
OFFSETS[JOINT["head"]] = (0.0, 0.1, 0.03)


def turn(axis, angle):
    """(..., 4, 4) matrices of turns about x, y or z by `angle` (...) radians."""
    matrix = np.zeros((*np.shape(angle), 4, 4))
    a, b = [(1, 2), (2, 0), (0, 1)]["xyz".index(axis)]
    matrix[...] = np.eye(4)
    matrix[..., a, a] = matrix[..., b, b] = np.cos(angle)
    matrix[..., b, a], matrix[..., a, b] = np.sin(angle), -np.sin(angle)
    return matrix


def move(offset):
    matrix = np.tile(np.eye(4), (*np.shape(offset)[:-1], 1, 1))
    matrix[..., :3, 3] = offset
    return matrix


def a_motion(frames=FRAMES, seed=0):
    """Euler angles (T, 52, 3) radians for z, x, y, root positions (T, 3), and the joints (T, 52, 3) they make."""
    rng = np.random.default_rng(seed)
    angles = np.cumsum(rng.normal(0, 0.04, (frames, 52, 3)), axis=0) + rng.normal(0, 0.1, (52, 3))
    root = np.cumsum(rng.normal(0, 0.01, (frames, 3)), axis=0) + (0.3, 0.95, -0.2)
    return angles, root, forward(angles, root)


def said(notes):
    return tuple(note.text for note in notes)


def forward(angles, root, offsets=OFFSETS, parents=PARENTS, order="zxy"):
    worlds = []
    for joint, parent in enumerate(parents):
        local = move(root if parent < 0 else np.tile(offsets[joint], (len(root), 1)))
        for column, axis in enumerate(order):
            local = local @ turn(axis, angles[:, joint, column])
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    return np.stack([world[:, :3, 3] for world in worlds], axis=1)


def write_bvh(names, angles, root, *, scale=1.0, order="zxy", positions="root", parents=PARENTS, offsets=OFFSETS):
    """BVH text; `positions`: whether the root alone has position channels, or all joints, `absolute` or `added`."""
    lines, sequence = ["HIERARCHY"], []

    def joint(index, indent):
        kind = "ROOT" if parents[index] < 0 else "JOINT"
        sequence.append(index)
        lines.extend([f"{indent}{kind} {names[index]}", indent + "{"])
        lines.append(f"{indent}  OFFSET " + " ".join(f"{v * scale:.7f}" for v in offsets[index]))
        channels = [f"{axis.upper()}rotation" for axis in order]
        if positions != "root" or index == 0:
            channels = ["Xposition", "Yposition", "Zposition", *channels]
        lines.append(f"{indent}  CHANNELS {len(channels)} {' '.join(channels)}")
        children = [child for child, parent in enumerate(parents) if parent == index]
        for child in children:
            joint(child, indent + "  ")
        if not children:
            lines.extend([f"{indent}  End Site", indent + "  {", f"{indent}    OFFSET 0 1 0", indent + "  }"])
        lines.append(indent + "}")

    joint(0, "")
    lines += ["MOTION", f"Frames: {len(root)}", f"Frame Time: {1 / FPS:.6f}"]
    for frame in range(len(root)):
        row = []
        for index in sequence:
            if index == 0:
                row += list(root[frame] * scale)
            elif positions != "root":
                row += list(offsets[index] * scale if positions == "absolute" else np.zeros(3))
            row += list(np.degrees(angles[frame, index]))
        lines.append(" ".join(f"{value:.7f}" for value in row))
    return "\n".join(lines) + "\n"


def quaternions(matrices):
    """(T, 3, 3) rotation matrices -> (T, 4) with w last."""
    vectors = np.array([rotation_vector(matrix) for matrix in matrices])
    half = np.linalg.norm(vectors, axis=1, keepdims=True) / 2
    return np.concatenate([vectors * np.sinc(half / np.pi) / 2, np.cos(half)], axis=1)


class GltfWriter:
    """Collects numbers into one buffer and makes a .glb or .gltf of nodes and animation channels."""

    def __init__(self):
        self.data, self.views, self.accessors, self.channels, self.samplers = b"", [], [], [], []

    def add(self, values, dtype="<f4"):
        values = np.asarray(values)
        raw = values.astype(dtype).tobytes()
        component = {"<f4": 5126, "<i2": 5122, "<u1": 5121}[dtype]
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)})
        kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
        view = len(self.views) - 1
        self.accessors.append({"bufferView": view, "componentType": component, "count": len(values), "type": kind})
        self.data += raw + b"\0" * (-len(raw) % 4)
        return len(self.accessors) - 1

    def animate(self, node, path, times, values, how=None, dtype="<f4"):
        times = times if isinstance(times, int) else self.add(times)
        sampler = {"input": times, "output": self.add(values, dtype)} | ({"interpolation": how} if how else {})
        self.samplers.append(sampler)
        self.channels.append({"sampler": len(self.samplers) - 1, "target": {"node": node, "path": path}})
        return times

    def json(self, nodes, **more):
        return {
            "asset": {"version": "2.0"},
            "nodes": nodes,
            "buffers": [{"byteLength": len(self.data)}],
            "bufferViews": self.views,
            "accessors": self.accessors,
            "animations": [{"channels": self.channels, "samplers": self.samplers}],
            **more,
        }

    def glb(self, nodes, **more):
        return glb(self.json(nodes, **more), self.data)


def glb(document, data):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def gltf_body(names, angles, root, *, times=None, scale=1.0, leaves_first=False):
    """(writer, nodes) of the body under an armature that scales it, as exporters of FBX files do."""
    writer = GltfWriter()
    times = np.arange(len(root)) / FPS if times is None else times
    order = range(51, -1, -1) if leaves_first else range(52)
    place = {joint: node for node, joint in enumerate(order)}
    nodes = [{} for _ in range(52)]
    keys = writer.add(times)
    for joint in range(52):
        node = nodes[place[joint]]
        children = [place[child] for child in range(52) if PARENTS[child] == joint]
        node |= {"name": names[joint], "translation": (OFFSETS[joint] / scale).tolist()}
        node |= {"children": children} if children else {}
        rotation = np.eye(4)
        for column, axis in enumerate("zxy"):
            rotation = rotation @ turn(axis, angles[:, joint, column])
        writer.animate(place[joint], "rotation", keys, quaternions(rotation[:, :3, :3]))
    writer.animate(place[0], "translation", keys, root / scale)
    nodes.append({"name": "Armature", "scale": [scale] * 3, "children": [place[0]]})
    return writer, nodes


# --- names of other programs ------------------------------------------------------------------------------------------


PARTS = "pelvis spine1 spine2 spine3 neck head hip knee ankle foot collar shoulder elbow wrist".split()
MIXAMO = "Hips Spine Spine1 Spine2 Neck Head UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand"
HUMANOID = "hips spine chest upperChest neck head UpperLeg LowerLeg Foot Toes Shoulder UpperArm LowerArm Hand"
NUMBERED = "Pelvis Spine Spine1 Spine2 Neck Head Thigh Calf Foot Toe0 Clavicle UpperArm Forearm Hand"
VROID = "J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest J_Bip_C_Neck J_Bip_C_Head UpperLeg LowerLeg Foot "
VROID += "ToeBase Shoulder UpperArm LowerArm Hand"
ROKOKO = "Hips Spine1 Spine2 Spine3 Neck Head Thigh Shin Foot Toe Shoulder Arm ForeArm Hand"
UNREAL = "pelvis spine_01 spine_02 spine_03 neck_01 head thigh calf foot ball clavicle upperarm lowerarm hand"
CREATOR = "CC_Base_Hip CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02 CC_Base_NeckTwist01 CC_Base_Head Thigh Calf Foot "
CREATOR += "ToeBase Clavicle UpperArm Forearm Hand"
BLENDER = "hips spine spine.001 chest neck head thigh shin foot toe shoulder upper_arm forearm hand"
THUMB, PHALANX = ("Metacarpal", "Proximal", "Distal"), ("Proximal", "Intermediate", "Distal")


def convention(words, side, finger, **other):
    """Our joints by the names of a program: `words` for `PARTS`, how it writes a side, and a finger's bones 1 to 3;
    `other`: what it calls a finger."""
    words = dict(zip(PARTS, words.split(), strict=True))
    names = []
    for name in JOINT_NAMES:
        of, _, joint = name.partition("_") if name.startswith(("left_", "right_")) else ("", "", name)
        if match := re.fullmatch(r"(thumb|index|middle|ring|pinky)(\d)", joint):
            called, k = other.get(match[1], match[1]), int(match[2])
            thumb = match[1] == "thumb"
            values = {"n": FINGERS.index(match[1]), "k": k, "j": "" if k == 1 else k - 1, "f": "" if thumb else "f_"}
            values |= {"vrm": (THUMB if thumb else PHALANX)[k - 1], "unity": PHALANX[k - 1]}
            values |= {"rokoko": (THUMB if thumb else ("Proximal", "Medial", "Distal"))[k - 1]}
            joint = finger.format(finger=called, Finger=called.capitalize(), m=values["n"] + 1, **values)
        else:
            joint = words[joint]
        names.append(side.format(joint, side=of, Side=of.capitalize(), s=of[0], S=of[0].upper()) if of else joint)
    return names


mixamo = convention(MIXAMO, "{Side}{}", "Hand{Finger}{k}")
CONVENTIONS = {
    "smplx": JOINT_NAMES,
    "mixamo": [f"mixamorig:{name}" for name in mixamo],
    "mixamo by three.js": [f"mixamorig{name}" for name in mixamo],
    "motionbuilder": [f"Character1_{name}" for name in mixamo],
    "maya": [f"actor:rig1:{name}" for name in mixamo],
    "sketchfab": [f"mixamorig:{name}_{number:02}" for number, name in enumerate(mixamo)],
    "lower case": [name.lower() for name in mixamo],
    "vrm 1": convention(HUMANOID, "{side}{}", "{Finger}{vrm}", pinky="little"),
    "unity": convention(HUMANOID, "{side}{}", "{Finger}{unity}", pinky="little"),
    "vroid": convention(VROID, "J_Bip_{S}_{}", "{Finger}{k}", pinky="little"),
    "rokoko": convention(ROKOKO, "{Side}{}", "Finger{m}{rokoko}"),
    "unreal": convention(UNREAL, "{}_{s}", "{finger}_0{k}"),
    "character creator": convention(CREATOR, "CC_Base_{S}_{}", "{Finger}{k}", middle="mid"),
    "biped": [f"Bip001 {name}" for name in convention(NUMBERED, "{S} {}", "Finger{n}{j}")],
    "blender": convention(BLENDER, "{}.{S}", "{f}{finger}.0{k}"),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_names_of_other_programs(name):
    names = CONVENTIONS[name]
    assert len(set(names)) == 52, names
    _, _, expected = a_motion()
    shuffled = np.random.default_rng(1).permutation(52)
    joints, valid, notes = named_joints_to_motion_joints([names[k] for k in shuffled], expected[:, shuffled])
    assert joints.dtype == np.float32 and valid.all() and said(notes) == ()
    np.testing.assert_allclose(joints, expected, atol=1e-6)


def test_names_of_bvh_files_without_fingers():
    words = "Hips Chest a b Neck Head Hip Knee Ankle Toe Collar Shoulder Elbow Wrist"
    names = convention(words, "{Side}{}", "none")
    _, _, expected = a_motion()
    keep = [k for k, name in enumerate(names[:22]) if name not in ("a", "b")]
    joints, valid, notes = named_joints_to_motion_joints([names[k] for k in keep], expected[:, keep])
    np.testing.assert_allclose(joints[:, keep[4:]], expected[:, keep[4:]], atol=1e-6)
    assert valid[:, :22].all() and not valid[:, 22:].any()
    assert said(notes) == ("filled in: left fingers, right fingers",)
    for side, first in (("left", 22), ("right", 37)):  # relaxed: on along the forearm, at the size of a hand
        wrist, elbow = joints[:, JOINT[f"{side}_wrist"]], joints[:, JOINT[f"{side}_elbow"]]
        along = (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=-1, keepdims=True)
        reach = np.einsum("tjc,tc->tj", joints[:, first : first + 15] - wrist[:, None], along)
        assert ((0.02 < reach) & (reach < 0.16)).all()


def test_a_shoulder_is_no_forearm():
    _, _, expected = a_motion()
    names = convention("Hips a b c neck Head Hip knee ankle foot collar Shoulder ForeArm Hand", "{Side}{}", "x")
    joints, valid, _ = named_joints_to_motion_joints(names, expected)
    arms = [JOINT[f"{side}_{joint}"] for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist")]
    np.testing.assert_allclose(joints[:, arms], expected[:, arms], atol=1e-6)


def test_exact_names_win_over_names_with_more_words():
    _, _, expected = a_motion()
    names = ["ik_hand_l", "weapon_hand_r", "HeadTop_End", "LeftHandThumb4", *CONVENTIONS["unreal"]]
    joints, valid, _ = named_joints_to_motion_joints(names, np.concatenate([expected[:, :4] + 9, expected], axis=1))
    np.testing.assert_allclose(joints, expected, atol=1e-6)
    assert valid.all()


@pytest.mark.parametrize("number", [0, 1, 2, 4, 5])
def test_spines_of_other_lengths_are_spread(number):
    _, _, expected = a_motion()
    spine = [JOINT[f"spine{k}"] for k in (1, 2, 3)]
    rest = [k for k in range(52) if k not in spine]
    names = [mixamo[k] for k in rest] + [f"Spine{k}" for k in range(number)]
    pelvis, neck = expected[:, JOINT["pelvis"]], expected[:, JOINT["neck"]]
    ways = np.arange(1, number + 1) / (number + 1)
    chain = pelvis[:, None] + ways[:, None] * (neck - pelvis)[:, None]
    order = np.random.default_rng(0).permutation(len(names))
    positions = np.concatenate([expected[:, rest], chain], axis=1)
    joints, valid, notes = named_joints_to_motion_joints([names[k] for k in order], positions[:, order])
    for name, height in (("spine1", 0.24), ("spine2", 0.5), ("spine3", 0.6)):
        np.testing.assert_allclose(joints[:, JOINT[name]], pelvis + height * (neck - pelvis), atol=1e-5)
        assert valid[:, JOINT[name]].all() == (number > 0)
    assert said(notes) == (() if number else ("filled in: spine1, spine2, spine3",))


def test_of_cmu_necks_the_one_above_the_shoulders():
    _, _, expected = a_motion()
    names = list(mixamo)
    names[JOINT["neck"]] = "Neck1"
    joints, _, _ = named_joints_to_motion_joints([*names, "Neck"], np.append(expected, expected[:, [3]], axis=1))
    np.testing.assert_allclose(joints, expected, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("up", UP_TURNS)
def test_units_and_axes(unit, up):
    _, _, expected = a_motion()
    given = expected / UNITS[unit] @ np.array(UP_TURNS[up])
    joints, _, notes = named_joints_to_motion_joints(mixamo, given)
    np.testing.assert_allclose(joints, expected, atol=1e-5)
    assert said(notes) == ((f"{up} up, turned to y up",) if up != "y" else ()) + (
        (f"unit: {unit}",) if unit != "metres" else ()
    )


def test_left_handed_axes_are_mirrored_but_facing_away_is_not():
    _, _, expected = a_motion()
    joints, _, notes = named_joints_to_motion_joints(mixamo, expected * (-1, 1, 1))
    np.testing.assert_allclose(joints, expected, atol=1e-6)
    assert said(notes) == ("left-handed axes, mirrored; if they are not",)
    joints, _, notes = named_joints_to_motion_joints(mixamo, expected * (-1, 1, -1))
    np.testing.assert_allclose(joints, expected * (-1, 1, -1), atol=1e-6)
    assert said(notes) == ()


def test_what_is_missing_is_filled_or_named():
    _, _, expected = a_motion()
    legs = [k for k, name in enumerate(JOINT_NAMES) if name.endswith(("knee", "ankle", "foot", "collar", "neck"))]
    keep = [k for k in range(52) if k not in legs and k not in range(22, 37)]
    joints, valid, notes = named_joints_to_motion_joints([mixamo[k] for k in keep], expected[:, keep])
    np.testing.assert_array_equal(valid, np.tile(np.isin(np.arange(52), keep), (FRAMES, 1)))
    assert np.isfinite(joints).all() and "left knee" in notes[0].text and "left fingers" in notes[0].text
    assert np.linalg.norm(joints[:, JOINT["neck"]] - expected[:, JOINT["neck"]], axis=-1).max() < 0.1
    assert (joints[:, JOINT["left_ankle"], 1] < joints[:, JOINT["left_knee"], 1] - 0.3).all()
    for lost in ("pelvis", "head", "left_hip", "right_shoulder", "left_elbow", "right_wrist"):
        keep = [k for k in range(52) if k != JOINT[lost]]
        with pytest.raises(ValueError, match=f"lacks {lost};"):
            named_joints_to_motion_joints([mixamo[k] for k in keep], expected[:, keep])


def test_two_bones_of_a_finger_are_no_finger_and_still_fingers_are_noted():
    _, _, expected = a_motion()
    keep = [k for k in range(52) if JOINT_NAMES[k] != "left_ring2"]
    _, valid, notes = named_joints_to_motion_joints([mixamo[k] for k in keep], expected[:, keep])
    assert not valid[:, [JOINT[f"left_ring{k}"] for k in (1, 2, 3)]].any() and valid.sum() == FRAMES * 49
    assert said(notes) == ("filled in: left ring1, left ring2, left ring3",)
    still = expected.copy()
    still[:, 37:] = still[:, [JOINT["right_wrist"]]] + (expected[:1, 37:] - expected[:1, [JOINT["right_wrist"]]])
    assert named_joints_to_motion_joints(mixamo, still)[2] == [Remark("the right fingers never move")]


@pytest.mark.parametrize(
    "change, pattern",
    [
        (lambda x: x * 0, "one place"),
        (lambda x: x * np.nan, "one place or no numbers"),
        (lambda x: x * 5, "scale the skeleton"),
        (lambda x: x @ (turn("x", 0.3) @ turn("z", 0.3))[:3, :3], "expected it above"),
    ],
)
def test_positions_that_are_no_body(change, pattern):
    with pytest.raises(ValueError, match=pattern) as caught:
        named_joints_to_motion_joints(mixamo, change(a_motion()[2]))
    assert "\n" not in str(caught.value)


# --- BVH --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["root", "absolute", "added"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_bvh_round_trip(positions, scale):
    angles, root, expected = a_motion()
    text = write_bvh(mixamo, angles, root, scale=scale, positions=positions)
    names, found, fps = read_bvh(text.encode())
    assert fps == FPS and found.dtype == np.float32 and sorted(names) == sorted(mixamo)
    np.testing.assert_allclose(found, expected[:, [mixamo.index(name) for name in names]] * scale, atol=2e-6 * scale)
    joints, valid, _ = named_joints_to_motion_joints(names, found)
    np.testing.assert_allclose(joints, expected, atol=1e-3)
    assert valid.all()


@pytest.mark.parametrize("order", ["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"])
def test_bvh_channel_orders(order):
    angles, root, _ = a_motion()
    names, found, _ = read_bvh(write_bvh(JOINT_NAMES, angles * 5, root, order=order).encode())
    expected = forward(angles * 5, root, order=order)
    np.testing.assert_allclose(found, expected[:, [JOINT[name] for name in names]], atol=3e-6)


def test_bvh_as_programs_write_it():
    angles, root, _ = a_motion()
    text = write_bvh([f"The {name}" for name in JOINT_NAMES], angles, root)
    names, expected, _ = read_bvh(text.encode())
    assert names[0] == "The pelvis"
    changed = re.sub(r"\n\s*{", " {", text).replace("\n", "\r\n").replace("Frames:", "Frames :").replace("  ", "\t")
    changed = "\ufeff" + changed.replace(
        "Xposition Yposition Zposition Zrotation", "XPOSITION YPosition zposition ZROTATION"
    )
    np.testing.assert_array_equal(read_bvh(changed.encode())[1], expected)
    np.testing.assert_array_equal(read_bvh((text + "1 2 3\n\n").encode())[1], expected)  # more than promised


@pytest.mark.parametrize(
    "time, fps", [("0.033333", 30), ("0.0083333", 120), (".04", 25), ("0.0417083", 23.976), ("1e-3", 1000)]
)
def test_bvh_frame_rates(time, fps):
    angles, root, _ = a_motion(2)
    text = write_bvh(JOINT_NAMES, angles, root).replace("Frame Time: 0.033333", f"Frame Time: {time}")
    assert read_bvh(text.encode())[2] == pytest.approx(fps, abs=1e-3)


def test_what_follows_the_promised_frames_of_a_bvh_file_is_not_read(monkeypatch):
    """120 MB of further numbers took 13 seconds and 1.4 GB."""
    angles, root, _ = a_motion(2)
    text = write_bvh(JOINT_NAMES, angles, root)
    expected, read = read_bvh(text.encode())[1], []
    monkeypatch.setattr(mocap_bvh, "float", lambda word: (read.append(word), float(word))[1], raising=False)
    monkeypatch.setattr(mocap_bvh, "_BLOCK", 100)
    np.testing.assert_array_equal(read_bvh((text + "1 " * 10**6).encode())[1], expected)
    assert len(read) < 2 * (6 + 3 * len(JOINT_NAMES)) + 200
    with pytest.raises(ValueError, match="no number"):
        read_bvh(re.sub(r"(\d)\.", r"\1_0.", text).encode())


def test_bvh_angles_in_radians_are_refused():
    angles, root, _ = a_motion()
    with pytest.raises(ValueError, match="BVH counts degrees"):
        read_bvh(write_bvh(mixamo, angles * np.pi / 180, root).encode())


@pytest.mark.parametrize("apart", [0.0, 1.5])
def test_two_people_in_a_file_are_refused_but_not_the_controls_of_one(apart):
    _, _, expected = a_motion()
    both = np.concatenate([expected, expected + (apart, 0, 0)], axis=1)
    names = [*mixamo, *(f"Other_{name}" for name in mixamo)]
    if apart:
        with pytest.raises(ValueError, match="two skeletons in the file"):
            named_joints_to_motion_joints(names, both)
    else:
        np.testing.assert_allclose(named_joints_to_motion_joints(names, both)[0], expected, atol=1e-6)


def test_a_bvh_file_with_two_roots_is_refused(tmp_path):
    head, rows = [], []
    for seed, name in enumerate(("Anna", "Ben")):
        hierarchy, motion = write_bvh([f"{name}:{joint}" for joint in mixamo], *a_motion(seed=seed)[:2]).split(
            "MOTION\n"
        )
        head.append(hierarchy.removeprefix("HIERARCHY\n"))
        rows.append(motion.strip().split("\n"))
    frames = [" ".join(pair) for pair in zip(rows[0][2:], rows[1][2:], strict=True)]
    (tmp_path / "a.bvh").write_text("\n".join(["HIERARCHY", *head, "MOTION", *rows[0][:2], *frames]) + "\n")
    with pytest.raises(MotionFileError, match="two skeletons in the file"):
        load_motion(tmp_path / "a.bvh")


BVH = write_bvh(mixamo[:22], *a_motion(3)[:2], parents=PARENTS[:22])
CHANNELS = "CHANNELS 9 " + 9 * "Xrotation " + "\n"
BAD_BVH = {
    "empty": ("", "no BVH file"),
    "no motion": (BVH[:900], "no BVH file, or a truncated one"),
    "truncated motion": (BVH[: BVH.rindex("\n", 0, -400)], "truncated"),
    "no number of frames": (BVH.replace("Frames: 3", "Frames: x"), "no `Frames: N`"),
    "no frames": (BVH.replace("Frames: 3", "Frames: 0"), "0 frames of 69 channels promised"),
    "more frames": (BVH.replace("Frames: 3", "Frames: 999999999"), "999999999 frames of 22 joints, the limit is"),
    "frame time 0": (BVH.replace("0.033333", "0"), "expected seconds"),
    "frame time NaN": (BVH.replace("0.033333", "nan"), "expected seconds"),
    "frame time text": (BVH.replace("0.033333", "fast"), "holds what is no number"),
    "text in the motion": (BVH[:-60] + "x" + BVH[-60:], "breaks off, or holds"),
    "infinity in the motion": (re.sub(r"(Frame Time: \S+\n)\S+", r"\1inf", BVH), "not finite"),
    "offset": (BVH.replace("OFFSET 0.0000000 0.0000000 0.0000000", "OFFSET 0 0 up"), "is no 3 numbers"),
    "infinite offset": (BVH.replace("OFFSET 0.0000000 0.0000000 0.1", "OFFSET 0 0 1e999"), "not finite"),
    "channel": (BVH.replace("Xrotation", "Wrotation"), "expected channels"),
    "no channel count": (BVH.replace("CHANNELS 3 Zrotation Xrotation Yrotation", "CHANNELS"), "expected channels"),
    "channel count": (BVH.replace("CHANNELS 3", "CHANNELS 4"), "expected channels"),
    "open brace": (BVH.replace("}", "", 1), "unexpected|open brace"),
    "closed brace": (BVH.replace("{", "", 1), "unexpected"),
    "two names": (BVH.replace("ROOT", "ROOT a\nROOT", 1), "unexpected"),
    "joint outside": (BVH.replace("ROOT", "JOINT", 1), "unexpected"),
    "no joint": ("HIERARCHY\nMOTION\nFrames: 1\nFrame Time: 0.1\n1", "no joint"),
    "no channels": ("ROOT a\n{\n}\nMOTION\nFrames: 1\nFrame Time: 0.1\n1", "0 channels"),
    "many joints": ("ROOT a\n{\n}\n" * 1001 + "MOTION\n", "over 1000 joints"),
    "deep": ("ROOT a\n{\n" + "JOINT b\n{\n" * 999 + "MOTION\n", "open brace"),
    "binary": (bytes(range(256)) * 20, "no BVH file"),
    "channels": (
        f"ROOT a\n{{\n{CHANNELS}}}\nMOTION\nFrames: 2000000\nFrame Time: 0.1\n1",
        "2000000 frames of 9 channels",
    ),
    "white space": ("\n " * 500_000, "no BVH file"),
    "braces": ("{" * (2**20 + 1) + "\nMOTION\n", "over 1 MB"),
}


@pytest.mark.parametrize("case", BAD_BVH)
def test_bad_bvh_files(case):
    text, pattern = BAD_BVH[case]
    with pytest.raises(ValueError, match=pattern) as caught:
        read_bvh(text if isinstance(text, bytes) else text.encode())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bvh_agrees_with_pybvh(tmp_path_factory, seed):
    pybvh = pytest.importorskip("pybvh")
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 12))
    parents = [-1, *(int(rng.integers(0, k)) for k in range(1, count))]
    offsets, angles = rng.normal(0, 1, (count, 3)), rng.uniform(-3, 3, (4, count, 3))
    order = "".join(rng.permutation(list("xyz")))
    path = tmp_path_factory.mktemp("bvh") / "clip.bvh"
    names = [f"j{k}" for k in range(count)]
    path.write_text(write_bvh(names, angles, rng.normal(0, 1, (4, 3)), order=order, parents=parents, offsets=offsets))
    theirs = pybvh.read_bvh_file(path, world_up="+y")
    names, positions, fps = read_bvh(path.read_bytes())
    assert names == theirs.joint_names and fps == pytest.approx(1 / theirs.frame_time)
    np.testing.assert_allclose(positions, theirs.joint_positions(), atol=1e-5)


# --- glTF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves_first", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_gltf_round_trip(leaves_first, scale):
    angles, root, expected = a_motion()
    writer, nodes = gltf_body(CONVENTIONS["mixamo"], angles, root, scale=scale, leaves_first=leaves_first)
    names, found, fps = read_gltf(writer.glb(nodes))
    assert fps == FPS and found.shape == (FRAMES, 53, 3) and found.dtype == np.float32
    joints, valid, notes = named_joints_to_motion_joints(names, found)
    np.testing.assert_allclose(joints, expected, atol=1e-5)
    assert valid.all() and said(notes) == ()


WRITER, NODES = gltf_body(mixamo, *a_motion(3)[:2])
GLB = WRITER.glb(NODES)


def gltf_with_buffer(uri):
    document = WRITER.json(NODES)
    document["buffers"][0]["uri"] = uri
    return json.dumps(document).encode()


def test_gltf_buffers_as_data_uri_and_beside_the_file(tmp_path):
    inline = gltf_with_buffer("data:application/octet-stream;base64," + base64.b64encode(WRITER.data).decode())
    np.testing.assert_array_equal(read_gltf(inline)[1], read_gltf(GLB)[1])
    with pytest.raises(FileNotFoundError):
        read_gltf(gltf_with_buffer("my%20clip.bin"), folder=tmp_path)
    (tmp_path / "my clip.bin").write_bytes(WRITER.data)
    np.testing.assert_array_equal(read_gltf(gltf_with_buffer("my%20clip.bin"), folder=tmp_path)[1], read_gltf(GLB)[1])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_gltf(gltf_with_buffer("pipe"), folder=tmp_path)
    with pytest.raises(ValueError, match="is not in it"):
        read_gltf(gltf_with_buffer(None))


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "../clip.bin", "a/b.bin", "..", "", "file:///x", "C:x", "%2e%2e%2fx", "a\\b"]
)
def test_gltf_buffers_elsewhere_are_not_opened(uri):
    with pytest.raises(ValueError, match="lies elsewhere"):
        read_gltf(gltf_with_buffer(uri))


def stick(times, values, how=None, path="rotation", dtype="<f4", **node):
    """Positions (T, 3) of a joint at the end of a stick one metre to the left, animated at its root."""
    writer = GltfWriter()
    writer.animate(0, path, np.asarray(times), np.asarray(values), how, dtype)
    nodes = [{"name": "root", "children": [1], **node}, {"name": "tip", "translation": [1, 0, 0]}]
    names, positions, fps = read_gltf(writer.glb(nodes))
    assert names == ["root", "tip"]
    return positions[:, 1], fps


QUARTER = [0, 0, np.sqrt(0.5), np.sqrt(0.5)]  # about z


def test_gltf_rotations_go_along_the_arc_the_shorter_way():
    for sign in (1, -1):
        tip, fps = stick([0, 1], [[0, 0, 0, 1], sign * np.array(QUARTER)])
        angle = np.linspace(0, np.pi / 2, 31)
        assert fps == 30.0  # two keys are poses, no frames
        np.testing.assert_allclose(tip, np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1), atol=1e-6)
    tip, _ = stick([0, 1], [QUARTER, QUARTER])
    np.testing.assert_allclose(tip, np.tile([0, 1, 0], (31, 1)), atol=1e-6)


def test_gltf_linear_step_and_cubic():
    tip, _ = stick([2, 3], [[0, 0, 0], [3, 0, 6]], path="translation")
    np.testing.assert_allclose(tip, np.linspace([1, 0, 0], [4, 0, 6], 31), atol=1e-5)
    tip, _ = stick([0, 1, 2], [[1, 1, 1], [2, 1, 1], [3, 1, 1]], "STEP", "scale")
    np.testing.assert_allclose(tip[:, 0], [1] * 30 + [2] * 30 + [3], atol=1e-6)
    # x = t^3 - t on [-1, 1], by its values 0 and slopes 2
    keys = [[0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 0, 0], [0, 0, 0]]
    tip, _ = stick([-1, 1], keys, "CUBICSPLINE", "translation")
    t = np.linspace(-1, 1, 61)
    np.testing.assert_allclose(tip[:, 0] - 1, t**3 - t, atol=1e-6)
    keys = np.zeros((6, 4))
    keys[1], keys[4] = [0, 0, 0, 1], QUARTER
    tip, _ = stick([0, 1], keys, "CUBICSPLINE")
    np.testing.assert_allclose(np.linalg.norm(tip, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(tip[15], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)


def test_gltf_integer_rotations_and_baked_rates():
    times = np.arange(13) / 24
    values = np.outer(np.ones(13), QUARTER)
    tip, fps = stick(times, np.round(values * 32767), dtype="<i2")
    assert fps == 24.0 and len(tip) == 13
    np.testing.assert_allclose(tip, np.tile([0, 1, 0], (13, 1)), atol=1e-4)
    assert stick(times[:1], values[:1])[0].shape == (1, 3)
    assert stick([0, 0, 1e-7], values[:3])[1] == 30.0


def test_gltf_scales_before_it_turns():
    tip, _ = stick([0, 1], [[0, 0, 0], [0, 0, 0]], path="translation", rotation=QUARTER, scale=[2, 3, 5])
    np.testing.assert_allclose(tip, np.tile([0, 2, 0], (31, 1)), atol=1e-6)


def test_gltf_keys_meet_their_frames_though_they_are_rounded():
    tip, fps = stick(np.arange(60) / 30, np.arange(60)[:, None] * (1, 0, 0), "STEP", "translation")
    assert fps == 30.0
    np.testing.assert_array_equal(tip[:, 0] - 1, np.arange(60))


def test_gltf_matrix_nodes_and_other_channels():
    angles, root, expected = a_motion()
    writer, nodes = gltf_body(mixamo, angles, root)
    turned = (move([1.0, 2.0, 3.0]) @ turn("y", 0.7)) @ np.diag([2.0, 2.0, 2.0, 1.0])
    nodes[-1] = {"name": "Armature", "matrix": turned.T.ravel().tolist(), "children": nodes[-1]["children"]}
    writer.channels.insert(0, {"sampler": 0, "target": {"node": 1, "path": "weights"}})
    writer.channels.insert(0, {"sampler": 0, "target": {"path": "rotation"}})
    names, found, _ = read_gltf(writer.glb(nodes))
    found = found[:, [names.index(name) for name in mixamo]]
    np.testing.assert_allclose(found, expected @ turned[:3, :3].T + turned[:3, 3], atol=1e-5)


@pytest.mark.parametrize("version", ["VRM", "VRMC_vrm", "VRMC_vrm_animation"])
def test_vrm_says_which_bone_a_node_is(version):
    angles, root, expected = a_motion()
    writer, nodes = gltf_body([f"node{k}" for k in range(52)], angles, root)
    bones = {bone: {"node": k} for k, bone in enumerate(CONVENTIONS["unity" if version == "VRM" else "vrm 1"])}
    if version == "VRM":
        bones = [{"bone": bone} | stated for bone, stated in bones.items()]
    extensions = {version: {"humanoid": {"humanBones": bones}}}
    joints, valid, _ = named_joints_to_motion_joints(*read_gltf(writer.glb(nodes, extensions=extensions))[:2])
    np.testing.assert_allclose(joints, expected, atol=1e-5)
    assert valid.all()


def test_gltf_agrees_with_pygltflib():
    pygltflib = pytest.importorskip("pygltflib")
    writer, nodes = gltf_body(mixamo, *a_motion()[:2])
    content = writer.glb(nodes)
    theirs = pygltflib.GLTF2.load_from_bytes(content)  # our bytes are glTF to them
    assert [node.name for node in theirs.nodes] == [*mixamo, "Armature"]
    again = b"".join(theirs.save_to_bytes())  # and theirs to us
    np.testing.assert_array_equal(read_gltf(again)[1], read_gltf(content)[1])


def changed(**changes):
    document = json.loads(json.dumps(WRITER.json(NODES)))
    for path, value in changes.items():
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        place = document
        for step in steps:
            place = place[step]
        place[last] = value
    return glb(document, WRITER.data)


BAD_GLTF = {
    "empty": (b"", "JSON cannot be read"),
    "text": (b"hello", "JSON cannot be read"),
    "list": (b"[1, 2]", "expected glTF 2.0"),
    "version 1": (changed(asset={"version": "1.0"}), "expected glTF 2.0"),
    "binary version 1": (GLB[:4] + b"\1\0\0\0" + GLB[8:], "not of version 2"),
    "truncated": (GLB[:-100], "truncated .glb"),
    "truncated JSON": (GLB[:3000], "truncated .glb"),
    "no animation": (changed(animations=[]), "has no animation"),
    "animation of faces": (changed(animations__0__channels=[]), "has no animation"),
    "no nodes": (changed(nodes=[]), "0 nodes"),
    "many nodes": (changed(nodes=[{}] * 1001), "1001 nodes"),
    "no names": (changed(nodes=[{}] * 53), "no node of the glTF file has a name"),
    "circle": (changed(nodes__51__children=[52]), "circle"),
    "own child": (changed(nodes__51__children=[51]), "two parents"),
    "two parents": (changed(nodes__51__children=[5]), "two parents"),
    "missing child": (changed(nodes__51__children=[99]), "refers to number 99"),
    "negative child": (changed(nodes__51__children=[-1]), "expected a count"),
    "true child": (changed(nodes__51__children=[True]), "expected a count"),
    "short translation": (changed(nodes__3__translation=[1, 2]), "expected 3 numbers"),
    "text translation": (changed(nodes__3__translation="abc"), "expected 3 numbers"),
    "infinite scale": (changed(nodes__3__scale=[1, 1, float("inf")]), "expected 3 numbers"),
    "huge translation": (changed(nodes__3__translation=[1e300, 1, 1]), "not finite"),
    "huge integer": (changed(nodes__3__translation=[10**400, 1, 1]), "damaged"),
    "more keys than bytes": (changed(accessors__0__count=2**31), "beyond its buffer"),
    "keys before the buffer": (changed(accessors__1__byteOffset=-4), "expected a count"),
    "other key count": (changed(accessors__1__count=2), "3 keys with 2 values"),
    "sparse": (changed(accessors__1__sparse={}), "sparse"),
    "matrices": (changed(accessors__1__type="MAT4"), "expected numbers of type VEC4"),
    "no view": (changed(accessors__1__bufferView=None), "expected a count"),
    "Draco": (changed(accessors__1={"count": 3}), "expected numbers of type"),
    "other buffer": (changed(bufferViews__1__buffer=1), "refers to number 1"),
    "bad base64": (changed(buffers__0__uri="data:;base64,*"), "base64"),
    "interpolation": (changed(animations__0__samplers__0__interpolation="BEZIER"), "interpolates by"),
    "humanBones": (changed(extensions={"VRM": {"humanoid": {"humanBones": [{"bone": "head"}]}}}), "damaged"),
    "extensions": (changed(extensions=[1]), "damaged"),
}


@pytest.mark.parametrize("case", BAD_GLTF)
def test_bad_gltf_files(case):
    content, pattern = BAD_GLTF[case]
    with pytest.raises(ValueError, match=pattern) as caught:
        read_gltf(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_gltf_key_times_that_go_backwards_are_endless_or_no_numbers():
    for times, pattern in (([0, 2, 1], "backwards"), ([0, 1, np.nan], "NaN"), ([0, 1, 1e30], "cut it")):
        with pytest.raises(ValueError, match=pattern):
            stick(times, [[0, 0, 0]] * 3, path="translation")


# --- several animations, and nodes that are no joints -----------------------------------------------------------------


def animations(*names, more=()):
    """(.glb with an animation of each name, and `more` as JSON, on one skeleton; the joints of each)."""
    writer, expected = GltfWriter(), []
    written = []
    for seed, name in enumerate(names):
        angles, root, joints = a_motion(seed=seed)
        body, nodes = gltf_body(mixamo, angles, root)
        keys = len(writer.accessors)
        for accessor in body.accessors:
            writer.accessors.append(accessor | {"bufferView": accessor["bufferView"] + len(writer.views)})
        writer.views += [view | {"byteOffset": view["byteOffset"] + len(writer.data)} for view in body.views]
        writer.data += body.data
        samplers = [{"input": keys + s["input"], "output": keys + s["output"]} for s in body.samplers]
        written.append({"channels": body.channels, "samplers": samplers} | ({"name": name} if name else {}))
        expected.append(joints)
    return writer, nodes, [*more, *written], expected


def test_of_several_animations_one_is_asked_for(tmp_path):
    writer, nodes, written, expected = animations("HELLO", "rig|THANKS \x1b you", None, "HELLO")
    path = tmp_path / "signs.glb"
    path.write_bytes(writer.glb(nodes, animations=written))
    with pytest.raises(MotionFileError, match="4 animations in the file: HELLO, rig.THANKS you, 2, HELLO 3;") as caught:
        load_motion(path)
    assert (caught.value.argument, caught.value.example) == ("clip", "HELLO")
    for name, joints in zip(("HELLO", "rig|THANKS you", "2", "HELLO 3"), expected, strict=True):
        np.testing.assert_allclose(load_motion(path, clip=name).joints, joints, atol=1e-4)
    with pytest.raises(MotionFileError, match="none of them 'rig.THANK': HELLO") as caught:
        load_motion(path, clip="rig|THANK")
    assert caught.value.example == "rig|THANKS you"


def test_the_one_animation_of_the_skeleton_is_read(tmp_path):
    camera = {"name": "camera", "channels": [{"sampler": 0, "target": {"node": 53, "path": "translation"}}]}
    camera["samplers"] = [{"input": 0, "output": 53}]
    face = {"channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}], "samplers": []}
    writer, nodes, written, (expected,) = animations("HELLO", more=[face, camera])
    path = tmp_path / "sign.glb"
    path.write_bytes(writer.glb([*nodes, {"name": "Camera"}], animations=written, skins=[{"joints": [*range(52)]}]))
    np.testing.assert_allclose(load_motion(path).joints, expected, atol=1e-4)
    np.testing.assert_allclose(load_motion(path, clip="HELLO").joints, expected, atol=1e-4)
    with pytest.raises(
        MotionFileError, match="sign.glb: animations in the file, none of them 'HALLO': HELLO; pass clip='HELLO'"
    ):
        load_motion(path, clip="HALLO")


def test_files_of_one_clip_have_none_to_choose(tmp_path):
    (tmp_path / "clip.bvh").write_text(write_bvh(mixamo, *a_motion()[:2]))
    np.savez(tmp_path / "clip.npz", joints=a_motion()[2], fps=FPS)
    for name in ("clip.bvh", "clip.npz"):
        with pytest.raises(MotionFileError, match="one clip, with no name to be 'HELLO'"):
            load_motion(tmp_path / name, clip="HELLO")


@pytest.mark.parametrize("name", ["Head", "LeftHand", "Hips", "LeftHandIndex1"])
@pytest.mark.parametrize("skin", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_a_node_named_like_a_joint_is_none(name, skin, beside):
    writer, nodes, written, (expected,) = animations("HELLO")
    names = [f"mixamorig:{node['name']}" if "children" in node else node["name"] for node in nodes]
    nodes = [node | {"name": name} for node, name in zip(nodes, names, strict=True)]
    nodes[-1]["name"] = "Armature"
    mesh = {"name": name, "translation": [5, 5, 5]}
    if beside:  # an empty on its own, else a mesh in the armature
        nodes.append(mesh)
    else:
        nodes.append(mesh | {"mesh": 0})
        nodes[51 + 1]["children"].append(53)
    skins = {"skins": [{"joints": [*range(52)]}]} if skin else {}
    found = named_joints_to_motion_joints(*read_gltf(writer.glb(nodes, animations=written, **skins))[:2])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_deep_json_and_promises_cost_no_memory():
    hostile = [
        b"[" * 100_000,
        b'{"asset":{"version":"2.0"},"nodes":' + b"[" * 100_000,
        changed(accessors__0__count=2**31),
        changed(bufferViews__0__byteLength=2**31, accessors__0__count=2**29),
        changed(bufferViews__0__byteLength=2**31, bufferViews__0__byteStride=1, accessors__0__count=2**31),
        glb(WRITER.json(NODES), b"")[:-8] + struct.pack("<II", 2**32 - 1, 0x004E4942),
        BVH.replace("Frames: 3", "Frames: 999999999").encode(),
    ]
    tracemalloc.start()
    for content in hostile:
        with pytest.raises(ValueError):
            (read_gltf if content[:3] != b"HIE" else read_bvh)(content)
    # a second of animation that asks for years of frames, and accessors that read one buffer again and again
    with pytest.raises(ValueError, match="cut it"):
        stick([0, 0.001, 0.002, 1e6], [[0, 0, 0]] * 4, path="translation")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_limits(monkeypatch):
    monkeypatch.setattr(mocap_gltf, "MAX_NUMBERS", 100)
    with pytest.raises(ValueError, match="over 100 numbers"):
        read_gltf(GLB)
    monkeypatch.undo()
    monkeypatch.setattr(mocap_bvh, "MAX_POSITIONS", 60)
    for read, content in ((read_gltf, GLB), (read_bvh, BVH.encode())):
        with pytest.raises(ValueError, match="the limit is 60"):
            read(content)
    monkeypatch.setattr(mocap_bvh, "MAX_BVH_BYTES", 100)
    with pytest.raises(ValueError, match="cut it"):
        read_bvh(BVH.encode())


def test_long_clips_are_worked_on_in_pieces(monkeypatch):
    angles, root, expected = a_motion(50)
    text, (writer, nodes) = write_bvh(mixamo, angles, root).encode(), gltf_body(mixamo, angles, root)
    whole = read_bvh(text)[1], read_gltf(writer.glb(nodes))[1]
    monkeypatch.setattr(mocap_bvh, "_CHUNK", 52 * 7)
    for expected, found in zip(whole, (read_bvh(text)[1], read_gltf(writer.glb(nodes))[1]), strict=True):
        np.testing.assert_array_equal(found, expected)
