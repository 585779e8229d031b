"""SMPL-X parameters -> the 52 joints in metres: with the user's own SMPL-X model file, or without one.

The exact way needs a model file, which everybody downloads under a licence of their own (smpl-x.is.tue.mpg.de); none is
shipped here, and the package `smplx` is not needed. Joints take only a small part of the file: the joint regressor
times the shaped template gives the rest joints, and turning them along the kinematic tree gives the posed ones. No mesh
is skinned. What comes out is what `smplx` calls `joints`, without jaw, eyes and vertices.

Without a file there is a built-in skeleton, ours, from public anthropometry (:func:`built_in_skeleton`).

Axes of the rest pose, a T: +x is the person's left, +y is up, +z is where the person faces. Joints stay in the axes of
the parameters: nothing is flipped here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch

from .. import skeleton
from ..motion_features import JOINT_NAMES, NUM_BODY_JOINTS, NUM_JOINTS, PARENTS

MODEL_VARIABLE = "LSLM_SMPLX"  # environment variable: folder or file of the SMPL-X model
GENDERS = ("neutral", "female", "male")

# The 55 joints of SMPL-X: ours, with jaw and eyes between the body and the hands.
_FACE = ["jaw", "left_eye", "right_eye"]
SMPLX_JOINT_NAMES = JOINT_NAMES[:NUM_BODY_JOINTS] + _FACE + JOINT_NAMES[NUM_BODY_JOINTS:]
# Where our 52 joints are among the 55: 0 to 21 and 25 to 54.
SMPLX_INDEX = [SMPLX_JOINT_NAMES.index(name) for name in JOINT_NAMES]
_PARENT_NAMES = {name: JOINT_NAMES[parent] for name, parent in zip(JOINT_NAMES[1:], PARENTS[1:], strict=True)}
_PARENT_NAMES |= dict.fromkeys(_FACE, "head")
SMPLX_PARENTS = [-1] + [SMPLX_JOINT_NAMES.index(_PARENT_NAMES[name]) for name in SMPLX_JOINT_NAMES[1:]]

# Numbers per frame, in the order in which they make up the pose of the 52 joints.
POSE_WIDTHS = skeleton.POSE_WIDTHS
_HANDS_WIDTH = POSE_WIDTHS["left_hand_pose"] + POSE_WIDTHS["right_hand_pose"]  # they come last

# The shape directions in a model file: 300 of the body, then 100 of the face; files of version 1.0 have 10 and 10.
_BODY_SHAPES, _ALL_SHAPES, _OLD_SHAPES = 300, 400, 10

_CHUNK = 4096  # frames at a time: about 50 MB while they are worked on, and no faster beyond

# A joint waits for its parent, so joints go by their depth in the tree, all of one depth at once. The last of each
# limb turns nothing that is asked for: its own rotation is not computed.
_TURNING = sorted(set(PARENTS[1:]))
_ROW = {joint: row for row, joint in enumerate(_TURNING)}


def _levels() -> list[tuple[list[int], list[int]]]:
    """For each depth of the tree below the root: its joints, and those of them that turn others."""
    levels, above = [], {0}
    while above := {joint for joint in range(NUM_JOINTS) if PARENTS[joint] in above}:
        levels.append((sorted(above), [joint for joint in sorted(above) if joint in _ROW]))
    return levels


_LEVELS = _levels()


@dataclass(frozen=True, eq=False)
class BodyModel:
    """Rest joints of a body, and how its shape moves them.

    Attributes:
        name: what this is, for notes to the user.
        joints: (55, 3) rest joints of the mean body, metres, T-pose; order :data:`SMPLX_JOINT_NAMES`, tree
            :data:`SMPLX_PARENTS`.
        hands_mean: (2, 45) axis-angle radians, left and right: the hand that `flat_hand_mean=False` counts from.
        shape: (55, 3, S) metres per unit of beta; None: one body for everybody, betas are not read.
        expression: (55, 3, E) metres per unit of expression; None as above.
    """

    name: str
    joints: np.ndarray
    hands_mean: np.ndarray
    shape: np.ndarray | None = None
    expression: np.ndarray | None = None

    @property
    def parents(self) -> list[int]:
        """The parent of each of the 55 joints; -1 for the root. The same for every model."""
        return SMPLX_PARENTS

    def rest_joints(self, betas: np.ndarray | None = None, expression: np.ndarray | None = None) -> np.ndarray:
        """The T-pose of people of given shapes.

        Args:
            betas: (..., n) with n at most S, or None for the mean body.
            expression: (..., m) with m at most E, or None for a neutral face. It moves jaw and eyes, and through the
                regressor the joints beside them a little.

        Returns:
            (..., 55, 3) float64 metres; the leading axes of the two are broadcast.

        Raises:
            ValueError: more numbers than the model has directions.
        """
        rest = self.joints
        for key, values, directions in (("betas", betas, self.shape), ("expression", expression, self.expression)):
            if values is None or directions is None:
                continue
            values = np.asarray(values, np.float64)
            width, most = values.shape[-1], directions.shape[-1]
            if width > most:
                raise ValueError(
                    f"`{key}` has {width} numbers, {self.name} has {most}: "
                    f"cut it to {key}[..., :{most}], or use the SMPL-X 1.1 file with 300 + 100"
                )
            moved = values @ directions[..., :width].reshape(self.joints.size, width).T
            rest = rest + moved.reshape(*values.shape[:-1], *self.joints.shape)
        return rest


# --- the user's model file --------------------------------------------------------------------------------------------


def load_body_model(path: str | os.PathLike | None = None, gender: str = "neutral") -> BodyModel:
    """The user's SMPL-X model, or the built-in skeleton where there is none.

    Of the file only plain arrays are read, the six that joints need. The official `.npz` also holds two pickled tables
    (`joint2num`, `part2num`), which are left alone: nothing is ever unpickled. A file is read once per process.

    Args:
        path: the `.npz`, or a folder that holds `SMPLX_NEUTRAL.npz` itself, in `smplx/` or in `models/smplx/`. None:
            the environment variable LSLM_SMPLX, and without it :func:`built_in_skeleton`.
        gender: "neutral", "female" or "male": which file of a folder.

    Raises:
        OSError: the path, or the file of that gender, is missing or unreadable.
        ValueError: unknown gender, a `.pkl`, or a file that is no SMPL-X model.
    """
    if gender not in GENDERS:
        raise ValueError(f"gender is {gender!r}, expected one of {', '.join(GENDERS)}")
    source = ""
    if path is None:
        path = os.environ.get(MODEL_VARIABLE)
        if not path:
            return built_in_skeleton()
        source = f" (from {MODEL_VARIABLE})"
    file = _find_model(Path(path).expanduser().absolute(), gender, source)
    status = file.stat()
    return _read_model(file, status.st_mtime_ns, status.st_size)


def _find_model(path: Path, gender: str, source: str) -> Path:
    if path.is_dir():
        name = f"SMPLX_{gender.upper()}"
        folders = [path, path / "smplx", path / "models" / "smplx"]
        candidates = [folder / f"{name}{end}" for end in (".npz", ".pkl") for folder in folders]
        found = [file for file in candidates if file.is_file()]
        if not found:
            hint = f"no {name}.npz here, in smplx/ or in models/smplx/: download it, or name the file to use"
            raise FileNotFoundError(2, hint, f"{path}{source}")
        path = found[0]
    if not path.exists():
        raise FileNotFoundError(2, "no such SMPL-X model; check the path", f"{path}{source}")
    if path.suffix == ".pkl":
        raise ValueError(
            f"{path}: a pickle, which can run code when opened; SMPL-X comes as .npz, too: use {path.stem}.npz{source}"
        )
    return path


@lru_cache(maxsize=8)
def _read_model(path: Path, modified: int, size: int) -> BodyModel:
    """`modified` and `size` only tell the cache when a file has changed."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
        if start != b"PK":
            what = "a pickle, which can run code when opened" if start[:1] == b"\x80" else "no .npz, whatever its name"
            raise ValueError(f"{what}; expected SMPLX_NEUTRAL.npz of the SMPL-X download")
        return _model_from_arrays(f"SMPL-X model {path.name}", _read_arrays(path))
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{path}: damaged file ({error}); download it again") from error
    except ValueError as error:
        raise ValueError(" ".join(f"{path}: {error}".split())) from error
    except Exception as error:
        # zipfile, zlib and numpy raise a dozen other types on damaged bytes; callers are promised two
        raise ValueError(f"{path}: damaged file ({type(error).__name__}: {error}); download it again") from error


# What joints need, and the shape each has: V vertices, any number of directions.
_MODEL_ARRAYS = {
    "v_template": ("V", 3),
    "shapedirs": ("V", 3, None),
    "J_regressor": (len(SMPLX_PARENTS), "V"),
    "kintree_table": (2, len(SMPLX_PARENTS)),
    "hands_meanl": (45,),
    "hands_meanr": (45,),
}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in _MODEL_ARRAYS if key not in archive.files]
        if missing:
            found = ", ".join(sorted(archive.files)[:8]) or "no arrays"
            raise ValueError(f"not SMPL-X: no `{missing[0]}`, it holds {found[:200]}; name SMPLX_NEUTRAL.npz")
        for key in _MODEL_ARRAYS:
            try:
                array = archive[key]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise ValueError(
                    f"`{key}` is pickled, and opening it could run code; use the .npz of the SMPL-X download"
                ) from error
            if array.dtype.kind not in "iuf":
                raise ValueError(f"`{key}` has dtype {array.dtype}, expected numbers; name SMPLX_NEUTRAL.npz")
            arrays[key] = array
    return arrays


def _model_from_arrays(name: str, arrays: dict[str, np.ndarray]) -> BodyModel:
    vertices = arrays["v_template"].size // 3
    for key, expected in _MODEL_ARRAYS.items():
        shape = arrays[key].shape
        expected = tuple(vertices if length == "V" else length for length in expected)
        fits = len(shape) == len(expected) and all(
            want in (None, have) for have, want in zip(shape, expected, strict=True)
        )
        if not fits:
            expected = str(expected).replace("None", "any")
            raise ValueError(f"`{key}` has shape {shape}, expected {expected}: not SMPL-X (SMPL+H, MANO?)")
    # the root's own entry is -1, or 2**32 - 1 where the table is unsigned
    if arrays["kintree_table"][0, 1:].astype(np.int64).tolist() != SMPLX_PARENTS[1:]:
        raise ValueError("`kintree_table` is not the tree of SMPL-X; use the .npz of the SMPL-X download")
    regressor = arrays["J_regressor"].astype(np.float64)
    joints = regressor @ arrays["v_template"]
    # Joints are linear in the vertices and these in the parameters, so the regressor goes through once and for all.
    directions = arrays["shapedirs"].reshape(vertices, -1)
    directions = (regressor @ directions).reshape(*joints.shape, -1)
    body = _BODY_SHAPES if directions.shape[-1] >= _ALL_SHAPES else _OLD_SHAPES
    face = min(body, _ALL_SHAPES - _BODY_SHAPES)
    hands = np.stack([arrays["hands_meanl"], arrays["hands_meanr"]]).astype(np.float64)
    return _frozen(name, joints, hands, directions[..., :body], directions[..., body : body + face])


def _frozen(name: str, *arrays: np.ndarray) -> BodyModel:
    """A model is shared by all who ask for it: nobody may write into it."""
    arrays = [np.array(array, np.float64) for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    return BodyModel(name, *arrays)


# --- parameters to joints ---------------------------------------------------------------------------------------------


def smplx_to_joints(
    params: Mapping[str, np.ndarray],
    body: BodyModel,
    *,
    flat_hand_mean: bool,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """The 52 joints of SMPL-X poses.

    Frames are independent, so that one call may hold many clips: `(clips, T, width)`, or their frames in a row.

    Args:
        params: `global_orient` (..., T, 3), `body_pose` (..., T, 63), `left_hand_pose` and `right_hand_pose`
            (..., T, 45): axis-angle radians, no PCA. Optional, or None: `transl` (..., T, 3) metres; `betas` and
            `expression`, (n,) for all, (..., n) for each clip or (..., T, n) for each frame. Other keys (jaw, eyes)
            move none of the joints and are not read.
        body: of :func:`load_body_model`. The built-in one reads neither betas nor expression.
        flat_hand_mean: True where hand poses are absolute (AMASS, Motion-X); False where they count from the mean hand
            (SignAvatars, OSX, SMPLer-X, the default of `smplx`): the mean is added, as plain numbers.
        device: where torch computes, as "cuda"; None is the CPU.

    Returns:
        (..., T, 52, 3) metres in the axes of the parameters, computed in float64; float64 if a pose is, else float32.
        The pelvis is where `transl` and the rest pose put it, as in `smplx`: `global_orient` turns the body about it.
        NaN in a pose gives NaN for the joints that hang on it, in that frame only.

    Raises:
        ValueError: a missing key, a shape that does not fit, more betas than the model has.

    Source: Loper et al., SMPL (2015), equations 2 to 4, and Pavlakos et al., SMPL-X (CVPR 2019).
    """
    if not isinstance(flat_hand_mean, bool | np.bool_):
        raise ValueError(
            f"flat_hand_mean is {flat_hand_mean!r}, expected True (hands absolute) or False (from the mean)"
        )
    missing = [key for key in POSE_WIDTHS if params.get(key) is None]
    if missing:
        raise ValueError(f"no `{missing[0]}`: expected {', '.join(POSE_WIDTHS)}; use zeros where a file has none")
    poses = {key: _numbers(key, params[key]) for key in POSE_WIDTHS}
    frames = poses["global_orient"].shape[:-1]
    for key, width in POSE_WIDTHS.items():
        _check_shape(key, poses[key], (*frames, width))
    # Everything becomes rows of one long clip; a view where it can be.
    rows = [pose.reshape(-1, POSE_WIDTHS[key]) for key, pose in poses.items()]
    hands_mean = 0.0 if flat_hand_mean else body.hands_mean.reshape(-1)
    transl = params.get("transl")
    if transl is not None:
        transl = _numbers("transl", transl)
        _check_shape("transl", transl, (*frames, 3))
        transl = transl.reshape(-1, 3)
    betas, expression = (_per_frame(key, params.get(key), frames) for key in ("betas", "expression"))

    dtype = np.result_type(*(pose.dtype for pose in poses.values()))
    joints = np.empty((len(rows[0]), NUM_JOINTS, 3), np.float64 if dtype == np.float64 else np.float32)
    for start in range(0, len(joints), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pose = np.concatenate([row[chunk] for row in rows], axis=-1, dtype=np.float64)
        pose[:, -_HANDS_WIDTH:] += hands_mean
        rest = body.rest_joints(*(None if values is None else values[chunk] for values in (betas, expression)))
        rest = rest[..., SMPLX_INDEX, :].reshape(-1, NUM_JOINTS, 3)
        posed = _forward_kinematics(pose.reshape(-1, NUM_JOINTS, 3), rest, device)
        joints[chunk] = posed if transl is None else posed + transl[chunk, None]
    return joints.reshape(*frames, NUM_JOINTS, 3)


def _numbers(key: str, value: object) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.ndim == 0:
        raise ValueError(f"`{key}` is {array.dtype} {array.shape}, expected an array of real numbers")
    return array


def _check_shape(key: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        hint = ""
        if key.endswith("hand_pose") and array.shape[:-1] == expected[:-1] and array.shape[-1] < expected[-1]:
            hint = "; PCA coefficients must become axis-angle first"
        raise ValueError(f"`{key}` has shape {array.shape}, expected {expected} like `global_orient`{hint}")


def _per_frame(key: str, value: object, frames: tuple[int, ...]) -> np.ndarray | None:
    """(n,), (..., n) or (..., T, n) numbers as (frames, n) rows; None stays None."""
    if value is None:
        return None
    values = _numbers(key, value)
    per_clip = values.ndim <= len(frames)
    spread = values[..., None, :] if per_clip and values.ndim > 1 else values
    try:
        spread = np.broadcast_to(spread, (*frames, values.shape[-1]))
    except ValueError as error:
        raise ValueError(
            f"`{key}` has shape {values.shape}, expected (n,), {(*frames[:-1], 'n')} or {(*frames, 'n')}"
        ) from error
    return spread.reshape(-1, values.shape[-1])


@torch.no_grad()
def _forward_kinematics(pose: np.ndarray, rest: np.ndarray, device: str | torch.device | None) -> np.ndarray:
    """(N, 52, 3) axis-angle and (N or 1, 52, 3) rest joints -> (N, 52, 3) joints; the frames lie last in between."""
    pose, rest = (torch.from_numpy(array).to(device).permute(2, 1, 0) for array in (pose, rest))
    offsets = rest.clone()  # of each joint from its parent; of the root from the origin
    offsets[:, 1:] -= rest[:, PARENTS[1:]]
    vectors = pose[:, _TURNING]
    half = vectors.square().sum(0).sqrt() / 2
    # sin(half) / (2 half), which is 1/2 at 0: torch's sinc(x) is sin(pi x) / (pi x)
    local = torch.cat([half.cos()[None], vectors * (torch.sinc(half / torch.pi) / 2)])
    turns = torch.empty_like(local)  # (4, 39, N): from the rest pose to the posed one, of each joint that turns others
    joints = torch.empty_like(pose)
    turns[:, 0], joints[:, 0] = local[:, 0], offsets[:, 0]
    for level, turning in _LEVELS:
        parents = [PARENTS[joint] for joint in level]
        joints[:, level] = joints[:, parents] + _rotate(turns[:, [_ROW[joint] for joint in parents]], offsets[:, level])
        if turning:
            own, above = [_ROW[joint] for joint in turning], [_ROW[PARENTS[joint]] for joint in turning]
            turns[:, own] = _multiply(turns[:, above], local[:, own])
    return joints.permute(2, 1, 0).cpu().numpy()


def _multiply(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Hamilton product of quaternions (4, ...), w first: the rotation `q`, then `p`."""
    pw, px, py, pz = p
    qw, qx, qy, qz = q
    return torch.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ]
    )


def _rotate(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Vectors (3, ...) turned by unit quaternions (4, ...)."""
    w, x, y, z = q
    a, b, c = v
    ta, tb, tc = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return torch.stack([a + w * ta + y * tc - z * tb, b + w * tb + z * ta - x * tc, c + w * tc + x * tb - y * ta])


# --- without a model file ---------------------------------------------------------------------------------------------


@cache
def built_in_skeleton() -> BodyModel:
    """A neutral adult of 1.714 m in T-pose, from public anthropometry: for those who have no SMPL-X model file.

    Not derived from SMPL-X. Angles and with them the shapes of hands and arms are kept; places are not: hands may be
    centimetres off from one another and from the face, and so may be where a hand touches. Beside
    `HUMANML3D_BONE_LENGTHS`, which come from a body of the SMPL family, bones differ by 10 mm on average and by 42 mm
    at most (spine1); those of the hands by 8 mm on average and by 14 mm at most. Betas and expressions are not read:
    everybody has these proportions, which the default `target_skeleton` of `joints_to_features` replaces anyway.

    The hand mean is a hand at rest of our own as well: parameters that count from the mean (`flat_hand_mean=False`) get
    fingers that are bent by about as much as they should be, not exactly.

    The origin is the pelvis; in SMPL-X it is about 0.35 m above, at the breastbone. Sources: tests/anthropometry.py.
    """
    places = [skeleton.T_POSE[name] for name in SMPLX_JOINT_NAMES]
    return _frozen(skeleton.NAME, places, skeleton.HANDS_MEAN)
