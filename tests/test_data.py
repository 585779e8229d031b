"""Data sets: what a clip depends on, what a split's error says, templates, statistics, batches."""

import json

import numpy as np
import pytest
import torch
from conftest import make_clip
from datasets import Dataset, Features, List, Value
from training_fixtures import recipe

from lslm.modeling_lslm import LslmForConditionalGeneration
from lslm.processing import SignMotionFeatureExtractor, SignMotionProcessor
from lslm.processing.motion_features import JOINT_NAMES, LEFT_HAND, PARENTS, RIGHT_HAND, feature_slices, mirrored
from lslm.training.dataset.augmentation import (
    VARIATION_KEYS,
    Variation,
    at_a_lower_rate,
    augmented,
    facing_the_camera,
    of_another_body,
    seen_by_another_camera,
    with_turned_hands,
)
from lslm.training.dataset.collators import EpochSampler, TranslationCollator, WindowCollator, load_templates
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText, feature_statistics, load_split, read_joints
from lslm.training.dataset.streaming import StreamedMotionText, training_clips
from lslm.training.recipe import parse
from lslm.training.recipe_keys import TEMPLATES
from lslm.training.stages.tokenizer import TokenizerArguments

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="session")
def toy_set(toy):
    return str(toy / "set")


def bone_lengths(joints):
    """(T, 51) metres."""
    return np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)


# --- clips ------------------------------------------------------------------------------------------------------------


def test_a_clip_depends_on_seed_epoch_and_index_alone(toy_set):
    first = MotionText(toy_set, "train", 15.0, augment=True, seed=5)
    second = MotionText(toy_set, "train", 15.0, augment=True, seed=5, limit=3)
    for index in (2, 0, 2):  # in whatever order, and whatever was drawn in between
        np.random.rand(3)
        one, other = first[7, index], second[7, index]
        assert np.array_equal(one["joints"], other["joints"]) and one["text"] == other["text"]
        assert one["rng"].random() == other["rng"].random()  # the window and the template hang on it
    seen = {first[7, 2]["joints"].tobytes(), first[7, 3]["joints"].tobytes(), first[8, 2]["joints"].tobytes()}
    seen.add(MotionText(toy_set, "train", 15.0, augment=True, seed=6)[7, 2]["joints"].tobytes())
    assert len(seen) == 4
    assert np.array_equal(first[2]["joints"], first[0, 2]["joints"])  # without an epoch: the first one


def test_without_augmentation_every_epoch_sees_the_recording(toy_set):
    clips = MotionText(toy_set, "train", 15.0)
    stored = read_joints(load_split(toy_set, "train").with_format("numpy")[1])
    assert np.array_equal(clips[4, 1]["joints"], stored.astype(np.float32)) and len(clips) == 8
    assert len(MotionText(toy_set, "train", 15.0, limit=3)) == 3
    assert len(MotionText(toy_set, "train", 15.0, limit=99)) == 8


def test_clips_that_cannot_be_learnt_are_named_and_skipped(toy_set, tmp_path, capsys):
    rows = [dict(row) for row in load_split(toy_set, "train")]
    rows[1]["text"], rows[4]["text"], rows[6]["joints_mm"] = "", "  ", rows[6]["joints_mm"][:1]
    (tmp_path / "data").mkdir()
    features = load_split(toy_set, "train").features
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "train.parquet")
    clips = MotionText(str(tmp_path), "train", 15.0)
    assert list(clips.rows["id"]) == [f"train-{n:04d}" for n in (0, 2, 3, 5, 7)]
    assert len(clips) == len(clips.joints) == 5 and "" not in clips.texts
    error = capsys.readouterr().err
    assert "skipped 2 of 8 clips without text: train-0001, train-0004\n" in error
    assert "skipped 1 of 8 clips of fewer than 2 frames: train-0006\n" in error
    Dataset.from_list([rows[1]], features=features).to_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(ValueError, match="no clip with a text and at least 2 frames among 1"):
        MotionText(str(tmp_path), "train", 15.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "change, reason",
    [
        ({"fps": 0.5}, "its fps is 0.5, expected frames per second"),
        ({"fps": None}, "its fps is .*, expected frames per second"),
        ({"fps": 1.0, "joints_mm": np.zeros((130, 52, 3), np.int16)}, "it lasts 130 s, .*--max-seconds 120"),
        ({"joints_mm": np.zeros((30, 52, 3), np.int16)}, "all joints are in one place"),
        ({"valid": [0, 1, 2]}, "`valid` has shape .*; build the data set again"),
    ],
)
def test_a_clip_that_stops_training_is_named_with_its_file(toy_set, tmp_path, change, reason, stream):
    split = load_split(toy_set, "train")
    rows = [row | {"valid": None} for row in split]
    rows[5] |= {name: value.tolist() if name == "joints_mm" else value for name, value in change.items()}
    features = Features(split.features | {"valid": List(Value("int64"))})
    for number in range(2):
        Dataset.from_list(rows[number::2], features=features).to_parquet(tmp_path / f"train-{number}.parquet")
    with pytest.raises(ValueError, match=f"^clip train-0005 in .*train-1.parquet: {reason}"):
        if stream:
            list(StreamedMotionText(str(tmp_path), "train", 15.0).joints)
        MotionText(str(tmp_path), "train", 15.0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_clip_longer_than_this_model_takes_is_named(toy_set, stream):
    kind = StreamedMotionText if stream else MotionText
    reason = r"^clip train-000\d in .*train.parquet: it lasts [23] s, the limit is 1.5; .*--max-seconds 1.5"
    with pytest.raises(ValueError, match=reason):
        list(kind(toy_set, "train", 15.0, max_seconds=1.5).joints)


def test_a_clip_may_become_longer_than_the_limit_by_augmentation(toy_model, tmp_path):
    """The limit is for what comes from outside: a clip of 119 seconds is also trained on when it lasts 140, and also by
    the start of a projector."""
    joints = np.round(make_clip(119) * 1000).astype(int).tolist()
    rows = Dataset.from_list([{"id": "long", "text": "Tea.", "fps": 1.0, "joints_mm": joints}])
    rows.to_parquet(tmp_path / "train.parquet")
    processor = SignMotionProcessor.from_pretrained(toy_model)
    extractor = processor.feature_extractor
    clips = MotionText(str(tmp_path), "train", 15.0, augment=True, max_seconds=extractor.max_seconds)
    longest = max((clips[epoch, 0] for epoch in range(3)), key=lambda item: len(item["joints"]))
    frames = len(longest["joints"])
    assert frames / extractor.fps > 1.1 * extractor.max_seconds
    batch = TranslationCollator(processor, ["<motion>"])([longest])
    assert batch["input_features_mask"].sum() == frames - 1
    vqvae = LslmForConditionalGeneration.from_pretrained(toy_model).model.vqvae
    (encoding,) = encode_clips(vqvae, extractor, [longest["joints"]], torch.float32)
    assert int(encoding.lengths) == extractor.num_codes(frames - 1)


@pytest.mark.parametrize("lengths", [None, [7, 90, 8, 91, 9, 92, 10, 93, 11, 94]])
def test_the_order_of_an_epoch_follows_from_seed_and_epoch(lengths):
    def drawn(epoch, seed=3):
        sampler = EpochSampler(10, seed, lengths, batch_size=2)
        assert len(sampler) == 10
        list(sampler)  # what was drawn before does not matter
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn(4) == drawn(4)
    assert {epoch for epoch, _ in drawn(4)} == {4} and sorted(index for _, index in drawn(4)) == list(range(10))
    orders = {tuple(index for _, index in drawn(epoch, seed)) for epoch, seed in ((4, 3), (5, 3), (4, 2))}
    assert len(orders) == 3


def test_clips_of_similar_length_meet_in_a_batch_and_none_is_lost():
    lengths = np.random.default_rng(0).integers(20, 200, 75).tolist()
    sampler = EpochSampler(75, 0, lengths, batch_size=4)
    order = [index for _, index in sampler]
    assert sorted(order) == list(range(75))
    spread = [np.ptp([lengths[i] for i in order[at : at + 4]]) for at in range(0, 72, 4)]
    assert np.mean(spread) < 30  # 108 by chance
    firsts = [lengths[order[at]] for at in range(0, 72, 4)]
    assert firsts != sorted(firsts)  # batches do not come by length


@pytest.mark.parametrize("frames", [2, 5, 24, 25, 60])
def test_augmentation_gives_a_body_again(toy_set, frames):
    joints = np.resize(MotionText(toy_set, "train", 15.0).joints[0], (frames, 52, 3))
    original = joints.copy()
    for seed in range(4):
        varied = augmented(joints, np.random.default_rng(seed))
        assert varied.dtype == np.float32 and varied.shape[1:] == (52, 3) and np.isfinite(varied).all()
        assert 2 <= len(varied) <= 1.4 * frames + 1 and len(varied) >= 0.7 * frames - 4
        # elbows follow half way, so arms change by centimetres; a finger bone by hardly one
        change = np.abs(np.median(bone_lengths(varied), 0) - np.median(bone_lengths(joints), 0))
        fingers = np.array([*LEFT_HAND, *RIGHT_HAND]) - 1
        assert change.max() < 0.12 and change[fingers].max() < 0.03
        assert not np.array_equal(varied, joints[: len(varied)])
    assert np.array_equal(joints, original)  # the data set itself is not touched


def test_the_mirror_swaps_sides_and_gives_back_what_it_took():
    joints = make_clip(9)
    twin = mirrored(joints)
    assert np.array_equal(mirrored(twin), joints)
    for joint, name in enumerate(JOINT_NAMES):
        other = name.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        assert np.array_equal(twin[:, JOINT_NAMES.index(other)], joints[:, joint] * [-1, 1, 1]), name
    assert np.allclose(bone_lengths(twin)[:, [21, 36]], bone_lengths(joints)[:, [36, 21]])
    # still a person who faces the front: the left shoulder is on the left
    assert np.array_equal(np.sign(twin[:, 16, 0] - twin[:, 17, 0]), np.sign(joints[:, 16, 0] - joints[:, 17, 0]))


def test_another_body_makes_the_same_movements():
    joints, rng = make_clip(9), np.random.default_rng(3)
    body = of_another_body(joints, rng, 0.2)
    ratio = bone_lengths(body) / bone_lengths(joints)
    assert np.allclose(ratio, ratio[:1])  # in every frame
    groups = {"body": [0, 11, 15], "arms": [17, 18, 19, 20], "hands": [*range(21, 51)]}  # bones, from joint 1 on
    factors = {name: ratio[0, bones].mean() for name, bones in groups.items()}
    assert all(np.allclose(ratio[0, bones], factors[name]) for name, bones in groups.items())
    assert len({round(factor, 4) for factor in factors.values()}) == 3
    bones, other = (clip[:, 1:] - clip[:, PARENTS[1:]] for clip in (joints, body))
    assert np.allclose(other, bones * ratio[..., None])  # in the same directions
    # a target skeleton leaves nothing of it, and without one it is seen
    for skeleton, same in (("humanml3d", True), (None, False)):
        extractor = SignMotionFeatureExtractor(target_skeleton=skeleton)
        assert np.allclose(extractor.to_features(joints), extractor.to_features(body), atol=1e-5) == same


def test_a_slower_camera_sees_slow_movements_as_they_are_and_fast_ones_less():
    time = np.arange(40)[:, None, None] / 20
    slow, fast = (np.sin(2 * np.pi * hertz * time) * np.ones((52, 3)) for hertz in (0.5, 6.0))
    for seed in range(5):
        seen = [at_a_lower_rate(clip.astype(np.float32), np.random.default_rng(seed)) for clip in (slow, fast)]
        assert all(38 <= len(clip) <= 40 and clip.dtype == np.float32 for clip in seen)
        assert np.abs(seen[0] - slow[: len(seen[0])]).max() < 0.05 < np.abs(seen[1] - fast[: len(seen[1])]).max()
    assert len(at_a_lower_rate(slow[:2], np.random.default_rng(0))) == 2


def test_another_camera_tilts_and_misjudges_depth():
    clip = make_clip(12, 3).astype(np.float32)
    facing = facing_the_camera(clip)
    lengths = [np.linalg.norm(joints[:, 1:] - joints[:, :1], axis=-1) for joints in (clip, facing)]
    assert np.allclose(*lengths, atol=1e-5) and np.allclose(facing[..., 1], (clip - clip[:1, :1])[..., 1], atol=1e-6)
    across = facing[0, 1] - facing[0, 2] + facing[0, 16] - facing[0, 17]
    assert across[0] > 0 and abs(across[2]) < 1e-6
    angles, factors = [], []
    for seed in range(400):
        tilted = seen_by_another_camera(clip, np.random.default_rng(seed), 8.0, 0.0)
        assert np.allclose(np.linalg.norm(tilted, axis=-1), np.linalg.norm(facing, axis=-1), atol=1e-5)
        up = np.linalg.lstsq(facing.reshape(-1, 3), tilted.reshape(-1, 3), rcond=None)[0][1]
        angles.append(np.degrees([np.arctan2(up[2], up[1]), np.arctan2(up[0], up[1])]))
        deep = seen_by_another_camera(clip, np.random.default_rng(seed), 0.0, 0.3)
        assert np.allclose(deep[..., :2], facing[..., :2], atol=1e-6)
        factors.append(np.log(np.abs(deep[..., 2]).sum() / np.abs(facing[..., 2]).sum()))
    assert np.allclose(np.std(angles, axis=0), 8.0, rtol=0.12) and np.std(factors) == pytest.approx(0.3, rel=0.12)


def test_hands_turn_about_their_wrists_as_one():
    clip, turns = make_clip(12, 3), []
    for seed in range(200):
        turned = with_turned_hands(clip, np.random.default_rng(seed), 15.0)
        assert np.array_equal(turned[:, :22], clip[:, :22])
        for hand, wrist in ((LEFT_HAND, 20), (RIGHT_HAND, 21)):
            before, after = ((joints[:, hand] - joints[:, [wrist]]).reshape(-1, 3) for joints in (clip, turned))
            matrix = np.linalg.lstsq(before, after, rcond=None)[0]
            assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6) and np.allclose(
                before @ matrix, after, atol=1e-6
            )
            turns.append(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))))
    assert np.sqrt(np.mean(np.square(turns))) == pytest.approx(15 * 3**0.5, rel=0.1)


def test_tremor_and_tempo(toy_set):
    plain, noisy, paced = (MotionText(toy_set, "train", 15.0, **key) for key in ({}, {"tremor": 4.0}, {"tempo": 2.0}))
    off = np.array([(noisy[epoch, 0]["joints"] - plain[epoch, 0]["joints"]).std() for epoch in range(60)])
    assert 0 <= off.min() < 0.001 and 0.003 < off.max() <= 0.0041
    ratio = np.array([len(paced[epoch, 0]["joints"]) / len(plain.joints[0]) for epoch in range(60)])
    assert 0.45 < ratio.min() < 0.7 and 1.5 < ratio.max() <= 2.05
    window = MotionText(toy_set, "train", 15.0, augment=True, window=5, tempo=2.0)
    long = [index for index in range(len(window)) if len(window.joints[index]) > 30]
    assert all(len(window[epoch, index]["joints"]) >= 5 for epoch in range(30) for index in long)


def test_a_new_key_leaves_the_random_numbers_of_the_old_ones(toy_set):
    keys = ({}, {"mirror": 1.0}, {"frame_rate_jitter": 1.0}, {"body_proportions": 0.1}, {"mirror": 1.0, "tremor": 1.0})
    plain, mirror, slow, body, trembling = (
        MotionText(toy_set, "train", 15.0, augment=True, window=17, **key) for key in keys
    )
    for index in range(8):
        item = plain[3, index]
        assert np.array_equal(mirror[3, index]["joints"], mirrored(item["joints"]))
        assert 0 < np.abs(trembling[3, index]["joints"] - mirror[3, index]["joints"]).max() < 0.006
        assert not np.array_equal(body[3, index]["joints"][:, 0], item["joints"][:, 0])
        assert not np.array_equal(slow[3, index]["joints"], item["joints"])
    half = MotionText(toy_set, "train", 15.0, mirror=0.5)
    seen = [np.array_equal(half[epoch, 0]["joints"], half.joints[0]) for epoch in range(40)]
    assert 8 < sum(seen) < 32
    assert not plain.vary == Variation() and not Variation().changes_clips and Variation(mirror=0.5).changes_clips


@pytest.mark.parametrize("key", VARIATION_KEYS)
@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_variation_that_cannot_be_is_refused(key, wrong):
    if key in ("mirror", "frame_rate_jitter") or wrong != 1.1:
        with pytest.raises(ValueError, match=f"{key} is {wrong}, expected "):
            Variation(**{key: wrong})


def test_other_proportions_need_a_tokenizer_that_sees_them(toy_set, tmp_path):
    def clips(**flags):
        flags = {"data": toy_set, "output_dir": tmp_path, "body_proportions": 0.1, "mirror": 0.5} | flags
        args = parse(TokenizerArguments, recipe(**flags), "lslm tokenizer")
        skeleton = None if args.target_skeleton == "none" else args.target_skeleton
        return training_clips(args, SignMotionFeatureExtractor(fps=15.0, target_skeleton=skeleton), 9)

    with pytest.raises(ValueError, match="body_proportions changes nothing, since the target skeleton"):
        clips()
    assert clips(target_skeleton="none").vary == Variation(True, 9, body_proportions=0.1, mirror=0.5)


def test_clips_are_resampled_to_the_model_s_frame_rate(toy_set):
    stored, twice = MotionText(toy_set, "test", 15.0), MotionText(toy_set, "test", 30.0)
    for slow, fast in zip(stored.joints, twice.joints, strict=True):
        assert len(fast) == 2 * len(slow) - 1 and fast.dtype == np.float32
        assert np.allclose(fast[::2], slow, atol=1e-6)
        assert np.allclose(fast[1::2], (slow[1:] + slow[:-1]) / 2, atol=1e-6)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_a_missing_split_names_those_that_are_there(toy_set, tmp_path):
    names = "test.parquet, train.parquet, validation.parquet"
    with pytest.raises(FileNotFoundError, match=f"no split 'dev' in .*: it has {names}"):
        load_split(toy_set, "dev")
    with pytest.raises(FileNotFoundError, match="it has no parquet files"):
        load_split(str(tmp_path), "train")
    with pytest.raises(FileNotFoundError, match="no data set at .*nowhere: expected a folder with train"):
        load_split(str(tmp_path / "nowhere"), "train")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    Dataset.from_dict({"text": ["Hi."], "motion": [[1.0]]}).to_parquet(tmp_path / "train.parquet")
    expected = "train.parquet: expected the columns text, fps and joints_mm or joints, got text, motion"
    for read in (load_split, lambda folder, split: StreamedMotionText(folder, split, 15.0)):
        with pytest.raises(ValueError, match=expected):
            read(str(tmp_path), "train")


def test_shards_beside_each_other_and_joints_in_metres(tmp_path):
    joints = np.random.default_rng(0).normal(size=(2, 3, 52, 3))
    for shard in range(2):
        row = {"text": [f"clip {shard}"], "fps": [20.0], "joints": [joints[shard].tolist()]}
        Dataset.from_dict(row).to_parquet(tmp_path / f"train-{shard}.parquet")
    clips = MotionText(str(tmp_path), "train", 20.0)
    assert clips.texts == ["clip 0", "clip 1"]
    assert np.allclose(clips.joints, joints, atol=1e-6)  # 3 metres are not 3 millimetres


# --- templates --------------------------------------------------------------------------------------------------------


def test_instruct_templates_are_many_and_each_holds_one_clip():
    templates = load_templates(str(TEMPLATES / "instruct.json"))
    assert len({text.lower() for text in templates}) == len(templates) >= 30
    assert all(text.count("<motion>") == 1 and "Placeholder" not in text for text in templates)
    assert load_templates(str(TEMPLATES / "pretraining.json")) == ["<motion>"]  # the motion is the whole prompt


def test_template_files_have_the_form_of_the_paper_s_listing():
    for path in TEMPLATES.glob("*.json"):
        for task in (t for tasks in json.loads(path.read_text()).values() for t in tasks.values()):
            assert set(task) == {"class", "input", "output"} and task["class"] == "m2t"
            assert task["output"] == ["<Caption_Placeholder>"]


@pytest.mark.parametrize(
    "text",
    ["Translate this.", "<Motion_Placeholder> or <Motion_Placeholder>?", "<motion>", "<motion> <Motion_Placeholder>"],
)
def test_a_template_without_exactly_one_placeholder_is_refused(tmp_path, text):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"m2t": {"a": {"input": ["Read <Motion_Placeholder>.", text]}}}))
    with pytest.raises(ValueError, match="templates.json: a template needs exactly one <Motion_Placeholder>"):
        load_templates(str(path))


@pytest.mark.parametrize(
    "content", ["no JSON", "[]", "{}", '{"m2t": {"a": {"output": []}}}', '{"m2t": ["Read <Motion_Placeholder>."]}']
)
def test_a_file_of_another_form_is_refused_by_name(tmp_path, content):
    path = tmp_path / "templates.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="templates.json"):
        load_templates(str(path))


# --- statistics and batches -------------------------------------------------------------------------------------------


def test_feature_statistics_and_their_floor(toy_set):
    clips, extractor = MotionText(toy_set, "train", 15.0), SignMotionFeatureExtractor(fps=15.0)
    mean, std = feature_statistics(clips.joints, extractor)
    frames = np.concatenate([extractor.to_features(joints) for joints in clips.joints]).astype(np.float64)
    assert np.allclose(mean, frames.mean(0), atol=1e-6)
    measured, floored = frames.std(0), 0
    for block in feature_slices().values():
        floor = max(0.01, 0.1 * measured[block].mean())
        assert np.allclose(std[block], np.maximum(measured[block], floor), atol=1e-6)
        floored += (measured[block] < floor).sum()
    assert std.min() >= 0.01 and 100 < floored < 600  # the toy stands still below the waist, and moves an arm
    left, right = (feature_slices()["positions"].start + 3 * (wrist - 1) for wrist in (20, 21))
    assert std[right] > 1.5 * std[left] or std[left] > 1.5 * std[right]
    _, both = feature_statistics(clips.joints, extractor, mirror=True)
    assert both[left] == pytest.approx(both[right], rel=0.05)  # arms of the skeleton differ a little


def test_window_collator_pads_and_masks_short_clips(toy_set):
    clips = MotionText(toy_set, "train", 15.0)
    extractor = SignMotionFeatureExtractor(fps=15.0, mean=[0.5] * 623, std=[2.0] * 623)
    long = {"joints": clips.joints[0], "rng": np.random.default_rng(0)}
    short = {"joints": clips.joints[1][:8], "rng": np.random.default_rng(0)}
    batch = WindowCollator(extractor, 16)([long, short])
    assert batch["input_features"].shape == (2, 16, 623) and batch["input_features"].dtype == torch.float32
    assert batch["input_features_mask"].tolist() == [[1] * 16, [1] * 7 + [0] * 9]
    expected = extractor.normalize(extractor.to_features(clips.joints[1][:8]))
    # but for the contact of the last frame, nothing in a clip knows what pads it
    assert np.allclose(batch["input_features"][1, :7, :619], expected[:, :619], atol=1e-4)


def test_windows_start_everywhere_and_never_leave_the_clip(toy_set):
    clips, extractor = MotionText(toy_set, "train", 15.0, augment=False), SignMotionFeatureExtractor(fps=15.0)
    joints = clips.joints[0][:20].copy()
    joints[:, 20, 1] = np.arange(20)  # a left wrist that tells the frame
    height = feature_slices()["positions"].start + 3 * 19 + 1
    collator, starts = WindowCollator(extractor, 16), set()
    extractor.target_skeleton = None
    for seed in range(20):
        batch = collator([{"joints": joints, "rng": np.random.default_rng(seed)}])
        heights = batch["input_features"][0, :, height]
        assert batch["input_features_mask"].all() and torch.allclose(heights.diff(), torch.ones(15), atol=1e-3)
        starts.add(round(float(heights[0] - joints[:, :, 1].min())))
    assert starts == {0, 1, 2, 3}  # 17 joints make 16 frames of features: 20 hold four such windows


def test_answers_at_the_end_give_the_loss_of_all_logits(toy_model, toy_set):
    processor = SignMotionProcessor.from_pretrained(toy_model)
    model = LslmForConditionalGeneration.from_pretrained(toy_model).eval()
    clips = MotionText(toy_set, "train", 15.0)
    collator = TranslationCollator(processor, ["Say <motion> in English.", "<motion>"])
    batch = collator([clips[i] for i in range(5)])
    keep, labels = batch["logits_to_keep"], batch["labels"]
    assert labels.shape[1] == keep < batch["input_ids"].shape[1]
    learnt = processor.batch_decode([row[row >= 0] for row in labels])
    assert learnt == clips.texts[:5]
    # the same batch with labels for all positions and all logits
    whole = torch.full_like(batch["input_ids"], -100)
    whole[:, -keep:] = labels
    every = {k: v for k, v in batch.items() if k not in ("labels", "logits_to_keep")}
    with torch.no_grad():
        short, full = model(**batch), model(**every, labels=whole)
    assert short.logits.shape[1] == keep and torch.allclose(short.loss, full.loss, atol=1e-6) and full.loss > 1e-3
    assert (whole == -100).sum() > whole.numel() / 2


def test_the_template_follows_the_clip_s_own_random_numbers(toy_model, toy_set):
    processor = SignMotionProcessor.from_pretrained(toy_model)
    clips = MotionText(toy_set, "train", 15.0)
    collator = TranslationCollator(processor, [f"<motion> {n}" for n in range(30)])
    one, two, later = (collator([clips[epoch, 0], clips[epoch, 1]])["input_ids"] for epoch in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, later)
