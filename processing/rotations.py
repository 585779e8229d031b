"""Rotations as pure functions over any batch shape: turns about +y, quaternions, matrices and the 6D form.

Quaternions are `(w, x, y, z)` in the last axis, multiplied the Hamilton way, and of unit length. Vectors are columns:
a quaternion `q` takes `v` to `q v q*`, a matrix `M` takes it to `M v`. Angles are radians. Every function takes and
returns numpy float arrays, broadcasts the leading axes and edits none of its arguments.
"""

import numpy as np

# For unit vectors nearer than this to opposite ones, rounding (1e-16 / 1e-8) starts to choose the plane of the arc.
_OPPOSITE = 1e-8


def squared_length(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths `(...)` of vectors `(..., n)`."""
    return np.einsum("...i,...i->...", vectors, vectors)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors `(..., n)` to length 1; a zero vector has no direction and stays zero."""
    length = np.sqrt(squared_length(vectors))[..., None]
    return vectors / np.where(length > 0, length, 1)


def turn_about_y(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn vectors `(..., 3)` about +y by `angle` `(...)`; a positive turn takes +z towards +x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned_x, turned_z = cosine * x + sine * z, cosine * z - sine * x
    return np.stack([turned_x, np.broadcast_to(y, turned_x.shape), turned_z], axis=-1)


def quaternion_multiply(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Hamilton product `p q` of quaternions `(..., 4)`: the rotation `q` first, then `p`."""
    pw, px, py, pz = np.moveaxis(p, -1, 0)
    qw, qx, qy, qz = np.moveaxis(q, -1, 0)
    w = pw * qw - px * qx - py * qy - pz * qz
    x = pw * qx + px * qw + py * qz - pz * qy
    y = pw * qy - px * qz + py * qw + pz * qx
    z = pw * qz + px * qy - py * qx + pz * qw
    return np.stack([w, x, y, z], axis=-1)


def quaternion_rotate(q: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rotate vectors `(..., 3)` by quaternions `(..., 4)`."""
    axis = q[..., 1:]
    twice = 2 * np.cross(axis, vectors)
    return vectors + q[..., :1] * twice + np.cross(axis, twice)


def quaternion_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest rotations `(..., 4)` that take unit vectors `a` to unit vectors `b`, both `(..., 3)`.

    Opposite vectors have no single shortest arc: they get a half turn about an axis that depends on `a` alone, so the
    answer is always a rotation and always the same one. Where `b` is a zero vector the answer is the identity.
    """
    # q = (a.h, a x h) with h half way from a to b. Unlike the usual (1 + a.b, a x b) it subtracts no nearly equal
    # numbers, so it keeps its digits up to the very edge of the opposite case.
    between = a + b
    opposite = squared_length(between) < _OPPOSITE**2
    if opposite.any():
        # at right angles to `a`, made with the coordinate axis that is farthest from it
        perpendicular = np.cross(a, np.eye(3, dtype=a.dtype)[np.abs(a).argmin(axis=-1)])
        between = np.where(opposite[..., None], perpendicular, between)
    half_way = normalize(between)
    w = np.einsum("...i,...i->...", a, half_way)
    return np.concatenate([w[..., None], np.cross(a, half_way)], axis=-1)


def quaternion_to_matrix(q: np.ndarray) -> np.ndarray:
    """Quaternions `(..., 4)` as rotation matrices `(..., 3, 3)`."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    first_row = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    second_row = [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    third_row = [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return np.stack(first_row + second_row + third_row, axis=-1).reshape(*q.shape[:-1], 3, 3)


def matrix_to_6d(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrices `(..., 3, 3)` as `(..., 6)`: the first column, then the second, as HumanML3D orders them.

    pytorch3d writes the first two rows instead, and SMPLify-X interleaves the columns.
    """
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)
