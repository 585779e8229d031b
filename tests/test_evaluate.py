"""`lslm evaluate`: what it writes, what its controls do, and which signs it compares."""

import json
import re
import shutil
from types import SimpleNamespace

import lslm_cli
import numpy as np
import pytest
import torch
from datasets import Dataset
from markupsafe import escape
from test_cards import section
from training_fixtures import ENGLISH, FPS, TOY_INSTRUCT, UTTERANCES, read_jsonl, recipe, sign_joints

from lslm.hub_cards.cards import markdown, model_card
from lslm.modeling_lslm import LslmForConditionalGeneration, SignMotionVQVAE
from lslm.processing import SignMotionFeatureExtractor, SignMotionProcessor
from lslm.processing.pipeline_lslm import Translation
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText
from lslm.training.evaluation import evaluate as module
from lslm.training.evaluation.motion_verdict import motion_verdict, other_clips
from lslm.training.evaluation.robustness import CONDITIONS
from lslm.training.evaluation.sign_translation_metrics import confidence_intervals
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
    (tmp_path / "recipe.yaml").write_text(f"model: {toy_model}\nsplit: test\nbatch_size: 5\n")
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
    results = evaluate(toy / "set", "train", tmp_path, toy_model, limit=4, batch_size=3)
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


def write_takes(file, seed, text_of) -> None:
    """16 clips: the four utterances that the toy model learnt, each in four takes, with the text of number
    `text_of(utterance, take)`."""
    rows, rng = [], np.random.default_rng(seed)
    texts = [ENGLISH.get(g) or " and ".join(ENGLISH[word] for word in g.split()) for g in UTTERANCES["train"][:4]]
    for number in range(16):
        joints, _ = sign_joints(UTTERANCES["train"][number % 4].split(), rng)
        text = texts[text_of(number % 4, number // 4) % 4]
        rows.append({"text": text[0].upper() + text[1:] + ".", "fps": FPS, "joints": joints.tolist()})
    Dataset.from_list(rows).to_parquet(file)


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """A data set folder with a test split of takes with their own texts, and a training split of others, where each
    utterance has each text once: the motion tells nothing of the text."""
    folder = tmp_path_factory.mktemp("takes")
    write_takes(folder / "test.parquet", 7, lambda utterance, take: utterance)
    write_takes(folder / "train.parquet", 8, lambda utterance, take: utterance + take)
    return folder


def test_a_model_that_reads_is_told_from_those_that_do_not(takes, toy_align, toy_model, tmp_path, capsys):
    """The second is the first with a projector that nobody trained, the third was trained on shuffled pairs; what is
    found, people see everywhere."""
    model, processor = (
        LslmForConditionalGeneration.from_pretrained(toy_model),
        SignMotionProcessor.from_pretrained(toy_model),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.model.projector.parameters():
            parameter.normal_(std=0.02)
    model.save_pretrained(tmp_path / "blind")
    processor.save_pretrained(tmp_path / "blind")
    shuffled = {"data": takes, "augment": "false", "learning_rate": 6e-3, "max_steps": 60}
    assert lslm_cli.main(["align", *recipe(**toy_align | shuffled, output_dir=tmp_path / "shuffled")]) == 0
    blind = "no evidence", r"No evidence that the motion is read: other clips' translations fit as well"
    for folder, verdict, words in (
        (
            toy_model,
            "helps",
            r"The motion helps by [\d.]+ points of WER over another clip's \([\d.]+ to [\d.]+; 16 clips\)\.",
        ),
        (tmp_path / "blind", *blind),
        (tmp_path / "shuffled", *blind),
    ):
        argv = ["evaluate", "--data", str(takes), "--split", "test", "--model", str(folder), "--output", str(tmp_path)]
        assert lslm_cli.main(argv) == 0
        results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        motion, metrics = results["motion"], results["metrics"]
        assert motion["verdict"] == verdict and re.match(words, motion["summary"]) and motion["clips"] == 16
        assert motion["interval"][0] <= motion["difference"] <= motion["interval"][1]
        assert motion["difference"] == pytest.approx(metrics["wer_shuffled"] - metrics["wer"], abs=1e-3)
        assert motion["difference_zeroed"] == pytest.approx(metrics["wer_zeroed"] - metrics["wer"], abs=1e-3)
        assert motion["summary"] in capsys.readouterr().out
        assert escape(motion["summary"]) in (tmp_path / "report.html").read_text(encoding="utf-8")
        card = model_card("me/mine", config={}, processor={}, base_model="me/tuned", license="mit", results=results)
        assert markdown(motion["summary"]) in section(card, "Scores")
        assert card[: card.index("## Quick start")].count("No evidence") == (verdict == "no evidence")
    # it has learnt to speak all the same
    known = set(Dataset.from_parquet(str(takes / "test.parquet"))["text"])
    assert {row["prediction"] for row in read_jsonl(tmp_path / "predictions.jsonl")} <= known


@pytest.mark.parametrize("place", ["file", "file/scores", "\0"])
def test_a_place_where_no_results_can_be_is_told_before_anything_is_computed(
    toy, toy_model, tmp_path, capsys, monkeypatch, place
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(LslmForConditionalGeneration, "from_pretrained", None)
    keys = {"data": toy / "set", "model": toy_model, "split": "test"}
    assert lslm_cli.main(["evaluate", *recipe(**keys), "--output", f"{tmp_path}/{place}"]) == 2
    assert "is no folder for results (" in (error := capsys.readouterr().err) and "--output" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_clip_longer_than_the_model_takes_is_named(toy, toy_model, tmp_path, capsys):
    model = shutil.copytree(toy_model, tmp_path / "model")
    config = json.loads((model / "processor_config.json").read_text())
    config["feature_extractor"]["max_seconds"] = 1.5
    (model / "processor_config.json").write_text(json.dumps(config))
    keys = {"data": toy / "set", "model": model}
    assert lslm_cli.main(["evaluate", *recipe(**keys, split="test", output=tmp_path / "scores")]) == 2
    stage = TOY_INSTRUCT | keys | {"max_steps": 1, "output_dir": tmp_path / "run"}
    assert lslm_cli.main(["instruct", *recipe(**stage)]) == 2
    error = capsys.readouterr().err
    for split in ("test", "train"):
        assert re.search(rf"clip {split}-000\d in .*{split}.parquet: it lasts . s, the limit is 1.5; cut it", error), (
            split
        )


def test_what_was_not_tested_is_said(takes, toy_model, tmp_path, capsys):
    argv = ["evaluate", "--data", str(takes), "--split", "test", "--model", str(toy_model), "--output", str(tmp_path)]
    assert lslm_cli.main([*argv, "--controls", "false"]) == 0
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert not {"wer_shuffled", "wer_zeroed"} & set(results["metrics"])
    assert results["motion"] == module.NOT_TESTED and module.NOT_TESTED["summary"] in capsys.readouterr().out
    assert module.NOT_TESTED["summary"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    old = {key: value for key, value in results.items() if key not in ("motion", "intervals", "notes")}
    for recorded in (results, old):
        card = model_card("me/mine", config={}, processor={}, base_model="me/tuned", license="mit", results=recorded)
        assert "Whether the motion is read was not tested" in section(card, "Scores")


def test_scores_come_with_intervals_over_clips(takes, toy_model, tmp_path, capsys):
    argv = ["evaluate", "--data", str(takes), "--split", "test", "--model", str(toy_model), "--output", str(tmp_path)]
    assert lslm_cli.main([*argv, "--unseen-templates"]) == 0
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    rows = read_jsonl(tmp_path / "predictions.jsonl")
    sides = [[row[key] for row in rows] for key in ("reference", "prediction")]
    for name, (low, high) in confidence_intervals(
        *sides, definitions=["bleu", "chrf", "rouge_l", "wer", "exact_match"]
    ).items():
        assert results["intervals"][name] == pytest.approx([low, high], abs=1e-4), name
    assert set(results["intervals"]) >= {"wer_unseen_templates", "bleu4_unseen_templates"}
    assert set(results["intervals"]) <= set(results["metrics"])
    assert re.search(r"^wer +[\d.]+  \[[\d.]+, [\d.]+\]$", capsys.readouterr().out, re.MULTILINE)
    # of four clips there are none, and no verdict
    results = evaluate(takes, "test", tmp_path, toy_model, limit=4)
    assert results["intervals"] == {} and results["motion"]["verdict"] == "too few clips"
    assert results["motion"]["summary"] == "4 clips are too few to tell whether the motion is read; it takes 10."


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_another_clip_is_about_as_long(count):
    lengths = np.random.default_rng(count).integers(1, 2 + count // 2, size=count)
    others = other_clips(lengths, seed=0)
    assert sorted(others) == list(range(count)) and (others != np.arange(count)).all()
    ranks = {length: np.flatnonzero(np.sort(lengths) == length) for length in lengths}
    for mine, other in zip(lengths, lengths[others], strict=True):  # at most one clip's length lies between
        assert min(abs(a - b) for a in ranks[mine] for b in ranks[other]) <= 2
    assert (others == other_clips(lengths, seed=0)).all()
    assert count < 10 or (others != other_clips(lengths, seed=1)).any()


LONG = [" ".join(f"word{number}x{place}" for place in range(30)) for number in range(12)]
SENTENCES = [f"Can I have {number} {thing}, please?" for number in range(4) for thing in ("teas", "coffees", "muffins")]


@pytest.mark.parametrize(
    ("predictions", "shuffled", "zeroed", "verdict"),
    [
        (SENTENCES, SENTENCES[1:] + SENTENCES[:1], ["Tea."] * 12, "helps"),
        (["Can I have tea, please?"] * 12, ["Can I have tea, please?"] * 12, ["Tea."] * 12, "no evidence"),
        # wrong, and each time alike wrong: zeros alone are worse, which is no evidence
        (SENTENCES[5:] + SENTENCES[:5], SENTENCES[1:] + SENTENCES[:1], [""] * 12, "no evidence"),
        # it reads, but babbles so much that silence would score better
        (
            [f"{text} So so so so so so so." for text in SENTENCES],
            ["So so so so so so so so so so so so so."] * 12,
            [""] * 12,
            "read",
        ),
    ],
    ids=["reads", "says one thing", "guesses", "babbles"],
)
def test_the_verdict(predictions, shuffled, zeroed, verdict):
    check_verdict(SENTENCES, predictions, shuffled, zeroed, verdict)


def test_a_gain_as_small_as_chance_makes_it_is_no_help():
    """One word of thirty, in every clip."""
    predictions = [" ".join(text.split()[:1] + ["so"] * 29) for text in LONG]
    check_verdict(LONG, predictions, [" ".join(["so"] * 30)] * 12, ["so"] * 12, "hardly read")


def check_verdict(references, predictions, shuffled, zeroed, verdict):
    motion = motion_verdict(references, predictions, shuffled, zeroed, seed=0)
    assert motion["verdict"] == verdict and motion["summary"].endswith("; 12 clips).")
    low, high = motion["interval"]
    assert (low > 0) == (verdict != "no evidence") and low <= motion["difference"] <= high
    assert motion == motion_verdict(references, predictions, shuffled, zeroed, seed=0)


@pytest.mark.parametrize("by_sentence", [False, True])
def test_a_model_that_guesses_is_seldom_said_to_read(by_sentence):
    """Of sentences given to clips at random, at most 2.5 % may seem to be read by chance. Nor if they are given to
    sentences: all clips of one are right then, or none is (taken for independent, they would seem to be read 9 times).
    """
    rng, reads = np.random.default_rng(0), 0
    sentences, clips = (10, 80) if by_sentence else (12, 20)
    for seed in range(40):
        signed, guess = rng.integers(sentences, size=clips), rng.integers(sentences, size=sentences)
        said = [SENTENCES[i] for i in (guess[signed] if by_sentence else rng.integers(sentences, size=clips))]
        others = [said[i] for i in other_clips(rng.integers(5, 9, size=clips), seed)]
        references = [SENTENCES[i] for i in signed]
        reads += motion_verdict(references, said, others, [""] * clips, seed)["verdict"] != "no evidence"
    assert reads <= 3


def test_references_without_words_give_no_verdict():
    motion = motion_verdict(["!"] * 10, ["Tea."] * 10, ["Tea."] * 10, [""] * 10, seed=0)
    assert motion["verdict"] == "not tested" and motion["summary"].endswith("the references have no words.")


def test_references_without_words_have_no_word_error_rate_anywhere():
    rows = Dataset.from_dict({"text": ["!", "?"], "seen_combination": [False, True]})
    data = SimpleNamespace(rows=rows, texts=["!", "?"])
    clips = [SimpleNamespace(lengths=length) for length in (4, 5)]

    def translate(clips, **_):
        return [Translation("Tea.", ["Tea."], [0.5]) for _ in clips]

    silence = {4: clips[0], 5: clips[1]}
    scores, others, _ = module.translation_metrics(translate, "<motion>", data, clips, ["What? <motion>"], silence, 0)
    assert scores["utterances"] == 2 and scores["exact_match_unseen_templates"] == 0
    assert not any("wer" in name for name in scores) and others["motion"]["verdict"] == "too few clips"


def test_a_clip_is_encoded_once(toy, toy_model, tmp_path, monkeypatch):
    """However often it is translated, and for the scores of the sign tokenizer as well."""
    encoded, encode = [], SignMotionVQVAE.encode

    def spy(vqvae, input_features, input_features_mask=None, *args, **kwargs):
        encoded.append(len(input_features))
        return encode(vqvae, input_features, input_features_mask, *args, **kwargs)

    monkeypatch.setattr(SignMotionVQVAE, "encode", spy)
    evaluate(toy / "set", "test", tmp_path, toy_model, num_beams=2)
    clips = len(MotionText(str(toy / "set"), "test", FPS))
    assert encoded[0] == sum(encoded[:-1]) == clips and encoded[-1] <= clips  # the rest are zeros, one of each length


def test_one_clip_cannot_be_shuffled(toy, toy_model, tmp_path):
    results = evaluate(toy / "set", "train", tmp_path, toy_model, limit=1)
    assert "wer_shuffled" not in results["metrics"] and "wer_zeroed" in results["metrics"]


def test_a_sign_tokenizer_alone_gets_the_scores_it_has_inside_a_model(toy, toy_model, toy_tokenizer, tmp_path):
    results = evaluate(toy / "set", "test", tmp_path / "a", toy_tokenizer, robustness=True)
    alone = results["metrics"]
    assert results["notes"] == [
        "robustness was not tested: it takes a model that translates, and references with words"
    ]
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


def test_robustness_is_a_table_and_a_picture(toy, toy_model, tmp_path, capsys):
    argv = ["evaluate", "--data", str(toy / "set"), "--split", "train", "--limit", "4", "--model", str(toy_model)]
    assert lslm_cli.main([*argv, "--robustness", "--report-clips", "0", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    rows = results["robustness"]
    assert results["notes"] == ["robustness is of 4 clips: an interval over fewer than 10 means nothing"]
    assert list(rows) == list(CONDITIONS) and all(f"\n{name} " in shown for name in rows)
    assert results["metrics"]["wer"] == 0
    # where a camera stands and how fast the toy model's signs are made is nothing to its features, or all
    assert rows["camera turned by 45 degrees"] == {"wer": 0, "difference": 0, "interval": [0, 0]}
    assert (
        all(row["wer"] == row["difference"] for row in rows.values()) and max(row["wer"] for row in rows.values()) > 0
    )
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert "robustness.png" in shown


def test_scores_for_each_signer(takes, toy_model, tmp_path, capsys):
    rows = Dataset.from_parquet(str(takes / "test.parquet"))
    signers = ["Ada"] * 10 + ["Ben"] * 4 + [None, ""]
    rows.add_column("signer", signers).to_parquet(tmp_path / "test.parquet")
    argv = ["evaluate", "--data", str(tmp_path), "--split", "test", "--model", str(toy_model), "--controls", "false"]
    assert lslm_cli.main([*argv, "--report-clips", "2", "--output", str(tmp_path / "scores")]) == 0
    results = json.loads((tmp_path / "scores" / "results.json").read_text(encoding="utf-8"))
    said = read_jsonl(tmp_path / "scores" / "predictions.jsonl")
    assert list(results["signers"]) == ["Ada", "Ben"]
    for name, chosen in (("Ada", said[:10]), ("Ben", said[10:14])):
        texts = [[row[key] for row in chosen] for key in ("reference", "prediction")]
        row = results["signers"][name]
        assert row["clips"] == len(chosen) and row["wer"] == pytest.approx(module.text_metrics(*texts)["wer"], abs=1e-4)
        assert ("interval" in row) == (name == "Ada")  # of ten clips or more
    shown = capsys.readouterr().out
    assert re.search(r"signer Ada +\d", shown) and re.search(r"signer Ben +\d", shown)
    assert "Ben" in (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
