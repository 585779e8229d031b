"""A neutral adult of 1.714 m, for SMPL-X parameters without an SMPL-X model file: its T-pose, and that pose moved.

Not derived from SMPL-X: tests/anthropometry.py derives the numbers from published means of people, and names them.
Angles and with them the shapes of hands and arms are those of the parameters; places are not: hands may be centimetres
off from one another and from the face. Betas and expressions are not read: everybody has these proportions, which the
default `target_skeleton` of `joints_to_features` replaces anyway. +x is the person's left, +y up, +z front.
"""

from collections.abc import Mapping

import numpy as np

from .motion_features import JOINT_NAMES, NUM_JOINTS, PARENTS
from .rotations import quaternion_multiply, quaternion_rotate

NAME = "built-in skeleton (no SMPL-X model)"
# Numbers per frame, in the order in which they make up the pose of the 52 joints: axis times angle, radians.
POSE_WIDTHS = {"global_orient": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45}

# Metres from the pelvis, rounded to micrometres: arms along the x axis, palms down, thumbs to the front.
_MIDDLE = {
    **{"pelvis": (0, 0, 0), "spine1": (0, 0.09, 0), "spine2": (0, 0.247, -0.02), "spine3": (0, 0.317, -0.03)},
    **{"neck": (0, 0.527, -0.03), "head": (0, 0.634, 0), "jaw": (0, 0.624, 0.01)},
}
_LEFT = {
    **{"hip": (0.087, -0.067, 0), "knee": (0.087, -0.467, 0), "ankle": (0.087, -0.88, 0)},
    **{"foot": (0.087, -0.93, 0.12925), "collar": (0.025, 0.453, 0.03), "shoulder": (0.1795, 0.421, 0)},
    **{"elbow": (0.454083, 0.421, 0), "wrist": (0.71701, 0.421, 0), "eye": (0.0315, 0.652, 0.085)},
    **{"index1": (0.817778, 0.421, 0.02125), "index2": (0.857363, 0.421, 0.025378)},
    **{"index3": (0.879643, 0.421, 0.027702), "middle1": (0.816494, 0.421, 0), "middle2": (0.861094, 0.421, 0)},
    **{"middle3": (0.887394, 0.421, 0), "pinky1": (0.794733, 0.421, -0.0425), "pinky2": (0.826415, 0.421, -0.050596)},
    **{"pinky3": (0.843952, 0.421, -0.055078), "ring1": (0.807431, 0.421, -0.02125)},
    **{"ring2": (0.848556, 0.421, -0.026017), "ring3": (0.874085, 0.421, -0.028977)},
    **{"thumb1": (0.74701, 0.409, 0.027), "thumb2": (0.777709, 0.393199, 0.057698)},
    **{"thumb3": (0.798706, 0.382391, 0.078695)},
}
# The 55 joints of the SMPL-X tree: ours, with `jaw`, `left_eye` and `right_eye`.
T_POSE = _MIDDLE | {f"left_{name}": place for name, place in _LEFT.items()}
T_POSE |= {f"right_{name}": (-x, y, z) for name, (x, y, z) in _LEFT.items()}
_JOINTS = np.array([T_POSE[name] for name in JOINT_NAMES])

# A hand at rest, of our own as well: what parameters count from that are relative to the mean hand. Fingers of the left
# hand bend about -z: knuckle, middle and last joint of index, middle, little and ring finger, degrees.
_BENT = np.radians([25, 43, 15, 30, 43, 15, 40, 43, 15, 35, 43, 15])
_THUMB = [(np.pi / 6, 0, 0), *[(0.1309, 0.18512, -0.1309)] * 2]
_LEFT_HAND = np.array([*((0, 0, -angle) for angle in _BENT), *_THUMB])
# the mirror image of a rotation vector changes its sign but for the part along the mirrored axis
HANDS_MEAN = np.stack([_LEFT_HAND, _LEFT_HAND * (1, -1, -1)]).reshape(2, 45)


def posed_joints(
    params: Mapping[str, np.ndarray], hands_mean: np.ndarray | float, rest: np.ndarray = _JOINTS
) -> np.ndarray:
    """The 52 joints of SMPL-X poses, on this skeleton or that of a model file.

    Args:
        params: `global_orient` (T, 3), `body_pose` (T, 63), `left_hand_pose` and `right_hand_pose` (T, 45), radians;
            maybe `transl` (T, 3) metres. Other parameters are not read.
        hands_mean: (2, 45), what hand poses count from; 0.0 where they are whole.
        rest: (52, 3) or (T, 52, 3) joints of the pose of zeros, metres.

    Returns:
        (T, 52, 3) float64 metres in the axes of the parameters; NaN in a pose gives NaN for the joints that hang on it.
    """
    pose = np.concatenate([params[name] for name in POSE_WIDTHS], axis=-1).astype(np.float64)
    pose[:, -HANDS_MEAN.size :] += np.ravel(hands_mean)
    vectors = pose.reshape(-1, NUM_JOINTS, 3)
    half = np.linalg.norm(vectors, axis=-1, keepdims=True) / 2
    # sin(half) / (2 half), which is 1/2 at 0: numpy's sinc(x) is sin(pi x) / (pi x)
    turns = np.concatenate([np.cos(half), vectors * (np.sinc(half / np.pi) / 2)], axis=-1)
    joints, rest = np.zeros_like(vectors), np.broadcast_to(rest, vectors.shape)
    joints[:, 0] = rest[:, 0] + params.get("transl", 0.0)
    for joint, parent in enumerate(PARENTS[1:], 1):  # a parent comes before its children
        joints[:, joint] = joints[:, parent] + quaternion_rotate(turns[:, parent], rest[:, joint] - rest[:, parent])
        turns[:, joint] = quaternion_multiply(turns[:, parent], turns[:, joint])
    return joints
