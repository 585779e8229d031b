"""Rotations as pure functions over any batch shape: turns about +y, shortest arcs and quaternions.

Quaternions are `(w, x, y, z)` in the last axis, multiplied the Hamilton way, and of unit length: `q` takes `v` to
`q v q*`. Angles are radians. Every function takes and returns numpy float arrays, broadcasts the other axes and edits
none of its arguments.
"""

import numpy as np


def squared_length(vectors: np.ndarray, axis: int = -1) -> np.ndarray:
    """Squared lengths of vectors, whose coordinates lie along the first or the last `axis`."""
    return np.einsum("i...,i...->..." if axis == 0 else "...i,...i->...", vectors, vectors)


def normalize(vectors: np.ndarray, axis: int = -1) -> np.ndarray:
    """Scale vectors to length 1; a zero vector has no direction and stays zero."""
    length = np.expand_dims(np.sqrt(squared_length(vectors, axis)), axis)
    return vectors / np.where(length > 0, length, 1)


def turn_on_ground(x: np.ndarray, z: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and z after a turn about +y by `angle`; a positive turn takes +z towards +x."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * z, cosine * z - sine * x


def turn_about_y(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn vectors `(..., 3)` about +y by `angle` `(...)`; a positive turn takes +z towards +x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    x, z = turn_on_ground(x, z, angle)
    return np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1)


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


def half_way(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The unit vectors half way from unit vectors `a` to `b`, all `(3, ...)`.

    A half turn about `a` and then one about `half_way(a, b)` make the shortest rotation from `a` to `b`. Opposite
    vectors have no single shortest arc: half way is then at right angles to `a`, in a direction that depends on `a`
    alone. Where `b` is a zero vector it is `a`.
    """
    # Unlike 1 + a.b, which others start from, a + b keeps its digits up to the very edge of the opposite case. There
    # rounding would choose the plane of the arc.
    between = a + b
    opposite = squared_length(between, axis=0) < np.finfo(between.dtype).eps
    if opposite.any():
        # made with the coordinate axis that is farthest from `a`
        farthest = np.moveaxis(np.eye(3, dtype=a.dtype)[np.abs(a).argmin(axis=0)], -1, 0)
        between = np.where(opposite, np.cross(a, farthest, axis=0), between)
    return between / np.sqrt(squared_length(between, axis=0))
