"""Mirror images and axes: what is a person is found by how a body bends, in every format, and each hand by itself."""

from pathlib import Path

import motion_writers as write
import numpy as np
import pyarrow.parquet as pq
import pytest
import test_mocap_formats as mocap
import test_motion_formats as formats

from lslm.processing import MotionFileError, Remark, load_motion
from lslm.processing.motion_features import JOINT_NAMES, LEFT_HAND, LOWER_BODY, RIGHT_HAND
from lslm.processing.readers import handedness
from lslm.processing.smplx_formats import UP_TURNS

MIRROR = np.array((-1, 1, 1), np.float32)
HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
FOUND = Remark("left-handed axes, mirrored; if they are not", "up", "y")


@pytest.fixture(scope="module")
def signs():
    """40 utterances of real signs (T, 52, 3), and which joints a webcam saw (T, 52)."""
    data = Path(__file__).parents[1] / "examples" / "asl_cafe" / "data"
    clips = []
    for split in ("test", "spelling"):
        column = pq.read_table(data / f"{split}.parquet", columns=["joints_mm"])["joints_mm"].combine_chunks()
        for row in range(0, len(column), len(column) // 20):
            values = column[row].values
            while hasattr(values, "flatten") and values.type.num_fields:
                values = values.flatten()
            joints = values.to_numpy().reshape(-1, 52, 3).astype(np.float32) / 1000
            clips.append((joints, ~np.isin(np.arange(52), LOWER_BODY) & np.ones((len(joints), 1), bool)))
    return clips


@pytest.fixture(scope="module")
def signer():
    """(T, 52, 3) whose hands are in front of the chest and half closed."""
    params = write.a_motion()
    params["body_pose"][:, 17 * 3 + 1] -= 1.2  # elbows
    params["body_pose"][:, 18 * 3 + 1] += 1.2
    return write.joints_of(params).astype(np.float32)


def test_real_signs_are_no_mirror_images_and_their_mirror_images_are(signs):
    for joints, valid in signs:
        found, notes = handedness.right_handed(joints, valid)
        np.testing.assert_array_equal(found, joints)
        assert notes == []
        found, notes = handedness.right_handed(joints * MIRROR, valid)
        np.testing.assert_array_equal(found, joints)
        assert notes == [FOUND]


@pytest.mark.parametrize("side", HANDS)
def test_each_hand_is_judged_by_itself(signs, side):
    found = 0
    for joints, valid in signs:
        wrong, wrist = joints.copy(), joints[:, [JOINT_NAMES.index(f"{side}_wrist")]]
        wrong[:, HANDS[side]] = (joints[:, HANDS[side]] - wrist) * MIRROR + wrist
        unseen = valid & ~np.isin(np.arange(52), HANDS[side])
        assert handedness.right_handed(wrong, unseen)[1] == []
        said = [Remark(f"mirrored: the fingers of the {side} hand bend to its back", "up", "y")]
        notes = handedness.right_handed(wrong, valid)[1]
        assert notes in ([], said)
        found += notes == said
    assert found >= 39  # of 40: a stretched hand bends to no side


@pytest.mark.parametrize("lacking", [("foot",), ("foot", "knee", "ankle"), ("foot", *map(str, range(1, 4)))])
@pytest.mark.parametrize("up", ["y", "z"])
def test_left_handed_bvh_files_without_toes(tmp_path, signer, lacking, up):
    keep = [joint for joint, name in enumerate(JOINT_NAMES) if not name.endswith(lacking) or name.startswith("spine")]
    names = [mocap.mixamo[joint] for joint in keep]
    given = (signer * MIRROR)[:, keep] @ np.array(UP_TURNS[up])
    found, valid, notes = mocap.named_joints_to_motion_joints(names, given)
    np.testing.assert_allclose(found[:, keep], signer[:, keep], atol=1e-4)
    assert valid[:, keep].all() and [note.argument for note in notes if note.argument] == ["up"]
    told, _, notes = mocap.named_joints_to_motion_joints(names, given, up)
    np.testing.assert_allclose(told[:, keep], (signer * MIRROR)[:, keep], atol=1e-4)
    assert not any(note.argument for note in notes)


def test_joints_of_ones_own(tmp_path, signer):
    np.savez(tmp_path / "a.npz", joints=signer * MIRROR, fps=25)
    motion = load_motion(tmp_path / "a.npz")
    np.testing.assert_array_equal(motion.joints, signer)
    assert motion.notes == (FOUND,)
    told = load_motion(tmp_path / "a.npz", up="y")
    np.testing.assert_array_equal(told.joints, signer * MIRROR)
    assert told.notes == ()
    swapped = signer.copy()
    for side, other in (("left", "right"), ("right", "left")):
        wrists = (signer[:, [JOINT_NAMES.index(f"{of}_wrist")]] for of in (side, other))
        swapped[:, HANDS[side]] = signer[:, HANDS[other]] + next(wrists) - next(wrists)
    np.savez(tmp_path / "b.npz", joints=swapped, fps=25)
    said = "mirrored: the fingers of the left and right hand bend to its back"
    assert load_motion(tmp_path / "b.npz").notes == (Remark(said, "up", "y"),)


@pytest.mark.parametrize("up", UP_TURNS)
def test_the_axis_that_is_up_is_found_or_told_in_every_format(tmp_path, signer, up):
    axes = np.array(UP_TURNS[up]).T  # from y up to the file's
    np.savez(tmp_path / "joints.npz", joints=signer @ axes.T, fps=25)
    params = write.a_motion()
    np.savez(tmp_path / "smplx.npz", fps=25, **{k: write.in_axes(params, axes)[k] for k in write.HEAD})
    expected = {"joints.npz": signer, "smplx.npz": write.joints_of(params)}
    angles, root, expected["body.bvh"] = mocap.a_motion()
    vertical = mocap.forward(angles, root)
    names, positions, fps = mocap.mixamo, vertical @ axes.T, mocap.FPS
    lines = ["HIERARCHY"]  # every joint a root with positions: no rotations to turn
    for name in names:
        lines += [f"ROOT {name}", "{", "OFFSET 0 0 0", "CHANNELS 3 Xposition Yposition Zposition", "}"]
    lines += ["MOTION", f"Frames: {len(positions)}", f"Frame Time: {1 / fps:.6f}"]
    lines += [" ".join(f"{number:.6f}" for number in frame.ravel()) for frame in positions]
    (tmp_path / "body.bvh").write_text("\n".join(lines))
    for name, joints in expected.items():
        for told in (None, up):
            found = load_motion(tmp_path / name, up=told)
            np.testing.assert_allclose(*(x - x[:, :1] for x in (found.joints, joints)), atol=1e-3)
            assert not any("expected y up" in note.text for note in found.notes)
            if told is None and up != "y":
                assert any(up in note.text for note in found.notes)


def test_a_wrong_axis_is_said(tmp_path, signer):
    np.savez(tmp_path / "joints.npz", joints=signer, fps=25)
    np.savez(tmp_path / "smplx.npz", fps=25, **{k: write.a_motion()[k] for k in write.HEAD})
    for name in ("joints.npz", "smplx.npz"):
        notes = load_motion(tmp_path / name, up="-y").notes
        assert Remark("the head is along -y of the pelvis, expected y up", "up") in notes


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda points: points * (-1, 1, 1) + (1, 0, 0), "the landmarks are a mirror image"),
        (lambda points: points * (1, -1, 1) + (0, 1, 0), "the head is not above the shoulders"),
        (lambda points: points[..., [1, 0, 2]], "the head is not above the shoulders"),
    ],
)
def test_pictures_that_are_mirrored_or_turned(tmp_path, change, message):
    arrays = dict(zip(("pose", "left_hand", "right_hand"), formats.signer(640, 480), strict=True))
    np.savez(tmp_path / "a.npz", **arrays, image_size=(640, 480), fps=15)
    assert load_motion(tmp_path / "a.npz").notes == ()
    for points in arrays.values():
        points[..., :3] = change(points[..., :3])
    np.savez(tmp_path / "b.npz", **arrays, image_size=(640, 480), fps=15)
    with pytest.raises(MotionFileError, match=message):
        load_motion(tmp_path / "b.npz")
    load_motion(tmp_path / "b.npz", up="-y")  # as it is
