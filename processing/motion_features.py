"""From 3D joints to the 623-number motion features of the paper, and back.

The paper (section 4.1) follows "the HumanML3D processing methodology" over 52 SMPL-H joints: root velocity, local
joint positions, velocities and rotations, foot contacts. This module is that convention, written anew and called
`humanml3d`. Its known quirks are kept, because every published number rests on them; each is marked `Quirk` where it
happens. What the original lacks is added: very short clips, broken joints, bones opposite to their rest direction,
batches, and a way back that survives a heading that passes 180 degrees.

Axes: +x to the person's left in the rest pose, +y up, +z to the front. Metres, radians, and rates per frame.
"""

import warnings
from itertools import accumulate, pairwise

import numpy as np

from .rotations import half_way, normalize, squared_length, turn_about_y, turn_on_ground

# "humanml3d": the published vector. "signing": the same numbers, but positions and velocities of fingers are relative
# to those of their wrist. A hand travels half a metre and two letters differ by two centimetres of a finger: seen from
# the wrist those are the movement, not its last few percent.
CONVENTIONS = ("humanml3d", "signing")

# The SMPL-H order. SMPL-X has the same joints once its jaw and eyes (22, 23, 24) are left out.
_BODY_JOINTS = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
).split()
_FINGER_JOINTS = [f"{finger}{k}" for finger in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)]
JOINT_NAMES = _BODY_JOINTS + [f"{side}_{joint}" for side in ("left", "right") for joint in _FINGER_JOINTS]
NUM_JOINTS = len(JOINT_NAMES)
NUM_BODY_JOINTS = len(_BODY_JOINTS)  # HumanML3D itself: the same features without hands, 263 numbers

LEFT_HAND = list(range(22, 37))
RIGHT_HAND = list(range(37, 52))
LOWER_BODY = [1, 2, 4, 5, 7, 8, 10, 11]
UPPER_BODY = [joint for joint in range(NUM_BODY_JOINTS) if joint not in LOWER_BODY]  # pelvis to wrists, no fingers
_SWAPPED = [name.replace("left", "?").replace("right", "left").replace("?", "right") for name in JOINT_NAMES]

# Bones in a row. Each chain starts at a joint of an earlier one.
_CHAINS = [
    *([0, 2, 5, 8, 11], [0, 1, 4, 7, 10], [0, 3, 6, 9, 12, 15], [9, 14, 17, 19, 21], [9, 13, 16, 18, 20]),
    *([20, finger, finger + 1, finger + 2] for finger in LEFT_HAND[::3]),
    *([21, finger, finger + 1, finger + 2] for finger in RIGHT_HAND[::3]),
]
_PARENT_OF = {child: parent for chain in _CHAINS for parent, child in pairwise(chain)}
PARENTS = [-1] + [_PARENT_OF[joint] for joint in range(1, NUM_JOINTS)]  # a parent always comes before its children
# Quirk: the first bone of a chain is measured against the root's heading, even where it grows from spine3 or a wrist.
_FIRST_OF_CHAIN = {chain[1] for chain in _CHAINS}
MEASURED_AGAINST = [0 if joint in _FIRST_OF_CHAIN else PARENTS[joint] for joint in range(NUM_JOINTS)]
# Of each joint, the one that is 1, 2, 4 and 8 bones nearer to the pelvis; at the end the pelvis.
_NEARER = [np.maximum(PARENTS, 0)]
_NEARER += [nearer := _NEARER[0][_NEARER[0]], nearer := nearer[nearer], nearer[nearer]]

# The direction of the bone from its parent for which a joint's rotation is the identity.
_X, _Y, _Z = np.eye(3)
_BODY_DIRECTIONS = [0 * _X, _X, -_X, _Y, -_Y, -_Y, _Y, -_Y, -_Y, _Y, _Z, _Z, _Y, _X, -_X, _Z, *[-_Y] * 6]
RAW_DIRECTIONS = np.stack([*_BODY_DIRECTIONS, *[_X] * len(LEFT_HAND), *[-_X] * len(RIGHT_HAND)])
RAW_DIRECTIONS.flags.writeable = False
# Coordinates first. Raw directions lie along axes: a half turn about one is a change of signs. The root's heading is
# measured from +z.
_RAW = RAW_DIRECTIONS.T[..., None]
_HALF_TURNS = 2 * np.stack([_Z, *RAW_DIRECTIONS[1:]], axis=1)[..., None] ** 2 - 1  # (3, J, 1)
_SIGNS = _HALF_TURNS[:2, None, 1:] * _HALF_TURNS[:, MEASURED_AGAINST[1:]]  # (column, row, J-1, 1)

# Metres from each joint to its parent in the skeleton that HumanML3D gives to everybody: frame 0 of its clip 000021, to
# the last digit of the float32 numbers it was published as.
# fmt: off
HUMANML3D_BONE_LENGTHS = np.array([
    # pelvis to wrists
    0.0, 0.10307397, 0.10988337, 0.13156824, 0.3936232, 0.39018822, 0.14319022, 0.43243307, 0.42564335, 0.057364736,
    0.14338182, 0.14941907, 0.21936005, 0.13748677, 0.14338283, 0.10303922, 0.13161404, 0.12298438, 0.25684, 0.26309174,
    0.26601171, 0.2698764,
    # left hand: index, middle, pinky; ring, thumb
    0.10839949, 0.033204675, 0.023345081, 0.11377253, 0.032046057, 0.024733966, 0.09919523, 0.020455468, 0.019818515,
    0.1051208, 0.029673135, 0.024619177, 0.055921987, 0.031891305, 0.02735849,
    # right hand
    0.10787044, 0.03387637, 0.02343803, 0.11299836, 0.032096814, 0.024503117, 0.098655134, 0.020352673, 0.019661892,
    0.10453433, 0.029580303, 0.024668816, 0.05532024, 0.032277975, 0.027795434,
], dtype=np.float32).astype(np.float64)
# fmt: on
HUMANML3D_BONE_LENGTHS.flags.writeable = False

HEADING_JOINTS = _LEFT_HIP, _RIGHT_HIP, _LEFT_SHOULDER, _RIGHT_SHOULDER = [1, 2, 16, 17]
_LEG = [5, 8]  # right knee and ankle: thigh and shin say how large a person is
FEET = [7, 10, 8, 11]  # left ankle, left foot, right ankle, right foot
_CONTACT_SPEED_SQUARED = 0.002  # square metres per frame: a foot that moves less than 4.5 cm stands
_SMOOTHING_SIGMA = 20  # frames
_SMOOTHING_RADIUS = 4 * _SMOOTHING_SIGMA
_SMOOTHING = np.exp(-0.5 * (np.arange(-_SMOOTHING_RADIUS, _SMOOTHING_RADIUS + 1) / _SMOOTHING_SIGMA) ** 2)
_SMOOTHING /= _SMOOTHING.sum()
# When the inverse changes the sign of a yaw. Noise is met by the factor, whatever its size: noise in the joints spoils
# the fit of both signs alike. The yaw itself needs only be more than rounding: a wrong sign at 1e-9 moves a joint one
# metre away by 4 nanometres, and people who stand facing 180 degrees lose many small signs, which add up.
_CLEARLY_BETTER = 2
_SMALLEST_YAW = 1e-9  # radians
_ZERO_LENGTH = 1e-6  # metres: shorter than any bone, longer than the rounding of float32 coordinates


def feature_slices(num_joints: int = NUM_JOINTS) -> dict[str, slice]:
    """Where each block lies in the last axis of the features. The only place that knows.

    >>> feature_slices()["contacts"].stop, feature_slices(22)["contacts"].stop
    (623, 263)
    """
    widths = {
        "root_yaw": 1,  # half the turn from this frame to the next; to the left is negative, but for sign losses
        "root_velocity": 2,  # x and z, seen from the next frame's heading
        "root_height": 1,  # above the lowest point of the clip
        "positions": 3 * (num_joints - 1),  # joints 1.., seen from the heading; y is the height above the floor
        "rotations": 6 * (num_joints - 1),  # joints 1.., 6D, swing only
        "velocities": 3 * num_joints,  # joints 0.., seen from the heading
        "contacts": 4,  # left ankle, left foot, right ankle, right foot: 1 where it stands
    }
    ends = accumulate(widths.values())
    return {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}


FEATURE_SIZE = feature_slices()["contacts"].stop
_JOINTS_OF_SIZE = {FEATURE_SIZE: NUM_JOINTS, feature_slices(NUM_BODY_JOINTS)["contacts"].stop: NUM_BODY_JOINTS}


def joints_to_features(
    joints: np.ndarray | list[np.ndarray],
    *,
    target_skeleton: str | np.ndarray | None = "humanml3d",
    convention: str = "humanml3d",
) -> np.ndarray | list[np.ndarray]:
    """Turn joint positions into motion features.

    Args:
        joints: `(..., T, 52, 3)`, metres, y up, T >= 2, or a list of such clips of any lengths. With 22 joints (no
            hands) the result is HumanML3D's own 263 numbers. Never edited. NaN, infinite and collapsed joints are
            repaired as `motion_repair.repair_joints` says, with one warning per array.
        target_skeleton: whose proportions the person gets. `"humanml3d"`: :data:`HUMANML3D_BONE_LENGTHS`, as in
            published data. `None`: the person's own. An array `(52, 3)` or `(22, 3)`, like the joints: the offset of
            each joint from its parent, not its position; the lengths of the rows count, and row 0 not at all.
        convention: one of :data:`CONVENTIONS`.

    Returns:
        `(..., T-1, 623)`, laid out as :func:`feature_slices` says; the last frame only gives velocities. The place and
        the heading in which the clip starts are gone. float64 for float64 input, else float32. A list for a list.

    Raises:
        ValueError: unknown convention or skeleton, wrong shape, fewer than 2 frames, a clip without any valid joint.

    Source: `process_file` of HumanML3D (Guo et al., CVPR 2022), with the 52 joints of Motion-X and HumanTOMATO.
    """
    if isinstance(joints, list):
        return [joints_to_features(x, target_skeleton=target_skeleton, convention=convention) for x in joints]
    joints = np.asarray(joints)
    positions, repaired = fill_broken_joints(joints)
    *batch, frames, num_joints, _ = joints.shape
    if frames < 2:
        what = f"got {frames} in shape {joints.shape}: leave this clip out, or repeat its frame"
        raise ValueError(f"expected at least 2 frames, since every feature row needs the frame after it, {what}")
    lengths = _target_lengths(target_skeleton, num_joints)
    if repaired.any():
        warnings.warn(_describe(repaired), stacklevel=2)
    features = np.empty((*batch, frames - 1, feature_slices(num_joints)["contacts"].stop), positions.dtype)
    for clip in np.ndindex(*batch):  # a clip fits into the cache, a batch does not
        features[clip] = _clip_features(positions[clip], lengths).T[:-1]
        _shift_hands(features[clip], convention, num_joints, -1)
    return features


def all_three(flags: np.ndarray) -> np.ndarray:
    """`flags.all(-1)` of `(..., 3)` flags in a tenth of the time: numpy is slow at so short an axis."""
    x, y, z = np.moveaxis(flags, -1, 0)
    return x & y & z


def mirrored(joints: np.ndarray) -> np.ndarray:
    """(..., 52, 3) joints as a mirror shows them: what a left-handed signer does."""
    joints = joints[..., [JOINT_NAMES.index(name) for name in _SWAPPED], :]
    joints[..., 0] *= -1
    return joints


def right_handed(joints: np.ndarray) -> np.ndarray:
    """(T, 52, 3) joints, mirrored if the left is the dominant hand: that which is held higher, along the torso."""
    up = np.nan_to_num(joints[:, 12] - joints[:, 0]).sum(0)
    left, right = np.median(np.nan_to_num(joints[:, [20, 21]] @ up, nan=-np.inf), axis=0)  # never seen: not held up
    return mirrored(joints) if left > right else joints


def _shift_hands(features: np.ndarray, convention: str, num_joints: int, sign: int) -> None:
    """For "signing": add the position and velocity of their wrist (times `sign`) to those of the fingers, in place."""
    if convention not in CONVENTIONS:
        raise ValueError(f"expected a convention among {list(CONVENTIONS)}, got {convention!r}")
    if convention == "humanml3d":
        return
    slices = feature_slices(num_joints)
    for block, first in (("positions", 1), ("velocities", 0)):
        vectors = features[..., slices[block]].reshape(*features.shape[:-1], num_joints - first, 3)  # a view
        for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
            vectors[..., hand[0] - first : hand[-1] - first + 1, :] += sign * vectors[..., [wrist - first], :]


def features_to_joints(features: np.ndarray, *, convention: str = "humanml3d") -> np.ndarray:
    """Turn motion features back into joint positions: `recover_from_ric` of HumanML3D, with the turns put right.

    HumanML3D loses the sign of `root_yaw` where the heading passes 180 degrees, and its own way back goes astray from
    there. Positions and velocities hold the same turn once more, and decide here: a sign is changed where the joints
    fit the opposite turn more than twice as well, in clips whose velocities belong to their positions. Clean features
    come back exactly. Noisy ones, such as a network decodes, keep the signs they have where the noise hides the answer.

    Args:
        features: `(..., T, 623)` or `(..., T, 263)`, not normalised. Rotations and contacts are not read, and
            velocities only for the signs: all zero, they leave every sign alone.
        convention: that of the features, one of :data:`CONVENTIONS`.

    Returns:
        `(..., T, 52, 3)` or `(..., T, 22, 3)`, metres: what :func:`joints_to_features` saw after retargeting, with the
        floor at y = 0, the first pelvis over the origin and the first frame facing +z. float64 for float64 input, else
        float32.

    Raises:
        ValueError: the last axis is neither 623 nor 263 long, or an unknown convention.
    """
    features = np.asarray(features)
    if features.ndim < 2 or features.shape[-1] not in _JOINTS_OF_SIZE:
        raise ValueError(
            f"expected features (..., T, size) with size among {list(_JOINTS_OF_SIZE)}, got shape {features.shape}: "
            "undo any cropping or flattening first"
        )
    num_joints = _JOINTS_OF_SIZE[features.shape[-1]]
    slices = feature_slices(num_joints)
    values = features.astype(np.float64)  # always a copy
    _shift_hands(values, convention, num_joints, 1)
    local = values[..., slices["positions"]].reshape(*features.shape[:-1], num_joints - 1, 3)
    velocities = values[..., slices["velocities"]].reshape(*features.shape[:-1], num_joints, 3)
    yaw = _restore_signs(values[..., slices["root_yaw"]][..., 0], local, velocities)
    heading = -2 * (np.cumsum(yaw, axis=-1) - yaw)[..., None]  # (..., T, 1), of what was before each row

    velocity = np.insert(values[..., slices["root_velocity"]], 1, 0, axis=-1)
    # A row's velocity is seen from the heading of the next row; the last row has none, and its velocity leads nowhere.
    steps = turn_about_y(velocity, np.roll(heading, -1, axis=-2)[..., 0])
    ground = (np.cumsum(steps, axis=-2) - steps)[..., None, :]
    joints = np.concatenate([ground, turn_about_y(local, heading) + ground], axis=-2)
    joints[..., 0, 1] = values[..., slices["root_height"]][..., 0]
    return joints.astype(result_dtype(features), copy=False)


def _restore_signs(yaw: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """The yaw `(..., T)` of features with the signs that :func:`_half_turns` lost, as far as the other blocks tell.

    Positions `(..., T, J-1, 3)` and velocities `(..., T, J, 3)` of a row give the offsets from the pelvis in the next
    frame, still seen from this row's heading; the next row has them seen from its own. The turn between is twice the
    yaw. The last row has no next one, and its yaw turns nothing.
    """
    moves = (velocities[..., 1:, :] - velocities[..., :1, :])[..., :-1, :, :]
    moved, following = positions[..., :-1, :, :] + moves, positions[..., 1:, :, :]
    stored = yaw[..., :-1]
    kept, flipped = (_size_on_ground(turn_about_y(moved, 2 * a[..., None]) - following) for a in (stored, -stored))
    lost = (np.abs(stored) > _SMALLEST_YAW) & (_CLEARLY_BETTER * flipped < kept)
    # Velocities that are missing, or the mean of some data, explain no movement. Their clip has nothing to say: in a
    # body that sways, the smoothed heading lags behind, and alone the positions can seem to turn the other way.
    unexplained = np.minimum(kept, flipped).sum(axis=-1, keepdims=True)
    lost &= _CLEARLY_BETTER * unexplained < _size_on_ground(moves).sum(axis=-1, keepdims=True)
    return np.concatenate([np.where(lost, -stored, stored), yaw[..., -1:]], axis=-1)


def _size_on_ground(vectors: np.ndarray) -> np.ndarray:
    """The size `(...)` of the x and z of all vectors `(..., n, 3)` together; heights say nothing about a turn."""
    return np.sqrt(squared_length(vectors[..., [0, 2]]).sum(axis=-1))


def fill_broken_joints(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`motion_repair.repair_joints`."""
    if joints.ndim < 3 or joints.shape[-1] != 3 or joints.shape[-2] not in (NUM_JOINTS, NUM_BODY_JOINTS):
        raise ValueError(
            f"expected joints (..., T, {NUM_JOINTS}, 3), or {NUM_BODY_JOINTS} without hands, got shape {joints.shape}: "
            "pick the SMPL-H joints from a larger set (from SMPL-X, the first 22 and then 25 to 54)"
        )
    positions = joints.astype(result_dtype(joints))  # always a copy
    broken = np.zeros(positions.shape[:-1], bool)
    clips = list(np.ndindex(joints.shape[:-3]))
    for number, clip in enumerate(clips):
        points = np.ascontiguousarray(positions[clip].T)
        valid = np.isfinite(points).all(axis=0)
        if not valid.all():
            points[:, ~valid] = 0  # no arithmetic on infinities
        both_ends = valid[1:] & np.take(valid, PARENTS[1 : len(valid)], axis=0)
        collapsed = both_ends & (squared_length(_bones(points), axis=0) < _ZERO_LENGTH**2)
        valid[1:] &= ~collapsed
        valid[0] &= ~collapsed.all(axis=0)
        if valid.all():
            continue
        if not valid.any():
            where = f"clip {number} of {len(clips)}: everything is NaN, infinite or collapsed to one point"
            raise ValueError(f"expected a person in every clip, no valid joint in {where}; leave that clip out")
        broken[clip] = ~valid.T
        positions[clip] = points.T
        _repair_clip(positions[clip], valid.T)
    return positions, broken


def _repair_clip(positions: np.ndarray, valid: np.ndarray) -> None:
    """Fill the invalid joints `(T, J)` of one clip `(T, J, 3)` in place, parents before children."""
    rest = _rest_bones(positions, valid)
    # The pelvis hangs on nothing: it is interpolated itself, or else found from another joint along resting bones.
    anchor = int(valid.any(axis=0).argmax())
    root = fill_in_time(positions[:, anchor], valid[:, anchor])
    while anchor != 0:
        root -= rest[:, anchor]
        anchor = PARENTS[anchor]
    positions[~valid[:, 0], 0] = root[~valid[:, 0]]
    for joint in np.flatnonzero(~valid[:, 1:].all(axis=0)) + 1:
        parent, broken = positions[:, PARENTS[joint]], ~valid[:, joint]
        bone = rest[:, joint] if broken.all() else fill_in_time(positions[:, joint] - parent, ~broken)
        positions[broken, joint] = (parent + bone)[broken]


def _rest_bones(positions: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The bones `(T, J, 3)` of a resting person who faces the way this one does, as far as hips and shoulders tell."""
    bones = (HUMANML3D_BONE_LENGTHS[:, None] * RAW_DIRECTIONS)[: valid.shape[1]]
    across, facing_known = np.zeros_like(positions[:, 0]), np.zeros_like(valid[:, 0])
    for left, right in ((_LEFT_HIP, _RIGHT_HIP), (_LEFT_SHOULDER, _RIGHT_SHOULDER)):
        both = valid[:, left] & valid[:, right]
        across[both] += positions[both, left] - positions[both, right]
        facing_known |= both
    if facing_known.any():
        across = fill_in_time(across, facing_known)
    return turn_about_y(bones, -np.arctan2(across[:, 2], across[:, 0])[:, None])


def fill_in_time(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values `(T, ...)` with all frames but the valid ones `(T,)` interpolated, and held at both ends."""
    frames = np.arange(len(values))
    columns = values.reshape(len(values), -1).T
    filled = [np.interp(frames, frames[valid], column[valid]) for column in columns]
    return np.stack(filled, axis=-1).reshape(values.shape)


def _describe(repaired: np.ndarray) -> str:
    frames = repaired.any(axis=-1)
    counts = zip(JOINT_NAMES, repaired.reshape(-1, repaired.shape[-1]).sum(axis=0), strict=False)
    return (
        f"repaired NaN, infinite or zero-length joints in {frames.sum()} of {frames.size} frames, from their "
        "neighbours in time (in the rest pose where there were none). Frames per joint: "
        + ", ".join(f"{name} {count}" for name, count in counts if count)
    )


def _clip_features(joints: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Features `(F, T)` of a clip `(T, J, 3)`, whose person gets bone lengths `(J,)` or keeps their own. The last frame
    only gives velocities: leave its column out. Time is the last axis of all arrays: numpy is fast at long rows.
    """
    points = np.ascontiguousarray(joints.T)  # (3, J, T)
    _, num_joints, frames = points.shape
    root, bones = points[:, 0] - points[:, 0, :1], _bones(points)
    own_lengths = np.sqrt(squared_length(bones, axis=0))
    directions = bones / np.where(own_lengths > 0, own_lengths, 1)
    if lengths is None:
        points = points - points[:, :1]
    else:
        lengths = lengths.astype(points.dtype)
        # Quirk: the size of the person is that of one leg in frame 0. The path scales with it.
        own_leg = max(sum(own_lengths[joint - 1, 0] for joint in _LEG), _ZERO_LENGTH)
        root *= (lengths[_LEG].sum() / own_leg).astype(root.dtype)
        points[:, 0] = 0
        np.multiply(directions, lengths[1:, None], out=points[:, 1:])
        for nearer in _NEARER:  # bones add up to where they end, each time over twice as many
            points += np.take(points, nearer[:num_joints], axis=1)
    # Points are now seen from the pelvis, whose path is root. It starts over the origin, and turned by this, facing +z.
    hips = points[:, _LEFT_HIP] - points[:, _RIGHT_HIP]
    shoulders = points[:, _LEFT_SHOULDER] - points[:, _RIGHT_SHOULDER]
    start = np.arctan2(*(hips + shoulders)[::-2, 0])
    directions[0], directions[2] = turn_on_ground(directions[0], directions[2], start)
    # Quirk: the hips come in with the wrong sign, so this is not quite where the person faces.
    across = _smooth(normalize(shoulders - hips, axis=0))
    heading = np.arctan2(*turn_on_ground(across[0], across[2], start)[::-1])
    # Quirk: frame 0 counts as facing +z, which by this measure it does not: row 0 holds a turn that nobody made.
    heading[0] = 0
    turns = start + heading

    slices = feature_slices(num_joints)
    features = np.zeros((slices["contacts"].stop, frames), points.dtype)
    features[slices["root_yaw"], :-1] = _half_turns(heading)
    placed = points + root[:, None]
    placed[1] -= placed[1].min()  # the lowest joint of all frames touches the floor
    steps = placed[..., 1:] - placed[..., :-1]
    # Quirk: the root's velocity is seen from the next heading, the velocities of all joints from the present one.
    features[slices["root_velocity"], :-1] = turn_on_ground(steps[0, 0], steps[2, 0], turns[1:])
    features[slices["root_height"]] = placed[1, 0]
    x, y, z = features[slices["positions"]].reshape(-1, 3, frames).swapaxes(0, 1)  # views
    x[:], z[:] = turn_on_ground(points[0, 1:], points[2, 1:], turns)
    y[:] = placed[1, 1:]
    _local_rotations(directions, heading, features[slices["rotations"]].reshape(-1, 2, 3, frames))
    x, y, z = features[slices["velocities"], :-1].reshape(-1, 3, frames - 1).swapaxes(0, 1)
    x[:], z[:] = turn_on_ground(steps[0], steps[2], turns[:-1])
    y[:] = steps[1]
    feet = squared_length(np.take(steps, FEET, axis=1), axis=0)
    features[slices["contacts"], :-1] = feet < _CONTACT_SPEED_SQUARED
    return features


def _local_rotations(directions: np.ndarray, heading: np.ndarray, out: np.ndarray) -> None:
    """Write the 6D rotations `(J-1, 2, 3, T)` of bones `(3, J-1, T)`, each against the one before it in its chain.

    The shortest arc from one direction to another is a half turn about the first and then one about `h`, half way
    between them: `2 h h' - 1`, which needs no quaternions. That of the root is its heading.
    """
    num_bones = directions.shape[1]
    half = np.empty((3, num_bones + 1, len(heading)), directions.dtype)
    half[0, 0], half[1, 0], half[2, 0] = np.sin(heading / 2), 0, np.cos(heading / 2)
    half[:, 1:] = half_way(_RAW[:, 1 : num_bones + 1].astype(half.dtype), directions)
    before, half = np.take(half, MEASURED_AGAINST[1 : num_bones + 1], axis=1), half[:, 1:]
    cosine = np.einsum("cjt,cjt->jt", before, half)
    for column in range(2):
        twice = 2 * half[column]
        turned = before * (2 * (twice * cosine - before[column])) - half * twice
        turned[column] += 1
        np.multiply(turned, _SIGNS[column, :, :num_bones].astype(half.dtype), out=out[:, column].swapaxes(0, 1))


def _half_turns(turns: np.ndarray) -> np.ndarray:
    """Half the turn `(..., T-1)` from each frame to the next, from turns `(..., T)` between -pi and pi."""
    half = np.diff(turns, axis=-1) / 2
    # Quirk: the original takes the arcsine of sin(half) (HumanML3D issue 156). Where the heading passes 180 degrees
    # from the start, turns jump by a full circle, half lies beyond a right angle, and the arcsine has the right size
    # and the wrong sign. The fold here does without an arcsine, which would lose half its digits near a right angle.
    return np.where(np.abs(half) > np.pi / 2, np.copysign(np.pi, half) - half, half)


def _bones(positions: np.ndarray) -> np.ndarray:
    """Vectors `(3, J-1, T)` from its parent to each joint but the root, of positions `(3, J, T)`."""
    return positions[:, 1:] - np.take(positions, PARENTS[1 : positions.shape[1]], axis=1)


def _smooth(values: np.ndarray) -> list[np.ndarray]:
    """Gaussian over time of `(C, T)`; beyond both ends the clip holds still."""
    frames = np.arange(-_SMOOTHING_RADIUS, values.shape[1] + _SMOOTHING_RADIUS)
    weights = _SMOOTHING.astype(values.dtype)
    return [np.convolve(row, weights, "valid") for row in np.take(values, frames, axis=1, mode="clip")]


def _target_lengths(skeleton: str | np.ndarray | None, num_joints: int) -> np.ndarray | None:
    """The bone lengths `(num_joints,)` that :func:`joints_to_features` was asked for."""
    if skeleton is None:
        return None
    if isinstance(skeleton, str):
        if skeleton != "humanml3d":
            raise ValueError(f"expected target_skeleton 'humanml3d', None or an array of offsets, got {skeleton!r}")
        return HUMANML3D_BONE_LENGTHS[:num_joints]
    offsets = np.asarray(skeleton, dtype=np.float64)
    if offsets.shape != (num_joints, 3):
        raise ValueError(f"expected a target_skeleton {(num_joints, 3)}, as many as the joints, got {offsets.shape}")
    lengths = np.sqrt(squared_length(offsets))
    unusable = [JOINT_NAMES[j] for j in range(1, num_joints) if not _ZERO_LENGTH < lengths[j] < np.inf]
    if unusable:
        raise ValueError(f"expected a target_skeleton of offsets from the parent joints, got no bone for {unusable}")
    return lengths


def result_dtype(values: np.ndarray) -> type:
    return np.float64 if values.dtype.kind == "f" and values.dtype.itemsize >= 8 else np.float32
