"""Landmark files of other programs against a body whose joints are known; damaged and hostile files."""

import gzip
import io
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import test_motion_formats as formats
from hypothesis import given
from hypothesis import strategies as st
from motion_corpus import cafe, landmarks, rows_of

from lslm.processing import MotionFileError, load_motion
from lslm.processing.mediapipe_landmarks import mediapipe_to_joints
from lslm.processing.motion_features import JOINT_NAMES, LEFT_HAND, RIGHT_HAND
from lslm.processing.readers import landmark_formats
from lslm.processing.readers.folders import frame_order
from lslm.processing.readers.landmark_formats import read_kaggle_landmarks, read_landmark_frames, read_pose_file
from lslm.processing.skeleton import POSE_WIDTHS

FRAMES, WIDTH, HEIGHT = 9, 640, 360
PIXELS_PER_METRE = 200.0
HAND = ["WRIST", *(f"HAND_{k}" for k in range(1, 21))]
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
# Metres to the person's left, up, and to the front, from between the shoulders. The front is damped by 0.3.
POINTS = {
    "NOSE": (0.0, 0.18, 0.2),
    "LEFT_EAR": (0.07, 0.2, 0.0),
    "RIGHT_EAR": (-0.07, 0.2, 0.0),
    "LEFT_SHOULDER": (0.18, 0.0, 0.0),
    "RIGHT_SHOULDER": (-0.18, 0.0, 0.0),
    "LEFT_ELBOW": (0.22, -0.28, 0.1),
    "RIGHT_ELBOW": (-0.25, -0.2, 0.2),
    "LEFT_WRIST": (0.2, -0.5, 0.1),
    "RIGHT_WRIST": (-0.1, 0.0, 0.8),
    "LEFT_HIP": (0.1, -0.5, 0.0),
    "RIGHT_HIP": (-0.1, -0.5, 0.0),
}
REDUCED = [name for name in POINTS if name not in ("NOSE", "LEFT_EAR", "RIGHT_EAR")]


def metres():
    """{name: (T, 3)}: the right wrist swings to the side, and a right hand (T, 21, 3) relative to it."""
    body = {name: np.tile(np.array(place), (FRAMES, 1)) for name, place in POINTS.items()}
    body["RIGHT_WRIST"] = body["RIGHT_WRIST"] + np.linspace(0, 0.2, FRAMES)[:, None] * (1, 0, 0)
    drift = np.random.default_rng(0).uniform(-0.005, 0.005, (21, 3)) * (np.arange(21)[:, None] > 0)
    hand = formats.HAND + drift * np.linspace(0, 1, FRAMES)[:, None, None]
    return body, hand


def pixels(points):
    """Metres to the left, up and front -> MediaPipe's picture, all axes in pixels."""
    return np.asarray(points) * PIXELS_PER_METRE * (1, -1, -1) + (WIDTH / 2, HEIGHT / 2, 0)


def clip(names=tuple(landmark_formats.POSE_NAMES), z_unit=1 / WIDTH):
    """Components {name: (points, (T, N, 3), confidence (T, N))}, z in image widths."""
    body, hand = metres()
    points = np.stack([pixels(body.get(name, np.zeros((FRAMES, 3)))) for name in names], axis=1)
    right = pixels(hand + body["RIGHT_WRIST"][:, None] * (1, 1, 0) + (0.003, 0, 0))  # found by another network
    components = {
        "POSE_LANDMARKS": (list(names), points, np.ones(points.shape[:2])),
        "FACE_LANDMARKS": (["0"], np.zeros((FRAMES, 1, 3)), np.ones((FRAMES, 1))),
        "LEFT_HAND_LANDMARKS": (HAND, np.zeros((FRAMES, 21, 3)), np.zeros((FRAMES, 21))),
        "RIGHT_HAND_LANDMARKS": (HAND, right, np.ones((FRAMES, 21))),
    }
    for _, values, _ in components.values():
        values[..., 2] *= z_unit
    return components


def write_pose(
    components, *, version=0.2, size=(WIDTH, HEIGHT, 0), fps=25.0, people=1, layout="XYZC", lost=(), frames=None
):
    """The bytes of a .pose file. Of several people the last one is the clip's, the others are not detected."""

    def text(string):
        return struct.pack("<H", len(string.encode())) + string.encode()

    out = struct.pack("<fHHHH", version, *size, len(components))
    for name, (points, _, _) in components.items():
        limbs = [(0, 0)] * 2
        out += text(name) + text(layout) + struct.pack("<HHH", len(points), len(limbs), 1)
        out += b"".join(map(text, points)) + struct.pack("<4H", *np.ravel(limbs)) + struct.pack("<3H", 255, 0, 0)
    values = np.concatenate([values for _, values, _ in components.values()], axis=1)[..., : len(layout) - 1]
    confidence = np.concatenate([known for _, _, known in components.values()], axis=1)
    values = np.stack([np.zeros_like(values)] * (people - 1) + [values], axis=1)
    confidence = np.stack([np.zeros_like(confidence)] * (people - 1) + [confidence], axis=1)
    frames = len(values) if frames is None else frames
    out += struct.pack("<HHH", int(fps), frames, people) if version < 0.15 else struct.pack("<fIH", fps, frames, people)
    return out + values.astype("<f4").tobytes() + confidence.astype("<f4").tobytes()


def joints_of(result):
    hands = result["left_hand"], result["right_hand"]
    assert result["pose"].shape == (len(result["pose"]), 33, 4) and result["pose"].dtype == np.float32
    assert all(hand.shape == (len(result["pose"]), 21, 3) and hand.dtype == np.float32 for hand in hands)
    return mediapipe_to_joints(result["pose"], *hands, image_size=result.get("image_size", (640, 480)))


def check_arms(joints):
    """Shoulders, elbows, wrists and the right hand are those of the body, to a millimetre."""
    body, hand = metres()
    for name in REDUCED[:6]:
        expected = body[name] * (1, 1, 0.3) + (0, 1.4, 0)
        np.testing.assert_allclose(joints[:, JOINT[name.lower()]], expected, atol=1e-3)
    index = joints[:, JOINT["right_index1"]] - joints[:, JOINT["right_wrist"]]
    np.testing.assert_allclose(index, hand[:, 5] - hand[:, 0], atol=1e-3)


# --- .pose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0.1, 0.2])
def test_pose_file_gives_the_body_to_a_millimetre(version):
    result = read_pose_file(write_pose(clip(), version=version))
    assert result["fps"] == 25.0 and result["image_size"] == (WIDTH, HEIGHT)
    joints, valid = joints_of(result)
    check_arms(joints)
    assert valid[:, JOINT["head"]].all() and valid[:, JOINT["right_ring3"]].all()
    assert not valid[:, JOINT["left_ring3"]].any()


@pytest.mark.parametrize("fps", [29.97, 0.0, -1.0, np.nan, np.inf])
def test_fps_of_version_2_is_a_float_and_a_broken_one_is_none(fps):
    assert read_pose_file(write_pose(clip(), fps=fps))["fps"] == (pytest.approx(fps) if fps == 29.97 else None)


def test_frames_of_version_1_overflow_16_bits(monkeypatch):
    monkeypatch.setattr(landmark_formats, "_in_pixels", lambda body, *_: {"frames": len(body)})
    points, values, known = clip(REDUCED[:6])["POSE_LANDMARKS"]
    times = 2**16 // FRAMES + 1
    long = {"POSE_LANDMARKS": (points, np.repeat(values, times, 0), np.repeat(known, times, 0))}
    data = write_pose(long, version=0.1, frames=FRAMES * times % 2**16)
    assert read_pose_file(data)["frames"] == FRAMES * times > 2**16


@pytest.mark.parametrize("lost", [["LEFT_WRIST"], ["LEFT_ELBOW", "LEFT_WRIST"]])
def test_an_arm_that_is_left_out_hangs(tmp_path, lost):
    """As in the fingerspelling lexicon of spoken-to-signed-translation, which leaves out what does not sign."""
    (tmp_path / "clip.pose").write_bytes(write_pose(without(*lost)))
    motion = load_motion(tmp_path / "clip.pose")
    assert [note.text[:25] for note in motion.notes] == ["the left arm is never see", "the left hand is never se"]
    joints = motion.joints
    shoulder, elbow, wrist = (joints[:, JOINT[f"left_{name}"]] for name in ("shoulder", "elbow", "wrist"))
    assert (wrist[:, 1] < elbow[:, 1] - 0.2).all() and (elbow[:, 1] < shoulder[:, 1] - 0.2).all()
    assert not motion.valid[:, [JOINT[name.lower()] for name in lost]].any()
    whole, _ = joints_of(read_pose_file(write_pose(clip())))
    right = [JOINT[f"right_{name}"] for name in ("shoulder", "elbow", "wrist")] + list(RIGHT_HAND)
    np.testing.assert_allclose(joints[:, right], whole[:, right], atol=1e-6)


@pytest.mark.parametrize("order", ["as mediapipe", "shuffled"])
def test_reduced_body_of_eight_points_by_name(order):
    names = REDUCED if order == "as mediapipe" else REDUCED[::-1]
    joints, valid = joints_of(read_pose_file(write_pose(clip(names))))
    check_arms(joints)
    assert not valid[:, JOINT["head"]].any() and valid[:, JOINT["right_wrist"]].all()
    head = joints[:, JOINT["head"]] - joints[:, JOINT["neck"]]
    assert (np.abs(head[:, [0, 2]]) < 1e-3).all() and ((0.1 < head[:, 1]) & (head[:, 1] < 0.25)).all()


def test_head_of_a_reduced_file_comes_from_the_outline_of_the_face():
    components = clip(REDUCED)
    body, _ = metres()
    face = np.stack([pixels(body[name]) for name in ("NOSE", "LEFT_EAR", "RIGHT_EAR")], axis=1) * (1, 1, 1 / WIDTH)
    face[:, :, 0] += np.linspace(0, 20, FRAMES)[:, None]  # the head moves
    components["FACE_LANDMARKS"] = (["0", "454", "234"], face, np.ones((FRAMES, 3)))
    joints, valid = joints_of(read_pose_file(write_pose(components)))
    head = joints[:, JOINT["head"]]
    assert valid[:, JOINT["head"]].all()
    np.testing.assert_allclose(head[:, 0], np.linspace(0, 20, FRAMES) / PIXELS_PER_METRE, atol=1e-3)
    np.testing.assert_allclose(head[:, 1], 1.4 + 0.2 - 0.2 * 0.02, atol=1e-3)


HEADER = (WIDTH, HEIGHT, 0)
UNITS = {  # what z is multiplied by, x, y and z after it, the offset in z, whether the centre is 0; the header's size
    "pixels": (1.0, 1.0, 0.0, False, HEADER),
    "an offset, as resized files have": (1 / WIDTH, 1.0, 625.0, False, HEADER),
    "resized, the video's width in the depth": (1 / WIDTH, 2.5, 0.0, False, (1600, 900, WIDTH)),
    "shoulders one unit wide": (1 / WIDTH, 1 / 72, 0.0, True, HEADER),
    "no size in the header": (1 / WIDTH, 1.0, 0.0, False, (0, 0, WIDTH)),
    "parts of the picture": (1 / WIDTH, np.array([1 / WIDTH, 1 / HEIGHT, 1]), 0.0, False, HEADER),
    "depth 1": (1 / WIDTH, 1.0, 0.0, False, (WIDTH, HEIGHT, 1)),
}


@pytest.mark.parametrize("case", UNITS)
def test_units_of_depth_and_place(case):
    z_unit, resize, offset, centred, size = UNITS[case]
    components = clip(z_unit=z_unit)
    for _, values, _ in components.values():
        values[...] = (values - centred * np.array([WIDTH / 2, HEIGHT / 2, 0])) * resize + (0, 0, offset)
    check_arms(joints_of(read_pose_file(write_pose(components, size=size)))[0])


def test_parts_of_a_picture_may_be_below_it():
    """Hands that rest are; they were taken for coordinates in no unit, of a square picture."""
    components = clip()
    for name, (_, values, _) in components.items():
        values[..., :2] = values[..., :2] / (WIDTH, HEIGHT) + (0, 0.3)
        components[name] = (*components[name][:1], values, components[name][2])
    wrists = components["POSE_LANDMARKS"][1][:, [15, 16], 1]
    assert wrists.max() > 1
    result = read_pose_file(write_pose(components))
    assert result["image_size"] == (WIDTH, HEIGHT)
    check_arms(joints_of(result)[0])


def test_confidence_zero_is_not_detected():
    components = clip()
    known = components["POSE_LANDMARKS"][2]
    wrist = landmark_formats.POSE_NAMES.index("RIGHT_WRIST")
    known[3:5, wrist] = 0
    known[7] = 0
    components["POSE_LANDMARKS"][1][3:5, wrist] = 0  # what masked points hold
    components["RIGHT_HAND_LANDMARKS"][2][2, 4] = 0  # one point lost, the hand is
    components["RIGHT_HAND_LANDMARKS"][1][3], components["RIGHT_HAND_LANDMARKS"][1][4] = np.nan, 1e30  # broken numbers
    known[6, landmark_formats.POSE_NAMES.index("LEFT_EAR")] = 0
    result = read_pose_file(write_pose(components))
    assert not result["right_hand"][2:5].any() and result["right_hand"][5].any() and not result["pose"][7].any()
    joints, valid = joints_of(result)
    np.testing.assert_array_equal(valid[:, JOINT["right_wrist"]], [1, 1, 1, 0, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(valid[:, JOINT["left_wrist"]], [1, 1, 1, 1, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(valid[:, JOINT["head"]], [1, 1, 1, 1, 1, 1, 0, 0, 1])
    assert np.linalg.norm(joints[6, JOINT["head"]] - joints[5, JOINT["head"]]) < 0.1  # put above the shoulders
    body, _ = metres()
    np.testing.assert_allclose(joints[:, JOINT["right_wrist"], 0], body["RIGHT_WRIST"][:, 0], atol=1e-3)


def test_a_wrist_that_was_lost_is_where_its_hand_was_seen():
    components = clip()
    wrist = landmark_formats.POSE_NAMES.index("RIGHT_WRIST")
    away = (0.15 * PIXELS_PER_METRE, -0.05 * PIXELS_PER_METRE, 0)  # between two frames it goes there and back
    components["RIGHT_HAND_LANDMARKS"][1][4] += away
    components["POSE_LANDMARKS"][1][4, wrist] = 0
    components["POSE_LANDMARKS"][2][4, wrist] = 0
    joints, valid = joints_of(read_pose_file(write_pose(components)))
    expected = metres()[0]["RIGHT_WRIST"][4, :2] + (0.15, 1.4 + 0.05)
    np.testing.assert_allclose(joints[4, JOINT["right_wrist"], :2], expected, atol=0.004)
    assert not valid[4, JOINT["right_wrist"]] and valid[4, RIGHT_HAND[0]]  # its depth is a guess
    hand = components["RIGHT_HAND_LANDMARKS"][1]
    hand[4] += components["POSE_LANDMARKS"][1][4, 15] - hand[4, 0]  # at the other wrist: a mistake
    joints, _ = joints_of(read_pose_file(write_pose(components)))
    np.testing.assert_allclose(joints[4, JOINT["right_wrist"], 0], metres()[0]["RIGHT_WRIST"][4, 0], atol=1e-3)


def test_of_several_people_the_detected_one():
    check_arms(joints_of(read_pose_file(write_pose(clip(), people=3)))[0])


def test_of_several_people_in_a_pose_file_one_is_read_and_all_are_counted(tmp_path):
    """Who is there longer, wherever the file puts them in a frame: pose-format has no names for people."""
    path, data = tmp_path / "clip.pose", write_pose(clip(), people=2)
    points = sum(values.shape[1] for _, values, _ in clip().values())
    numbers = np.frombuffer(data, "<f4", FRAMES * 2 * points * 4, len(data) - FRAMES * 2 * points * 16)
    values, confidence = np.split(numbers.copy(), [FRAMES * 2 * points * 3])
    values, confidence = values.reshape(FRAMES, 2, points, 3), confidence.reshape(FRAMES, 2, points)
    hop = np.arange(FRAMES) % 2 == 0

    def read(**options):
        out = [np.where(hop[:, None, None, None], values[:, ::-1], values)]
        out += [np.where(hop[:, None, None], confidence[:, ::-1], confidence)]
        path.write_bytes(data[: -numbers.nbytes] + b"".join(numbers.astype("<f4").tobytes() for numbers in out))
        return load_motion(path, **options)

    path.write_bytes(write_pose(clip()))
    expected = load_motion(path)
    np.testing.assert_allclose(read().joints, expected.joints, atol=1e-5)  # one person, in two places of the file
    assert [str(note) for note in read().notes] == [str(note) for note in expected.notes]
    values[:, 0], confidence[:, 0] = values[:, 1] * (-1, 1, 1) + (2 * WIDTH, 0, 0), confidence[:, 1]
    values[:, 0, :, :2] += (0, 30)
    confidence[: FRAMES // 2, 0] = 0  # somebody else, who comes later
    motion = read()
    np.testing.assert_allclose(motion.joints, expected.joints, atol=1e-5)
    text = f"2 people, 0 in {FRAMES} frames, 1 in {FRAMES - FRAMES // 2} frames: 0 is read; pass clip='1'"
    assert text in [str(note) for note in motion.notes]
    np.testing.assert_allclose(read(clip="0").joints, expected.joints, atol=1e-5)
    with pytest.raises(MotionFileError, match="2 people in the file, none of them '2': 0, 1"):
        read(clip="2")
    with pytest.raises(MotionFileError, match="mirror image"):  # so it is the other one
        read(clip="1")
    path.write_bytes(write_pose(clip()))
    with pytest.raises(MotionFileError, match="leave clip out"):
        load_motion(path, clip="1")


def openpose():
    points = np.zeros((FRAMES, 25, 3))
    return {"pose_keypoints_2d": ([f"P{k}" for k in range(25)], points, np.ones((FRAMES, 25)))}


def without(*names):
    components = clip()
    for name in names:
        components["POSE_LANDMARKS"][2][:, landmark_formats.POSE_NAMES.index(name)] = 0
    return components


BAD_POSE = {
    "empty": (lambda: b"", "truncated"),
    "text": (lambda: b"hello, this is text and no pose file at all", "no .pose file"),
    "version 0": (lambda: write_pose(clip(), version=0.0), "version 0, expected 0.1 or 0.2"),
    "OpenPose": (lambda: write_pose(openpose(), layout="XYC"), "pose_keypoints_2d.*OpenPose and the like are flat"),
    "hands alone": (lambda: write_pose({"RIGHT_HAND_LANDMARKS": clip()["RIGHT_HAND_LANDMARKS"]}), "expected MediaPipe"),
    "flat MediaPipe": (lambda: write_pose(clip(), layout="XYC"), "are flat|XYC"),
    "no right wrist": (lambda: write_pose(clip(REDUCED[:5])), "lacks right_wrist"),
    "left elbow never seen": (lambda: write_pose(without("LEFT_ELBOW")), "left_elbow is not detected"),
    "no wrist seen": (lambda: write_pose(without("LEFT_WRIST", "RIGHT_WRIST")), "left_wrist is not detected"),
    "shoulder never seen": (lambda: write_pose(without("LEFT_SHOULDER")), "both shoulders"),
    "nobody": (lambda: write_pose(clip(), people=0), "0 people"),
    "more frames than bytes": (lambda: write_pose(clip(), frames=2**32 - 1), "the limit is 72000"),
    "one frame too many": (lambda: write_pose(clip(), frames=FRAMES + 1), "truncated"),
    "cut in version 1": (lambda: write_pose(clip(), version=0.1)[:-3], "truncated"),
    "many points": (
        lambda: write_pose({f"C{k}": (HAND * 9, np.zeros((1, 189, 3)), np.zeros((1, 189))) for k in range(40)}),
        "over 5000 points",
    ),
}


@pytest.mark.parametrize("case", BAD_POSE)
def test_bad_pose_files(case):
    make, pattern = BAD_POSE[case]
    with pytest.raises(ValueError, match=pattern) as caught:
        read_pose_file(make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_truncation_is_refused_and_promises_cost_no_memory():
    data = write_pose(clip(REDUCED))
    body = data.index(struct.pack("<fIH", 25.0, FRAMES, 1))
    hostile = [data[:length] for length in [*range(0, 1500, 7), len(data) - 4, len(data) - 1]]
    hostile += [
        data[:body] + struct.pack("<fIH", 25.0, frames, people) + data[body + 10 :]
        for frames, people in ((140_000, 1), (140_000, 65535), (2**32 - 1, 65535), (0, 65535))
    ]
    tracemalloc.start()
    for file in hostile:
        with pytest.raises(ValueError):
            read_pose_file(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_agrees_with_pose_format_both_ways():
    pytest.importorskip("pose_format")
    from pose_format import Pose, PoseHeader
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

    components = clip()
    theirs = Pose.read(write_pose(components))  # our bytes, their reader
    assert theirs.header.components[0].points == components["POSE_LANDMARKS"][0] and theirs.body.fps == 25.0
    values = np.concatenate([values for _, values, _ in components.values()], axis=1)
    np.testing.assert_array_equal(theirs.body.data.data[:, 0], values.astype(np.float32))

    header = PoseHeader(  # their bytes, our reader
        0.2,
        PoseHeaderDimensions(WIDTH, HEIGHT, 0),
        [
            PoseHeaderComponent(name, points, [(0, 1)], [(1, 2, 3)], "XYZC")
            for name, (points, _, _) in components.items()
        ],
    )
    known = np.concatenate([known for _, _, known in components.values()], axis=1)[:, None].astype(np.float32)
    buffer = io.BytesIO()
    Pose(header, NumPyPoseBody(30.0, values[:, None].astype(np.float32), known)).write(buffer)
    result = read_pose_file(buffer.getvalue())
    assert result["fps"] == 30.0
    check_arms(joints_of(result)[0])


def test_wrists_that_pose_format_took_from_the_hands_are_put_before_the_elbows(tmp_path):
    pytest.importorskip("pose_format")
    from pose_format import Pose
    from pose_format.utils.generic import correct_wrists

    before, after = tmp_path / "before.pose", tmp_path / "after.pose"
    before.write_bytes(write_pose(clip()))
    with open(after, "wb") as file:
        correct_wrists(Pose.read(before.read_bytes())).write(file)
    expected, motion = load_motion(before), load_motion(after)
    assert not any("wrist" in str(note) for note in expected.notes)
    assert [str(note)[:31] for note in motion.notes if "wrist" in str(note)] == ["the depth of the right wrist is"]
    elbow, wrist, *fingers = (JOINT[f"right_{name}"] for name in ("elbow", "wrist", "index1", "thumb3"))
    np.testing.assert_allclose(motion.joints[:, wrist, 2] - motion.joints[:, elbow, 2], 0.19, atol=1e-3)
    moved = [wrist, *RIGHT_HAND]
    np.testing.assert_allclose(motion.joints[..., :2], expected.joints[..., :2], atol=4e-3)  # the hand's own wrist
    for joints in (motion.joints, expected.joints):
        joints[:, moved] -= joints[:, [wrist]]
    np.testing.assert_allclose(motion.joints, expected.joints, atol=1e-3)

    # arrays of the same landmarks are read alike
    result = read_pose_file(after.read_bytes())
    np.savez(tmp_path / "arrays.npz", **{name: value for name, value in result.items() if value is not None})
    assert any("depth of the right wrist" in str(note) for note in load_motion(tmp_path / "arrays.npz").notes)


def test_a_pose_file_of_another_version_is_named(tmp_path):
    (tmp_path / "clip.pose").write_bytes(write_pose(clip(), version=0.0))
    with pytest.raises(ValueError, match=r"another kind of \.pose file.*0\.1 or 0\.2.*current pose-format"):
        load_motion(tmp_path / "clip.pose")


def test_a_hand_that_was_found_at_the_other_wrist_is_left_out(tmp_path):
    """As in 3 of 640 clips of spoken-to-signed-translation's lexicon: MediaPipe took the right hand for both."""
    (tmp_path / "clip.pose").write_bytes(write_pose(clip()))
    result = read_pose_file((tmp_path / "clip.pose").read_bytes())
    arrays = {name: result[name] for name in ("pose", "left_hand", "right_hand", "image_size", "fps")}
    np.savez(tmp_path / "right.npz", **arrays)
    np.savez(tmp_path / "twice.npz", **arrays | {"left_hand": arrays["right_hand"]})
    np.savez(tmp_path / "left.npz", **arrays | {"left_hand": arrays["right_hand"], "right_hand": arrays["left_hand"]})
    right, twice = load_motion(tmp_path / "right.npz"), load_motion(tmp_path / "twice.npz")
    np.testing.assert_array_equal(twice.joints, right.joints)
    np.testing.assert_array_equal(twice.valid, right.valid)
    assert [note for note in twice.notes if note not in right.notes][0].text.startswith(
        "the left hand is at the other wrist"
    )
    with pytest.raises(MotionFileError, match="`left_hand` is not at the left wrist"):  # nothing says which is wrong
        load_motion(tmp_path / "left.npz")


def test_one_hand_in_both_places_belongs_to_the_nearer_wrist(tmp_path):
    result = read_pose_file(write_pose(clip()))
    found = {name: result[name] for name in ("pose", "left_hand", "right_hand", "image_size", "fps")}
    found["left_hand"] = found["right_hand"] + (found["pose"][:, 15, :3] - found["pose"][:, 16, :3])[:, None]
    twice = np.isin(np.arange(FRAMES), [2, 5])  # in a few frames, where no median sees it
    copied = np.where(twice[:, None, None], found["right_hand"], found["left_hand"])
    np.savez(tmp_path / "twice.npz", **found | {"left_hand": copied})
    np.savez(tmp_path / "lost.npz", **found | {"left_hand": np.where(twice[:, None, None], 0, found["left_hand"])})
    motion, expected = load_motion(tmp_path / "twice.npz"), load_motion(tmp_path / "lost.npz")
    np.testing.assert_array_equal(motion.joints, expected.joints)
    np.testing.assert_array_equal(motion.valid[:, LEFT_HAND[0]], ~twice)
    assert any("one hand was taken for both in 2 frames" in str(note) for note in motion.notes)


@pytest.mark.parametrize("lost", [0.0, np.nan, -1.0])
def test_hands_that_were_not_detected_are_none_however_a_file_writes_it(tmp_path, lost):
    """Of wrists that are the hands', and of a hand at the other wrist: zeros, NaN and -1 are no hand there."""
    result = read_pose_file(write_pose(clip()))
    found = {name: result[name] for name in ("pose", "left_hand", "right_hand", "image_size", "fps")}
    there = np.arange(FRAMES) % 3 == 0
    corrected = found | {"pose": found["pose"].copy()}
    corrected["pose"][there, 16, :3] = found["right_hand"][there, 0]
    corrected["right_hand"] = np.where(there[:, None, None], found["right_hand"], lost)
    np.savez(tmp_path / "corrected.npz", **corrected)
    motion = load_motion(tmp_path / "corrected.npz")
    assert any("depth of the right wrist" in str(note) for note in motion.notes)
    with pytest.raises(MotionFileError, match="`image_size` is .*, expected width and height in pixels"):
        load_motion(tmp_path / "corrected.npz", image_size=640)
    elbow, wrist = (motion.joints[there][:, JOINT[f"right_{name}"], 2] for name in ("elbow", "wrist"))
    np.testing.assert_allclose(wrist - elbow, 0.19, atol=1e-3)

    twice = found | {"left_hand": np.where(there[:, None, None], found["right_hand"], lost)}
    np.savez(tmp_path / "twice.npz", **twice)
    assert any("left hand is at the other wrist" in str(note) for note in load_motion(tmp_path / "twice.npz").notes)

    # nor are fingers observed where nobody is seen
    found["pose"][there] = lost
    np.savez(tmp_path / "nobody.npz", **found)
    np.testing.assert_array_equal(load_motion(tmp_path / "nobody.npz").valid[:, RIGHT_HAND[0]], ~there)


def test_hands_without_depth_are_remarked(tmp_path):
    result = read_pose_file(write_pose(clip()))
    result["right_hand"][..., 2] = 0
    np.savez(tmp_path / "flat.npz", **result)
    assert sum("the right hand has no depth" in str(note) for note in load_motion(tmp_path / "flat.npz").notes) == 1


# --- arrays per frame -------------------------------------------------------------------------------------------------


def flat_frames(size):
    result = read_pose_file(write_pose(clip()))
    parts = [result["pose"].reshape(FRAMES, -1), np.full((FRAMES, 468 * 3), 0.5, np.float32)]
    parts += [result[f"{side}_hand"].reshape(FRAMES, -1) for side in ("left", "right")]
    return result, list(np.concatenate(parts if size == 1662 else [parts[0], *parts[2:]], axis=1))


@pytest.mark.parametrize("size", [1662, 258])
def test_frames_are_stacked_and_a_lost_one_is_not_detected(size):
    expected, frames = flat_frames(size)
    frames[4] = None
    result = read_landmark_frames(frames)
    for part in ("pose", "left_hand", "right_hand"):
        assert not result[part][4].any()
        np.testing.assert_array_equal(np.delete(result[part], 4, 0), np.delete(expected[part], 4, 0))
    assert not joints_of(result)[1][4].any() and joints_of(result)[1][5].any()


@pytest.mark.parametrize(
    "arrays, pattern",
    [
        ([np.zeros(126)] * 3, "two hands without a body"),
        ([np.zeros(63)] * 3, "one hand without a body"),
        ([np.zeros(99)] * 3, r"\(1662,\) or \(258,\)"),
        ([np.zeros(258), np.zeros(1662)], "one shape"),
    ],
)
def test_bad_frames(arrays, pattern):
    with pytest.raises(ValueError, match=pattern):
        read_landmark_frames(arrays)


@pytest.mark.parametrize("order", ["pose left_hand right_hand face", "left_hand right_hand pose face"])
def test_rows_with_the_face_last_that_was_never_found_are_read_right(order):
    parts = landmarks(cafe())
    parts["face"] = np.zeros((len(parts["pose"]), 468, 3))
    rows = rows_of(parts, *order.split())
    for name, values in landmark_formats.landmarks_of_rows(rows).items():
        assert values == ", ".join(order.split()) if name == "order" else np.allclose(values, parts[name], atol=1e-6)


FINGERS = np.arange(1, 21).reshape(5, 4)
ORDERS_OF_POINTS = {
    "little finger first": [0, *FINGERS[::-1].ravel()],
    "thumb last": [0, *FINGERS[[1, 2, 3, 4, 0]].ravel()],
    "SMPL-X's": [0, *FINGERS[[1, 2, 4, 3, 0]].ravel()],
    "tips first": [0, *FINGERS[:, ::-1].ravel()],
    "wrist last": [*range(1, 21), 0],
    "tips first, wrist last": [*FINGERS[:, ::-1].ravel(), 0],
}


@pytest.mark.parametrize("order", ORDERS_OF_POINTS)
@pytest.mark.parametrize("number", range(2))
def test_points_of_hands_in_another_order_are_refused(order, number, tmp_path):
    arrays = landmarks(cafe(number)) | {"image_size": (1280, 720), "fps": 15}
    np.savez(tmp_path / "a.npz", **arrays)
    load_motion(tmp_path / "a.npz")
    changed = {name: arrays[name][:, ORDERS_OF_POINTS[order]] for name in ("left_hand", "right_hand")}
    np.savez(tmp_path / "a.npz", **arrays | changed)
    with pytest.raises(MotionFileError, match="points of the hands are in another order.*from the palm to its tip"):
        load_motion(tmp_path / "a.npz")


def test_a_folder_of_two_kinds_of_frames_is_refused(tmp_path):
    np.save(tmp_path / "1.npy", np.zeros(258))
    np.savez(tmp_path / "2.npz", **{name: np.zeros((1, width)) for name, width in POSE_WIDTHS.items()})
    with pytest.raises(ValueError, match="some files hold SMPL-X parameters and some landmarks"):
        load_motion(tmp_path, fps=25)
    np.savez(
        tmp_path / "1.npz", betas=np.zeros(10), **{name: np.zeros((1, width)) for name, width in POSE_WIDTHS.items()}
    )
    (tmp_path / "1.npy").unlink()
    with pytest.raises(ValueError, match=r"frame 1 holds .*, the first one smplx: betas \(10\)"):
        load_motion(tmp_path, fps=25)


def test_frame_order():
    assert frame_order(["10.npy", "9.npy", "8.npy"]) == ["8.npy", "9.npy", "10.npy"]
    assert frame_order(["1.npy", "4.npy", "2.npy"]) == ["1.npy", "2.npy", None, "4.npy"]
    assert frame_order(["c7_12_3D.pkl", "c7_9_3D.pkl", "c7_11_3D.pkl"]) == [
        *("c7_9_3D.pkl", None, "c7_11_3D.pkl", "c7_12_3D.pkl")
    ]
    assert frame_order(["f20.npy", "f40.npy", "f80.npy"]) == ["f20.npy", "f40.npy", None, "f80.npy"]
    assert frame_order(["only.npy"]) == ["only.npy"] and frame_order([]) == []


@pytest.mark.parametrize(
    "names, pattern",
    [
        (["a.npy", "b.npy"], "not numbered"),
        (["a1.npy", "a1b2.npy"], "not numbered"),
        (["1.npy", "01.npy"], "same frame number"),
        (["1.npy", "2.npy", "1000000000000.npy"], "most frames are lost"),
    ],
)
def test_bad_frame_names(names, pattern):
    with pytest.raises(ValueError, match=pattern):
        frame_order(names)


@given(st.sets(st.integers(0, 300), min_size=2), st.randoms())
def test_frame_order_keeps_every_file_in_the_order_of_its_number(numbers, random):
    names = [f"clip_5_{number}.npz" for number in numbers]
    random.shuffle(names)
    try:
        ordered = frame_order(names)
    except ValueError as error:
        assert "lost" in str(error)
    else:
        assert [name for name in ordered if name] == [f"clip_5_{number}.npz" for number in sorted(numbers)]
        assert ordered[0] and ordered[-1]


# --- Kaggle "asl-signs" -----------------------------------------------------------------------------------------------


def kaggle_table(first=17):
    """The clip as 543 rows a frame, x over the width and so on for a picture of 3 : 4."""
    arrow = pytest.importorskip("pyarrow")
    size = np.array([WIDTH, WIDTH * 4 / 3, WIDTH])
    rows = {"frame": [], "row_id": [], "type": [], "landmark_index": [], "x": [], "y": [], "z": []}
    components = clip(z_unit=1.0)
    for part, name, count in (
        ("face", "FACE_LANDMARKS", 468),
        ("left_hand", "LEFT_HAND_LANDMARKS", 21),
        ("pose", "POSE_LANDMARKS", 33),
        ("right_hand", "RIGHT_HAND_LANDMARKS", 21),
    ):
        values = np.full((FRAMES, count, 3), 0.5) if part == "face" else components[name][1] / size
        values[components[name][2][:, :1].repeat(count, 1) == 0] = np.nan
        for frame in range(FRAMES):
            rows["frame"] += [first + frame] * count
            rows["row_id"] += [f"{first + frame}-{part}-{k}" for k in range(count)]
            rows["type"] += [part] * count
            rows["landmark_index"] += range(count)
            for axis, column in enumerate("xyz"):
                rows[column] += values[frame, :, axis].tolist()
    kinds = {"frame": arrow.int16(), "landmark_index": arrow.int16()}
    return arrow.table({name: arrow.array(column, type=kinds.get(name)) for name, column in rows.items()})


def kaggle(data, clip=None):
    return read_kaggle_landmarks(io.BytesIO(data), clip)


def parquet_file(table, **options):
    pytest.importorskip("pyarrow.parquet").write_table(table, file := io.BytesIO(), **options)
    return file.getvalue()


def test_kaggle_file_gives_the_body():
    result = kaggle(parquet_file(kaggle_table()))
    assert result["fps"] is None and result["image_size"] == (3, 4)
    joints, valid = joints_of(result)
    check_arms(joints)
    assert not valid[:, JOINT["left_index1"]].any() and valid[:, JOINT["right_index1"]].all()


def test_kaggle_rows_in_any_order_row_groups_nulls_and_lost_frames():
    table = kaggle_table()
    table = table.take(np.random.default_rng(0).permutation(table.num_rows))
    table = table.filter(np.asarray(table["frame"]) != 17 + 4)
    result = kaggle(parquet_file(table.replace_schema_metadata(None), row_group_size=1000))
    assert len(result["pose"]) == FRAMES and not result["pose"][4].any()
    joints, valid = joints_of(result)
    check_arms(joints)
    assert not valid[4].any() and valid[5].any()


def test_bad_kaggle_files(monkeypatch):
    table = kaggle_table()
    bad = [
        (table.drop_columns(["z"]), "expected the numbers and strings frame"),
        (table.set_column(4, "x", table["row_id"]), "expected the numbers and strings"),
        (table.slice(0, 0), "no row"),
        (table.filter(np.asarray(table["type"]) == "face"), "both shoulders"),
        (table.set_column(0, "frame", [np.arange(table.num_rows) * 1000]), "numbered 0 to"),
    ]
    for content, pattern in bad:
        with pytest.raises(ValueError, match=pattern) as caught:
            kaggle(parquet_file(content))
        assert "\n" not in str(caught.value)
    data = parquet_file(table)
    for content in (b"x" * 99, data[: len(data) // 2], b""):
        with pytest.raises(ValueError, match="damaged"):
            kaggle(content)
    monkeypatch.setattr(landmark_formats, "MAX_KAGGLE_FRAMES", FRAMES - 1)
    with pytest.raises(ValueError, match="at most 8 frames"):
        kaggle(data)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'lslm\[parquet\]'"):
        kaggle(data)


def test_a_footer_is_not_believed_to_be_huge():
    data = parquet_file(kaggle_table())
    with pytest.raises(ValueError, match="a footer of 1073741824 bytes"):
        kaggle(data[:-8] + (2**30).to_bytes(4, "little") + b"PAR1")


def test_strings_may_take_less_than_numbers(monkeypatch):
    data = parquet_file(kaggle_table(), use_dictionary=False, compression="zstd")
    sizes = pytest.importorskip("pyarrow.parquet").ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = {sizes.column(n).path_in_schema: sizes.column(n).total_uncompressed_size for n in range(6)}
    monkeypatch.setattr(landmark_formats, "MAX_PARQUET_BYTES", sum(columns.values()) + columns["type"])
    with pytest.raises(ValueError, match="cut it"):
        kaggle(data)


def test_two_sequences_without_a_name_are_refused():
    table = kaggle_table()
    with pytest.raises(ValueError, match="several sequences and no sequence_id"):
        kaggle(parquet_file(pytest.importorskip("pyarrow").concat_tables([table, table])))


def test_a_long_string_in_every_row_costs_no_memory():
    arrow = pytest.importorskip("pyarrow")
    rows = 200_000
    kinds = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * 100_000])  # 20 GB, spelled out
    numbers = np.zeros(rows, np.int32)
    names = ["frame", "type", "landmark_index", "x", "y", "z"]
    frames = np.arange(rows) // 543
    data = parquet_file(arrow.table([frames, kinds, numbers, numbers, numbers, numbers], names=names))
    with pytest.raises(ValueError, match="both shoulders"):
        kaggle(data)


def fingerspelling(sequences=(1975433633,), rows_of_others=3):
    """A row for each frame, as asl-fingerspelling has them: the clip, and before it other sequences."""
    arrow = pytest.importorskip("pyarrow")
    long = {name: np.array(column) for name, column in kaggle_table().to_pydict().items()}
    columns = {"frame": np.concatenate([*[np.arange(rows_of_others)] * (len(sequences) - 1), np.arange(FRAMES)])}
    for part, size in landmark_formats._PARTS.items():
        for point in range(size):
            rows = (long["type"] == part) & (long["landmark_index"] == point)
            for axis in "xyz":
                values = np.concatenate([np.zeros(len(columns["frame"]) - FRAMES), long[axis][rows]])
                columns[f"{axis}_{part}_{point}"] = values.astype(np.float32)
    counts = [rows_of_others] * (len(sequences) - 1) + [FRAMES]
    return arrow.table(columns | {"x_face_0": columns["x_pose_0"], "sequence_id": np.repeat(sequences, counts)})


def test_fingerspelling_of_one_sequence_or_the_one_that_is_asked_for(tmp_path):
    check_arms(joints_of(kaggle(parquet_file(fingerspelling())))[0])
    data = parquet_file(fingerspelling((17, 4, 99)[::-1]), row_group_size=2)
    expected = kaggle(parquet_file(kaggle_table()))
    for part, values in kaggle(data, "17").items():
        np.testing.assert_allclose(values, expected[part], atol=1e-6) if values is not None else None
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(MotionFileError, match="3 sequences in the file: 4, 17, 99; pass clip='4'"):
        load_motion(tmp_path / "a.parquet")
    assert load_motion(tmp_path / "a.parquet", clip="17").num_frames == FRAMES
    (tmp_path / "a.parquet").write_bytes(gzip.compress(data))
    assert load_motion(tmp_path / "a.parquet", clip="17").num_frames == FRAMES
    with pytest.raises(MotionFileError, match="leave clip out"):
        kaggle(parquet_file(kaggle_table()), "17")
    with pytest.raises(ValueError, match="expected the numbers and strings frame, x_pose_0"):
        kaggle(parquet_file(fingerspelling().drop_columns(["z_pose_3"])))


def test_bool_is_no_landmark(tmp_path):
    for frame in range(3):
        np.save(
            tmp_path / f"{frame}.npy", np.random.default_rng(frame).uniform(0.1, 0.9, 258) > (0.5 if frame == 1 else 0)
        )
    with pytest.raises(ValueError, match="bool, expected real numbers"):
        load_motion(tmp_path)
    pose = np.random.default_rng(0).uniform(0.2, 0.8, (4, 33, 4))
    arrays = {"pose": pose, "left_hand": pose[:, :21, :3], "right_hand": pose[:, :21, :3]}
    for name in arrays:
        with pytest.raises(ValueError, match="bool, expected real numbers"):
            mediapipe_to_joints(**arrays | {name: arrays[name] > 0.5})
