"""SMPL-X parameters and the user's own SMPL-X model file -> the 52 joints in metres, exactly.

Everybody downloads the file under a licence of their own (smpl-x.is.tue.mpg.de); none is shipped here, and the package
`smplx` is not needed. Joints take only a small part of the file: the joint regressor times the shaped template gives
the rest joints, and `skeleton.posed_joints` turns them. No mesh is skinned. What comes out is what `smplx` calls
`joints`, without jaw, eyes and vertices, in the axes of the parameters.

Source: Loper et al., SMPL (2015), equations 2 to 4, and Pavlakos et al., SMPL-X (CVPR 2019).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..motion_errors import Remark
from ..motion_features import JOINT_NAMES, NUM_BODY_JOINTS, PARENTS
from ..skeleton import posed_joints
from ..smplx_formats import MODEL_VARIABLE

# The 55 joints of SMPL-X: ours, with jaw and eyes between the body and the hands.
_FACE = ["jaw", "left_eye", "right_eye"]
SMPLX_JOINT_NAMES = JOINT_NAMES[:NUM_BODY_JOINTS] + _FACE + JOINT_NAMES[NUM_BODY_JOINTS:]
# Where our 52 joints are among the 55: 0 to 21 and 25 to 54.
SMPLX_INDEX = [SMPLX_JOINT_NAMES.index(name) for name in JOINT_NAMES]
_PARENT_NAMES = {name: JOINT_NAMES[parent] for name, parent in zip(JOINT_NAMES[1:], PARENTS[1:], strict=True)}
_PARENT_NAMES |= dict.fromkeys(_FACE, "head")
SMPLX_PARENTS = [-1] + [SMPLX_JOINT_NAMES.index(_PARENT_NAMES[name]) for name in SMPLX_JOINT_NAMES[1:]]

# The shape directions in a model file: 300 of the body, then 100 of the face; files of version 1.0 have 10 and 10.
_BODY_SHAPES, _ALL_SHAPES, _OLD_SHAPES = 300, 400, 10

# What joints need of a file, and the shape each array has: V vertices, any number of directions.
_MODEL_ARRAYS = {
    "v_template": ("V", 3),
    "shapedirs": ("V", 3, None),
    "J_regressor": (len(SMPLX_PARENTS), "V"),
    "kintree_table": (2, len(SMPLX_PARENTS)),
    "hands_meanl": (45,),
    "hands_meanr": (45,),
}


@dataclass(frozen=True, eq=False)
class BodyModel:
    """Rest joints of a body, and how its shape moves them. Shared by all who load it: not to be written into.

    Attributes:
        name: what this is, for notes to the user.
        joints: (52, 3) rest joints of the mean body, metres, T-pose: +x is the person's left, +y up, +z front.
        hands_mean: (2, 45) axis-angle radians, left and right: the hand that `flat_hand_mean=False` counts from.
        shape: (52, 3, S) metres per unit of beta.
        expression: (52, 3, E) metres per unit of expression. It moves jaw and eyes, and through the regressor the
            joints beside them a little.
    """

    name: str
    joints: np.ndarray
    hands_mean: np.ndarray
    shape: np.ndarray
    expression: np.ndarray


def exact_joints(
    params: Mapping[str, np.ndarray], path: str | os.PathLike | None, gender: str, *, flat_hand_mean: bool | np.ndarray
) -> tuple[np.ndarray, str, np.ndarray, list[Remark]]:
    """Joints of SMPL-X parameters with the user's model file.

    Args:
        params: as in `skeleton.posed_joints`; and maybe `betas` and `expression`, (T, n) each.
        path, gender: as in `load_body_model`.
        flat_hand_mean: True where hand poses are whole; False where they count from the mean hand of the model; or one
            for each hand, (2,).

    Returns:
        (T, 52, 3) float64 metres, in the axes of the parameters; the name of the model, its mean hands (2, 45), and
        remarks. The pelvis is where `transl` and the rest pose put it: `global_orient` turns the body about it.

    Raises:
        OSError: there is no model file. ValueError: it cannot be used.
    """
    model, notes = load_body_model(path, gender), []
    rest = model.joints
    for part, directions in (("betas", model.shape), ("expression", model.expression)):
        if part in params:
            width, most = params[part].shape[1], directions.shape[-1]
            if width > most:
                notes.append(Remark(f"the first {most} of {width} {part}: the model file has no more"))
            rest = rest + np.tensordot(params[part][:, :most], directions[..., :width], ([1], [2]))
    mean = np.where(np.reshape(flat_hand_mean, (-1, 1)), 0.0, model.hands_mean)
    joints = posed_joints(params, mean, rest)
    return joints, model.name, model.hands_mean, notes


def load_body_model(path: str | os.PathLike | None, gender: str) -> BodyModel:
    """The user's SMPL-X model. A file is read once per process, and again when it has changed.

    Of the file only plain arrays are read, the six that joints need. The official `.npz` also holds two pickled tables
    (`joint2num`, `part2num`), which are left alone: nothing is ever unpickled.

    Args:
        path: the `.npz`, or a folder that holds `SMPLX_NEUTRAL.npz` itself, in `smplx/` or in `models/smplx/`. None:
            what the environment variable LSLM_SMPLX names.
        gender: "neutral", "female" or "male": which file of a folder.

    Raises:
        OSError: the path, or the file of that gender, is missing or unreadable.
        ValueError: a `.pkl`, or a file that is no SMPL-X model.
    """
    source = "" if path else f" (from {MODEL_VARIABLE})"
    file = folder = Path(path or os.environ[MODEL_VARIABLE]).expanduser().absolute()
    if folder.is_dir():
        names = [f"SMPLX_{gender.upper()}{end}" for end in (".npz", ".pkl")]
        files = [folder / place / name for name in names for place in ("", "smplx", "models/smplx")]
        file = next((file for file in files if file.is_file()), files[0])
    if not file.exists():
        hint = "no such SMPL-X model, here, in smplx/ or in models/smplx/: download it, or name the file to use"
        raise FileNotFoundError(2, hint, f"{file}{source}")
    status = file.stat()
    return _read_model(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read_model(path: Path, modified: int, size: int) -> BodyModel:
    """`modified` and `size` only tell the cache when a file has changed."""
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                raise ValueError(
                    "no .npz; a pickle could run code when opened: use SMPLX_NEUTRAL.npz and the like, which are in "
                    "the SMPL-X download, too"
                )
        return _model_of(f"SMPL-X model {path.name}", _read_arrays(path))
    except ValueError as error:
        raise ValueError(" ".join(f"{path}: {error}".split())) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # zipfile (a bare OSError, too), zlib and numpy raise a dozen types on damaged bytes; callers are promised two
        raise ValueError(f"{path}: damaged file ({type(error).__name__}: {error}); download it again") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        for key, expected in _MODEL_ARRAYS.items():
            if key not in archive.files:
                names = ", ".join(sorted(archive.files)[:8]) or "no arrays"
                raise ValueError(f"not SMPL-X: no `{key}`, it holds {names[:200]}; name SMPLX_NEUTRAL.npz")
            try:
                array = arrays[key] = archive[key]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise ValueError(
                    f"`{key}` is pickled, and opening it could run code; use the .npz of the SMPL-X download"
                ) from error
            if array.dtype.kind not in "iuf":
                raise ValueError(f"`{key}` has dtype {array.dtype}, expected numbers; name SMPLX_NEUTRAL.npz")
            vertices = arrays["v_template"].size // 3
            expected = tuple(vertices if length == "V" else length for length in expected)
            if len(array.shape) != len(expected) or any(
                want not in (None, have) for have, want in zip(array.shape, expected, strict=True)
            ):
                expected = str(expected).replace("None", "any")
                raise ValueError(f"`{key}` has shape {array.shape}, expected {expected}: not SMPL-X (SMPL+H, MANO?)")
    return arrays


def _model_of(name: str, arrays: dict[str, np.ndarray]) -> BodyModel:
    # the root's own entry is -1, or 2**32 - 1 where the table is unsigned
    if arrays["kintree_table"][0, 1:].astype(np.int64).tolist() != SMPLX_PARENTS[1:]:
        raise ValueError("`kintree_table` is not the tree of SMPL-X; use the .npz of the SMPL-X download")
    regressor = arrays["J_regressor"][SMPLX_INDEX].astype(np.float64)
    joints = regressor @ arrays["v_template"]
    # Joints are linear in the vertices and these in the parameters, so the regressor goes through once and for all.
    directions = regressor @ arrays["shapedirs"].reshape(regressor.shape[1], -1)
    directions = directions.reshape(*joints.shape, -1)
    body = _BODY_SHAPES if directions.shape[-1] >= _ALL_SHAPES else _OLD_SHAPES
    face = min(body, _ALL_SHAPES - _BODY_SHAPES)
    hands = np.stack([arrays["hands_meanl"], arrays["hands_meanr"]]).astype(np.float64)
    return BodyModel(name, joints, hands, directions[..., :body], directions[..., body : body + face])
