"""Motion files: what is read, what is refused and how; MediaPipe landmarks against a body whose joints are known."""

import io
import pickle
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
from motion_writers import a_motion, joints_of

from lslm.processing import array_files, mediapipe_landmarks
from lslm.processing.mediapipe_landmarks import mediapipe_to_joints
from lslm.processing.motion import Motion, load_motion
from lslm.processing.motion_features import JOINT_NAMES, LEFT_HAND, NUM_JOINTS, PARENTS, RIGHT_HAND

FRAMES = 12
WIDTH, HEIGHT = 640, 480
PIXELS_PER_METRE = 150.0
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}


def a_body(frames=FRAMES):
    """(T, 52, 3) metres: a signer like no symmetric one, who moves."""
    return (joints_of(a_motion(frames)) + (0, 0.95, 0.1)).astype(np.float32)


# (landmark, metres to the person's left, up from the shoulder centre, to the front). Front is damped for the body.
POSE = {
    0: (0.0, 0.20, 0.20),
    7: (0.07, 0.22, 0.0),
    8: (-0.07, 0.22, 0.0),
    11: (0.18, 0.0, 0.0),
    12: (-0.18, 0.0, 0.0),
    13: (0.25, -0.30, 0.0),
    14: (-0.30, -0.28, 0.1),
    15: (0.25, -0.55, 0.0),
    16: (-0.25, 0.0, 0.5),
}


# (21, 3) metres from the wrist: fingers fan out, bend to the front and taper, the thumb begins at the wrist
HAND = np.zeros((21, 3))
HAND[1:] = [
    (0.03 - 0.015 * finger, 0.03 + 0.025 * bone, 0.01 * bone) for finger in range(5) for bone in (0, 1, 1.8, 2.4)
]
HAND[1:5] += (0.01, -0.015, 0)


def landmarks(frames=FRAMES, width=WIDTH, height=HEIGHT):
    """MediaPipe arrays of the body of POSE in the middle of the picture, right hand up, left hand never seen."""

    def normalised(points):
        return points * PIXELS_PER_METRE * (1, -1, -1) / (width, height, width)

    pose = np.zeros((frames, 33, 4))
    pose[:, :, :2], pose[:, :, 3] = 0.5, 1.0
    for landmark, metres in POSE.items():
        pose[:, landmark, :3] = normalised(np.array(metres)) + (0.5, 0.5, 0)
    right = np.repeat((normalised(HAND) + pose[0, 16, :3] * (1, 1, 0))[None], frames, axis=0)
    right += 1e-9 * np.arange(frames)[:, None, None]  # of no tracker are two frames equal
    return pose, np.zeros((frames, 21, 3)), right


@pytest.fixture
def save(tmp_path):
    def write(name="clip.npz", **arrays):
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return write


# --- our own format ---------------------------------------------------------------------------------------------------


def test_own_file_comes_back_as_it_was(save):
    joints = a_body()
    valid = np.ones((FRAMES, NUM_JOINTS), bool)
    valid[3, 5] = False
    motion = load_motion(save(joints=joints.astype(np.float64), fps=25, valid=valid))
    assert isinstance(motion, Motion) and motion.joints.dtype == np.float32 and motion.smplx is None
    np.testing.assert_array_equal(motion.joints, joints)
    np.testing.assert_array_equal(motion.valid, valid)
    assert motion.fps == 25.0 and motion.num_frames == FRAMES and motion.duration == FRAMES / 25


def test_fps_argument_wins_and_replaces_a_missing_one(save):
    assert load_motion(save(joints=a_body(), fps=25), fps=50).fps == 50.0
    assert load_motion(save(joints=a_body()), fps=12.5).fps == 12.5


def test_nan_joints_stay_nan_and_are_not_valid(save):
    joints = a_body()
    joints[2, 7, 1] = np.nan
    motion = load_motion(save(joints=joints, fps=15))
    assert np.isnan(motion.joints[2, 7]).all() and not motion.valid[2, 7]
    assert motion.valid.sum() == motion.valid.size - 1


def test_compressed_files_and_strings_as_paths(tmp_path):
    np.savez_compressed(tmp_path / "clip.npz", joints=a_body(), fps=np.array([15.0]))
    assert load_motion(str(tmp_path / "clip.npz")).fps == 15.0


def test_two_arrays_in_one_file_are_refused(tmp_path):
    with open(tmp_path / "clip.npy", "wb") as file:
        np.save(file, a_body())
        np.save(file, a_body())
    assert "bytes behind the array" in refusal(tmp_path / "clip.npy", fps=15)


# --- refusals: ValueError or OSError, one line, saying what to do -----------------------------------------------------

BAD_OWN = {
    "one frame": (dict(joints=a_body(1), fps=15), "at least 2"),
    "no frame": (dict(joints=a_body(0), fps=15), "at least 2"),
    "all NaN": (dict(joints=a_body() * np.nan, fps=15), "NaN"),
    "all zero": (dict(joints=a_body() * 0, fps=15), "one place"),
    "22 joints": (dict(joints=a_body()[:, :22], fps=15), r"\(frames, 52, 3\)"),
    "55 joints": (dict(joints=np.zeros((9, 55, 3)), fps=15), r"range\(25, 55\)"),
    "flat": (dict(joints=a_body().reshape(FRAMES, -1), fps=15), r"\(frames, 52, 3\)"),
    "a scalar": (dict(joints=np.float32(1), fps=15), r"\(frames, 52, 3\)"),
    "complex": (dict(joints=a_body().astype(complex), fps=15), "complex128.*float32"),
    "strings": (dict(joints=a_body().astype(str), fps=15), "real numbers"),
    "bool": (dict(joints=a_body() > 0, fps=15), "bool"),
    "objects": (dict(joints=a_body().astype(object), fps=15), "unpickling"),
    "no fps": (dict(joints=a_body()), "add `fps`"),
    "fps 0": (dict(joints=a_body(), fps=0), "1 to 1000"),
    "fps negative": (dict(joints=a_body(), fps=-15.0), "1 to 1000"),
    "fps NaN": (dict(joints=a_body(), fps=np.nan), "1 to 1000"),
    "fps infinite": (dict(joints=a_body(), fps=np.inf), "1 to 1000"),
    "fps huge": (dict(joints=a_body(), fps=1e9), "1 to 1000"),
    "seconds per frame": (dict(joints=a_body(), fps=0.04), "1 to 1000 frames per second, not seconds per frame"),
    "fps bool": (dict(joints=a_body(), fps=True), "`fps` has dtype bool"),
    "whole metres": (dict(joints=a_body().astype(np.int32), fps=15), "int32, expected metres as float32"),
    "fps text": (dict(joints=a_body(), fps="fast"), "real numbers"),
    "fps list": (dict(joints=a_body(), fps=[15, 15]), "one number"),
    "millimetres": (dict(joints=a_body() * 1000, fps=15), "millimetres"),
    "beyond float32": (dict(joints=a_body().astype(np.float64) * 1e60, fps=15), "metres"),
    "valid of another length": (dict(joints=a_body(), fps=15, valid=np.ones((3, 52), bool)), "valid"),
    "valid of floats": (dict(joints=a_body(), fps=15, valid=np.ones((FRAMES, 52))), "valid"),
    "other keys": (dict(motion=a_body()), "it holds motion; expected `joints`"),
}


def refusal(path, **arguments):
    with pytest.raises((ValueError, OSError)) as caught:
        load_motion(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400 and path.name in message
    return message


@pytest.mark.parametrize("case", BAD_OWN)
def test_bad_own_files(save, case):
    arrays, pattern = BAD_OWN[case]
    assert re.search(pattern, refusal(save(**arrays)))


def test_two_hours_are_refused_with_advice(save):
    path = save(joints=np.zeros((2 * 3600 * 8, NUM_JOINTS, 3), np.float16), fps=8)
    assert "120 minutes" in refusal(path) and "cut the file into utterances" in refusal(path)


def test_missing_directory_empty_pickle_and_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path"):
        load_motion(tmp_path / "nothing.npz")
    with pytest.raises(IsADirectoryError, match="directory"):
        load_motion(tmp_path)
    for name, content, advice in (
        ("empty.npz", b"", "empty"),
        ("text.npz", b"frame,x,y\n0,1,2\n", "np.savez"),
        ("pickle.npz", pickle.dumps({"joints": [1]}), "pickle"),
        ("pickle.pkl", pickle.dumps({"joints": [1]}, protocol=4), "pickle"),
    ):
        (tmp_path / name).write_bytes(content)
        assert advice in refusal(tmp_path / name)


@pytest.mark.parametrize("fps", [-1, "fast"])
def test_bad_fps_argument(save, fps):
    assert "fps argument" in refusal(save(joints=a_body(), fps=15), fps=fps)


def _npy_header(shape, descr="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 52, 3), (1000, 52, 3), (2, 10**12, 3), (70_000, 1000, 3), (-5, 52, 3)])
def test_headers_that_promise_too_much_are_refused_before_any_data(tmp_path, monkeypatch, shape):
    reads = []
    monkeypatch.setattr(array_files.npy_format, "read_array", lambda *_, **__: reads.append(1))
    (tmp_path / "clip.npy").write_bytes(_npy_header(shape))
    refusal(tmp_path / "clip.npy")
    with zipfile.ZipFile(tmp_path / "clip.npz", "w") as archive:
        archive.writestr("joints.npy", _npy_header(shape))
        archive.writestr("fps.npy", b"")
    refusal(tmp_path / "clip.npz")
    assert not reads


def test_more_than_a_gigabyte_is_refused(tmp_path):
    (tmp_path / "clip.npy").write_bytes(_npy_header((72_000, 1990)))
    assert "512 MB" in refusal(tmp_path / "clip.npy")


HOSTILE = {  # what the members of the .npz begin with, and the MB of zeros that follow; how they are compressed
    "a zip bomb": ({"joints.npy": (_npy_header((400_000, 52, 3)), 30)}, zipfile.ZIP_DEFLATED, "cut the file"),
    "too large together": (  # each alone is small enough
        {f"{name}.npy": (_npy_header((20, 2**18)), 20) for name in ("pose", "left_hand", "right_hand")},
        *(zipfile.ZIP_DEFLATED, "unpacks to 60 MB, the limit is 40 MB"),
    ),
    "an endless header": (
        {"joints.npy": (np.lib.format.magic(2, 0) + (30 * 2**20).to_bytes(4, "little"), 30)},
        *(zipfile.ZIP_DEFLATED, "a header of 31457280 bytes"),
    ),
    # 30 MB in some hundred bytes, which unpack in one go
    "bzip2": ({"joints.npy": (b"", 30)}, zipfile.ZIP_BZIP2, "np.savez_compressed"),
    "lzma": ({"joints.npy": (b"", 30)}, zipfile.ZIP_LZMA, "np.savez_compressed"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_archives_that_ask_for_memory_are_refused_without_it(case, tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "MAX_BYTES", 40 * 2**20)
    members, method, message = HOSTILE[case]
    with zipfile.ZipFile(tmp_path / "clip.npz", "w", method) as archive:
        for name, (start, megabytes) in members.items():
            archive.writestr(name, start + bytes(megabytes * 2**20))
    tracemalloc.start()
    message_of_refusal = refusal(tmp_path / "clip.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in message_of_refusal and peak < 4 * 2**20


# --- MediaPipe --------------------------------------------------------------------------------------------------------


def test_a_known_body_is_recovered():
    joints, valid = mediapipe_to_joints(*landmarks())
    assert joints.shape == (FRAMES, NUM_JOINTS, 3) and joints.dtype == np.float32 and valid.dtype == bool
    for name, landmark in (("left_shoulder", 11), ("right_elbow", 14), ("left_wrist", 15), ("right_wrist", 16)):
        x, y, z = POSE[landmark]
        expected = (x, y + 1.40, z * mediapipe_landmarks.BODY_DEPTH)
        np.testing.assert_allclose(joints[0, JOINT[name]], expected, atol=1e-6, err_msg=name)
    wrist = joints[0, JOINT["right_wrist"]]
    for finger, first in (("index", 5), ("middle", 9), ("pinky", 17), ("ring", 13), ("thumb", 1)):
        for bone in range(3):
            place = joints[0, JOINT[f"right_{finger}{bone + 1}"]] - wrist
            np.testing.assert_allclose(place, HAND[first + bone], atol=1e-6, err_msg=f"{finger}{bone + 1}")
    assert 1.5 < joints[0, JOINT["head"], 1] < 1.7 and joints[0, JOINT["head"], 2] > 0


def test_the_body_stands_on_the_floor_facing_the_front():
    joints, valid = mediapipe_to_joints(*landmarks())
    assert 0 <= joints[..., 1].min() < 0.05
    heights = [joints[0, JOINT[name], 1] for name in ("left_foot", "left_knee", "pelvis", "spine2", "neck", "head")]
    assert heights == sorted(heights)
    for name in ("hip", "knee", "shoulder", "collar"):
        assert joints[0, JOINT[f"left_{name}"], 0] > 0 > joints[0, JOINT[f"right_{name}"], 0]
    assert joints[0, JOINT["left_foot"], 2] > joints[0, JOINT["left_ankle"], 2]
    assert not valid[:, [JOINT[n] for n in ("pelvis", "left_hip", "right_knee", "left_ankle", "right_foot")]].any()
    assert valid[:, [JOINT[n] for n in ("neck", "head", "left_wrist", "right_elbow")]].all()
    bones = np.linalg.norm(joints[0, 1:] - joints[0, PARENTS[1:]], axis=-1)
    assert bones.min() > 0.004


def test_who_sways_does_not_bend():
    """The whole person follows the shoulders over the floor; nothing but the place changes."""
    pose, left, right = landmarks()
    still, _ = mediapipe_to_joints(pose, left, right)
    sway = np.linspace(-0.05, 0.05, FRAMES)[:, None]
    for points in (pose, right):
        points[:, :, 0] += sway
    swaying, _ = mediapipe_to_joints(pose, left, right)
    assert np.ptp(swaying[:, 0, 0]) > 0.05 and np.ptp(swaying[:, 0, 1]) == 0
    np.testing.assert_allclose(swaying - swaying[:, :1], still - still[:, :1], atol=1e-5)


def test_a_trembling_shoulder_is_no_turn_and_a_turn_is_one():
    pose, left, right = landmarks()
    metre = PIXELS_PER_METRE / WIDTH / mediapipe_landmarks.BODY_DEPTH
    depths = []
    for twist in (0.0, 0.05, 0.2):
        turned = pose.copy()
        turned[:, 11, 2] -= twist / 2 * metre
        turned[:, 12, 2] += twist / 2 * metre
        joints, _ = mediapipe_to_joints(turned, left, right)
        depths.append(joints[0, JOINT["left_shoulder"], 2] - joints[0, JOINT["right_shoulder"], 2])
    np.testing.assert_allclose(depths, [0.0, 0.0, 0.2 - mediapipe_landmarks.TWIST], atol=1e-6)


def test_picture_shape_and_camera_distance_cancel_out(save):
    joints, _ = mediapipe_to_joints(*landmarks())
    pose, left, right = landmarks(width=1280, height=720)
    wide, _ = mediapipe_to_joints(pose, left, right, image_size=(1280, 720))
    np.testing.assert_allclose(wide, joints, atol=1e-6)
    wrong, _ = mediapipe_to_joints(pose, left, right)
    assert np.abs(wrong - joints).max() > 0.1
    motion = load_motion(save(pose=pose, left_hand=left, right_hand=right, fps=15, image_size=(1280, 720)))
    np.testing.assert_allclose(motion.joints, joints, atol=1e-6)


def test_lost_hands_are_interpolated_held_and_marked():
    pose, left, right = landmarks()
    right[:, 1:, 1] -= np.linspace(0, 0.1, FRAMES)[:, None]  # the hand grows upwards in time
    whole, _ = mediapipe_to_joints(pose, left, right)
    lost = right.copy()
    lost[[0, 4, 5, 11]] = 0
    joints, valid = mediapipe_to_joints(pose, left, lost)
    assert (~valid[:, RIGHT_HAND]).all(1).nonzero()[0].tolist() == [0, 4, 5, 11] and valid[1:4, RIGHT_HAND].all()
    np.testing.assert_allclose(joints[4:6], whole[4:6], atol=1e-6)  # linear movement: linear in between
    np.testing.assert_allclose(joints[0, RIGHT_HAND], whole[1, RIGHT_HAND], atol=1e-6)
    np.testing.assert_allclose(joints[11, RIGHT_HAND], whole[10, RIGHT_HAND], atol=1e-6)
    lost[[0, 4, 5, 11]] = np.nan
    np.testing.assert_array_equal(mediapipe_to_joints(pose, left, lost)[0], joints)


def test_a_hand_that_is_never_seen_continues_the_forearm():
    pose, left, right = landmarks()
    joints, valid = mediapipe_to_joints(pose, left, right)
    elbow, wrist = joints[0, JOINT["left_elbow"]], joints[0, JOINT["left_wrist"]]
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    middle = joints[0, JOINT["left_middle3"]] - wrist
    assert not valid[:, LEFT_HAND].any()
    assert middle @ along > 0.9 * np.linalg.norm(middle) and 0.08 < np.linalg.norm(middle) < 0.2
    assert joints[0, JOINT["left_thumb3"], 2] > joints[0, JOINT["left_pinky3"], 2]  # thumb to the front
    assert joints[0, JOINT["left_middle3"], 0] < wrist[0]  # fingers bend towards the body
    mirrored_pose = pose * (-1, 1, 1, 1) + (1, 0, 0, 0)
    swap = np.arange(33)
    swap[[7, 8, 11, 12, 13, 14, 15, 16]] = [8, 7, 12, 11, 14, 13, 16, 15]
    mirrored, _ = mediapipe_to_joints(mirrored_pose[:, swap], left, left)
    np.testing.assert_allclose(mirrored[:, RIGHT_HAND] * (-1, 1, 1), joints[:, LEFT_HAND], atol=1e-6)


def test_forearms_of_no_length_or_to_the_front_still_get_a_hand():
    pose, left, right = landmarks()
    pose[:, 15] = pose[:, 13]
    pose[:, 16, :2] = pose[:, 14, :2]
    joints, _ = mediapipe_to_joints(pose, left, left)
    assert np.isfinite(joints).all()


def test_lost_poses_are_interpolated_and_unseen_joints_marked():
    pose, left, right = landmarks()
    pose[:, 16, 0] += np.linspace(0, 0.1, FRAMES)
    whole, _ = mediapipe_to_joints(pose, left, right)
    lost = pose.copy()
    lost[5] = 0
    lost[:, 15, 3] = 0.01
    joints, valid = mediapipe_to_joints(lost, left, right)
    np.testing.assert_allclose(joints[5, :22], whole[5, :22], atol=1e-4)
    assert not mediapipe_to_joints(lost[..., :3], left, right)[1][5, :22].any()
    assert not valid[5, :22].any() and valid[4, JOINT["right_wrist"]] and not valid[:, JOINT["left_wrist"]].any()


def test_callers_arrays_are_untouched():
    arrays = landmarks()
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    mediapipe_to_joints(*arrays)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_mediapipe_files_of_all_layouts_agree(save, tmp_path):
    pose, left, right = landmarks()
    right[:, 8] += np.linspace(0, 0.01, FRAMES)[:, None]
    right[:, 1:, 1] -= np.linspace(0, 0.01, FRAMES)[:, None]
    expected, expected_valid = mediapipe_to_joints(pose, left, right)
    hands = [left.reshape(FRAMES, 63), right.reshape(FRAMES, 63)]
    motion = load_motion(save(pose=pose, left_hand=left, right_hand=right, fps=30))
    np.testing.assert_array_equal(motion.joints, expected)
    assert "640 x 480" in motion.notes[0].text and motion.notes[0].argument == "image_size"
    np.testing.assert_array_equal(motion.valid, expected_valid)
    assert motion.fps == 30.0
    assert load_motion(save(pose=pose[:, :25, :3], left_hand=left, right_hand=right, fps=30)).num_frames == FRAMES
    np.save(tmp_path / "a.npy", np.concatenate([pose.reshape(FRAMES, 132), *hands], axis=1))
    np.save(tmp_path / "b.npy", np.concatenate([pose.reshape(FRAMES, 132), np.ones((FRAMES, 1404)), *hands], axis=1))
    for name in ("a.npy", "b.npy"):
        motion = load_motion(tmp_path / name)
        np.testing.assert_array_equal(motion.joints, expected)
        assert "15 fps" in motion.notes[0].text and motion.notes[0].argument == "fps"
        assert load_motion(tmp_path / name, fps=24).fps == 24.0


def test_bad_landmark_files(save, tmp_path):
    pose, left, right = landmarks()
    good = {"pose": pose, "left_hand": left, "right_hand": right, "fps": 15}
    one_width = pose.copy()
    one_width[:, 11] = one_width[:, 12]
    for change, advice in (
        ({"pose": pose[:, :17]}, "25 to 33"),
        ({"left_hand": left[:5]}, "`left_hand`"),
        ({"right_hand": right[:, :20]}, "`right_hand`"),
        ({"pose": pose * 0}, "no frame has a detected pose"),
        ({"pose": pose * np.nan}, "no frame has a detected pose"),
        ({"pose": one_width}, "shoulders"),
        ({"pose": pose * (WIDTH, HEIGHT, WIDTH, 1)}, "divide pixels"),
        ({"image_size": (0, 480)}, "`image_size`"),
        ({"image_size": 640}, "`image_size`"),
        ({"fps": 0}, "1 to 1000"),
        ({key: good[key][:1] for key in ("pose", "left_hand", "right_hand")}, "at least 2"),
    ):
        assert advice in refusal(save(**{**good, **change})), change.keys()
    for array, advice in (
        (np.zeros((9, 543)), "1662"),
        (np.zeros(258), "stack"),
        (np.zeros((9, 258)), "detected pose"),
    ):
        np.save(tmp_path / "clip.npy", array)
        assert advice in refusal(tmp_path / "clip.npy", fps=15)


def signer(width, height):
    """The clip of `landmarks` with a face and hips, as in a picture of that size, and both hands moving."""
    pose, _, right = landmarks(width=width, height=height)
    places = {
        2: (0.03, 0.25),
        5: (-0.03, 0.25),
        3: (0.045, 0.25),
        6: (-0.045, 0.25),
        9: (0.02, 0.18),
        10: (-0.02, 0.18),
    }
    for landmark, (x, y) in (places | {23: (0.1, -0.5), 24: (-0.1, -0.5)}).items():
        pose[:, landmark, :2] = 0.5 + np.array([x, -y]) * PIXELS_PER_METRE / (width, height)
    right[:, 1:, 1] -= np.linspace(0, 0.01, FRAMES)[:, None]
    # no two of MediaPipe's networks see a wrist at the same place
    left = (right - right[:, :1]) * (-1, 1, 1) + pose[:, 15:16, :3] * (1, 1, 0) + (0.002, 0, 0)
    return pose, left, right


@pytest.mark.parametrize("size", [(1280, 720), (640, 480), (500, 500), (480, 640), (720, 1280)])
def test_the_size_of_the_picture_is_told_stored_or_inferred(save, size):
    pose, left, right = signer(*size)
    expected, _ = mediapipe_to_joints(pose, left, right, image_size=size)
    arrays = {"pose": pose, "left_hand": left, "right_hand": right, "fps": 15}
    inferred = load_motion(save(**arrays))
    np.testing.assert_allclose(inferred.joints, expected, atol=1e-6)
    (remark,) = inferred.notes
    assert remark.argument == "image_size" and np.divide(*remark.example) == pytest.approx(np.divide(*size))
    for motion in (load_motion(save(**arrays, image_size=size)), load_motion(save(**arrays), image_size=size)):
        np.testing.assert_array_equal(motion.joints, expected)
        assert motion.notes == ()
    told = load_motion(save(**arrays, image_size=(99, 99)), image_size=size)
    np.testing.assert_array_equal(told.joints, expected)


ORDERS = {  # what stands where in an array, and how many numbers a landmark of the pose has
    "usual, irises": ("pose face478 left right", 4),
    "hands first": ("left right pose", 4),
    "face last": ("pose left right face468", 4),
    "right hand first": ("pose right left", 4),
    "225": ("pose left right", 3),
    "asl-signs": ("face468 left pose right", 3),
}


@pytest.mark.parametrize("case", ORDERS)
def test_arrays_of_landmarks_in_any_order(case, tmp_path):
    order, size = ORDERS[case]
    pose, left, right = signer(640, 480)
    right[3], left[5] = 0, np.nan  # not detected
    rng = np.random.default_rng(0)
    parts = {"pose": pose[..., :size], "left": left, "right": right}
    for points in (468, 478):
        parts[f"face{points}"] = rng.uniform(0.4, 0.6, (FRAMES, points, 3)) - (0, 0, 0.5)
    rows = np.concatenate([parts[name].reshape(FRAMES, -1) for name in order.split()], axis=1)
    expected, valid = mediapipe_to_joints(pose[..., :size], left, right)
    arrays = [rows, rows[None]] + ([rows.reshape(FRAMES, -1, 3)] if size == 3 else [])
    for array in arrays:
        np.save(tmp_path / "clip.npy", array)
        motion = load_motion(tmp_path / "clip.npy", image_size=(640, 480))
        np.testing.assert_array_equal(motion.joints, expected)
        np.testing.assert_array_equal(motion.valid, valid)
        assert any("in the order" in note.text for note in motion.notes) == (case not in ("usual, irises", "225"))


def test_landmarks_that_are_of_no_picture_are_refused(save, tmp_path):
    pose, left, right = signer(640, 480)
    world = (pose[..., :3] - pose[:, 23:25, :3].mean(1, keepdims=True)) * (4, 3, 4)
    good = {"pose": pose, "left_hand": left, "right_hand": right, "fps": 15}
    for change, problem in (
        ({"pose": world}, "world landmarks"),
        ({"right_hand": (right - right.mean(1, keepdims=True)) * 4}, "`right_hand` is not at the right wrist"),
        ({"left_hand": right, "right_hand": left}, "`left_hand` is not at the left wrist"),
    ):
        assert problem in refusal(save(**good | change))
    rows = np.random.default_rng(0).permutation(
        np.concatenate([a.reshape(FRAMES, -1) for a in (pose, left, right)], 1).T
    )
    np.save(tmp_path / "clip.npy", rows.T)
    assert "in any order" in refusal(tmp_path / "clip.npy", fps=15)
    counted = {name: good[name] - good[name][:, :1] for name in ("left_hand", "right_hand")}  # from the wrist
    expected, _ = mediapipe_to_joints(pose, left, right)
    np.testing.assert_allclose(load_motion(save(**good | counted), image_size=(640, 480)).joints, expected, atol=1e-6)


@pytest.mark.parametrize(
    "depth",
    [lambda z: -z, lambda z: 0 * z, lambda z: 0 * z + 0.99],
    ids=["of another sign", "none", "visibility in its place"],
)
def test_depth_that_is_none_is_refused(save, depth):
    pose, left, right = signer(640, 480)
    pose[..., 2] = depth(pose[..., 2])
    refused = refusal(save(pose=pose, left_hand=left, right_hand=right, fps=15), image_size=(640, 480))
    assert "the nose is not in front of the ears" in refused


def test_a_picture_of_the_wrong_shape_is_remarked(save):
    pose, left, right = signer(1280, 720)
    file = {"pose": pose, "left_hand": left, "right_hand": right, "fps": 15}
    exchanged = load_motion(save(**file, image_size=(720, 1280))).notes
    assert [(note.argument, note.example) for note in exchanged if note.argument] == [("image_size", (1280, 720))]
    assert not any(note.argument for note in load_motion(save(**file, image_size=(1280, 720))).notes)


def test_hands_of_a_constant_were_never_seen(save):
    pose, left, right = signer(640, 480)
    for constant in (0.0, -1.0, np.nan, right[0]):
        motion = load_motion(save(pose=pose, left_hand=left, right_hand=np.zeros_like(right) + constant, fps=15))
        assert not motion.valid[:, RIGHT_HAND].any() and motion.valid[:, LEFT_HAND].all()
        assert motion.notes[-1].text == "the right hand is never seen"
    joints = a_body()
    joints[:, RIGHT_HAND] = joints[:, [21]]
    joints[2:, LEFT_HAND] = 0
    motion = load_motion(save(joints=joints, fps=15))
    assert (
        not motion.valid[:, RIGHT_HAND].any()
        and motion.valid[:, LEFT_HAND].all(1).tolist() == [True] * 2 + [False] * 10
    )
