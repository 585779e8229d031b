"""Writes known SMPL-X motion in every layout of the field: the other half of each round trip.

What is written follows the projects' own code (named in processing/smplx_formats.py) and none of ours: rotations,
forward kinematics and the order of the numbers are spelled out here once more, slowly.
"""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import torch

from lslm.processing.motion_features import JOINT_NAMES, PARENTS
from lslm.processing.skeleton import T_POSE

FRAMES = 24
FLIP = np.diag([1.0, -1.0, -1.0])  # y up <-> y down
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up -> z up
HEAD = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")
REST = np.array([T_POSE[name] for name in JOINT_NAMES])


def rotation(vector):
    """3 numbers -> 3 x 3."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def rotation_vector(matrix):
    """3 x 3 -> 3 numbers, also for half turns."""
    angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
    if angle < 1e-9:
        return np.zeros(3)
    if angle < 3.1:
        axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
        return axis / np.linalg.norm(axis) * angle
    values, vectors = np.linalg.eigh(matrix + matrix.T)
    axis = vectors[:, -1]
    return min((axis * angle, -axis * angle), key=lambda v: np.abs(rotation(v) - matrix).max())


def a_motion(frames=FRAMES, seed=0):
    """Smooth random parameters of an upright signer, y up, whole fingers: name -> (T, n)."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, frames)[:, None]

    def wave(n, size, offset=0.0):
        return offset + size * np.sin(2 * np.pi * (rng.uniform(0.3, 1.5, n) * t + rng.uniform(0, 1, n)))

    body = wave(63, 0.08)
    body[:, 33:] = wave(30, 0.3)
    body[:, 15 * 3 + 2] -= 1.0  # left shoulder: arm down
    body[:, 16 * 3 + 2] += 1.0
    left = wave(45, 0.15)
    left[:, 2::3] -= 0.4  # the left hand's fingers bend about -z, the right one's about +z
    right = wave(45, 0.15)
    right[:, 2::3] += 0.4
    return {
        "global_orient": wave(3, 0.15),
        "body_pose": body,
        "left_hand_pose": left,
        "right_hand_pose": right,
        "jaw_pose": wave(3, 0.1),
        "betas": np.repeat(rng.normal(0, 0.5, (1, 10)), frames, axis=0),
        "expression": wave(10, 0.5),
        "transl": wave(3, 0.2),
    }


def joints_of(params, rest=REST):
    """(T, 52, 3) by walking the tree, joint by joint, from rest joints (52, 3)."""
    frames = len(params["body_pose"])
    pose = np.concatenate([params[name] for name in HEAD], axis=1).reshape(frames, 52, 3)
    out = np.tile(rest[0], (frames, 52, 1))
    for t in range(frames):
        turned = [rotation(pose[t, 0])]
        for joint, parent in enumerate(PARENTS[1:], 1):
            out[t, joint] = out[t, parent] + turned[parent] @ (rest[joint] - rest[parent])
            turned.append(turned[parent] @ rotation(pose[t, joint]))
    return out


def in_axes(params, axes):
    """The same motion in turned axes: the root's rotation and the translation change, nothing else."""
    turned = dict(params)
    turned["global_orient"] = np.stack([rotation_vector(axes @ rotation(v)) for v in params["global_orient"]])
    turned["transl"] = params["transl"] @ axes.T
    return turned


def relative_hands(params, hands_mean):
    """Fingers as most fits store them: without the mean hand. `hands_mean`: (90,) or (2, 45)."""
    mean = np.asarray(hands_mean, float).reshape(2, 45)
    return params | {
        "left_hand_pose": params["left_hand_pose"] - mean[0],
        "right_hand_pose": params["right_hand_pose"] - mean[1],
    }


def _joined(params, names):
    return np.concatenate([params[name] for name in names], axis=1).astype(np.float32)


def camera_view(params, hands_mean):
    """As monocular fits are: y down, fingers without the mean, and a camera 20 m away that jitters."""
    view = relative_hands(in_axes(params, FLIP), hands_mean)
    rng = np.random.default_rng(5)
    return view | {"transl": np.array([0, 0.7, 20.0]) + rng.normal(0, (0.02, 0.02, 0.3), (len(view["body_pose"]), 3))}


def signavatars(path, params, hands_mean, unsmooth=False, torch_zip=False, left_valid=None):
    view = camera_view(params, hands_mean)
    frames = len(view["body_pose"])
    content = {
        "2d": np.zeros((frames, 106, 3), np.float32),
        "left_valid": torch.ones(frames, dtype=torch.bool) if left_valid is None else torch.tensor(left_valid),
        "right_valid": torch.ones(frames, dtype=torch.bool),
        "total_valid_index": np.arange(frames),
        "bb2img_trans": np.zeros((frames, 2, 3), np.float32),
        "focal": np.ones((frames, 2)),
        "princpt": np.ones((frames, 2)),
        "height": 720,
        "width": 1280,
    }
    parts = (*HEAD, "betas", "transl") if unsmooth else (*HEAD, "jaw_pose", "betas", "expression", "transl")
    content["unsmooth_smplx" if unsmooth else "smplx"] = _joined(view, parts)
    if torch_zip:
        torch.save({k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in content.items()}, path)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


SOKE_KEYS = {
    "smplx_root_pose": "global_orient",
    "smplx_body_pose": "body_pose",
    "smplx_lhand_pose": "left_hand_pose",
    "smplx_rhand_pose": "right_hand_pose",
    "smplx_jaw_pose": "jaw_pose",
    "smplx_shape": "betas",
    "smplx_expr": "expression",
}


def soke_folder(path, params, hands_mean):
    """One pickle a frame, numbers without leading zeros, so that their order is not that of their names."""
    view = camera_view(params, hands_mean)
    path.mkdir()
    for t in range(len(view["body_pose"])):
        frame = {key: view[name][t].astype(np.float32) for key, name in SOKE_KEYS.items()}
        (path / f"{path.name}_{t + 8}_3D.pkl").write_bytes(pickle.dumps(frame))
    return path


def upper_body(params):
    """What is left without root, hips and spine: those stand still."""
    still = dict(params)
    still["global_orient"] = np.zeros_like(params["global_orient"])
    still["body_pose"] = params["body_pose"].copy()
    still["body_pose"][:, :33] = 0
    return still


def soke_133(params, hands_mean):
    view = relative_hands(params, hands_mean)
    return _joined(view, (*HEAD[1:], "jaw_pose", "expression"))[:, 33:]


def six(vectors):
    """(T, 3 J) -> (T, 6 J): the first two rows of each matrix."""
    turned = np.array([[rotation(v)[:2].ravel() for v in row.reshape(-1, 3)] for row in vectors])
    return turned.reshape(len(vectors), -1).astype(np.float32)


def signspark(path, params):
    body = six(params["body_pose"])
    np.savez(
        path,
        left_features=six(params["left_hand_pose"]),
        right_features=six(params["right_hand_pose"]),
        body_features=body,
        face_features=np.zeros((len(body), 56)),
        segment=np.zeros(len(body), int),
        translation=np.array(["HELLO"]),
        language=np.array(["ase"]),
    )
    return path


def smplerx_folder(path, params, hands_mean, missing=()):
    view = camera_view(params, hands_mean)
    (path / "smplx").mkdir(parents=True)
    for t in range(len(view["body_pose"])):
        if t in missing:
            continue
        frame = {k: view[k][t].reshape(1, -1, 3) for k in ("body_pose", "left_hand_pose", "right_hand_pose")}
        frame |= {k: view[k][t][None] for k in ("global_orient", "jaw_pose", "betas", "expression", "transl")}
        frame |= {"leye_pose": np.zeros((1, 3)), "reye_pose": np.zeros((1, 3))}
        np.savez(path / "smplx" / f"{t + 1:05}_0.npz", **frame)
    return path


def aios_folder(path, params, hands_mean):
    view = camera_view(params, hands_mean)
    (path / "predictions").mkdir(parents=True)
    names = ("transl", *HEAD, "jaw_pose", "expression", "betas")
    for t in range(len(view["body_pose"])):
        frame = {name: view[name][t][None].astype(np.float32) for name in names}
        frame |= {"leye_pose": np.zeros((1, 3)), "reye_pose": np.zeros((1, 3))}
        content = {"params": frame, "joints": np.zeros((24, 2))}
        (path / "predictions" / f"img{t}_personId_0.pkl").write_bytes(pickle.dumps(content))
    return path


def openasl3d_folder(path, params, hands_mean):
    view = camera_view(params, hands_mean)
    (path / "smplx_params").mkdir(parents=True)
    keys = {"root_pose": "global_orient", "body_pose": "body_pose", "lhand_pose": "left_hand_pose"}
    keys |= {"rhand_pose": "right_hand_pose", "jaw_pose": "jaw_pose"}
    for t in range(len(view["body_pose"])):
        np.savez(path / "smplx_params" / f"{t}.npz", **{key: view[name][t][None] for key, name in keys.items()})
    return path


def motion_x(params, y_down=False):
    view = in_axes(params, FLIP) if y_down else params
    view = view | {"face": np.zeros((len(view["body_pose"]), 150))}  # 50 of expression, 100 of shape
    return _joined(view, (*HEAD, "jaw_pose", "face", "transl", "betas"))


def amass_smplx(path, params, fps):
    view = in_axes(params, Z_UP)
    hands = np.concatenate([view["left_hand_pose"], view["right_hand_pose"]], axis=1)
    np.savez(
        path,
        root_orient=view["global_orient"],
        pose_body=view["body_pose"],
        pose_hand=hands,
        pose_jaw=view["jaw_pose"],
        trans=view["transl"],
        betas=np.pad(view["betas"][0], (0, 6)),
        mocap_frame_rate=np.array(fps),
        gender=np.array("neutral"),
        surface_model_type=np.array("smplx"),
    )
    return path


def amass_smplh(path, params, fps):
    view = in_axes(params, Z_UP)
    np.savez(
        path,
        poses=_joined(view, HEAD).astype(np.float64),
        trans=view["transl"],
        betas=np.zeros(16),
        dmpls=np.zeros((len(view["body_pose"]), 8)),
        gender=np.array(b"male"),
        mocap_framerate=np.array(fps),
    )
    return path


def signmotiongpt(params, hands_mean):
    view = relative_hands(params, hands_mean)
    array = _joined(view, ("betas", *HEAD[1:], "transl", "expression", "jaw_pose"))
    return np.pad(array, ((0, 0), (0, 3)))  # eyes


def save(path, array):
    np.save(path, array)
    return Path(path)


def hostile_reader(path, **keywords):
    """In place of `load_motion`: some files take time, memory, or the process that reads them."""
    from lslm.processing import load_motion

    acts = {"clip-001": (time.sleep, 60), "clip-002": (bytearray, 2**31), "clip-005": (os.abort,)}
    function, *arguments = acts.get(Path(path).stem, (load_motion, path))
    return function(*arguments)
