"""Rotation matrices, or six numbers of each as SignSparK stores them -> rotation vectors, as SMPL-X has them."""

from collections.abc import Mapping

import numpy as np

from ..motion_errors import MotionFileError, Remark
from ..motion_features import JOINT_NAMES
from ..rotations import normalize, squared_length

_ELBOWS = [JOINT_NAMES.index(name) - 1 for name in ("left_elbow", "right_elbow")]  # in `body_pose`
_BENT = 0.3  # radians; signers bend their elbows by 1 and more


def rows_to_params(left: np.ndarray, right: np.ndarray, body: np.ndarray) -> dict[str, np.ndarray]:
    """Rotation vectors of both hands, (T, 45) each, and of the last 10 joints of the body, (T, 30).

    Args:
        left, right: (T, 90 or more): six numbers for each of 15 joints; what follows is not read.
        body: (T, 60): 10 joints, or (T, 126 or more): all 21, of which SignSparK's loader uses the last 10.

    Raises:
        ValueError: other shapes, or what is no rotation.
    """
    arrays = [np.asarray(array, np.float64) for array in (left, right, body)]
    frames = len(arrays[2]) if arrays[2].ndim == 2 else 0
    for part, values, width in zip(("left", "right", "body"), arrays, (90, 90, 126), strict=True):
        fits = values.ndim == 2 and len(values) == frames
        if not fits or values.shape[1] < width and (part, values.shape[1]) != ("body", 60):
            raise ValueError(f"`{part}_features` has shape {values.shape}, expected ({frames or 'frames'}, {width})")
    left, right, body = arrays
    upper = body if body.shape[1] == 60 else body[:, 66:126]
    parts = {"left_hand_pose": left[:, :90], "right_hand_pose": right[:, :90], "body_pose": upper}
    return {name: _rows_to_vectors(six) for name, six in parts.items()}


def _rows_to_vectors(six: np.ndarray) -> np.ndarray:
    """(T, 6 J) first two rows of rotation matrices -> (T, 3 J) rotation vectors; zeros are no rotation.

    Raises:
        ValueError: the rows are not near unit length and at right angles.
    """
    rows = six.reshape(len(six), -1, 6)
    rows = np.where(rows.any(-1, keepdims=True), rows, np.array([1.0, 0, 0, 0, 1, 0]))
    first, second = rows[..., :3], rows[..., 3:]
    lengths = np.sqrt([squared_length(first), squared_length(second)])
    if not np.abs(lengths - 1).max() < 0.1 or not np.abs((first * second).sum(-1)).max() < 0.1:  # not: NaN, too
        raise ValueError("the numbers are not two rows of a rotation matrix for each joint")
    return matrix_to_vector(matrix_from_6d(rows).swapaxes(-1, -2)).reshape(len(six), -1)


def rotations_to_vectors(rotations: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[Remark]]:
    """Rotations of SMPL-X's parts as rotation vectors (T, 3 J), and remarks.

    Six numbers are two columns of a matrix, one after the other or interleaved as in a (3, 2) array, or its first two
    rows. Right angles tell the interleaved ones. Rows and columns are inverse rotations: elbows bend one way only.

    Args:
        rotations: part -> (T, J, 9) matrices, row by row, or (T, J, 6). Zeros are no rotation.

    Raises:
        ValueError: no rotations, or six numbers whose order the elbows do not tell.
    """
    vectors, inverse = {}, []
    for part, values in rotations.items():
        frames, joints, size = values.shape
        values = np.where(values.any(-1, keepdims=True), values, np.eye(3)[: size // 3].ravel())
        pairs = values.reshape(frames, joints, size // 3, 3)
        if size == 6 and not _orthonormal(pairs):
            pairs = values.reshape(frames, joints, 3, 2).swapaxes(-1, -2)
        elif size == 6:
            inverse.append(part)
        if not _orthonormal(pairs):
            raise ValueError(f"{part} holds {size} numbers a joint that are no matrix of a rotation, nor a part of one")
        matrices = pairs if size == 9 else matrix_from_6d(np.concatenate([pairs[..., 0, :], pairs[..., 1, :]], axis=-1))
        vectors[part] = matrix_to_vector(matrices).reshape(frames, -1)
    if not inverse:
        return vectors, []
    bend = 0.0
    if "body_pose" in inverse:
        elbows = vectors["body_pose"].reshape(frames, -1, 3)[:, _ELBOWS, 1]
        bend = (elbows * (-1, 1)).mean()
    if abs(bend) < _BENT:
        raise MotionFileError(
            "six numbers a joint are two columns or two rows of each matrix, and the elbows are too straight to tell; "
            "save the matrices, (frames, joints, 3, 3), or rotation vectors, (frames, joints, 3)",
            kind="rotations of six numbers in an unknown order",
        )
    if bend < 0:
        vectors |= {part: -vectors[part] for part in inverse}
    order = "rows" if bend < 0 else "columns"
    return vectors, [Remark(f"six numbers a joint read as two {order} of its matrix: so the elbows bend")]


def _orthonormal(rows: np.ndarray) -> bool:
    """(..., n, 3): n vectors near unit length and at right angles; three of them right-handed."""
    products = np.einsum("...ij,...kj->...ik", rows, rows)
    near = np.abs(products - np.eye(rows.shape[-2])).max(initial=0) < 0.1  # False for NaN
    return bool(near and (rows.shape[-2] < 3 or (np.linalg.det(rows) > 0).all()))


def matrix_from_6d(six: np.ndarray) -> np.ndarray:
    """Rotation matrices `(..., 3, 3)`, made orthonormal by Gram-Schmidt, from `(..., 6)`: the first column, then the
    second, as HumanML3D orders them. pytorch3d writes the first two rows, and SMPLify-X interleaves the columns.
    """
    x = normalize(six[..., :3])
    z = normalize(np.cross(x, six[..., 3:]))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def matrix_to_vector(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrices `(..., 3, 3)` as rotation vectors `(..., 3)`: axis times angle, the angle at most pi."""
    m = matrix
    diagonal = np.einsum("...ii->...i", m)
    trace = diagonal.sum(-1)
    # Four times the products of the quaternion's components. The row of the largest component keeps all digits.
    products = np.empty((*m.shape[:-2], 4, 4))
    products[..., 0, 0] = 1 + trace
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        products[..., i + 1, i + 1] = 1 - trace + 2 * diagonal[..., i]
        products[..., 0, i + 1] = products[..., i + 1, 0] = m[..., k, j] - m[..., j, k]
        products[..., j + 1, k + 1] = products[..., k + 1, j + 1] = m[..., k, j] + m[..., j, k]
    largest = np.einsum("...ii->...i", products).argmax(-1)
    q = normalize(np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :])
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.sqrt(squared_length(q[..., 1:]))
    angle = 2 * np.arctan2(sine, q[..., 0])
    return q[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)[..., None]
