"""Motion features against golden files (made by an independent float64 program) and against their own promises."""

import doctest
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lslm.processing import motion_features
from lslm.processing.motion_features import (
    FEATURE_SIZE,
    HUMANML3D_BONE_LENGTHS,
    JOINT_NAMES,
    LEFT_HAND,
    LOWER_BODY,
    NUM_JOINTS,
    PARENTS,
    RAW_DIRECTIONS,
    RIGHT_HAND,
    UPPER_BODY,
    feature_slices,
    features_to_joints,
    joints_to_features,
)
from lslm.processing.readers.mocap_gltf import quaternion_to_matrix
from lslm.processing.readers.motion_repair import repair_joints
from lslm.processing.readers.signspark import matrix_from_6d
from lslm.processing.rotations import (
    half_way,
    quaternion_multiply,
    quaternion_rotate,
    turn_about_y,
)

assert_close = partial(np.testing.assert_allclose, rtol=0)

GOLDEN = Path(__file__).parent / "golden"
CLIPS = ["facing_away_small_person", "standing", "stepping", "turning", "two_frames"]
KEYS = ["features", "features_no_retarget"]
# HumanML3D loses the sign of the turn in the one row where the heading passes 180 degrees; the clip turns to the right.
SIGN_LOST_IN_ROW = {"features": 56, "features_no_retarget": 64}
COLUMNS_OF_263 = np.r_[0:67, 157:283, 463:529, 619:623]
SLICES = feature_slices()
FLOAT32_TOLERANCES = dict.fromkeys(SLICES, 1e-5) | {"root_yaw": 2e-5, "positions": 5e-5, "rotations": 1e-3}
OFFSETS = HUMANML3D_BONE_LENGTHS[:, None] * RAW_DIRECTIONS
FEW = settings(max_examples=25, deadline=None)


def golden(clip, key="features"):
    """Joints, target skeleton and expected features."""
    data = np.load(GOLDEN / f"{clip}.npz")
    return data["joints"], "humanml3d" if key == "features" else None, data[key]


def standing(frames):
    return golden("standing")[0][40 : 40 + frames].copy()


def resting_person(frames):
    """Everything along the raw directions, so facing exactly +z, with one arm going up."""
    joints = np.zeros((frames, NUM_JOINTS, 3))
    for joint in range(1, NUM_JOINTS):
        joints[:, joint] = joints[:, PARENTS[joint]] + OFFSETS[joint]
    joints[:, [18, 20, *LEFT_HAND], 2] += np.linspace(0.1, 0.3, frames)[:, None]
    return joints


def broad_hipped_person(frames):
    """Hips broader than shoulders, by which HumanML3D's measure faces backwards from frame 1 on; swaying twice."""
    joints = resting_person(frames)
    joints[:, [1, 4, 7, 10], 0] += 0.3
    joints[:, [2, 5, 8, 11], 0] -= 0.3
    return turn_about_y(joints, 0.05 * np.sin(4 * np.pi / frames * (np.arange(frames) + 0.5))[:, None])


def spinning_person(frames, degrees_per_frame):
    """Off the axis, so that the pelvis goes in a circle; to the left for positive degrees."""
    angle = np.radians(degrees_per_frame) * np.arange(frames)
    return turn_about_y(resting_person(frames) + np.array([0.3, 0, 0]), angle[:, None])


def retargeted(joints):
    """Every bone along its own direction with HumanML3D's length; the path scaled with the right leg."""
    bones = joints - joints[:, PARENTS]
    target = joints * HUMANML3D_BONE_LENGTHS[[5, 8]].sum() / np.linalg.norm(bones[0, [5, 8]], axis=-1).sum()
    for j in range(1, NUM_JOINTS):
        unit_bone = bones[:, j] / np.linalg.norm(bones[:, j], axis=-1, keepdims=True)
        target[:, j] = target[:, PARENTS[j]] + HUMANML3D_BONE_LENGTHS[j] * unit_bone
    return target


def recover_from_ric(features):
    """The inverse of HumanML3D, frame after frame, trusting every sign: section 3 of the specification."""
    heading, ground, joints = 0.0, np.zeros(3), []
    for row in features:
        local = np.concatenate([[0, row[3], 0], row[SLICES["positions"]]]).reshape(NUM_JOINTS, 3)
        joints.append(turn_about_y(local, np.array(-heading)) + ground)
        heading += 2 * row[0]
        ground = ground + turn_about_y(np.array([row[1], 0, row[2]]), np.array(-heading))
    return np.stack(joints)


def matrix_to_6d(matrix):
    """The first column, then the second."""
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def columns_of(joints):
    """The feature columns that speak of some joints."""
    flags = np.zeros(FEATURE_SIZE, dtype=bool)
    for block, first, width in (("positions", 1, 3), ("rotations", 1, 6), ("velocities", 0, 3)):
        for joint in joints:
            start = SLICES[block].start + (joint - first) * width
            flags[start : start + width] = True
    return flags


def assert_same_up_to_place_and_heading(actual, expected, atol):
    """`actual` is `expected` turned about y, shifted, and standing on the floor."""
    flat, wanted = (np.ravel(p[..., 0] + 1j * p[..., 2]) for p in (actual, expected))
    flat, wanted = flat - flat.mean(), wanted - wanted.mean()
    turn = np.vdot(wanted, flat)
    assert_close(flat, wanted * turn / abs(turn), atol=atol)
    assert_close(np.diff(actual[..., 1].ravel()), np.diff(expected[..., 1].ravel()), atol=atol)


def there_and_back(joints, atol=1e-9):
    """Features of a person with their own bones, which give the same movement back."""
    features = joints_to_features(joints, target_skeleton=None)
    assert_same_up_to_place_and_heading(features_to_joints(features), joints[:-1], atol)
    return features


# --- layout and skeleton


def test_layout():
    assert doctest.testmod(motion_features).failed == 0
    assert FEATURE_SIZE == 1 + 2 + 1 + 3 * 51 + 6 * 51 + 3 * 52 + 4
    assert [s.start for s in SLICES.values()] == [0, 1, 3, 4, 157, 463, 619]
    assert [s.stop for s in SLICES.values()] == [1, 3, 4, 157, 463, 619, 623]


def test_skeleton_is_one_tree_in_order():
    assert len(JOINT_NAMES) == len(set(JOINT_NAMES)) == len(PARENTS) == len(HUMANML3D_BONE_LENGTHS) == 52
    assert all(parent < joint for joint, parent in enumerate(PARENTS))
    assert [JOINT_NAMES[j] for j in (0, 15, 20, 21)] == ["pelvis", "head", "left_wrist", "right_wrist"]
    assert [JOINT_NAMES[j] for j in (22, 36, 37, 51)] == ["left_index1", "left_thumb3", "right_index1", "right_thumb3"]
    assert sorted(UPPER_BODY + LOWER_BODY + LEFT_HAND + RIGHT_HAND) == list(range(52))
    for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
        assert [PARENTS[j] for j in hand] == [wrist if j in hand[::3] else j - 1 for j in hand]


def test_humanml3d_skeleton_is_that_of_the_golden_files():
    for clip in CLIPS:
        np.testing.assert_array_equal(OFFSETS, np.load(GOLDEN / f"{clip}.npz")["target_offsets"])
    assert not HUMANML3D_BONE_LENGTHS.flags.writeable
    joints = standing(20)
    other_directions = HUMANML3D_BONE_LENGTHS[:, None] * [0, 0, 1]
    same = joints_to_features(joints, target_skeleton=other_directions)
    np.testing.assert_array_equal(joints_to_features(joints), same)


# --- golden files


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("clip", CLIPS)
def test_golden_files_in_float64_and_float32(clip, key):
    joints, skeleton, expected = golden(clip, key)
    features, single = (joints_to_features(j, target_skeleton=skeleton) for j in (joints, joints.astype(np.float32)))
    assert features.dtype == np.float64 and single.dtype == np.float32
    assert_close(features, expected, atol=1e-9)
    error = np.abs(single - expected)
    for block, tolerance in FLOAT32_TOLERANCES.items():
        assert error[:, SLICES[block]].max() <= tolerance, block
    assert not error[:, SLICES["contacts"]].any()
    assert np.mean(error[:, SLICES["rotations"]] < 1e-4) >= 0.999


@pytest.mark.parametrize("clip", CLIPS)
def test_263_features_are_columns_of_the_623(clip):
    joints = golden(clip)[0]
    assert joints[:, :22, 1].min() < joints[:, 22:, 1].min(), "no hand may set the floor here"
    body, whole = joints_to_features(joints[:, :22]), joints_to_features(joints)
    assert_close(body, whole[:, COLUMNS_OF_263], atol=1e-12)
    assert_close(features_to_joints(body), features_to_joints(whole)[:, :22], atol=1e-12)


# --- properties


@FEW
@given(
    yaw=st.floats(-np.pi, np.pi),
    shift=st.tuples(*[st.floats(-20, 20)] * 3),
    scale=st.floats(0.2, 5),
    clip=st.sampled_from(["standing", "turning"]),
)
def test_place_heading_and_scale_do_not_matter(yaw, shift, scale, clip):
    joints = golden(clip)[0][:12]
    moved = turn_about_y(joints, np.array(yaw)) + shift
    assert_close(joints_to_features(scale * moved), joints_to_features(joints), atol=1e-7)
    own, own_moved = (joints_to_features(clip, target_skeleton=None) for clip in (joints, moved))
    assert_close(own_moved, own, atol=1e-7)


@FEW
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(2, 30), num_joints=st.sampled_from([22, 52]))
def test_round_trip(seed, frames, num_joints):
    joints = np.random.default_rng(seed).normal(size=(frames, num_joints, 3)).cumsum(axis=0)
    back = features_to_joints(there_and_back(joints, atol=1e-10))
    assert back.shape == (frames - 1, num_joints, 3)
    assert_close(back[0, 0, [0, 2]], 0, atol=1e-12)
    assert_close(back[..., 1], (joints[..., 1] - joints[..., 1].min())[:-1], atol=1e-10)


@pytest.mark.parametrize("clip", CLIPS)
def test_round_trip_ends_facing_front_with_the_target_bones(clip):
    back = features_to_joints(joints_to_features(golden(clip)[0]))
    lengths = np.linalg.norm(back[:, 1:] - back[:, PARENTS[1:]], axis=-1)
    assert_close(lengths, np.broadcast_to(HUMANML3D_BONE_LENGTHS[1:], lengths.shape), atol=1e-10)
    across = back[0, 1] - back[0, 2] + back[0, 16] - back[0, 17]
    assert across[0] > 0
    assert abs(across[2]) < 1e-12


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("clip", CLIPS)
def test_golden_features_give_back_the_joints(clip, key):
    joints, skeleton, features = golden(clip, key)
    wanted = joints if skeleton is None else retargeted(joints)
    assert_same_up_to_place_and_heading(features_to_joints(features), wanted[:-1], atol=1e-9)
    error = np.abs(recover_from_ric(features) - features_to_joints(features)).max()
    assert error > 0.04 if clip == "turning" else error < 1e-9  # what the original makes of its lost sign


# --- the heading passes 180 degrees


@pytest.mark.parametrize("num_joints", [22, 52])
@pytest.mark.parametrize("degrees_per_frame", [0.7, -0.7, 4, -4, 30, -80])
def test_spinning_person(degrees_per_frame, num_joints):
    features = there_and_back(spinning_person(1100, degrees_per_frame)[:, :num_joints])
    lost = np.sign(features[1:, 0]) == np.sign(degrees_per_frame)  # to the left is negative
    rounds = 1100 * abs(degrees_per_frame) / 360
    assert 0.9 * rounds - 1 < lost.sum() < rounds + 1  # once a round; a few less where the smoothing leaves no heading


def test_person_who_seems_to_face_backwards_all_the_time():
    features = there_and_back(broad_hipped_person(400))
    assert abs(features[0, 0]) > 1.5  # half the false turn of row 0, all of which the inverse has to undo
    assert np.abs(features[1:, 0]).max() < 0.001  # very small turns, but signs are lost nevertheless
    assert np.abs(recover_from_ric(features) - features_to_joints(features)).max() > 1e-3


def test_signs_in_a_batch_and_in_short_clips():
    left, right = (joints_to_features(spinning_person(200, d), target_skeleton=None) for d in (5, -5))
    batch = np.stack([left, right])[None]
    wanted = np.stack([features_to_joints(left), features_to_joints(right)])[None]
    np.testing.assert_array_equal(features_to_joints(batch), wanted)
    row = int(np.flatnonzero(left[1:, 0] > 0)[0]) + 1
    for rows in (slice(row, row + 1), slice(row, row + 2), slice(row - 1, row + 1), slice(row - 1, row + 2)):
        short = features_to_joints(batch[:, :, rows])
        for i in range(2):
            assert_same_up_to_place_and_heading(short[0, i], wanted[0, i, rows], atol=1e-12)


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("degrees_per_frame", [100, -170])
def test_fast_turn_in_very_few_frames(frames, degrees_per_frame):
    for person in (resting_person(frames), broad_hipped_person(frames)):
        angle = np.radians(degrees_per_frame) * np.arange(frames)
        there_and_back(turn_about_y(person, angle[:, None]))


def test_signs_in_float32():
    there_and_back(spinning_person(400, 3).astype(np.float32), atol=1e-4)


def test_person_who_stands_still_after_a_turn():
    joints = spinning_person(200, 2)
    joints[91:] = joints[91]  # the smoothed heading passes 180 degrees later, while nothing moves
    assert not there_and_back(joints)[100:, SLICES["velocities"]].any()


@pytest.mark.parametrize(("yaw", "restored"), [(5e-10, False), (2e-9, True)])
def test_signs_of_rounding_errors_stay(yaw, restored):
    features = joints_to_features(spinning_person(200, np.degrees(2 * yaw)), target_skeleton=None)
    wrong = features.copy()
    wrong[100, 0] *= -1
    wanted = features_to_joints(features) if restored else recover_from_ric(wrong)
    assert_close(features_to_joints(wrong), wanted, atol=yaw / 10)


NOISES = [1e-4, 1e-3, 3e-3, 1e-2, 0.1, "0.03 std", "0.1 std", "0.3 std", "1 std"]


def noisy(features, noise, seed):
    size = noise if isinstance(noise, float) else float(noise.split()[0]) * features.std(axis=0)
    return features + size * np.random.default_rng(seed).normal(size=features.shape)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("clip", ["facing_away_small_person", "standing", "stepping"])
def test_noise_changes_no_sign_that_is_right(clip, key, noise):
    _, _, features = golden(clip, key)
    for seed in range(10):
        decoded = noisy(features, noise, seed)
        assert_close(features_to_joints(decoded), recover_from_ric(decoded), atol=1e-9)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("key", KEYS)
def test_noise_leaves_a_lost_sign_or_hides_it(key, noise):
    _, _, features = golden("turning", key)
    for seed in range(10):
        decoded = noisy(features, noise, seed)
        right = decoded.copy()
        right[SIGN_LOST_IN_ROW[key], 0] *= -1
        trusting, restored = recover_from_ric(decoded), recover_from_ric(right)
        allowed = [restored] if noise in (1e-4, 1e-3, 3e-3) else [restored, trusting]  # 3 mm in every number
        assert min(np.abs(features_to_joints(decoded) - one).max() for one in allowed) < 1e-9


@pytest.mark.parametrize("velocities", ["zero", "mean"])
@pytest.mark.parametrize("period", [60, 80, 107, 140, 200])
def test_velocities_that_are_missing_change_no_sign(velocities, period):
    angle = 0.3 * np.sin(2 * np.pi / period * np.arange(300))
    joints = turn_about_y(resting_person(300), angle[:, None])  # faster than its smoothed heading
    features = joints_to_features(joints, target_skeleton=None)
    features[:, SLICES["velocities"]] = 0 if velocities == "zero" else features[:, SLICES["velocities"]].mean(axis=0)
    assert_close(features_to_joints(features), recover_from_ric(features), atol=1e-9)


# --- other clips


def test_first_frame_facing_exactly_backwards():
    joints = resting_person(10)
    facing_away = joints * [-1, 1, -1]
    assert_close(joints_to_features(facing_away), joints_to_features(joints), atol=1e-12)


@pytest.mark.parametrize("frames", [2, 3])
def test_very_short_clips(frames):
    joints = standing(frames)
    assert there_and_back(joints, atol=1e-12).shape == (frames - 1, FEATURE_SIZE)
    # A person who stands still has the same row whatever the number of frames.
    still, longer = (joints_to_features(np.repeat(joints[:1], n, axis=0)) for n in (frames, 9))
    assert_close(still, longer[: frames - 1], atol=1e-12)


def test_contacts_have_their_threshold():
    for speed, contact in ((0.0447, 1), (0.0448, 0)):  # either side of sqrt(0.002) metres per frame
        joints = resting_person(5)
        joints[:, 10, 2] += speed * np.arange(5)  # the left foot
        features = joints_to_features(joints, target_skeleton=None)
        np.testing.assert_array_equal(features[:, SLICES["contacts"]], [[1, contact, 1, 1]] * 4)


@pytest.mark.filterwarnings("ignore:repaired")
def test_batch_is_many_single_clips():
    clips = np.stack([golden(clip)[0][:50] for clip in ("standing", "stepping", "turning", "facing_away_small_person")])
    clips[2, 7:9, 30] = np.nan
    batch = joints_to_features(clips.reshape(2, 2, 50, 52, 3))
    singles = np.stack([joints_to_features(clip) for clip in clips])
    assert batch.shape == (2, 2, 49, FEATURE_SIZE)
    assert_close(batch.reshape(singles.shape), singles, atol=1e-12)
    back = np.stack([features_to_joints(row) for row in singles])
    assert_close(features_to_joints(batch).reshape(back.shape), back, atol=1e-12)
    assert joints_to_features(np.zeros((0, 5, 52, 3))).shape == (0, 4, FEATURE_SIZE)


def test_clips_of_different_lengths_in_one_call():
    clips = [golden(clip)[0] for clip in CLIPS]
    assert len({len(clip) for clip in clips}) > 1
    together = joints_to_features(clips, target_skeleton=None, convention="signing")
    for clip, features in zip(clips, together, strict=True):
        alone = joints_to_features(clip, target_skeleton=None, convention="signing")
        np.testing.assert_array_equal(features, alone)


@pytest.mark.parametrize("skeleton", ["humanml3d", None])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.filterwarnings("ignore:repaired")
def test_arguments_are_never_edited(skeleton, broken):
    joints = standing(10)
    if broken:
        joints[3, 25] = np.nan
    before = joints.copy()
    features = joints_to_features(joints, target_skeleton=skeleton)
    repaired, _ = repair_joints(joints)
    repaired += 1
    np.testing.assert_array_equal(joints, before)
    before = features.copy()
    features_to_joints(features)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [("float64", "float64"), ("float32", "float32"), ("float16", "float32"), ("int64", "float32"), (">f8", "float64")],
)
def test_dtypes(given_dtype, expected):
    joints = (100 * standing(5)).astype(given_dtype)  # centimetres, so that integers still show a person
    repaired, mask = repair_joints(joints)
    features = joints_to_features(repaired)
    assert repaired.dtype == features.dtype == expected
    assert features_to_joints(features.astype(given_dtype)).dtype == expected
    assert mask.dtype == bool


# --- broken input


@pytest.mark.parametrize("skeleton", ["humanml3d", None])
@pytest.mark.parametrize("value", [np.nan, np.inf, "parent"])
def test_one_broken_joint_stays_alone(value, skeleton):
    joints = standing(40)
    broken = joints.copy()
    broken[20, 23] = broken[20, 22] if value == "parent" else value  # left_index2
    clean = joints_to_features(joints, target_skeleton=skeleton)
    with pytest.warns(UserWarning, match=r"1 of 40 frames.*left_index2 1$") as caught:
        features = joints_to_features(broken, target_skeleton=skeleton)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the warning points at the caller
    changed = features != clean
    assert not np.delete(changed, [19, 20], axis=0).any()  # row 19 holds the velocity into frame 20
    assert not changed[:, ~columns_of([23, 24])].any()  # left_index3 hangs on it
    positions = columns_of([23, 24]) & (np.arange(FEATURE_SIZE) < SLICES["rotations"].start)
    assert np.abs(features - clean)[20, positions].max() < 0.005


@FEW
@given(
    gaps=st.lists(st.booleans(), min_size=12, max_size=12).filter(lambda gaps: not all(gaps)), joint=st.integers(0, 51)
)
def test_gaps_are_filled_along_a_straight_line(gaps, joint):
    gaps = np.array(gaps)
    first, last = standing(80)[[0, 79]]
    joints = first + np.linspace(0, 1, 12)[:, None, None] * (last - first)
    broken = joints.copy()
    broken[gaps, joint] = np.nan
    repaired, mask = repair_joints(broken)
    np.testing.assert_array_equal(mask[:, joint], gaps)
    assert mask.sum() == gaps.sum()
    np.testing.assert_array_equal(repaired[~mask], joints[~mask])
    parent = joints[:, [PARENTS[joint]]] if joint else np.zeros((12, 1, 3))
    bone = joints[:, joint] - parent[:, 0]
    valid = np.flatnonzero(~gaps)
    held = np.clip(np.arange(12), valid[0], valid[-1])  # beyond the first and last valid frame the bone holds still
    assert_close(repaired[:, joint], parent[:, 0] + bone[held], atol=1e-12)


def test_hand_that_is_lost_in_some_frames_stays_on_its_arm():
    joints = standing(60)
    joints[25:, RIGHT_HAND] = joints[25:, [21]]  # all on the wrist, to the end of the clip
    repaired, mask = repair_joints(joints)
    assert mask[25:, RIGHT_HAND].all()
    assert mask.sum() == 35 * len(RIGHT_HAND)
    shape = repaired[24:, RIGHT_HAND] - repaired[24:, [21]]
    assert_close(shape, np.broadcast_to(shape[0], shape.shape), atol=1e-12)


@pytest.mark.filterwarnings("ignore:repaired")
def test_joints_that_are_never_there_rest_and_follow_the_person():
    joints = standing(30)
    joints[:, [0, 4, *LEFT_HAND]] = np.nan  # the pelvis too
    repaired, mask = repair_joints(joints)
    assert mask.sum() == 30 * 17
    np.testing.assert_array_equal(repaired[~mask], joints[~mask])
    lengths = np.linalg.norm(repaired[:, LEFT_HAND] - repaired[:, [PARENTS[j] for j in LEFT_HAND]], axis=-1)
    assert_close(lengths, np.broadcast_to(HUMANML3D_BONE_LENGTHS[LEFT_HAND], lengths.shape), atol=1e-9)
    across = repaired[:, 1] - repaired[:, 2] + repaired[:, 16] - repaired[:, 17]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    hip, fingers = repaired[:, 1] - repaired[:, 0], repaired[:, 22] - repaired[:, 20]
    assert (np.sum(across * hip, axis=-1) > 0).all()  # the left hip is left of the pelvis
    assert (np.sum(across * fingers, axis=-1) > 0.9 * lengths[:, 0]).all()  # and the fingers point to the left
    features = joints_to_features(joints)
    assert np.isfinite(features).all()
    assert_close(joints_to_features(turn_about_y(joints, np.array(2.0))), features, atol=1e-9)


def test_frame_without_a_person_is_filled_whole():
    joints = standing(20)
    broken = joints.copy()
    broken[10] = 0  # some trackers write this where they find nobody
    repaired, mask = repair_joints(broken)
    assert mask[10].all()
    assert not np.delete(mask, 10, axis=0).any()
    assert_close(repaired[10], (joints[9] + joints[11]) / 2, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1.5])
def test_clip_without_a_person_is_refused(value):
    joints = np.stack([standing(4), np.full((4, 52, 3), value)])
    for call in (joints_to_features, repair_joints):
        with pytest.raises(ValueError, match="no valid joint in clip 1 of 2"):
            call(joints)


@pytest.mark.filterwarnings("error")
def test_whole_clip_needs_no_repair():
    for clip in CLIPS:
        joints_to_features(golden(clip)[0])
        assert not repair_joints(golden(clip)[0])[1].any()


def test_bone_opposite_to_its_raw_direction():
    joints = standing(10)
    straight_up = joints.copy()
    straight_up[5, 18] = straight_up[5, 16] + [0, 0.25, 0]  # an upper arm, whose raw direction is straight down
    clean, features = (joints_to_features(j, target_skeleton=None) for j in (joints, straight_up))
    assert np.isfinite(features).all()
    assert not (features != clean)[:, ~columns_of([18, 20])].any()
    six = features[:, SLICES["rotations"]].reshape(9, 51, 6)
    assert_close(matrix_to_6d(matrix_from_6d(six)), six, atol=1e-12)


# --- refused arguments


def test_one_frame_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 frames.* got 1 .*leave this clip out"):
        joints_to_features(standing(1))


@pytest.mark.parametrize("shape", [(52, 3), (10, 55, 3), (10, 52, 2), (10, 156), (10, 3, 52)])
def test_wrong_joints_are_refused(shape):
    for call in (joints_to_features, repair_joints):
        with pytest.raises(ValueError, match=r"expected joints \(\.\.\., T, 52, 3\).*got shape"):
            call(np.zeros(shape))


@pytest.mark.parametrize("shape", [(10, 622), (10, 313), (623,)])
def test_wrong_features_are_refused(shape):
    with pytest.raises(ValueError, match=r"size among \[623, 263\], got shape"):
        features_to_joints(np.zeros(shape))


HEADLESS = np.where(np.arange(52)[:, None] == 15, 0.0, np.ones(3))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"convention": "smplx"}, r"among \['humanml3d', 'signing'\], got 'smplx'"),
        ({"target_skeleton": "smplx"}, "'humanml3d', None or an array"),
        ({"target_skeleton": np.ones((22, 3))}, r"\(52, 3\).*got \(22, 3\)"),
        ({"target_skeleton": HEADLESS}, r"no bone for \['head'\]"),
    ],
)
def test_unknown_choices_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        joints_to_features(standing(3), **choice)


# --- rotations


def unit(seed, size=3):
    vectors = np.random.default_rng(seed).normal(size=(4, 5, size))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_quaternions_and_matrices_agree():
    p, q, v = unit(0, 4), unit(1, 4), unit(2)
    rotated, matrix = quaternion_rotate(q, v), quaternion_to_matrix(q)
    assert_close(np.einsum("...ij,...j->...i", matrix, v), rotated, atol=1e-14)
    assert_close(quaternion_rotate(quaternion_multiply(p, q), v), quaternion_rotate(p, rotated), atol=1e-14)
    assert_close(quaternion_rotate(q * (1, -1, -1, -1), rotated), v, atol=1e-14)
    assert_close(matrix_from_6d(matrix_to_6d(matrix)), matrix, atol=1e-14)
    angle = np.linspace(-3, 3, 20).reshape(4, 5)
    half = np.stack([np.cos(angle / 2), 0 * angle, np.sin(angle / 2), 0 * angle], -1)
    assert_close(turn_about_y(v, angle), quaternion_rotate(half, v), atol=1e-14)
    assert_close(turn_about_y(np.array([0, 0, 1.0]), np.array(np.pi / 2)), [1, 0, 0], atol=1e-15)


@pytest.mark.parametrize("distance", [0, *10.0 ** -np.arange(0, 18)])
def test_shortest_arc_up_to_opposite_vectors(distance):
    a = np.concatenate([unit(3).reshape(-1, 3), RAW_DIRECTIONS[1:]])
    aside = np.random.default_rng(4).normal(size=a.shape)
    b = -a + distance * aside
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    half = half_way(a.T, b.T).T
    q = np.concatenate([np.sum(a * half, axis=-1, keepdims=True), np.cross(a, half)], axis=-1)
    assert_close(np.linalg.norm(q, axis=-1), 1, atol=1e-12)
    assert_close(quaternion_rotate(q, a), b, atol=1e-7)  # a half turn for anything within 1e-8
    assert (q[..., 0] >= -1e-7).all()  # never the long way round
    np.testing.assert_array_equal(half_way(RAW_DIRECTIONS[1], np.zeros(3)), RAW_DIRECTIONS[1])


def test_the_signing_convention_sees_hands_from_their_wrists():
    """The same numbers but for fingers; a hand that is carried about does not move; the way back is exact."""
    rng = np.random.default_rng(0)
    joints = np.repeat((rng.normal(0, 0.3, (52, 3)) + (0, 1, 0))[None], 12, axis=0)
    joints[:, [21, *RIGHT_HAND]] += np.linspace(0, 0.4, 12)[:, None, None]
    plain = joints_to_features(joints, target_skeleton=None)
    signing = joints_to_features(joints, target_skeleton=None, convention="signing")
    fingers, in_positions = columns_of([*LEFT_HAND, *RIGHT_HAND]), np.arange(FEATURE_SIZE) < SLICES["positions"].stop
    np.testing.assert_array_equal(plain[:, ~fingers], signing[:, ~fingers])
    np.testing.assert_array_equal(plain[:, SLICES["rotations"]], signing[:, SLICES["rotations"]])
    right = columns_of(RIGHT_HAND) & in_positions
    # from the second row on: the first has the false turn of HumanML3D
    assert np.ptp(signing[1:, right], axis=0).max() < 1e-9 < 0.1 < np.ptp(plain[1:, right], axis=0).max()
    before = signing.copy()
    assert_close(features_to_joints(signing, convention="signing"), features_to_joints(plain), atol=1e-12)
    np.testing.assert_array_equal(signing, before)  # arguments are left alone
    body = joints_to_features(joints[:, :22], target_skeleton=None, convention="signing")  # no hands, no difference
    np.testing.assert_array_equal(body, joints_to_features(joints[:, :22], target_skeleton=None))
    with pytest.raises(ValueError, match="convention"):
        features_to_joints(signing, convention="signs")
