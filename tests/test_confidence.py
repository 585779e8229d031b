"""Knows when it does not know: words and their confidence, calibration, what is held back, clips of no signing."""

import copy
import json
import math
import shutil

import lslm_cli
import numpy as np
import pytest
import torch
from conftest import FPS, make_clip
from test_remote_code import stranger
from training_fixtures import recipe
from transformers import AutoModel, pipeline

from lslm import LslmConfig
from lslm.modeling_lslm.confidence_lslm import EVIDENCE, confidences, evidence, words_of
from lslm.processing.motion_features import PARENTS
from lslm.training.evaluation import evaluate as module
from lslm.training.evaluation.confidence import calibration_error, fit_calibration, reliability, right_words
from lslm.training.evaluation.no_signing import CALIBRATION, TEST, no_signing, sure_of_nothing
from lslm.training.evaluation.robustness import CONDITIONS
from lslm.training.evaluation.sign_translation_metrics import text_metrics
from lslm.training.recipe_keys import EvaluateKeys

pytest_plugins = ["training_fixtures"]
NUMBERS = {"bias": 0.5, "word": 0.8, "motion": -0.2}
SHORT = {"max_new_tokens": 8}


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


# --- words and what they are worth ------------------------------------------------------------------------------------


def test_the_probability_of_a_word_is_that_of_its_tokens():
    tokens = ["Can", " I", " muff", "in", "?", " ", "Zo", "", "ë", ""]
    chances = [0.5, 1.0, 0.5, 0.5, 0.8, 1.0, 0.5, 0.5, 0.8, 0.1]
    words = words_of(tokens, chances)
    assert [word for word, _ in words] == ["Can", "I", "muffin?", "Zoë"]
    assert [chance for _, chance in words] == pytest.approx([0.5, 1.0, 0.2, 0.2])
    assert words_of(["two words"], [0.5]) == [("two", 0.5), ("words", 0.5)]
    assert words_of([""], [0.9]) == words_of([], []) == []


def test_confidence_is_a_logistic_function_of_the_evidence():
    chances, odd = [0.5, 0.9], 2.0
    rows = [[0.0, odd], [math.log(9), odd]]
    assert np.allclose(evidence(chances, odd), rows) and len(EVIDENCE) == 2
    expected = sigmoid(0.5 + np.array(rows) @ [0.8, -0.2])
    assert confidences(chances, odd, NUMBERS) == pytest.approx(expected.tolist())
    assert confidences([], odd, NUMBERS) == []
    assert all(0 < one < 1 for one in confidences([0.0, 1.0], 1e9, NUMBERS))  # nothing overflows
    with pytest.raises(ValueError, match="no calibration.*lslm evaluate --calibrate"):
        confidences(chances, odd, None)


def test_right_words_are_those_that_the_word_error_rate_finds_no_error_in():
    assert right_words("Some hot tea, please.", "some TEA milk please!") == [True, False, False, True]
    assert right_words("Some hot tea.", "No tea.") == [False, True] and right_words("", "A tea.") == [False, False]
    assert right_words("A tea.", "") == []
    rng, words = np.random.default_rng(0), ["tea", "no", "milk", "Ann", "please."]
    for _ in range(50):
        reference, text = (" ".join(rng.choice(words, rng.integers(1, 8))) for _ in range(2))
        counts = text_metrics([reference], [text], definitions=["wer"])
        assert right_words(reference, text).count(False) == counts["substitutions"] + counts["insertions"]


def test_the_calibration_error_of_made_up_numbers():
    # half of what is called 0.7 is right, and all of what is called 1: 4 of 10 are off by 0.2
    sure, right = [0.7] * 4 + [1.0] * 6, [1, 0, 1, 0] + [1] * 6
    error, table = calibration_error(sure, right, bins=10)
    assert error == pytest.approx(100 * 0.4 * 0.2)
    assert [(row["low"], row["count"], row["confidence"], row["right"]) for row in table] == [
        (0.7, 4, 0.7, 0.5),
        (0.9, 6, 1.0, 1.0),
    ]
    assert calibration_error([], []) == (0.0, [])
    rng = np.random.default_rng(0)
    honest = rng.random(20000)
    assert calibration_error(honest, rng.random(20000) < honest)[0] < 1.5
    assert calibration_error(honest, rng.random(20000) < honest**3)[0] > 20
    assert calibration_error([0.25, 0.25], [0.5, 0.0])[0] == pytest.approx(0)  # shares of right words


def test_coverage_and_accuracy():
    references, texts = ["Some tea.", "No milk."], ["Some tea.", "A cake."]
    result = reliability(references, texts, [[1.0, 1.0], [1.0, 0.8]], [[0.9, 0.9], [0.2, 0.4]])
    rows = {row["min_confidence"]: row for row in result["coverage"]}
    assert (rows[0.0]["coverage"], rows[0.0]["wer"], rows[0.0]["exact_match"], rows[0.0]["words_right"]) == (
        100,
        50,
        50,
        50,
    )
    assert (rows[0.5]["coverage"], rows[0.5]["wer"], rows[0.5]["exact_match"]) == (50, 0, 100)
    assert rows[0.95] == {"min_confidence": 0.95, "coverage": 0.0}
    assert result["words"]["ece"] == pytest.approx(100 * (0.1 * 2 + 0.2 + 0.4) / 4)
    assert result["clips"]["ece"] == pytest.approx(100 * (0.1 + 0.3) / 2)
    assert result["calibrated"] and result["clips"]["uncalibrated"] == pytest.approx(100 * 0.9 / 2)
    plain = reliability(references, texts, [[1.0, 1.0], [1.0, 0.8]], None)
    assert not plain["calibrated"] and plain["words"]["ece"] == result["words"]["uncalibrated"]


def test_a_calibration_finds_what_made_the_words_right():
    rng = np.random.default_rng(0)
    chances = [rng.uniform(0.02, 0.98, 5).tolist() for _ in range(2000)]
    odd = rng.normal(3.0, 2.0, 2000).tolist()
    truth = [sigmoid(np.array(evidence(clip, one)) @ [0.8, -0.2] + 0.5) for clip, one in zip(chances, odd, strict=True)]
    right = [(rng.random(5) < clip).tolist() for clip in truth]
    numbers = fit_calibration(chances, odd, right)
    assert numbers == pytest.approx(NUMBERS, abs=0.12) and list(numbers) == ["bias", *EVIDENCE]
    told = [one for clip, other in zip(chances, odd, strict=True) for one in confidences(clip, other, numbers)]
    assert calibration_error(told, np.ravel(right))[0] < 2
    assert calibration_error(np.ravel(chances), np.ravel(right))[0] > 3


def test_a_calibration_takes_words_right_and_wrong():
    for right in ([[True]] * 5 + [[False]] * 5, [[True]] * 200, [[False]] * 200):
        with pytest.raises(ValueError, match=f"no calibration from {len(right)} words"):
            fit_calibration([[0.9]] * len(right), [1.0] * len(right), right)
    # told apart without an error: the weights stay finite
    numbers = fit_calibration([[0.9]] * 100 + [[0.1]] * 100, [1.0] * 200, [[True]] * 100 + [[False]] * 100)
    assert all(math.isfinite(number) for number in numbers.values()) and numbers["word"] > 0


# --- no signing -------------------------------------------------------------------------------------------------------


def test_clips_of_no_signing_are_people_and_none_is_like_another():
    assert len(CALIBRATION) + len(TEST) >= 8 and not CALIBRATION.keys() & TEST.keys()
    for kinds in (CALIBRATION, TEST):
        clips = no_signing(kinds, 2 * len(kinds), FPS, 0)
        for clip, again in zip(clips, no_signing(kinds, 2 * len(kinds), FPS, 0), strict=True):
            np.testing.assert_array_equal(clip, again)
        for clip in clips:
            assert clip.dtype == np.float32 and clip.shape[1:] == (52, 3) and 2 * FPS <= len(clip) <= 8 * FPS
            assert np.isfinite(clip).all() and np.abs(clip).max() < 2.5
            bones = np.linalg.norm(clip[:, 1:] - clip[:, PARENTS[1:]], axis=-1)
            assert np.median(bones.std(0)) < 0.02 and bones[:, 17:21].min() > 0.1  # arms keep their length
        pairs = zip(clips[: len(kinds)], clips[len(kinds) :], strict=True)
        assert all(a.shape != b.shape or np.abs(a - b).max() > 0.01 for a, b in pairs)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(no_signing(TEST, 1, FPS, 0)[0], no_signing(TEST, 1, FPS, 1)[0])


def test_how_often_a_model_is_sure_of_nothing():
    count = 2 * len(TEST)
    texts, words = ["A tea."] * count, [[0.2, 0.4]] * count
    texts[0], words[1] = "", [0.9, 0.9]
    words[0] = [0.9]
    result = sure_of_nothing(texts, words)
    assert result["clips"] == count and result["sure"] == pytest.approx(100 / count, abs=0.01)
    assert result["kinds"][list(TEST)[1]] == 50 and sum(result["kinds"].values()) == 50


def test_odd_motion_is_odd_whatever_stands_beside_it(vqvae, extractor, clips):
    features = [extractor.normalize(extractor.to_features(clip)) for clip in clips[:4]]
    alone = [float(vqvae.oddity(vqvae.encode(torch.as_tensor(clip)[None]))) for clip in features]
    together = vqvae.oddity(vqvae.encode(**extractor.pad(features)))
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    wild = [clip + 10 * np.random.default_rng(0).normal(size=clip.shape) for clip in features]
    assert (vqvae.oddity(vqvae.encode(**extractor.pad(wild))) > together).all()


# --- the pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joints(clips):
    return [clips[i].astype(np.float32) for i in (4, 1, 3)]


@pytest.fixture(scope="module")
def calibrated(checkpoint, tmp_path_factory):
    """`checkpoint` with a calibration in its config.json."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"calibration": NUMBERS}))
    return str(folder)


@pytest.fixture(scope="module")
def pipe(calibrated):
    return pipeline("sign-translation", model=calibrated, **SHORT)


def test_words_have_a_confidence_and_the_clip_their_mean(pipe, joints):
    for (result,) in pipe(joints, details=True):
        words = result["words"]
        assert "".join(result["tokens"]).split() == [word["word"] for word in words]
        encoding = pipe.processor.encode_motion(joints[0])
        assert result["confidence"] == pytest.approx(np.mean([word["confidence"] for word in words]))
    (first,) = pipe(joints[0], details=True)
    odd = float(pipe.model.model.vqvae.oddity(encoding))
    expected = confidences([word["probability"] for word in first["words"]], odd, NUMBERS)
    assert [word["confidence"] for word in first["words"]] == pytest.approx(expected, rel=1e-4)
    json.dumps(first)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_confidence_depends_on_the_clip_alone(pipe, joints, options):
    alone = [pipe(clip, min_confidence=0.0, **options) for clip in joints]
    for batch_size in (2, 3):
        together = pipe(joints, min_confidence=0.0, batch_size=batch_size, **options)
        for one, other in zip(alone, together, strict=True):
            assert len(one) == options.get("num_return_sequences", 1)
            for a, b in zip(one, other, strict=True):
                assert a.keys() == {"translation_text", "confidence"} and a["translation_text"] == b["translation_text"]
                assert a["confidence"] == pytest.approx(b["confidence"], rel=1e-4)


def test_a_guess_is_held_back_with_the_reason(pipe, joints):
    plain, (told,) = pipe(joints[0]), pipe(joints[0], min_confidence=0.0)
    assert plain == [{"translation_text": told["translation_text"]}] and told["translation_text"]
    sure = told["confidence"]
    assert pipe(joints[0], min_confidence=sure) == [told]
    (held,) = pipe(joints[0], min_confidence=0.99999)
    assert held["translation_text"] == "" and held["confidence"] == sure
    assert held["reason"] == f"confidence {int(100 * sure) / 100:.2f} is below 0.99999"
    (both,) = pipe(joints[0], min_confidence=1, details=True)
    assert both["translation_text"] == "" and both["reason"] and both["words"]
    assert pipe(joints[0]) == plain  # an argument of a call stays with it
    careful = pipeline("sign-translation", model=pipe.model, processor=pipe.processor, min_confidence=1.0, **SHORT)
    assert careful(joints[0])[0]["reason"] and "reason" not in careful(joints[0], min_confidence=0.0)[0]
    assert careful(joints[0], details=False)[0]["reason"]


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan"), "0.5", True])
def test_what_is_no_confidence_is_refused(pipe, joints, least):
    with pytest.raises(ValueError, match="min_confidence is .*, expected a number from 0 to 1"):
        pipe(joints[0], min_confidence=least)


def test_a_checkpoint_without_a_calibration_says_so(checkpoint, joints):
    pipe = pipeline("sign-translation", model=checkpoint, **SHORT)
    with pytest.raises(ValueError, match="no calibration.*lslm evaluate --calibrate"):
        pipe(joints[0], min_confidence=0.5)
    (result,) = pipe(joints[0], details=True)
    assert result["confidence"] is None and {word["confidence"] for word in result["words"]} == {None}


def test_a_calibration_comes_back(pipe, calibrated, joints, tmp_path):
    expected = pipe(joints, min_confidence=0.5)
    pipe.save_pretrained(tmp_path / "pipe")
    model = AutoModel.from_pretrained(calibrated)
    assert model.config.calibration == NUMBERS
    model.save_pretrained(tmp_path / "model")
    pipe.processor.save_pretrained(tmp_path / "model")
    for folder in ("pipe", "model"):
        again = pipeline("sign-translation", model=str(tmp_path / folder), **SHORT)
        assert again(joints, min_confidence=0.5) == expected


def test_a_calibration_travels_without_the_package(pipe, calibrated, joints, tmp_path):
    np.savez(tmp_path / "clip.npz", joints=joints[0], fps=FPS)
    code = f"""
import json
from transformers import pipeline
pipe = pipeline("sign-translation", model={calibrated!r}, trust_remote_code=True, max_new_tokens=8)
print("RESULT", json.dumps(pipe("clip.npz", min_confidence=0.99999, details=True)))
"""
    told = json.loads(stranger(code, tmp_path).split("RESULT ")[1])
    assert told == pipe(str(tmp_path / "clip.npz"), min_confidence=0.99999, details=True)


def test_a_damaged_calibration_is_refused(pipe):
    config = pipe.model.config.to_dict()
    more = {"word": "x"}, {"word": None}, {"word": math.inf}, {"sentence": 0.3}  # the last: as it once was
    for wrong in ({}, {"bias": 1.0}, *(NUMBERS | one for one in more)):
        with pytest.raises(ValueError, match="calibration"):
            LslmConfig.from_dict(copy.deepcopy(config) | {"calibration": wrong})
    with pytest.raises(ValueError, match="calibration"):
        LslmConfig.from_dict(copy.deepcopy(config) | {"calibration": [1]})


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(toy, toy_model, tmp_path_factory):
    """A copy of the toy model that was calibrated on clips that it partly knows, and the scores."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(toy_model, folder / "model")
    shutil.copytree(toy / "set", folder / "set")
    (folder / "set" / "data" / "train.parquet").rename(folder / "set" / "data" / "mixed.parquet")
    keys = {"model": str(folder / "model"), "calibrate": True, "robustness": True, "report_clips": 2}
    patch = pytest.MonkeyPatch()
    patch.setattr("lslm.training.evaluation.confidence.FEWEST_WORDS", 20)
    patch.setattr(module, "NO_SIGNING", 8)
    for condition in list(CONDITIONS)[2:]:
        patch.delitem(CONDITIONS, condition)
    results = module.evaluate(EvaluateKeys(str(folder / "set"), "mixed", str(folder / "scores"), **keys))
    patch.undo()
    return folder, results


def test_evaluate_calibrates_and_touches_nothing_else(evaluated, toy_model):
    folder, results = evaluated
    config = json.loads((folder / "model" / "config.json").read_text())
    assert set(config.pop("calibration")) == {"bias", *EVIDENCE}
    before = json.loads((toy_model / "config.json").read_text())
    assert config == {name: value for name, value in before.items() if name != "calibration"}
    for file in toy_model.iterdir():
        if file.is_file() and file.name != "config.json":
            assert (folder / "model" / file.name).read_bytes() == file.read_bytes()
    assert results["confidence"]["calibrated"] and results["confidence"]["bins"] == 15
    for of in ("words", "clips"):
        assert results["metrics"][f"ece_{of}"] == results["confidence"][of]["ece"]
    assert sum(row["count"] for row in results["confidence"]["clips"]["table"]) == results["metrics"]["utterances"]
    assert results["confidence"]["no_signing"]["clips"] == 8
    assert results["metrics"]["no_signing_sure"] == results["confidence"]["no_signing"]["sure"]
    assert (folder / "scores" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (folder / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert all(len(row["confidences"]) == len(row["prediction"].split()) for row in rows)
    pipe = pipeline("sign-translation", model=str(folder / "model"))
    assert 0 <= pipe(make_clip(40), min_confidence=0.0)[0]["confidence"] <= 1
    assert "Confidence:" in (folder / "scores" / "report.html").read_text(encoding="utf-8")


def test_evaluate_says_how_honest_the_model_is(evaluated, toy, toy_model, tmp_path, capsys):
    argv = ["evaluate", "--data", str(toy / "set"), "--split", "test", "--output", str(tmp_path), "--report-clips", "0"]
    assert lslm_cli.main([*argv, "--model", str(toy_model)]) == 0
    assert "not calibrated (--calibrate)" in capsys.readouterr().out
    assert not json.loads((tmp_path / "results.json").read_text())["confidence"]["calibrated"]
    assert lslm_cli.main([*argv, "--model", str(evaluated[0] / "model")]) == 0
    shown = capsys.readouterr().out
    assert "expected calibration error (15 bins): " in shown and "reliability.png" in shown


def test_calibrate_refuses_what_it_cannot_calibrate(toy, toy_model, toy_tokenizer, tmp_path, capsys):
    argv = ["evaluate", "--data", str(toy / "set"), "--output", str(tmp_path), "--calibrate"]
    for model, split, words in (
        (toy_model, "train", "--split validation"),
        (toy_tokenizer, "test", "is a sign tokenizer"),
        (toy_model, "validation", "no calibration from"),
    ):
        assert lslm_cli.main([*argv, "--model", str(model), "--split", split]) == 2
        assert words in capsys.readouterr().err
    assert json.loads((toy_model / "config.json").read_text()).get("calibration") is None


def test_translate_holds_guesses_back(evaluated, toy_model, tmp_path, capsys):
    clip = str(tmp_path / "clip.npz")
    np.savez(clip, joints=make_clip(40).astype(np.float32), fps=FPS)
    argv = ["translate", clip, "--model", str(evaluated[0] / "model"), "--min-confidence"]
    assert lslm_cli.main([*argv, "1"]) == 0
    assert capsys.readouterr().out.strip().endswith("is below 1)")
    assert lslm_cli.main([*argv, "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == "" and told["reason"].startswith("confidence 0.") and 0 <= told["confidence"] < 1
    assert lslm_cli.main(["translate", clip, "--model", str(toy_model), "--min-confidence", "0.5"]) == 2
    assert "no calibration" in capsys.readouterr().err
    assert lslm_cli.main([*argv, "2"]) == 2
    assert "min_confidence is 2.0, expected a number from 0 to 1" in capsys.readouterr().err


def test_who_trains_a_model_on_has_to_calibrate_it_again(evaluated, toy, tmp_path):
    flags = {"data": toy / "set", "model": evaluated[0] / "model", "output_dir": tmp_path / "on", "max_steps": 1}
    flags |= {"trainable": ["projector"], "per_device_train_batch_size": 2, "eval_strategy": "no"}
    assert lslm_cli.main(["instruct", *recipe(**flags)]) == 0
    assert json.loads((tmp_path / "on" / "config.json").read_text()).get("calibration") is None
