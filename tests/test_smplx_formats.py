"""SMPL-X parameters in every layout of the field: written from known motion, read back to a millimetre."""

import motion_writers as write
import numpy as np
import pytest

from lslm.processing import Remark, load_motion
from lslm.processing.motion_features import LEFT_HAND, LOWER_BODY
from lslm.processing.skeleton import HANDS_MEAN
from lslm.processing.smplx_formats import LAYOUTS, array_to_clip

MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def body():
    return write.REST


@pytest.fixture(scope="module")
def hands_mean():
    return HANDS_MEAN


def the_joints(body, params):
    return write.joints_of(params, body)


def root_aligned(joints):
    return joints - joints[:, :1]


def moved_to_start(joints):
    return joints - joints[:1, :1]


FORMATS = {
    "signavatars": lambda path, p, m: write.signavatars(path / "clip.pkl", p, m),
    "signavatars as torch.save": lambda path, p, m: write.signavatars(path / "clip.pkl", p, m, torch_zip=True),
    "signavatars-unsmooth": lambda path, p, m: write.signavatars(path / "clip.pkl", p, m, unsmooth=True),
    "soke": lambda path, p, m: write.soke_folder(path / "clip", p, m),
    "smplerx": lambda path, p, m: write.smplerx_folder(path / "clip", p, m),
    "aios": lambda path, p, m: write.aios_folder(path / "clip", p, m),
    "openasl3d": lambda path, p, m: write.openasl3d_folder(path / "clip", p, m),
    "motion-x": lambda path, p, m: write.save(path / "clip.npy", write.motion_x(p)),
    "motion-x, y down": lambda path, p, m: write.save(path / "clip.npy", write.motion_x(p, y_down=True)),
    "amass-smplx": lambda path, p, m: write.amass_smplx(path / "clip.npz", p, 60.0),
    "amass-smplh": lambda path, p, m: write.amass_smplh(path / "clip.npz", p, 60.0),
}
UPPER_ONLY = {
    "soke-133": lambda path, p, m: write.save(path / "clip.npy", write.soke_133(p, m)),
    "signspark": lambda path, p, m: write.signspark(path / "clip.npz", p),
    "signspark as an array": lambda path, p, m: write.save(
        path / "clip.npy",
        np.concatenate([write.six(p[k]) for k in ("left_hand_pose", "right_hand_pose", "body_pose")], 1)[
            :, [*range(180), *range(180 + 66, 180 + 126)]
        ],
    ),
}


@pytest.mark.parametrize("case", FORMATS)
def test_round_trip(case, body, hands_mean, tmp_path):
    params = write.a_motion()
    motion = load_motion(FORMATS[case](tmp_path, params, hands_mean), fps=25)
    assert motion.format == case.split(",")[0].split(" as")[0] and motion.fps == 25
    expected = the_joints(body, params)
    np.testing.assert_allclose(root_aligned(motion.joints), root_aligned(expected), atol=MILLIMETRE)
    if LAYOUTS[motion.format].in_space:
        travelled = expected + params["transl"][:, None]
        np.testing.assert_allclose(moved_to_start(motion.joints), moved_to_start(travelled), atol=MILLIMETRE)
    else:  # a camera's idea of where the person is does not move the person
        np.testing.assert_allclose(motion.joints[:, 0], motion.joints[:1, 0].repeat(len(motion.joints), 0), atol=1e-6)
    assert motion.valid[:, 12:].all() and motion.valid[:, LOWER_BODY].any() != LAYOUTS[motion.format].seated


@pytest.mark.parametrize("case", UPPER_ONLY)
def test_round_trip_of_the_upper_body(case, body, hands_mean, tmp_path):
    params = write.upper_body(write.a_motion())
    motion = load_motion(UPPER_ONLY[case](tmp_path, params, hands_mean), fps=25)
    assert motion.format == case.split(" as")[0]
    np.testing.assert_allclose(root_aligned(motion.joints), root_aligned(the_joints(body, params)), atol=MILLIMETRE)
    assert not motion.valid[:, LOWER_BODY].any()


def test_signmotiongpt_has_no_root(body, hands_mean, tmp_path):
    params = write.a_motion() | {"global_orient": np.zeros((write.FRAMES, 3))}
    path = write.save(tmp_path / "clip.npy", write.signmotiongpt(params, hands_mean))
    motion = load_motion(path, fps=30)
    assert motion.format == "signmotiongpt"
    np.testing.assert_allclose(root_aligned(motion.joints), root_aligned(the_joints(body, params)), atol=MILLIMETRE)


# --- what is told apart, and by what ----------------------------------------------------------------------------------


def test_two_layouts_of_182_numbers_are_told_apart_by_their_content(hands_mean, tmp_path):
    params = write.a_motion()
    view = write.camera_view(params, hands_mean)
    names = (*write.HEAD, "jaw_pose", "betas", "expression", "transl")
    signavatars = np.concatenate([view[name] for name in names], 1)
    assert array_to_clip(signavatars).format == "signavatars"
    assert array_to_clip(write.signmotiongpt(params, hands_mean)).format == "signmotiongpt"


def test_what_fits_two_layouts_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    both = rng.uniform(-0.02, 0.02, (9, 182))
    both[:, 0] += 3.1  # head down for the one; a tall person for the other
    with pytest.raises(ValueError, match="fit signavatars and signmotiongpt.*format='signavatars'"):
        array_to_clip(both)
    motion = load_motion(write.save(tmp_path / "clip.npy", both), fps=24, format="signavatars")
    assert motion.format == "signavatars"


def test_what_fits_none_says_why(tmp_path):
    array = np.random.default_rng(0).normal(0, 50, (9, 182))
    with pytest.raises(ValueError, match="signavatars: .*turns by.*signmotiongpt: "):
        load_motion(write.save(tmp_path / "clip.npy", array), fps=24)
    with pytest.raises(ValueError, match="17 numbers a frame are no known layout; known are 182 .signavatars."):
        load_motion(write.save(tmp_path / "clip.npy", array[:, :17]), fps=24)
    with pytest.raises(ValueError, match="every number is 0"):
        load_motion(write.save(tmp_path / "clip.npy", 0 * array), fps=24)


def test_a_named_format_that_is_not_it(hands_mean, tmp_path):
    file = write.signavatars(tmp_path / "clip.pkl", write.a_motion(), hands_mean)
    with pytest.raises(ValueError, match="motion-x"):
        load_motion(file, format="motion-x", fps=24)
    with pytest.raises(ValueError, match="unknown format 'signavatar'; did you mean 'signavatars'"):
        load_motion(file, format="signavatar", fps=24)


def test_the_frame_rate_is_asked_for_or_documented(hands_mean, tmp_path):
    params = write.a_motion()
    motion = load_motion(write.signavatars(tmp_path / "a.pkl", params, hands_mean))
    said = "no frame rate in the file: taken as 24 fps, as usual for SignAvatars `smplx`"
    assert (
        motion.fps == 24 and motion.notes[0] == Remark(said, "fps") and str(motion.notes[0]) == f"{said}; pass fps=..."
    )
    with pytest.raises(ValueError, match="no frame rate: SOKE.*pass fps"):
        load_motion(write.soke_folder(tmp_path / "b", params, hands_mean))
    for amass in write.amass_smplx(tmp_path / "c.npz", params, 60.0), write.amass_smplh(tmp_path / "d.npz", params, 60):
        motion = load_motion(amass)
        assert motion.fps == 60 and not any(note.argument for note in motion.notes)


def test_a_body_that_hangs_head_down_is_asked_about(hands_mean, tmp_path):
    y_up = write.relative_hands(write.a_motion(), hands_mean)
    folder = tmp_path / "clip"
    folder.mkdir()
    for t in range(9):
        np.savez(folder / f"{t}.npz", **{name: y_up[name][t] for name in write.HEAD})
    with pytest.raises(ValueError, match=r"upright along y, expected -y as in SMPLer-X.*up='y'"):
        load_motion(folder, fps=30)
    assert load_motion(folder, fps=30, up="y").joints[:, 15, 1].mean() > 0.3


def test_fingers_that_bend_backwards_are_noted(tmp_path):
    params = write.a_motion()
    straight = params | {k: 0.1 * params[k] for k in ("left_hand_pose", "right_hand_pose")}
    over = straight | {"left_hand_pose": straight["left_hand_pose"] + 0.4 * np.tile([0, 0, 1.0], 15)}
    over["right_hand_pose"] = straight["right_hand_pose"] - 0.4 * np.tile([0, 0, 1.0], 15)
    motion = load_motion(write.save(tmp_path / "clip.npy", write.motion_x(over)), fps=30)
    assert any(
        "bend backwards" in note.text and (note.argument, note.example) == ("flat_hand_mean", False)
        for note in motion.notes
    )
    motion = load_motion(write.save(tmp_path / "clip.npy", write.motion_x(params)), fps=30)
    assert not any("bend backwards" in note.text for note in motion.notes)


# --- hands, frames, people --------------------------------------------------------------------------------------------


def test_a_hand_that_was_not_seen_is_not_valid(hands_mean, tmp_path):
    seen = np.arange(write.FRAMES) % 3 > 0
    file = write.signavatars(tmp_path / "clip.pkl", write.a_motion(), hands_mean, left_valid=seen)
    motion = load_motion(file, fps=24)
    np.testing.assert_array_equal(motion.valid[:, LEFT_HAND].all(1), seen)
    assert motion.valid[:, 37:].all() and np.isfinite(motion.joints).all()


def test_missing_frames_are_filled_in_and_said(hands_mean, body, tmp_path):
    params = write.a_motion()
    missing = (5, 6, 13)
    motion = load_motion(write.smplerx_folder(tmp_path / "clip", params, hands_mean, missing=missing), fps=30)
    assert motion.num_frames == write.FRAMES and any("3 of 24 frames missing" in note.text for note in motion.notes)
    assert not motion.valid[list(missing)].any() and motion.valid[4].all()
    expected = root_aligned(the_joints(body, params))
    there = [t for t in range(write.FRAMES) if t not in missing]
    np.testing.assert_allclose(root_aligned(motion.joints)[there], expected[there], atol=MILLIMETRE)


def test_of_two_people_the_one_who_is_there_longer_is_read(hands_mean, body, tmp_path):
    params = write.a_motion()
    motion = load_motion(write.smplerx_folder(tmp_path / "clip", params, hands_mean, second_person=True), fps=30)
    np.testing.assert_allclose(root_aligned(motion.joints), root_aligned(the_joints(body, params)), atol=MILLIMETRE)
    assert any("2 people" in note.text for note in motion.notes)


def test_one_frame_or_several_clips_in_a_folder(hands_mean, tmp_path):
    params = write.a_motion()
    folder = write.soke_folder(tmp_path / "a", params, hands_mean)
    with pytest.raises(ValueError, match="1 frame.*give the folder"):
        load_motion(folder / "a_8_3D.pkl", fps=24)
    (folder / "a_8_3D.pkl").rename(folder / "b_8_3D.pkl")
    with pytest.raises(ValueError, match="not numbered alike"):
        load_motion(folder, fps=24)
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("1.pkl", "2.pkl"):
        write.signavatars(clips / name, params, hands_mean)
    with pytest.raises(ValueError, match="1.pkl: this is not one frame"):
        load_motion(clips, fps=24)


def test_principal_components_are_refused(hands_mean, tmp_path):
    view = write.camera_view(write.a_motion(), hands_mean)
    np.savez(tmp_path / "clip.npz", **{k: view[k] for k in write.HEAD} | {"left_hand_pose": np.zeros((24, 12))})
    with pytest.raises(ValueError, match="use_pca=False"):
        load_motion(tmp_path / "clip.npz", fps=24)
