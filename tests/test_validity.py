"""Joints that were not observed: which features they enter, and that those teach the sign tokenizer nothing."""

import json
from types import SimpleNamespace

import lslm_cli
import numpy as np
import pytest
import torch
from conftest import make_clip, make_vqvae
from datasets import Array3D, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixtures import FPS, TOY_VQVAE, recipe, write_rows

from lslm.processing import SignMotionFeatureExtractor
from lslm.processing.feature_extraction_lslm import resample
from lslm.processing.motion_features import LEFT_HAND, LOWER_BODY, NUM_JOINTS, RIGHT_HAND, feature_slices
from lslm.training.dataset.collators import WindowCollator
from lslm.training.dataset.motion_text import MotionText, load_split
from lslm.training.dataset.validity import observed_mask, read_valid, resample_valid
from lslm.training.stages.tokenizer import TokenizerTrainer

pytest_plugins = ["training_fixtures"]
ARMS = [*range(18, 22), *LEFT_HAND, *RIGHT_HAND]  # what the floor and the heading do not depend on
SLICES = feature_slices()


def bits(valid):
    """(T, 52) bool -> T integers, as in the column."""
    return (valid.astype(np.int64) << np.arange(NUM_JOINTS)).sum(-1).tolist()


@pytest.fixture(scope="session")
def half_seen(toy, tmp_path_factory):
    """The toy data set with `valid`: the right hand is seen in the first half of each clip, the legs never."""
    folder = tmp_path_factory.mktemp("half_seen")
    features = {"id": Value("string"), "text": Value("string"), "fps": Value("float32")}
    features |= {"joints_mm": Array3D((None, NUM_JOINTS, 3), "int16"), "valid": Sequence(Value("int64"))}
    for split in ("train", "validation"):
        rows = load_split(str(toy / "set"), split).to_list()
        for row in rows:
            valid = np.ones((row["num_frames"], NUM_JOINTS), bool)
            valid[row["num_frames"] // 2 :, RIGHT_HAND] = False
            valid[:, [0, *LOWER_BODY]] = False
            row["valid"] = bits(valid)
        write_rows(folder / f"{split}.parquet", rows, features)
    return folder


# --- which features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["humanml3d", "signing"])
@pytest.mark.parametrize("skeleton", ["humanml3d", None])
@given(joints=st.sets(st.sampled_from(ARMS), min_size=1, max_size=4), frame=st.integers(0, 5), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_features_are_unobserved_exactly_where_they_would_change_with_the_joint(
    convention, skeleton, joints, frame, seed
):
    extractor = SignMotionFeatureExtractor(convention=convention, target_skeleton=skeleton)
    clip, valid = make_clip(6, seed), np.ones((6, NUM_JOINTS), bool)
    valid[frame, list(joints)] = False
    moved = clip.copy()
    moved[frame, list(joints)] += np.random.default_rng(seed).uniform(0.01, 0.04, (len(joints), 3))
    mask = observed_mask(extractor, valid)
    assert mask.shape == (5, 623) and mask.dtype == bool
    changed = np.abs(extractor.to_features(moved) - extractor.to_features(clip)) > 1e-6
    assert not changed[mask].any()
    changed[:, SLICES["contacts"]] = False
    # all three numbers of a vector, all six of a rotation: some may move too little to be seen
    assert (~mask).sum() - changed.sum() <= 0.05 * mask.size
    for block, width in (("positions", 3), ("rotations", 6), ("velocities", 3)):
        of_joint = (~mask)[:, SLICES[block]].reshape(5, -1, width).any(-1)
        assert np.array_equal(changed[:, SLICES[block]].reshape(5, -1, width).any(-1), of_joint), block


def test_root_numbers_need_pelvis_hips_and_shoulders():
    extractor = SignMotionFeatureExtractor(target_skeleton=None)

    def lost(joint):
        valid = np.ones((4, NUM_JOINTS), bool)
        valid[2, joint] = False
        mask = observed_mask(extractor, valid)
        return {name: (~mask[:, where]).any(-1).nonzero()[0].tolist() for name, where in SLICES.items()}

    now = {"root_height": [2], "positions": [2], "rotations": [2]}  # hips and spine hang on the pelvis
    both = {"root_velocity": [1, 2], "velocities": [1, 2], "contacts": [1, 2]}
    assert lost(0) == {"root_yaw": []} | now | both
    for joint in (1, 2, 16, 17):
        assert lost(joint)["root_yaw"] == [1, 2] and lost(joint)["root_velocity"] == []
    assert lost(11)["contacts"] == [1, 2] and lost(20)["contacts"] == []


def test_a_batch_of_masks_is_each_of_them():
    valid = np.random.default_rng(0).random((3, 5, NUM_JOINTS)) < 0.9
    extractor = SignMotionFeatureExtractor(convention="signing")
    assert np.array_equal(observed_mask(extractor, valid), np.stack([observed_mask(extractor, v) for v in valid]))
    assert observed_mask(extractor, np.ones((2, NUM_JOINTS), bool)).all()


@given(
    frames=st.integers(2, 30),
    rates=st.tuples(st.sampled_from([12.0, 15.0, 20.0, 23.976, 25.0, 30.0]), st.sampled_from([15.0, 20.0, 24.0])),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_a_resampled_joint_was_observed_if_all_it_is_made_of_was(frames, rates, seed):
    valid = np.random.default_rng(seed).random((frames, NUM_JOINTS)) < 0.8
    joints = np.where(valid[..., None], 1.0, np.nan) * np.ones(3)
    resampled = resample_valid(valid, *rates)
    expected = np.isfinite(resample(joints, *rates)).all(-1)  # NaN times 0 is NaN, too: both neighbours
    assert resampled.dtype == bool and resampled.shape == expected.shape and not (expected & ~resampled).any()
    alone = (np.arange(len(resampled)) * rates[0] / rates[1]) % 1 < 1e-9  # right on a frame: that one alone counts
    assert np.array_equal(resampled[~alone], expected[~alone]) or len(resampled) == 2


# --- from the column to the batch -------------------------------------------------------------------------------------


def test_bit_masks_are_read_joint_by_joint():
    valid = np.random.default_rng(0).random((7, NUM_JOINTS)) < 0.5
    valid[0], valid[:, 51] = True, [True, False] * 3 + [True]
    assert np.array_equal(read_valid({"valid": bits(valid)}, 7), valid)
    assert read_valid({"text": "none"}, 7) is None and read_valid({"valid": None}, 7) is None
    with pytest.raises(ValueError, match=r"`valid` has shape \(7,\), expected a bit mask for each of the 8"):
        read_valid({"id": "a7", "valid": bits(valid)}, 8)


def test_legs_that_are_never_seen_stand():
    valid = np.zeros((3, NUM_JOINTS), bool)
    valid[1, 4] = True  # a knee that is seen once is a knee that was lost
    read = read_valid({"valid": bits(valid)}, 3)
    assert read[:, [0, 1, 2, 5, 7, 8, 10, 11]].all() and read[:, 4].tolist() == [False, True, False]
    assert not read[:, [3, 6, 9, *range(12, 52)]].any()  # a hand out of the picture is no hand at rest


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_what_happens_to_a_clip_in_time_happens_to_its_mask(half_seen, augment, jitter):
    clips = MotionText(str(half_seen), "train", FPS, augment, window=17, frame_rate_jitter=jitter)
    frames = len(clips.joints[0])
    clips.joints[0][:, 15, 1] = np.arange(frames)  # a head that tells the frame; it is not displaced
    clips.valid[0][:, 30] = np.arange(frames) < 9
    for epoch in range(8):
        item = clips[epoch, 0]
        times = item["joints"][:, 15, 1]
        assert item["valid"].shape == item["joints"].shape[:2] and item["joints"].shape[2] == 3
        if jitter:  # a frame may be made of later ones, too
            assert not item["valid"][times > 8.00001, 30].any() and item["valid"][times < 4, 30].all()
        else:
            assert np.array_equal(item["valid"][:, 30], times < 8.00001)
        window = WindowCollator(SignMotionFeatureExtractor(fps=FPS, convention="signing"), 16)([item])
        position = SLICES["positions"].start + 3 * 29
        height = SLICES["positions"].start + 3 * 14 + 1
        assert len(set(window["observed_mask"][0, :, position].tolist())) <= 2
        assert window["observed_mask"][0, :, height].all()  # the head
        assert window["observed_mask"].shape == window["input_features"].shape


def test_a_mirrored_mask_is_that_of_the_other_hand(half_seen):
    plain = MotionText(str(half_seen), "train", FPS)[0]["valid"]
    mirrored = MotionText(str(half_seen), "train", FPS, mirror=1.0)[0]["valid"]
    assert np.array_equal(mirrored[:, LEFT_HAND], plain[:, RIGHT_HAND]) and not plain[:, RIGHT_HAND].all()
    assert mirrored[:, RIGHT_HAND].all()


def test_without_the_column_there_is_no_mask(toy):
    clips = MotionText(str(toy / "set"), "train", FPS)
    batch = WindowCollator(SignMotionFeatureExtractor(fps=FPS), 16)([clips[0], clips[1]])
    assert "valid" not in clips[0] and set(batch) == {"input_features", "input_features_mask"}


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_what_was_not_observed_is_not_judged():
    clip = SignMotionFeatureExtractor().to_features(make_clip(21))
    features = torch.from_numpy(np.stack([clip, clip[::-1].copy()]))
    mask = torch.tensor([[1] * 20, [1] * 13 + [0] * 7])
    observed = torch.rand(2, 20, 623, generator=torch.Generator().manual_seed(0)) < 0.7
    observed[:, :, 300:310] = False
    vqvae = make_vqvae(None, position_weight=3.0)
    plain, everything = vqvae(features, mask), vqvae(features, mask, torch.ones_like(observed))
    torch.testing.assert_close(plain.loss, everything.loss)
    partly = vqvae(features, mask, observed)
    assert torch.equal(partly.codes, plain.codes)  # what goes in stays as it was filled in
    error = (partly.reconstruction - features).abs()
    error[..., SLICES["positions"]] *= 3.0
    kept = observed & mask.bool()[..., None]
    torch.testing.assert_close(partly.reconstruction_loss, error[kept].mean())
    partly.loss.backward()
    gradient = vqvae.decoder.conv_out.bias.grad
    assert (gradient[300:310] == 0).all() and (gradient != 0).sum() > 500
    assert vqvae(features, mask, torch.zeros_like(observed)).reconstruction_loss == 0


@pytest.mark.parametrize("convention", ["humanml3d", "signing"])
def test_arms_and_fingers_are_judged_where_they_were_observed(convention):
    rng = np.random.default_rng(0)
    features, reconstruction = torch.from_numpy(rng.normal(size=(2, 2, 9, 623)).astype(np.float32))
    mask, valid = torch.ones(2, 9, dtype=torch.int64), rng.random((2, 10, NUM_JOINTS)) < 0.95
    mask[1, 6:] = 0
    extractor = SignMotionFeatureExtractor(convention=convention, target_skeleton=None)
    stage = SimpleNamespace(_position_std=torch.ones(51, 3), processing_class=extractor)
    batch = {"input_features": features, "input_features_mask": mask}

    def errors(**more):
        means = TokenizerTrainer._joint_errors(stage, reconstruction, batch | more)
        return {name: float(value) for name, value in means.items()}

    assert errors(observed_mask=torch.ones_like(features, dtype=bool)) == pytest.approx(errors())
    observed = torch.from_numpy(observed_mask(extractor, valid))
    error = (reconstruction - features)[..., SLICES["positions"]].unflatten(-1, (-1, 3)).numpy()
    seen = valid[:, :-1] & valid[:, :-1, :1] & mask.numpy()[..., None].astype(bool)
    arms = [np.abs(error[:, :, joint - 1])[seen[:, :, joint]] for joint in (18, 19, 20, 21)]
    fingers = []
    for wrist, joint in [(20, joint) for joint in LEFT_HAND] + [(21, joint) for joint in RIGHT_HAND]:
        if convention == "signing":  # as seen from the wrist, wherever the pelvis is
            counts = valid[:, :-1, joint] & valid[:, :-1, wrist] & mask.numpy().astype(bool)
            fingers.append(np.abs(error[:, :, joint - 1])[counts])
        else:
            counts = seen[:, :, joint] & seen[:, :, wrist]
            fingers.append(np.abs(error[:, :, joint - 1] - error[:, :, wrist - 1])[counts])
    expected = {"arms": np.concatenate(arms).mean() / 0.03, "fingers": np.concatenate(fingers).mean() / 0.03}
    assert errors(observed_mask=observed) == pytest.approx(expected, rel=1e-5)
    assert errors(observed_mask=torch.zeros_like(observed)) == {"arms": 0, "fingers": 0}


def test_the_sign_tokenizer_trains_on_what_was_observed(half_seen, toy, tmp_path):
    def first(folder, name, **more):
        flags = TOY_VQVAE | {"data": folder, "output_dir": tmp_path / name, "max_steps": 2, "logging_steps": 1} | more
        flags |= {"augment": "false", "arm_weight": 1.0, "finger_weight": 1.0}
        assert lslm_cli.main(["tokenizer", *recipe(**flags)]) == 0
        history = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        return next(entry for entry in history if "reconstruction" in entry)

    masked, plain = first(half_seen, "masked", eval_strategy="steps"), first(toy / "set", "plain")
    assert masked["arms"] == pytest.approx(plain["arms"], abs=2e-4)  # elbows and wrists were observed, and legs stand
    assert masked["reconstruction"] < 0.9 * plain["reconstruction"]  # half of what moves was not
