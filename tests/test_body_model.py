"""SMPL-X parameters to joints: against the `smplx` package on a made-up model file, and laws that hold for any body."""

import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from lslm.processing.motion_features import (
    HUMANML3D_BONE_LENGTHS,
    JOINT_NAMES,
    LEFT_HAND,
    NUM_JOINTS,
    PARENTS,
    RIGHT_HAND,
)
from lslm.processing.readers import body_model
from lslm.processing.readers.body_model import (
    MODEL_VARIABLE,
    POSE_WIDTHS,
    SMPLX_INDEX,
    SMPLX_JOINT_NAMES,
    SMPLX_PARENTS,
    BodyModel,
    built_in_skeleton,
    load_body_model,
    smplx_to_joints,
)

JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
_OTHER_SIDE = {"left": "right", "right": "left"}
MIRRORED = [JOINT["_".join(_OTHER_SIDE.get(word, word) for word in name.split("_"))] for name in JOINT_NAMES]
NUM_VERTICES = 10475  # of SMPL-X: the package picks vertices by number
NUM_FACES = 10
SEEDS = st.integers(0, 2**32 - 1)
BUILT_IN = built_in_skeleton()


def a_pose(*frames, seed=0, size=1.0, **more):
    """Random parameters of shape (*frames, width); `size` radians."""
    rng = np.random.default_rng(seed)
    return {key: rng.normal(0, size, (*frames, width)) for key, width in POSE_WIDTHS.items()} | more


def zeros(*frames):
    return {key: np.zeros((*frames, width)) for key, width in POSE_WIDTHS.items()}


def turned(joint, rotation, frames=1):
    """The rest pose with one body joint turned by an axis-angle vector."""
    params = zeros(frames)
    params["body_pose"][:, 3 * (joint - 1) : 3 * joint] = rotation
    return params


def rotation_matrix(vector):
    """Rodrigues' formula, as it stands in books."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def bone_lengths(joints):
    return np.linalg.norm(joints[..., 1:, :] - joints[..., PARENTS[1:], :], axis=-1)


def model_arrays(shapes, seed=0):
    """What an SMPL-X .npz holds, with random numbers: each joint is the mean of a few random vertices."""
    rng = np.random.default_rng(seed)
    regressor = np.zeros((55, NUM_VERTICES))
    for row in regressor:
        row[rng.choice(NUM_VERTICES, 8, replace=False)] = rng.dirichlet(np.ones(8))
    tree = np.stack([np.array(SMPLX_PARENTS), np.arange(55)]).astype(np.uint32)  # the root's parent becomes 2**32 - 1
    return {
        "v_template": rng.normal(0, 0.3, (NUM_VERTICES, 3)),
        "shapedirs": rng.normal(0, 0.03, (NUM_VERTICES, 3, shapes)).astype(np.float32),
        "J_regressor": regressor,
        "kintree_table": tree,
        "hands_meanl": rng.normal(0, 0.5, 45),
        "hands_meanr": rng.normal(0, 0.5, 45),
        # what joints do not need, and `smplx` reads
        "posedirs": np.zeros((NUM_VERTICES, 3, 54 * 9), np.float32),
        "weights": np.full((NUM_VERTICES, 55), 1 / 55, np.float32),
        "f": rng.integers(0, NUM_VERTICES, (NUM_FACES, 3)).astype(np.uint32),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
        "lmk_faces_idx": rng.integers(0, NUM_FACES, 51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": rng.integers(0, NUM_FACES, (79, 17)),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        "joint2num": np.array({"Pelvis": 0}, dtype=object),  # the official file has two pickled tables
        "part2num": np.array({"Pelvis": 0}, dtype=object),
    }


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """Neutral as in SMPL-X 1.1, 300 + 100 directions; male as in 1.0, 10 + 10."""
    folder = tmp_path_factory.mktemp("models") / "smplx"
    folder.mkdir()
    np.savez(folder / "SMPLX_NEUTRAL.npz", **model_arrays(400))
    np.savez(folder / "SMPLX_MALE.npz", **model_arrays(20, seed=1))
    yield folder.parent
    shutil.rmtree(folder)  # 240 MB


def small_arrays():
    """The six arrays that are read, of a body with three vertices."""
    arrays = {key: array for key, array in model_arrays(1).items() if key in body_model._MODEL_ARRAYS}
    arrays["v_template"], arrays["shapedirs"] = arrays["v_template"][:3], np.zeros((3, 3, 20))
    return arrays | {"J_regressor": np.full((55, 3), 1 / 3)}


# --- against the package ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat_hand_mean", [True, False])
@pytest.mark.parametrize(("gender", "num_betas", "num_expression"), [("neutral", 300, 100), ("male", 10, 10)])
def test_joints_are_those_of_the_smplx_package(model_folder, gender, num_betas, num_expression, flat_hand_mean):
    smplx = pytest.importorskip("smplx", reason="pip install smplx to compare with it")
    torch = pytest.importorskip("torch")
    frames = 4
    params = a_pose(frames, seed=3, transl=np.random.default_rng(4).normal(0, 2, (frames, 3)))
    params["betas"] = np.random.default_rng(5).normal(0, 1, (frames, num_betas))
    params["expression"] = np.random.default_rng(6).normal(0, 1, (frames, num_expression))
    for number, key in enumerate(("jaw_pose", "leye_pose", "reye_pose")):  # move none of the 52
        params[key] = np.random.default_rng(7 + number).normal(0, 1, (frames, 3))
    theirs = smplx.create(
        str(model_folder),
        "smplx",
        gender=gender,
        use_pca=False,
        flat_hand_mean=flat_hand_mean,
        num_betas=num_betas,
        num_expression_coeffs=num_expression,
        batch_size=frames,
        ext="npz",
        dtype=torch.float64,
    )
    with torch.no_grad():
        expected = theirs(**{key: torch.from_numpy(value) for key, value in params.items()}).joints.numpy()
    body = load_body_model(model_folder, gender)
    ours = smplx_to_joints(params, body, flat_hand_mean=flat_hand_mean)
    assert np.abs(ours - expected[:, SMPLX_INDEX]).max() < 1e-6  # the package adds 1e-8 to every angle
    assert np.abs(smplx_to_joints(params, body, flat_hand_mean=not flat_hand_mean) - ours).max() > 1e-3
    assert body.hands_mean.shape == (2, 45) and np.array_equal(body.parents[1:], theirs.parents[1:])


def test_index_and_tree_of_the_55_joints():
    assert SMPLX_INDEX == list(range(22)) + list(range(25, 55))
    assert [SMPLX_JOINT_NAMES[k] for k in (22, 23, 24, 25, 40)] == [
        *("jaw", "left_eye", "right_eye", "left_index1", "right_index1")
    ]
    assert SMPLX_PARENTS[:25] == [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    assert BUILT_IN.parents == SMPLX_PARENTS
    for joint in range(1, NUM_JOINTS):
        assert SMPLX_PARENTS[SMPLX_INDEX[joint]] == SMPLX_INDEX[PARENTS[joint]]


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_joints_are_those_of_the_textbook(seed):
    """One joint after the other, with matrices."""
    params = a_pose(1, seed=seed, size=2.0)
    pose = np.concatenate([params[key][0] for key in POSE_WIDTHS]).reshape(NUM_JOINTS, 3)
    rest = BUILT_IN.rest_joints()[SMPLX_INDEX]
    turns, places = [rotation_matrix(pose[0])], [rest[0]]
    for joint in range(1, NUM_JOINTS):
        parent = PARENTS[joint]
        places.append(places[parent] + turns[parent] @ (rest[joint] - rest[parent]))
        turns.append(turns[parent] @ rotation_matrix(pose[joint]))
    assert np.abs(smplx_to_joints(params, BUILT_IN, flat_hand_mean=True)[0] - places).max() < 1e-12


# --- laws -------------------------------------------------------------------------------------------------------------


def test_zero_pose_is_the_rest_pose():
    rest = BUILT_IN.rest_joints()
    assert rest.shape == (55, 3)
    joints = smplx_to_joints(zeros(2), BUILT_IN, flat_hand_mean=True)
    assert joints.shape == (2, NUM_JOINTS, 3)
    assert np.array_equal(joints[1], rest[SMPLX_INDEX])


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_a_global_rotation_turns_all_joints_about_the_pelvis(seed):
    params = a_pose(3, seed=seed)
    turned_params = params | {"global_orient": np.zeros((3, 3))}
    joints, at_rest = (smplx_to_joints(p, BUILT_IN, flat_hand_mean=True) for p in (params, turned_params))
    for frame in range(3):
        turn = rotation_matrix(params["global_orient"][frame])
        pelvis = at_rest[frame, 0]
        assert np.abs(joints[frame] - (at_rest[frame] - pelvis) @ turn.T - pelvis).max() < 1e-12


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(0, 10))
def test_bone_lengths_do_not_depend_on_the_pose(seed, size):
    joints = smplx_to_joints(a_pose(4, seed=seed, size=size), BUILT_IN, flat_hand_mean=False)
    assert np.abs(bone_lengths(joints) - bone_lengths(BUILT_IN.rest_joints()[SMPLX_INDEX])).max() < 1e-12


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_a_mirrored_pose_gives_mirrored_joints(seed):
    """Left and right change places; of a rotation vector the part along the mirrored axis keeps its sign."""
    params = a_pose(2, seed=seed)
    pose = np.concatenate([params[key] for key in POSE_WIDTHS], axis=-1).reshape(2, NUM_JOINTS, 3)
    pose = (pose[:, MIRRORED] * (1, -1, -1)).reshape(2, -1)
    ends = np.cumsum(list(POSE_WIDTHS.values()))[:-1]
    mirrored = dict(zip(POSE_WIDTHS, np.split(pose, ends, axis=-1), strict=True))
    joints, others = (smplx_to_joints(p, BUILT_IN, flat_hand_mean=False) for p in (params, mirrored))
    assert np.abs(others - joints[:, MIRRORED] * (-1, 1, 1)).max() < 1e-12


def test_transl_moves_everything():
    params = a_pose(3)
    transl = np.random.default_rng(1).normal(size=(3, 3))
    still, moved = (smplx_to_joints(p, BUILT_IN, flat_hand_mean=True) for p in (params, params | {"transl": transl}))
    assert np.allclose(moved - still, transl[:, None], atol=1e-12)
    assert np.array_equal(smplx_to_joints(params | {"transl": None}, BUILT_IN, flat_hand_mean=True), still)


def test_hands_minus_the_mean_are_flat():
    params = zeros(1)
    params["left_hand_pose"][:], params["right_hand_pose"][:] = -BUILT_IN.hands_mean
    flat = smplx_to_joints(zeros(1), BUILT_IN, flat_hand_mean=True)
    assert np.abs(smplx_to_joints(params, BUILT_IN, flat_hand_mean=False) - flat).max() < 1e-15
    assert np.abs(smplx_to_joints(params, BUILT_IN, flat_hand_mean=True) - flat).max() > 0.01


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_batches_and_chunks_change_nothing(monkeypatch, chunk):
    monkeypatch.setattr(body_model, "_CHUNK", chunk)
    clips, frames = 3, 5
    rng = np.random.default_rng(0)
    body = a_body_with_shape()
    params = a_pose(clips, frames, transl=rng.normal(size=(clips, frames, 3)), betas=rng.normal(size=(clips, 4)))
    together = smplx_to_joints(params, body, flat_hand_mean=False)
    assert together.shape == (clips, frames, NUM_JOINTS, 3)
    for clip in range(clips):
        for frame in range(frames):
            one = {key: value[clip, frame] for key, value in params.items() if key != "betas"}
            one = smplx_to_joints(one | {"betas": params["betas"][clip]}, body, flat_hand_mean=False)
            assert np.abs(one - together[clip, frame]).max() < 1e-13


def a_body_with_shape():
    rng = np.random.default_rng(7)
    return BodyModel(
        "made up", BUILT_IN.joints, BUILT_IN.hands_mean, rng.normal(size=(55, 3, 4)), rng.normal(size=(55, 3, 2))
    )


def test_betas_for_all_for_clips_and_for_frames():
    body = a_body_with_shape()
    rng = np.random.default_rng(0)
    params, betas = a_pose(2, 3), rng.normal(size=(2, 3, 4))
    per_frame = smplx_to_joints(params | {"betas": betas}, body, flat_hand_mean=True)
    for clip in range(2):
        for frame in range(3):
            one = {key: value[clip, frame] for key, value in params.items()} | {"betas": betas[clip, frame]}
            assert np.allclose(smplx_to_joints(one, body, flat_hand_mean=True), per_frame[clip, frame], atol=1e-12)
    same = np.broadcast_to(betas[:, :1], betas.shape)
    expected = smplx_to_joints(params | {"betas": same}, body, flat_hand_mean=True)
    assert np.array_equal(smplx_to_joints(params | {"betas": betas[:, 0]}, body, flat_hand_mean=True), expected)
    for_all = smplx_to_joints(params | {"betas": betas[0, 0]}, body, flat_hand_mean=True)
    # another number of betas is another product, which numpy before 2.3 rounds otherwise
    rounding = 0 if Version(np.__version__) >= Version("2.3") else 1e-12
    np.testing.assert_allclose(for_all[0], expected[0], rtol=0, atol=rounding)
    assert not np.allclose(for_all[1], expected[1])


def test_missing_betas_are_zero_betas():
    body = a_body_with_shape()
    assert np.array_equal(body.rest_joints(np.ones(2)), body.rest_joints(np.array([1.0, 1, 0, 0])))
    assert np.array_equal(body.rest_joints(np.zeros((5, 0)))[4], body.rest_joints())
    assert body.rest_joints(np.zeros((5, 1, 4)), np.zeros((3, 2))).shape == (5, 3, 55, 3)
    directions = body.rest_joints(expression=np.array([0, 2.0])) - body.rest_joints()
    assert np.allclose(directions, 2 * body.expression[..., 1])


def test_nan_stays_in_its_frame_and_limb():
    params = a_pose(5)
    clean = smplx_to_joints(params, BUILT_IN, flat_hand_mean=True)
    params["body_pose"][1, 3 * (JOINT["left_elbow"] - 1)] = np.nan
    params["left_hand_pose"][2] = np.nan
    params["global_orient"][3] = np.nan
    joints = smplx_to_joints(params, BUILT_IN, flat_hand_mean=True)
    broken = np.isnan(joints).any(-1)
    beyond = np.zeros((5, NUM_JOINTS), bool)
    beyond[1, [JOINT["left_wrist"], *LEFT_HAND]] = True
    beyond[2, [joint for joint in LEFT_HAND if not JOINT_NAMES[joint].endswith("1")]] = True
    beyond[3, 1:] = True  # the pelvis stays: it is what the body turns about
    assert np.array_equal(broken, beyond)
    assert np.array_equal(joints[~broken], clean[~broken])


def test_dtypes_and_empty_clips():
    params = {key: value.astype(np.float32) for key, value in a_pose(3).items()}
    single = smplx_to_joints(params, BUILT_IN, flat_hand_mean=True)
    double = smplx_to_joints(a_pose(3), BUILT_IN, flat_hand_mean=True)
    assert single.dtype == np.float32 and double.dtype == np.float64
    assert np.abs(single - double).max() < 1e-5
    assert smplx_to_joints(zeros(0), BUILT_IN, flat_hand_mean=True).shape == (0, NUM_JOINTS, 3)
    assert smplx_to_joints(zeros(2, 0), BUILT_IN, flat_hand_mean=True).shape == (2, 0, NUM_JOINTS, 3)


def test_arguments_are_not_edited():
    params = a_pose(3)
    before = {key: value.copy() for key, value in params.items()}
    smplx_to_joints(params, BUILT_IN, flat_hand_mean=False)[:] = 0  # and the result is the caller's
    assert all(np.array_equal(before[key], params[key]) for key in params)
    with pytest.raises(ValueError, match="read-only"):
        BUILT_IN.joints[0] = 1
    assert BUILT_IN.rest_joints().any()


# --- the built-in skeleton --------------------------------------------------------------------------------------------


def test_the_skeleton_is_a_person_in_t_pose():
    rest = BUILT_IN.rest_joints()
    place = dict(zip(SMPLX_JOINT_NAMES, rest, strict=True))
    assert not place["pelvis"].any()
    upwards = ["left_foot", "left_ankle", "left_knee", "left_hip", "pelvis", "spine1", "spine2", "spine3"]
    upwards += ["left_shoulder", "left_collar", "neck", "head", "left_eye"]
    heights = [place[name][1] for name in upwards]
    assert heights == sorted(heights)
    assert place["left_foot"][2] > place["left_ankle"][2] + 0.1 and place["left_eye"][2] > 0.05  # +z is the front
    assert place["left_thumb3"][2] > place["left_index3"][2] > place["left_pinky3"][2]
    outwards = ["left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_index1", "left_index2", "left_index3"]
    assert np.all(np.diff([place[name][0] for name in outwards]) > 0)
    arm = np.array([place[f"left_{name}"] for name in ("shoulder", "elbow", "wrist", "middle1", "middle3")])
    assert np.abs(arm[:, 1:] - arm[0, 1:]).max() < 1e-9
    mirrored = rest[SMPLX_INDEX][MIRRORED] * (-1, 1, 1)
    assert np.abs(mirrored - rest[SMPLX_INDEX]).max() < 1e-12
    assert 1.6 < 2 * place["left_middle3"][0] + 0.04 < 1.9  # about as wide as tall


def test_how_far_its_bones_are_from_those_of_humanml3d():
    difference = np.abs(bone_lengths(BUILT_IN.rest_joints()[SMPLX_INDEX]) - HUMANML3D_BONE_LENGTHS[1:]) * 1000
    hands = difference[LEFT_HAND[0] - 1 :]
    said = " ".join(built_in_skeleton.__doc__.split())
    assert f"{difference.mean():.0f} mm on average and by {difference.max():.0f} mm at most (" in said
    assert f"({JOINT_NAMES[1 + difference.argmax()]})" in said
    assert f"hands by {hands.mean():.0f} mm on average and by {hands.max():.0f} mm at most" in said


def test_fingers_at_rest_curl_towards_the_palm():
    flat, rest = (smplx_to_joints(zeros(1), BUILT_IN, flat_hand_mean=flat)[0] for flat in (True, False))
    for hand, side in ((LEFT_HAND, 1), (RIGHT_HAND, -1)):
        for finger in range(4):
            knuckle, middle, last = (hand[3 * finger + k] for k in range(3))
            assert rest[knuckle, 1] - 0.005 > rest[middle, 1] > rest[last, 1] + 0.005  # down is where the palm looks
            assert side * (rest[last, 0] - flat[last, 0]) < -0.005  # and back towards the wrist
        tip = hand[14]
        assert rest[tip, 1] < flat[tip, 1] - 0.005  # the thumb goes under the hand
        assert rest[tip, 2] < flat[tip, 2] - 0.005  # and towards the fingers
        metacarpal, phalanx = rest[hand[13]] - rest[hand[12]], rest[tip] - rest[hand[13]]
        bend = phalanx / np.linalg.norm(phalanx) - metacarpal / np.linalg.norm(metacarpal)
        assert bend[1] < -0.05 and bend[2] < -0.05, "the thumb itself bends down and towards the fingers, too"
    flexion = BUILT_IN.hands_mean.reshape(2, 15, 3)[:, :12]
    assert (flexion[0, :, 2] < 0).all() and (flexion[1, :, 2] > 0).all()
    assert np.abs(rest[:22] - flat[:22]).max() == 0


def test_arms_down():
    params = turned(JOINT["left_shoulder"], (0, 0, -np.pi / 2))
    params["body_pose"] += turned(JOINT["right_shoulder"], (0, 0, np.pi / 2))["body_pose"]
    joints = smplx_to_joints(params, BUILT_IN, flat_hand_mean=True)[0]
    for side in ("left", "right"):
        drop = joints[JOINT[f"{side}_wrist"]] - joints[JOINT[f"{side}_shoulder"]]
        assert drop[1] < -0.5 and np.abs(drop[[0, 2]]).max() < 1e-12
        palm = joints[JOINT[f"{side}_middle1"]], joints[JOINT[f"{side}_thumb1"]]
        assert abs(palm[1][0]) < abs(palm[0][0])  # the thumb's side of the palm looks at the body


# --- where the model comes from ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_model_of_the_machine(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)


def test_without_a_file_there_is_the_built_in_skeleton():
    body = load_body_model()
    assert body is BUILT_IN and body.name == "built-in skeleton (no SMPL-X model)"
    shaped = smplx_to_joints(a_pose(1, betas=np.ones(16), expression=np.ones(50)), body, flat_hand_mean=True)
    assert np.array_equal(shaped, smplx_to_joints(a_pose(1), body, flat_hand_mean=True))


@pytest.mark.parametrize("place", ["", "smplx", "models/smplx"])
def test_layouts_of_a_model_folder(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    file = tmp_path / place / "SMPLX_FEMALE.npz"
    np.savez(file, **small_arrays())
    body = load_body_model(tmp_path, "female")
    assert body.name == "SMPL-X model SMPLX_FEMALE.npz"
    assert load_body_model(str(file)) is body, "read once"
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path))
    assert load_body_model(gender="female") is body
    with pytest.raises(FileNotFoundError, match=r"no SMPLX_NEUTRAL.npz .*LSLM_SMPLX"):
        load_body_model()


def test_a_file_that_has_changed_is_read_again(tmp_path):
    file = tmp_path / "SMPLX_NEUTRAL.npz"
    arrays = small_arrays()
    np.savez(file, **arrays)
    before = load_body_model(file)
    np.savez_compressed(file, **arrays | {"v_template": arrays["v_template"] + 1})
    assert np.allclose(load_body_model(file).joints, before.joints + 1)


def test_joints_are_linear_in_the_shape(model_folder):
    body, arrays = load_body_model(model_folder), model_arrays(400)
    betas, expression = np.random.default_rng(0).normal(size=16), np.random.default_rng(1).normal(size=50)
    vertices = arrays["v_template"] + arrays["shapedirs"][..., :16] @ betas
    vertices += arrays["shapedirs"][..., 300:350] @ expression
    assert np.abs(body.rest_joints(betas, expression) - arrays["J_regressor"] @ vertices).max() < 1e-9
    assert body.shape.shape == (55, 3, 300) and body.expression.shape == (55, 3, 100)
    old = load_body_model(model_folder, "male")
    assert old.shape.shape == old.expression.shape == (55, 3, 10)


class Trap:
    """Unpickling it ends in an error that no reader here would raise by itself."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_nothing_is_unpickled(tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", joint2num=trap, part2num=trap, **small_arrays())
    with pytest.raises(SystemExit), np.load(tmp_path / "SMPLX_NEUTRAL.npz", allow_pickle=True) as archive:
        archive["joint2num"]
    load_body_model(tmp_path)  # as the official file: objects where joints need nothing
    np.savez(tmp_path / "SMPLX_MALE.npz", **small_arrays() | {"J_regressor": trap})
    with pytest.raises(ValueError, match=r"SMPLX_MALE.npz: `J_regressor` is pickled"):
        load_body_model(tmp_path, "male")
    for name in ("SMPLX_FEMALE.pkl", "model.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"a pickle, .* use SMPLX_FEMALE.npz"):
        load_body_model(tmp_path, "female")
    with pytest.raises(ValueError, match="a pickle"):
        load_body_model(tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"J_regressor": np.zeros((24, 3))}, r"`J_regressor` has shape \(24, 3\), expected \(55, 3\): not SMPL-X"),
        ({"J_regressor": np.zeros((55, 4))}, r"`J_regressor` has shape \(55, 4\), expected \(55, 3\)"),
        ({"v_template": np.array(1.0)}, r"`v_template` has shape \(\)"),
        ({"shapedirs": np.zeros((3, 3))}, r"`shapedirs` has shape \(3, 3\), expected \(3, 3, any\)"),
        ({"hands_meanl": np.zeros(6)}, r"`hands_meanl` has shape \(6,\)"),
        ({"hands_meanl": np.full(45, "a")}, "`hands_meanl` has dtype <U1"),
        ({"kintree_table": np.zeros((2, 55), int)}, "`kintree_table` is not the tree"),
        ({"kintree_table": None}, "not SMPL-X: no `kintree_table`, it holds J_regressor"),
    ],
)
def test_files_that_are_no_smplx_model(tmp_path, change, message):
    arrays = {key: array for key, array in (small_arrays() | change).items() if array is not None}
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_body_model(tmp_path)
    assert "\n" not in str(caught.value) and "SMPLX_NEUTRAL.npz: " in str(caught.value)


@settings(deadline=None, max_examples=50)
@given(cut=st.floats(0, 1), seed=SEEDS)
def test_damaged_files(tmp_path_factory, cut, seed):
    file = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez_compressed(file, **small_arrays())
    data = bytearray(file.read_bytes())
    for at in np.random.default_rng(seed).integers(0, len(data), 20):
        data[at] ^= 0xFF
    file.write_bytes(data[: max(1, int(cut * len(data)))])
    try:
        load_body_model(file)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)


def test_other_errors_of_loading(tmp_path):
    with pytest.raises(ValueError, match=r"gender is 'other', expected one of neutral"):
        load_body_model(gender="other")
    with pytest.raises(FileNotFoundError, match="no such SMPL-X model"):
        load_body_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no SMPLX_NEUTRAL.npz here"):
        load_body_model(tmp_path)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="no .npz, whatever its name"):
        load_body_model(tmp_path / "text.npz")


# --- parameters that do not fit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_orient": None}, "no `global_orient`: expected global_orient, body_pose"),
        ({"left_hand_pose": np.zeros((4, 12))}, r"`left_hand_pose` has shape \(4, 12\), .*PCA"),
        ({"body_pose": np.zeros((5, 63))}, r"`body_pose` has shape \(5, 63\), expected \(4, 63\)"),
        ({"body_pose": np.zeros((4, 21, 3))}, r"`body_pose` has shape \(4, 21, 3\), expected \(4, 63\)"),
        ({"global_orient": np.zeros((4, 6))}, r"`global_orient` has shape \(4, 6\), expected \(4, 3\)"),
        ({"transl": np.zeros(3)}, r"`transl` has shape \(3,\), expected \(4, 3\)"),
        ({"betas": np.zeros((3, 4))}, r"`betas` has shape \(3, 4\), expected \(n,\)"),
        ({"betas": np.zeros(5)}, "`betas` has 5 numbers, made up has 4: cut it"),
        ({"expression": np.zeros((4, 3))}, "`expression` has 3 numbers, made up has 2"),
        ({"betas": np.float64(1)}, r"`betas` is float64 \(\), expected an array"),
        ({"body_pose": np.full((4, 63), "a")}, "`body_pose` is <U1"),
    ],
)
def test_parameters_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        smplx_to_joints(a_pose(4) | change, a_body_with_shape(), flat_hand_mean=True)
    assert "\n" not in str(caught.value)


def test_nobody_forgets_the_hand_mean():
    with pytest.raises(ValueError, match="flat_hand_mean is None, expected True"):
        smplx_to_joints(a_pose(1), BUILT_IN, flat_hand_mean=None)
    with pytest.raises(TypeError):
        smplx_to_joints(a_pose(1), BUILT_IN)
