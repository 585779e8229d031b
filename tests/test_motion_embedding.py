"""The motion embedding of the FID: what it depends on, what it keeps, and that it learns something."""

import json
from pathlib import Path

import lslm_cli
import numpy as np
import pytest
import torch
from datasets import Dataset
from training_fixtures import FPS, write_data

from lslm.processing import SignMotionFeatureExtractor
from lslm.training.dataset.motion_text import MotionText
from lslm.training.evaluation import motion_embedding as module
from lslm.training.evaluation.motion_embedding import MotionEmbedding, motion_embedding, retrieval
from lslm.training.evaluation.motion_metrics import frechet_distance

pytest_plugins = ["training_fixtures"]
EXTRACTOR = SignMotionFeatureExtractor(fps=FPS)


@pytest.fixture(scope="module", autouse=True)
def quick_training():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRAINING", module.TRAINING | {"steps": 40, "batch_size": 8, "learning_rate": 3e-3})
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_data(tmp_path_factory.mktemp("embedded") / "set"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data):
    """A folder with an embedding of the toy data."""
    folder = str(tmp_path_factory.mktemp("embedding") / "of" / "toys")
    motion_embedding(folder, data, EXTRACTOR)
    return folder


@pytest.fixture(scope="module")
def embedding(folder):
    return MotionEmbedding.load(Path(folder))


@pytest.fixture(scope="module")
def train(data):
    """Features and texts of the training split."""
    split = MotionText(data, "train", FPS)
    return [EXTRACTOR.to_features(joints) for joints in split.joints], split.texts


def test_an_embedding_is_of_one_scale_and_belongs_to_its_clip_alone(embedding, train):
    clips, _ = train
    together = embedding.embed_motion(clips)
    assert together.shape == (len(clips), 64) and np.allclose((together**2).mean(1), 1, atol=1e-5)
    for clip, vector in zip(clips[::-1], together[::-1], strict=True):
        assert (embedding.embed_motion([clip])[0] == vector).all()
    embedding.train()  # no dropout, whatever state it was left in
    assert (embedding.embed_motion(clips) == together).all()


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7, 10])
def test_padding_does_not_change_an_embedding(embedding, train, frames):
    clip = train[0][0][:frames]
    alone = embedding.embed_motion([clip])[0]
    padded = torch.zeros(2, frames + 21, clip.shape[1])
    padded[0, :frames] = embedding.normalize(clip)
    padded[1] = 5.0
    with torch.no_grad():
        found = embedding.eval()(padded, torch.tensor([frames, frames + 21]))[0]
    assert np.allclose(found, alone, atol=1e-4)
    # while a frame more does
    assert np.abs(embedding.embed_motion([train[0][0][: frames + 1]])[0] - alone).max() > 1e-3


def test_it_finds_the_texts_of_its_training_clips(embedding, train):
    clips, texts = train
    assert retrieval(embedding, clips, texts) == {"top1": 100, "chance": 12.5, "group": 8, "clips": 8}
    assert retrieval(embedding, clips, texts[1:] + texts[:1])["top1"] < 50  # the texts of other clips


def test_retrieval_takes_texts_of_the_same_words_for_one_and_whole_groups_only(embedding, train, monkeypatch):
    clips, texts = train
    assert retrieval(embedding, clips, ["some tea", "Tea, some."] * 4)["top1"] == 100
    monkeypatch.setattr(module, "GROUP", 3)
    assert retrieval(embedding, clips, texts)["clips"] == 6


def test_unknown_words_and_no_words_are_passed_over(embedding):
    known, more, none, empty = embedding.embed_texts(["Some tea!", "some zebra tea", "zebra", ""])
    assert torch.equal(known, more) and torch.equal(none, empty) and not torch.equal(known, none)
    # a bag: neither order nor neighbours
    assert torch.allclose(embedding.embed_texts(["tea some"])[0], known, atol=1e-6)


def test_the_fid_is_zero_for_equal_motion_and_grows_with_the_difference(embedding, train):
    clips, _ = train
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=clip.shape) * embedding.std.numpy() for clip in clips]
    fids = []
    for size in (0, 0.3, 1, 3):
        noisy = [clip + size * change for clip, change in zip(clips, noise, strict=True)]
        fids.append(frechet_distance(embedding.embed_motion(clips), embedding.embed_motion(noisy)))
    assert fids[0] < 1e-9 and fids == sorted(fids) and fids[1] > 1e-3


def test_training_twice_gives_the_same_and_leaves_the_random_state(embedding, data, tmp_path, monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = motion_embedding(str(tmp_path), data, EXTRACTOR).description("x")
    assert torch.equal(torch.rand(3), expected)
    assert again == embedding.description("x")
    monkeypatch.setattr(module, "TRAINING", module.TRAINING | {"seed": 1, "steps": 1})
    other = motion_embedding(str(tmp_path / "seed"), data, EXTRACTOR).description("x")
    assert other["weights"] != again["weights"] and other["fingerprint"] != again["fingerprint"]


def test_a_kept_embedding_is_used_again(folder, data, monkeypatch):
    monkeypatch.setattr(module, "_train", None)  # a call fails
    shifted = SignMotionFeatureExtractor(fps=FPS, mean=[1.0] * 623, std=[2.0] * 623)
    for same in (EXTRACTOR, shifted):  # the tokenizer's own statistics are not the embedding's
        kept = motion_embedding(folder, data, same)
    assert not kept.training and kept.config["retrieval"]["clips"] == 2
    config = json.loads((Path(folder) / "config.json").read_text())
    assert config["settings"]["fps"] == FPS and "tea" in config["vocabulary"]


def test_an_embedding_of_something_else_is_refused(folder, data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="differs in fps from .* name another folder"):
        motion_embedding(folder, data, SignMotionFeatureExtractor(fps=2 * FPS))
    rows = Dataset.from_parquet(f"{data}/data/train.parquet")
    rows.select(range(7)).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="differs in train"):
        motion_embedding(folder, str(tmp_path), EXTRACTOR)
    with pytest.raises(ValueError, match="neither empty nor a motion embedding"):
        motion_embedding(str(tmp_path), data, EXTRACTOR)
    with pytest.raises(FileNotFoundError, match="no data set at"):
        motion_embedding(str(tmp_path / "new"), str(tmp_path / "nowhere"), EXTRACTOR)
    monkeypatch.setattr(module, "TRAINING", module.TRAINING | {"steps": 2})
    with pytest.raises(ValueError, match="differs in steps"):
        motion_embedding(folder, data, EXTRACTOR)


def test_data_with_nothing_to_contrast_or_validate(data, tmp_path, monkeypatch):
    rows = Dataset.from_parquet(f"{data}/data/train.parquet")
    rows.map(lambda row: {"text": "Tea."}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="different texts"):
        motion_embedding(str(tmp_path / "a"), str(tmp_path), EXTRACTOR)
    first_silent = rows.map(lambda row, index: {"text": row["text"] if index else ""}, with_indices=True)
    first_silent.to_parquet(tmp_path / "train.parquet")
    monkeypatch.setattr(module, "TRAINING", module.TRAINING | {"steps": 1, "clips": 5})
    assert motion_embedding(str(tmp_path / "a"), str(tmp_path), EXTRACTOR).config["retrieval"] == {}


def test_evaluate_reports_the_fid_beside_its_embedding(toy, toy_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(module.TRAINING, "steps", 2)
    argv = ["evaluate", "--data", str(toy / "set"), "--model", str(toy_model), "--report-clips", "0"]
    argv += ["--fid", str(tmp_path / "embedding"), "--output", str(tmp_path / "out"), "--split"]
    results = []
    for split in ("test", "test", "validation"):
        assert lslm_cli.main([*argv, split]) == 0
        results.append(json.loads((tmp_path / "out" / "results.json").read_text()))
    scores = [result["metrics"] for result in results]
    assert scores[0]["fid"] == scores[1]["fid"] != scores[2]["fid"] and scores[0]["fid"] > 0
    assert results[0]["fid_embedding"] == results[2]["fid_embedding"]
    assert set(results[0]["fid_embedding"]) == {"name", "folder", "fingerprint", "weights", "retrieval"}
    assert {"mpjpe_mm", "pa_mpjpe_right_hand_mm", "accel_body_mm_per_frame2"} <= set(scores[0])
    assert scores[0]["pa_mpjpe_left_hand_mm"] < scores[0]["left_hand_wrist_aligned_mm"]
    # of how many clips it is, and that they are few
    assert scores[0]["fid_clips"] == 4 and any(
        "FID is of 4 clips: fewer than 500" in note for note in results[0]["notes"]
    )
    assert "lslm: the FID is of 4 clips" in capsys.readouterr().err
    capsys.readouterr()
    assert lslm_cli.main([*argv, "test", "--limit", "1"]) == 2
    assert "at least 2 clips" in capsys.readouterr().err
