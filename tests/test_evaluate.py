"""`lslm evaluate`: what it writes, what its controls do, and which signs it compares."""

import json
import re

import lslm_cli
import numpy as np
import pytest
from datasets import Dataset
from training_fixtures import ENGLISH, FPS, UTTERANCES, read_jsonl, sign_joints

from lslm.modeling_lslm import SignMotionVQVAE
from lslm.processing import SignMotionFeatureExtractor
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText
from lslm.training.evaluation import evaluate as module
from lslm.training.recipe_keys import EvaluateKeys

pytest_plugins = ["training_fixtures"]
TEXT_SCORES = {"bleu1", "bleu2", "bleu3", "bleu4", "chrf", "rouge_l", "wer", "insertions", "deletions", "substitutions"}
MOTION_SCORES = {"upper_body_mm", "hands_mm", "left_hand_wrist_aligned_mm", "right_hand_wrist_aligned_mm", "perplexity"}
NAMES = {"names", "names_exact_match", "names_character_error_rate", "wer_without_names"}
RECOGNITION = {"sign_recognition_decoded", "sign_recognition_original"}


def evaluate(data, split, output, model, **keys) -> dict:
    return module.evaluate(EvaluateKeys(str(data), split, str(output), str(model), **keys))


@pytest.fixture(scope="module")
def only_test(toy, tmp_path_factory):
    """A data set folder with nothing but a test split, beside no `data` folder."""
    folder = tmp_path_factory.mktemp("only")
    (folder / "test.parquet").write_bytes((toy / "set" / "data" / "test.parquet").read_bytes())
    return folder


def test_results_and_predictions(toy, toy_model, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(f"model: {toy_model}\nsplit: test\ncontrols: true\nbatch_size: 5\n")
    argv = ["evaluate", "--data", str(toy / "set"), "--output", str(tmp_path / "a" / "b"), "--batch-size", "3"]
    assert lslm_cli.main([*argv, "--config", str(tmp_path / "recipe.yaml")]) == 0
    shown = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / "b" / "results.json").read_text(encoding="utf-8"))
    metrics = results["metrics"]
    assert set(metrics) >= TEXT_SCORES | MOTION_SCORES | NAMES | RECOGNITION | {"wer_shuffled", "wer_zeroed"}
    assert all(isinstance(value, (int, float)) and np.isfinite(value) for value in metrics.values())
    assert (metrics["utterances"], metrics["names"]) == (4, 1)
    assert 1 <= metrics["perplexity"] <= metrics["codes_used"] <= 16
    assert (results["data"], results["split"], results["model"]) == (str(toy / "set"), "test", str(toy_model))
    assert results["command"].startswith("lslm evaluate --data") and "--batch-size 3" in results["command"]
    assert all(name in shown for name in metrics) and "results.json" in shown
    rows = read_jsonl(tmp_path / "a" / "b" / "predictions.jsonl")
    assert [row["id"] for row in rows] == [f"test-{n:04d}" for n in range(4)]
    stored = Dataset.from_parquet(str(toy / "set" / "data" / "test.parquet"))
    assert [row["reference"] for row in rows] == stored["text"][:]
    # the scores are those of the predictions on file
    references, predictions = ([row[key] for row in rows] for key in ("reference", "prediction"))
    again = module.text_metrics(references, predictions, stored["name"][:])
    assert all(metrics[name] == pytest.approx(again[name], abs=1e-4) for name in TEXT_SCORES | NAMES)


def test_a_model_that_knows_the_clips_scores_full_marks(toy, toy_model, tmp_path):
    results = evaluate(toy / "set", "train", tmp_path, toy_model, limit=4, batch_size=3, controls=True)
    metrics = results["metrics"]
    assert metrics["wer"] == 0 and metrics["bleu4"] == pytest.approx(100) and metrics["utterances"] == 4
    # it reads the motion: other people's motion, and none, give other texts
    assert metrics["wer_shuffled"] > 50 and metrics["wer_zeroed"] > 30
    assert metrics["sign_recognition_original"] == 100  # every sign is its own neighbour
    assert results == json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_does_not_change_a_translation(toy, toy_model, tmp_path, batch_size):
    evaluate(toy / "set", "train", tmp_path, toy_model, batch_size=batch_size)
    texts = {row["id"]: row["prediction"] for row in read_jsonl(tmp_path / "predictions.jsonl")}
    known = [ENGLISH.get(g) or " and ".join(ENGLISH[word] for word in g.split()) for g in UTTERANCES["train"][:4]]
    assert [texts[f"train-{n:04d}"] for n in range(4)] == [text[0].upper() + text[1:] + "." for text in known]


@pytest.mark.parametrize("seed", range(4))
def test_in_the_controls_no_clip_keeps_its_own_utterance(toy, toy_model, tmp_path, monkeypatch, seed):
    seen = {}

    def spy(lslm, processor, clips, batch_size, num_beams, what="translating"):
        seen[what] = clips
        return [module.Translation("x", ["x"], [1.0])] * len(clips)

    monkeypatch.setattr(module, "translate_clips", spy)
    evaluate(toy / "set", "train", tmp_path, toy_model, controls=True, seed=seed)
    own, shuffled, zeroed = (seen[what] for what in ("translating", "shuffled", "zeroed"))
    assert len(own) == len(shuffled) == len(zeroed) == 8
    assert all(mine is not other for mine, other in zip(own, shuffled, strict=True))
    assert {id(clip) for clip in shuffled} == {id(clip) for clip in own}  # each is used once
    assert all(z.codes.shape == mine.codes.shape for z, mine in zip(zeroed, own, strict=True))
    shortest = min(len(z.codes[0]) for z in zeroed)
    assert len({str(z.codes[0, : shortest - 2].tolist()) for z in zeroed}) == 1  # nothing to tell them apart by


def test_a_clip_is_encoded_once(toy, toy_model, tmp_path, monkeypatch):
    """However often it is translated, and for the scores of the sign tokenizer as well."""
    encoded, encode = [], SignMotionVQVAE.encode

    def spy(vqvae, input_features, input_features_mask=None, *args, **kwargs):
        encoded.append(len(input_features))
        return encode(vqvae, input_features, input_features_mask, *args, **kwargs)

    monkeypatch.setattr(SignMotionVQVAE, "encode", spy)
    evaluate(toy / "set", "test", tmp_path, toy_model, num_beams=2, controls=True)
    clips = len(MotionText(str(toy / "set"), "test", FPS))
    assert sum(encoded) == 2 * clips  # each, and each without its motion


def test_one_clip_cannot_be_shuffled(toy, toy_model, tmp_path):
    results = evaluate(toy / "set", "train", tmp_path, toy_model, limit=1, controls=True)
    assert "wer_shuffled" not in results["metrics"] and "wer_zeroed" in results["metrics"]


def test_a_sign_tokenizer_alone_gets_the_scores_it_has_inside_a_model(toy, toy_model, toy_tokenizer, tmp_path):
    alone = evaluate(toy / "set", "test", tmp_path / "a", toy_tokenizer)["metrics"]
    whole = evaluate(toy / "set", "test", tmp_path / "b", toy_model)["metrics"]
    assert set(alone) >= MOTION_SCORES and not set(alone) & TEXT_SCORES
    assert 0 < alone.pop("parameters_m") < whole["parameters_m"]
    assert alone == {name: whole[name] for name in alone}
    assert not (tmp_path / "a" / "predictions.jsonl").exists() and not (tmp_path / "a" / "report.html").exists()


def test_a_split_without_a_training_split(only_test, toy_model, tmp_path):
    metrics = evaluate(only_test, "test", tmp_path, toy_model)["metrics"]
    assert set(metrics) >= TEXT_SCORES | MOTION_SCORES | NAMES and not RECOGNITION & set(metrics)


def test_a_data_set_of_clips_and_texts_alone(toy, toy_model, tmp_path):
    rows = Dataset.from_parquet(str(toy / "set" / "data" / "test.parquet"))
    bare = rows.select_columns(["text", "fps", "joints_mm"])
    for number, data in enumerate((bare, rows.map(lambda row: {"signs": []}), rows.map(lambda row: {"signs": None}))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for split in ("train", "test"):
            data.to_parquet(folder / f"{split}.parquet")
        metrics = evaluate(folder, "test", tmp_path / "out", toy_model)["metrics"]
        assert set(metrics) >= TEXT_SCORES | MOTION_SCORES and not RECOGNITION & set(metrics)
        ids = [row["id"] for row in read_jsonl(tmp_path / "out" / "predictions.jsonl")]
        assert ids == ([0, 1, 2, 3] if number == 0 else rows["id"][:])


def test_unseen_combinations_are_scored_apart(toy, toy_model, tmp_path):
    rows = Dataset.from_parquet(str(toy / "set" / "data" / "train.parquet")).select(range(6))
    rows = rows.add_column("seen_combination", [True, True, True, True, False, False])
    rows.to_parquet(tmp_path / "test.parquet")
    metrics = evaluate(tmp_path, "test", tmp_path, toy_model)["metrics"]
    wrong = metrics["insertions"] + metrics["deletions"] + metrics["substitutions"]
    assert metrics["unseen_combinations"] == 2 and wrong > 0
    # it knows the first four by heart: all errors are in "Some tea." and "Not now.", four words
    assert metrics["wer_unseen_combinations"] == pytest.approx(100 * wrong / 4)


def test_a_missing_split_or_model_is_said_in_one_line(only_test, toy_model, tmp_path, capsys):
    argv = ["evaluate", "--data", str(only_test), "--output", str(tmp_path)]
    for more, said in [
        (["--split", "validation", "--model", str(toy_model)], "no split 'validation' in .* it has test.parquet"),
        (["--split", "test", "--model", str(tmp_path / "nowhere")], "nowhere"),
    ]:
        capsys.readouterr()
        assert lslm_cli.main([*argv, *more]) == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and error[0].startswith("lslm: ") and re.search(said, error[0])
    assert not (tmp_path / "results.json").exists()


def test_signs_are_cut_where_they_are_at_the_model_s_frame_rate(tmp_path):
    joints, signs = sign_joints(["tea", "no", "please"], np.random.default_rng(0))
    # a take that occurs twice is one sign
    rows = {"text": ["a", "b"], "fps": [FPS] * 2, "joints": [joints.tolist()] * 2, "signs": [signs[:2], signs]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "test.parquet")
    cuts = {}
    for fps in (FPS, 2 * FPS):
        clips = MotionText(str(tmp_path), "test", fps)
        cuts[fps], labels = module._signs(clips, clips.joints.__getitem__)
        assert labels == ["tea", "no", "please"]
    assert np.abs(cuts[FPS] - cuts[2 * FPS]).max() < 0.15 * np.abs(cuts[FPS]).max()


def test_the_tokenizer_s_errors_are_those_of_its_reconstruction(toy, toy_tokenizer):
    vqvae = SignMotionVQVAE.from_pretrained(toy_tokenizer)
    extractor = SignMotionFeatureExtractor.from_pretrained(toy_tokenizer)
    clips = MotionText(str(toy / "set"), "test", FPS)
    features = [extractor.normalize(extractor.to_features(joints)) for joints in clips.joints]
    encodings = encode_clips(vqvae, extractor, features)
    scores = module.tokenizer_metrics(vqvae, extractor, clips, features, encodings, str(toy / "set"))
    errors = []
    for clip in features:
        decoded = vqvae.decode(vqvae.encode(extractor.pad([clip])["input_features"]).codes)[0, : len(clip)].numpy()
        error = extractor.to_joints(clip) - extractor.to_joints(decoded)
        errors.append(1000 * np.linalg.norm(error - error[:, :1], axis=-1)[:, 22:])
    assert scores["hands_mm"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)


def test_a_confidence_that_knows_when_it_guesses():
    right = np.array([True, False, True, False])
    assert module.area_under_curve([0.9, 0.1, 0.8, 0.2], right) == 100
    assert module.area_under_curve([0.1, 0.9, 0.2, 0.8], right) == 0
    assert module.area_under_curve([0.5] * 4, right) == 50
    assert module.area_under_curve([0.9, 0.8, 0.3, 0.3], right) == pytest.approx(100 * 2.5 / 4)
