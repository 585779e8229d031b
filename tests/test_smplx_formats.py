"""SMPL-X parameters in every layout of the field: written from known motion, read back to a millimetre."""

import pickle

import motion_writers as write
import numpy as np
import pytest

from lslm.processing import Remark, load_motion
from lslm.processing.motion_features import LEFT_HAND, LOWER_BODY
from lslm.processing.skeleton import HANDS_MEAN
from lslm.processing.smplx_formats import LAYOUTS, array_to_clip

MILLIMETRE = 1e-3
HANDS = ("left_hand_pose", "right_hand_pose")


def the_joints(params):
    return write.joints_of(params, write.REST)


def assert_same_poses(joints, params, frames=slice(None)):
    """Each frame as seen from its own pelvis."""
    expected = the_joints(params)
    joints, expected = (array[frames] - array[frames, :1] for array in (joints, expected))
    np.testing.assert_allclose(joints, expected, atol=MILLIMETRE)


def joined(params, *names):
    return np.concatenate([params[name] for name in names], axis=1)


FORMATS = {
    "signavatars": lambda path, p: write.signavatars(path / "clip.pkl", p, HANDS_MEAN),
    "signavatars as torch.save": lambda path, p: write.signavatars(path / "clip.pkl", p, HANDS_MEAN, torch_zip=True),
    "signavatars-unsmooth": lambda path, p: write.signavatars(path / "clip.pkl", p, HANDS_MEAN, unsmooth=True),
    "soke": lambda path, p: write.soke_folder(path / "clip", p, HANDS_MEAN),
    "smplerx": lambda path, p: write.smplerx_folder(path / "clip", p, HANDS_MEAN),
    "aios": lambda path, p: write.aios_folder(path / "clip", p, HANDS_MEAN),
    "openasl3d": lambda path, p: write.openasl3d_folder(path / "clip", p, HANDS_MEAN),
    "motion-x": lambda path, p: write.save(path / "clip.npy", write.motion_x(p)),
    "motion-x, y down": lambda path, p: write.save(path / "clip.npy", write.motion_x(p, y_down=True)),
    "amass-smplx": lambda path, p: write.amass_smplx(path / "clip.npz", p, 60.0),
    "amass-smplh": lambda path, p: write.amass_smplh(path / "clip.npz", p, 60.0),
}
UPPER_ONLY = {
    "soke-133": lambda path, p: write.save(path / "clip.npy", write.soke_133(p, HANDS_MEAN)),
    "signspark": lambda path, p: write.signspark(path / "clip.npz", p),
    "signspark as an array": lambda path, p: write.save(
        path / "clip.npy",
        np.concatenate([*(write.six(p[k]) for k in HANDS), write.six(p["body_pose"])[:, -60:]], axis=1),
    ),
}


@pytest.mark.parametrize("case", FORMATS)
def test_round_trip(case, tmp_path):
    params = write.a_motion()
    motion = load_motion(FORMATS[case](tmp_path, params), fps=25)
    assert motion.format == case.split(",")[0].split(" as")[0] and motion.fps == 25
    assert_same_poses(motion.joints, params)
    # a camera's idea of where the person is does not move the person
    path = (the_joints(params)[:, 0] + params["transl"]) * LAYOUTS[motion.format].in_space
    pelvis = motion.joints[:, 0]
    np.testing.assert_allclose(pelvis - pelvis[0], path - path[0], atol=MILLIMETRE)
    assert motion.valid[:, 12:].all() and motion.valid[:, LOWER_BODY].any() != LAYOUTS[motion.format].seated


@pytest.mark.parametrize("case", UPPER_ONLY)
def test_round_trip_of_the_upper_body(case, tmp_path):
    params = write.upper_body(write.a_motion())
    motion = load_motion(UPPER_ONLY[case](tmp_path, params), fps=25)
    assert motion.format == case.split(" as")[0]
    assert_same_poses(motion.joints, params)
    assert not motion.valid[:, LOWER_BODY].any()


def test_signmotiongpt_has_no_root(tmp_path):
    params = write.a_motion() | {"global_orient": np.zeros((write.FRAMES, 3))}
    motion = load_motion(write.save(tmp_path / "clip.npy", write.signmotiongpt(params, HANDS_MEAN)), fps=30)
    assert motion.format == "signmotiongpt"
    assert_same_poses(motion.joints, params)


def test_amass_poses_of_165_numbers_are_smplx(tmp_path):
    params = write.a_motion()
    view = write.in_axes(params, write.Z_UP) | {"eyes": np.zeros((write.FRAMES, 6))}
    poses = joined(view, "global_orient", "body_pose", "jaw_pose", "eyes", *HANDS)
    np.savez(tmp_path / "clip.npz", poses=poses, trans=view["transl"], mocap_framerate=60.0)
    for named in (None, "amass-smplx"):
        motion = load_motion(tmp_path / "clip.npz", format=named)
        assert (motion.format, motion.fps) == ("amass-smplx", 60)
        assert_same_poses(motion.joints, params)
    with pytest.raises(ValueError, match="the file is of format amass-smplx, not amass-smplh"):
        load_motion(tmp_path / "clip.npz", format="amass-smplh")


# --- what is told apart, and by what ----------------------------------------------------------------------------------


def test_two_layouts_of_182_numbers_are_told_apart_by_their_content():
    params = write.a_motion()
    view = write.camera_view(params, HANDS_MEAN)
    signavatars = joined(view, *write.HEAD, "jaw_pose", "betas", "expression", "transl")
    assert array_to_clip(signavatars).format == "signavatars"
    assert array_to_clip(write.signmotiongpt(params, HANDS_MEAN)).format == "signmotiongpt"


def test_what_fits_two_layouts_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    both = rng.uniform(-0.02, 0.02, (9, 182))
    both[:, 0] += 3.1  # head down for the one; a tall person for the other
    with pytest.raises(ValueError, match="fit signavatars and signmotiongpt.*format='signavatars'"):
        array_to_clip(both)
    motion = load_motion(write.save(tmp_path / "clip.npy", both), fps=24, format="signavatars")
    assert motion.format == "signavatars"


@pytest.mark.parametrize("up", ["-y", "y"])
def test_the_key_of_signavatars_is_its_own(tmp_path, up):
    """Their arrays pass for another's where shape and face are 0; turned upright, they are no longer theirs."""
    params = write.a_motion() | {"betas": np.zeros((write.FRAMES, 10))}
    view = params if up == "y" else write.camera_view(params, HANDS_MEAN)
    np.savez(tmp_path / "clip.npz", smplx=joined(view, *write.HEAD, "jaw_pose", "betas", "expression", "transl"))
    if up == "y":
        with pytest.raises(ValueError, match="upright along y, expected -y as in SignAvatars .*; pass up='y'"):
            load_motion(tmp_path / "clip.npz")
    assert load_motion(tmp_path / "clip.npz", up=up).format == "signavatars"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: {"poses": np.degrees(file["poses"])}, "turns by .* radians; expected radians"),
        (lambda file: {"trans": 1e6 * file["trans"] + 1e6}, "transl is .* m; expected radians and metres"),
        (lambda file: {"fps": 25}, "the file has 25 and 60 frames per second; keep one"),
    ],
)
def test_named_parameters_that_cannot_be(tmp_path, change, message):
    path = write.amass_smplh(tmp_path / "clip.npz", write.a_motion(), 60.0)
    file = dict(np.load(path))
    np.savez(path, **file | change(file))
    with pytest.raises(ValueError, match=message):
        load_motion(path)


def test_a_part_under_two_names_is_refused(tmp_path):
    params = {name: write.a_motion()[name] for name in write.HEAD}
    same, other = params["body_pose"], params["body_pose"] + 0.1
    np.savez(tmp_path / "a.npz", **params, pose_body=same, fps=25)
    np.savez(tmp_path / "b.npz", **params, pose_body=other, fps=25)
    assert load_motion(tmp_path / "a.npz").format == "smplx"
    with pytest.raises(ValueError, match="`pose_body` and another array are both the body_pose; keep one"):
        load_motion(tmp_path / "b.npz")


def test_what_fits_none_says_why(tmp_path):
    array = np.random.default_rng(0).normal(0, 50, (9, 182))
    with pytest.raises(ValueError, match="signavatars: .*turns by.*signmotiongpt: "):
        load_motion(write.save(tmp_path / "clip.npy", array), fps=24)
    with pytest.raises(ValueError, match="17 numbers a frame are no known layout; known are 182 .signavatars."):
        load_motion(write.save(tmp_path / "clip.npy", array[:, :17]), fps=24)
    with pytest.raises(ValueError, match="every number is 0"):
        load_motion(write.save(tmp_path / "clip.npy", 0 * array), fps=24)


def test_a_named_format_that_is_not_it(tmp_path):
    file = write.signavatars(tmp_path / "clip.pkl", write.a_motion(), HANDS_MEAN)
    with pytest.raises(ValueError, match="motion-x"):
        load_motion(file, format="motion-x", fps=24)
    with pytest.raises(ValueError, match="unknown format 'signavatar'; known are lslm, features, signavatars"):
        load_motion(file, format="signavatar", fps=24)


def test_the_frame_rate_is_asked_for_or_documented(tmp_path):
    params = write.a_motion()
    motion = load_motion(write.signavatars(tmp_path / "a.pkl", params, HANDS_MEAN))
    text = "no frame rate in the file: taken as 24 fps, as usual for SignAvatars `smplx`"
    assert motion.fps == 24 and motion.notes[0] == Remark(text, "fps")
    assert str(motion.notes[0]) == f"{text}; pass fps=..."
    with pytest.raises(ValueError, match="no frame rate: SOKE.*pass fps"):
        load_motion(write.soke_folder(tmp_path / "b", params, HANDS_MEAN))
    for amass in write.amass_smplx(tmp_path / "c.npz", params, 60.0), write.amass_smplh(tmp_path / "d.npz", params, 60):
        motion = load_motion(amass)
        assert motion.fps == 60 and not any(note.argument for note in motion.notes)


def test_a_body_that_hangs_head_down_is_asked_about(tmp_path):
    y_up = write.relative_hands(write.a_motion(), HANDS_MEAN)
    folder = tmp_path / "clip"
    (folder / "smplx").mkdir(parents=True)
    for t in range(9):
        np.savez(folder / "smplx" / f"{t}.npz", **{name: y_up[name][t] for name in write.HEAD})
    with pytest.raises(ValueError, match=r"upright along y, expected -y as in SMPLer-X.*up='y'"):
        load_motion(folder, fps=30)
    assert load_motion(folder, fps=30, up="y").joints[:, 15, 1].mean() > 0.3


def test_fingers_that_bend_backwards_are_noted(tmp_path):
    params = write.a_motion()
    back = 0.4 * np.tile([0, 0, 1.0], 15)
    over = params | {k: 0.1 * params[k] + sign * back for k, sign in zip(HANDS, (1, -1), strict=True)}
    for hands, remedies in ((over, [("flat_hand_mean", False)]), (params, [])):
        motion = load_motion(write.save(tmp_path / "clip.npy", write.motion_x(hands)), fps=30)
        backwards = [note for note in motion.notes if "bend backwards" in note.text]
        assert [(note.argument, note.example) for note in backwards] == remedies


# --- hands, frames, people --------------------------------------------------------------------------------------------


def test_a_hand_that_was_not_seen_is_not_valid(tmp_path):
    seen = np.arange(write.FRAMES) % 3 > 0
    file = write.signavatars(tmp_path / "clip.pkl", write.a_motion(), HANDS_MEAN, left_valid=seen)
    motion = load_motion(file, fps=24)
    np.testing.assert_array_equal(motion.valid[:, LEFT_HAND].all(1), seen)
    assert motion.valid[:, 37:].all() and np.isfinite(motion.joints).all()


def test_missing_frames_are_filled_in_and_said(tmp_path):
    params = write.a_motion()
    missing = (5, 6, 13)
    motion = load_motion(write.smplerx_folder(tmp_path / "clip", params, HANDS_MEAN, missing=missing), fps=30)
    assert motion.num_frames == write.FRAMES and any("3 of 24 frames missing" in note.text for note in motion.notes)
    assert not motion.valid[list(missing)].any() and motion.valid[4].all()
    assert_same_poses(motion.joints, params, [t for t in range(write.FRAMES) if t not in missing])


@pytest.mark.parametrize("nothing", (np.nan, 0.0))
def test_a_fit_without_a_pose_is_not_asked_which_way_up_it_is(nothing, tmp_path):
    fit = {"smplx": np.full((60, 182), nothing, np.float32)}
    (tmp_path / "clip.pkl").write_bytes(pickle.dumps(fit))
    with pytest.raises(ValueError, match="no frame has numbers in all of its parameters"):
        load_motion(tmp_path / "clip.pkl", fps=24)


def test_one_frame_or_several_clips_in_a_folder(tmp_path):
    params = write.a_motion()
    folder = write.soke_folder(tmp_path / "a", params, HANDS_MEAN)
    with pytest.raises(ValueError, match="1 frame.*give the folder"):
        load_motion(folder / "a_8_3D.pkl", fps=24)
    (folder / "a_8_3D.pkl").rename(folder / "b_8_3D.pkl")
    with pytest.raises(ValueError, match="not numbered alike"):
        load_motion(folder, fps=24)
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("1.pkl", "2.pkl"):
        write.signavatars(clips / name, params, HANDS_MEAN)
    with pytest.raises(ValueError, match="1.pkl: this is not one frame"):
        load_motion(clips, fps=24)


def test_principal_components_are_refused(tmp_path):
    view = write.camera_view(write.a_motion(), HANDS_MEAN)
    np.savez(tmp_path / "clip.npz", **{k: view[k] for k in write.HEAD} | {"left_hand_pose": np.zeros((24, 12))})
    with pytest.raises(ValueError, match="use_pca=False"):
        load_motion(tmp_path / "clip.npz", fps=24)


# --- smplx's own names: whole or relative fingers, matrices -----------------------------------------------------------


def smplx_file(path, params, **others):
    np.savez(path, fps=25, **{name: params[name] for name in write.HEAD} | others)
    return path


def forms(vectors):
    """(T, 3 J) -> the same as (T, J, 3, 3), as two columns one after the other, interleaved, and as two rows."""
    matrices = np.array([[write.rotation(v) for v in row.reshape(-1, 3)] for row in vectors])
    columns = matrices[..., :2]
    flat = columns.shape[:2]
    return {
        "matrices": matrices,
        "columns": columns.swapaxes(-1, -2).reshape(*flat, 6),
        "interleaved": columns.reshape(*flat, 6),
        "rows": matrices[..., :2, :].reshape(*flat, 6),
    }


def with_elbows(params):
    body = params["body_pose"].copy()
    body[:, 17 * 3 + 1] -= 1.0  # the forearms come to the front: about -y at the left, about y at the right
    body[:, 18 * 3 + 1] += 1.0
    return params | {"body_pose": body}


CONVENTIONS = {  # which hands are stored relative to the mean
    "whole": (),
    "relative": HANDS,
    "left whole": HANDS[1:],
    "right whole": HANDS[:1],
}


@pytest.mark.parametrize("stored", CONVENTIONS)
def test_fingers_under_smplx_names_are_read_as_they_bend_hand_by_hand(stored, tmp_path):
    params = write.a_motion()
    relative = write.relative_hands(params, HANDS_MEAN)
    file = smplx_file(tmp_path / "a.npz", params | {name: relative[name] for name in CONVENTIONS[stored]})
    motion = load_motion(file)
    assert_same_poses(motion.joints, params)
    (remark,) = (note for note in motion.notes if note.argument == "flat_hand_mean")
    assert "hands taken as" in remark.text and motion.format == "smplx"
    for told in (True, False):
        wrong = [note.example for note in load_motion(file, flat_hand_mean=told).notes if note.argument]
        assert wrong == ([not told] if len(CONVENTIONS[stored]) != 2 * (not told) else [])


def test_fingers_that_tell_nothing_are_asked_for_and_a_hand_of_zeros_is_none(tmp_path):
    params = write.a_motion()
    flat = params | {name: 0.1 * params[name] for name in HANDS}  # a flat hand, or one at rest
    with pytest.raises(ValueError, match="no word whether finger rotations are whole.*pass flat_hand_mean"):
        load_motion(smplx_file(tmp_path / "a.npz", flat))
    assert_same_poses(load_motion(tmp_path / "a.npz", flat_hand_mean=True).joints, flat)
    assert load_motion(tmp_path / "a.npz", format="smplerx", up="y").format == "smplerx"
    one = params | {"left_hand_pose": np.zeros((write.FRAMES, 45))}
    motion = load_motion(smplx_file(tmp_path / "b.npz", one))
    assert not motion.valid[:, LEFT_HAND].any() and motion.valid[:, 37:].all()
    assert "the left hand is never seen" in [note.text for note in motion.notes]
    lost = params | {"right_hand_pose": params["right_hand_pose"] * (np.arange(write.FRAMES) % 2)[:, None]}
    motion = load_motion(smplx_file(tmp_path / "c.npz", lost))
    np.testing.assert_array_equal(motion.valid[:, 37:].all(1), np.arange(write.FRAMES) % 2 == 1)


def test_a_programs_folder_with_whole_fingers_says_so(tmp_path):
    params = write.a_motion()
    mean = np.zeros_like(HANDS_MEAN)  # the writer takes nothing away
    motion = load_motion(write.smplerx_folder(tmp_path / "clip", params, mean), fps=25)
    assert motion.format == "smplerx"
    remark = next(note for note in motion.notes if note.argument)
    assert remark.text.startswith("left and right fingers are never straight") and remark.example is True


@pytest.mark.parametrize("form", ["matrices", "columns", "interleaved", "rows"])
def test_rotations_of_nine_and_six_numbers(form, tmp_path):
    params = with_elbows(write.a_motion())
    turned = {name: forms(params[name])[form] for name in write.HEAD}
    for name, rotations in (("plain", turned), ("batch", {name: array[None] for name, array in turned.items()})):
        motion = load_motion(smplx_file(tmp_path / f"{name}.npz", rotations, betas=np.zeros((1, 10))))
        assert motion.num_frames == write.FRAMES
        assert_same_poses(motion.joints, params)


def test_six_numbers_of_straight_arms_and_what_is_no_rotation_are_refused(tmp_path):
    params = write.a_motion()
    turned = {name: forms(params[name])["rows"] for name in write.HEAD}
    with pytest.raises(ValueError, match="too straight to tell; save the matrices"):
        load_motion(smplx_file(tmp_path / "a.npz", turned))
    with pytest.raises(ValueError, match="no matrix of a rotation"):
        load_motion(smplx_file(tmp_path / "b.npz", {name: 2 * array for name, array in turned.items()}))
    with pytest.raises(ValueError, match=r"body_pose has shape \(2, 24, 63\).*of one person"):
        load_motion(smplx_file(tmp_path / "c.npz", {name: np.stack([params[name]] * 2) for name in write.HEAD}))
    with pytest.raises(ValueError, match=r"body_pose has shape \(21, 69\)"):  # as many numbers as 23 frames of 63
        load_motion(smplx_file(tmp_path / "d.npz", {**params, "body_pose": np.zeros((21, 69))}))


def test_a_batch_of_one_is_a_clip(tmp_path):
    params = write.a_motion()
    array = write.motion_x(params)
    motion = load_motion(write.save(tmp_path / "a.npy", array[None]), fps=30)
    np.testing.assert_array_equal(motion.joints, load_motion(write.save(tmp_path / "b.npy", array), fps=30).joints)
