"""SMPL-X parameters to joints: against the `smplx` package on a made-up model file, and laws that hold for any body."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_writers import REST, joints_of, relative_hands

from lslm.processing.motion_features import (
    HUMANML3D_BONE_LENGTHS,
    JOINT_NAMES,
    LEFT_HAND,
    NUM_JOINTS,
    PARENTS,
    RIGHT_HAND,
)
from lslm.processing.readers import body_model, exact_joints
from lslm.processing.readers.body_model import SMPLX_INDEX, SMPLX_JOINT_NAMES, SMPLX_PARENTS, load_body_model
from lslm.processing.skeleton import HANDS_MEAN, POSE_WIDTHS, T_POSE, posed_joints
from lslm.processing.smplx_formats import MODEL_VARIABLE

JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
_OTHER_SIDE = {"left": "right", "right": "left"}
MIRRORED = [JOINT["_".join(_OTHER_SIDE.get(word, word) for word in name.split("_"))] for name in JOINT_NAMES]
NUM_VERTICES = 10475  # of SMPL-X: the package picks vertices by number
NUM_FACES = 10
SEEDS = st.integers(0, 2**32 - 1)


def a_pose(frames, seed=0, size=1.0):
    """Random parameters of shape (frames, width); `size` radians."""
    rng = np.random.default_rng(seed)
    return {key: rng.normal(0, size, (frames, width)) for key, width in POSE_WIDTHS.items()}


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


@pytest.fixture(autouse=True)
def no_model_of_the_machine(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)


# --- against the package ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat_hand_mean", [True, False])
@pytest.mark.parametrize(("gender", "num_betas", "num_expression"), [("neutral", 300, 100), ("male", 10, 10)])
def test_joints_are_those_of_the_smplx_package(model_folder, gender, num_betas, num_expression, flat_hand_mean):
    smplx = pytest.importorskip("smplx", reason="pip install smplx to compare with it")
    frames, rng = 4, np.random.default_rng(3)
    params = a_pose(frames)
    for key in ("transl", "jaw_pose", "leye_pose", "reye_pose"):  # face and eyes move none of the 52
        params[key] = rng.normal(0, 1, (frames, 3))
    params |= {"betas": rng.normal(0, 1, (frames, num_betas)), "expression": rng.normal(0, 1, (frames, num_expression))}
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
    joints, name, hands_mean, notes = exact_joints(params, model_folder, gender, flat_hand_mean=flat_hand_mean)
    assert np.abs(joints - expected[:, SMPLX_INDEX]).max() < 1e-6  # the package adds 1e-8 to every angle
    others, *_ = exact_joints(params, model_folder, gender, flat_hand_mean=not flat_hand_mean)
    assert np.abs(others - joints).max() > 0.01
    assert name == f"SMPL-X model SMPLX_{gender.upper()}.npz" and hands_mean.shape == (2, 45) and not notes
    assert np.array_equal(SMPLX_PARENTS[1:], theirs.parents[1:])


def test_what_a_model_has_no_directions_for_is_left_out_and_said(model_folder):
    params = a_pose(2) | {"betas": np.ones((2, 16)), "expression": np.ones((2, 9))}
    joints, _, _, notes = exact_joints(params, model_folder, "male", flat_hand_mean=True)
    assert [note.text for note in notes] == ["the first 10 of 16 betas: the model file has no more"]
    cut = params | {"betas": np.ones((2, 10)), "expression": np.pad(np.ones((2, 9)), ((0, 0), (0, 1)))}
    np.testing.assert_allclose(exact_joints(cut, model_folder, "male", flat_hand_mean=True)[0], joints, atol=1e-12)


def test_index_and_tree_of_the_55_joints():
    assert SMPLX_INDEX == list(range(22)) + list(range(25, 55))
    assert [SMPLX_JOINT_NAMES[k] for k in (22, 23, 24, 25, 40)] == [
        *("jaw", "left_eye", "right_eye", "left_index1", "right_index1")
    ]
    assert SMPLX_PARENTS[:25] == [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    assert [SMPLX_PARENTS[joint] for joint in SMPLX_INDEX[1:]] == [SMPLX_INDEX[parent] for parent in PARENTS[1:]]


# --- laws -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.booleans())
def test_joints_are_those_of_the_textbook(seed, hands_are_whole):
    """One joint after the other, with matrices."""
    params = a_pose(2, seed=seed, size=2.0)
    transl, mean = np.random.default_rng(seed).normal(size=(2, 3)), 0.0 if hands_are_whole else HANDS_MEAN
    rest = np.stack([REST, 1.1 * REST + 0.1])
    joints = posed_joints(params | {"transl": transl}, mean, rest)
    whole = params if hands_are_whole else relative_hands(params, -HANDS_MEAN)
    for frame in range(2):
        assert np.abs(joints[frame] - joints_of(whole, rest[frame])[frame] - transl[frame]).max() < 1e-12


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(0, 10))
def test_bone_lengths_do_not_depend_on_the_pose(seed, size):
    assert np.abs(bone_lengths(posed_joints(a_pose(4, seed, size), HANDS_MEAN)) - bone_lengths(REST)).max() < 1e-12


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_a_mirrored_pose_gives_mirrored_joints(seed):
    """Left and right change places; of a rotation vector the part along the mirrored axis keeps its sign."""
    params = a_pose(2, seed)
    pose = np.concatenate(list(params.values()), axis=-1).reshape(2, NUM_JOINTS, 3)
    pose = (pose[:, MIRRORED] * (1, -1, -1)).reshape(2, -1)
    mirrored = dict(zip(POSE_WIDTHS, np.split(pose, [3, 66, 111], axis=-1), strict=True))
    joints, others = (posed_joints(p, HANDS_MEAN) for p in (params, mirrored))
    assert np.abs(others - joints[:, MIRRORED] * (-1, 1, 1)).max() < 1e-12


def test_nan_stays_in_its_frame_and_limb():
    params = a_pose(5)
    clean = posed_joints(params, 0.0)
    params["body_pose"][1, 3 * (JOINT["left_elbow"] - 1)] = np.nan
    params["left_hand_pose"][2] = np.nan
    params["global_orient"][3] = np.nan
    joints = posed_joints(params, 0.0)
    broken = np.isnan(joints).any(-1)
    beyond = np.zeros((5, NUM_JOINTS), bool)
    beyond[1, [JOINT["left_wrist"], *LEFT_HAND]] = True
    beyond[2, [joint for joint in LEFT_HAND if not JOINT_NAMES[joint].endswith("1")]] = True
    beyond[3, 1:] = True  # the pelvis stays: it is what the body turns about
    assert np.array_equal(broken, beyond)
    assert np.array_equal(joints[~broken], clean[~broken])


# --- the built-in skeleton --------------------------------------------------------------------------------------------


def test_the_skeleton_is_a_person_in_t_pose():
    place = {name: np.array(xyz) for name, xyz in T_POSE.items()}
    assert place.keys() == set(SMPLX_JOINT_NAMES) and not place["pelvis"].any()
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
    assert np.abs(REST[MIRRORED] * (-1, 1, 1) - REST).max() < 1e-12
    assert 1.6 < 2 * place["left_middle3"][0] + 0.04 < 1.9  # about as wide as tall


def test_how_far_its_bones_are_from_those_of_humanml3d():
    difference = np.abs(bone_lengths(REST) - HUMANML3D_BONE_LENGTHS[1:]) * 1000
    hands = difference[LEFT_HAND[0] - 1 :]
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"by {difference.mean():.0f} mm on average and {difference.max():.0f} mm at most" in page
    assert f"({JOINT_NAMES[1 + difference.argmax()]})" in page
    assert f"those of the hands by {hands.mean():.0f} and {hands.max():.0f} mm" in page


def test_fingers_at_rest_curl_towards_the_palm():
    at_rest = {key: np.zeros((1, width)) for key, width in POSE_WIDTHS.items()}
    flat, rest = (posed_joints(at_rest, mean)[0] for mean in (0.0, HANDS_MEAN))
    assert np.array_equal(flat, REST)
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
    flexion = HANDS_MEAN.reshape(2, 15, 3)[:, :12]
    assert (flexion[0, :, 2] < 0).all() and (flexion[1, :, 2] > 0).all()
    assert np.abs(rest[:22] - flat[:22]).max() == 0


# --- where the model comes from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "smplx", "models/smplx"])
def test_layouts_of_a_model_folder(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    file = tmp_path / place / "SMPLX_FEMALE.npz"
    np.savez(file, **small_arrays())
    body = load_body_model(tmp_path, "female")
    assert body.name == "SMPL-X model SMPLX_FEMALE.npz"
    assert load_body_model(str(file), "neutral") is body, "read once"
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path))
    assert load_body_model(None, "female") is body
    with pytest.raises(FileNotFoundError, match=r"no such SMPL-X model.*SMPLX_NEUTRAL.npz.*\(from LSLM_SMPLX\)"):
        load_body_model(None, "neutral")


def test_a_file_that_has_changed_is_read_again(tmp_path):
    file = tmp_path / "SMPLX_NEUTRAL.npz"
    arrays = small_arrays()
    np.savez(file, **arrays)
    before = load_body_model(file, "neutral")
    np.savez_compressed(file, **arrays | {"v_template": arrays["v_template"] + 1})
    assert np.allclose(load_body_model(file, "neutral").joints, before.joints + 1)


class Trap:
    """Unpickling it ends in an error that no reader here would raise by itself."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_nothing_is_unpickled(tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", joint2num=trap, part2num=trap, **small_arrays())
    with pytest.raises(SystemExit), np.load(tmp_path / "SMPLX_NEUTRAL.npz", allow_pickle=True) as archive:
        archive["joint2num"]
    load_body_model(tmp_path, "neutral")  # as the official file: objects where joints need nothing
    np.savez(tmp_path / "SMPLX_MALE.npz", **small_arrays() | {"J_regressor": trap})
    with pytest.raises(ValueError, match=r"SMPLX_MALE.npz: `J_regressor` is pickled"):
        load_body_model(tmp_path, "male")
    (tmp_path / "SMPLX_FEMALE.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"SMPLX_FEMALE.pkl: no .npz; a pickle could run code"):
        load_body_model(tmp_path, "female")


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
        load_body_model(tmp_path, "neutral")
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
        load_body_model(file, "neutral")
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)


def test_a_path_without_a_model(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("nowhere", "folder"):
        with pytest.raises(FileNotFoundError, match=f"no such SMPL-X model.*{name}"):
            load_body_model(tmp_path / name, "neutral")
