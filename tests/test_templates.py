"""Instruction templates: many, distinct, the unseen ones apart from those trained on; files that are wrong."""

import json
import re

import lslm_cli
import numpy as np
import pytest
import torch

from lslm.training.dataset.collators import TranslationCollator, load_templates
from lslm.training.evaluation.evaluate import UNSEEN_SCORES, evaluate
from lslm.training.recipe_keys import TEMPLATES, EvaluateKeys

pytest_plugins = ["training_fixtures"]
TRAINED = load_templates(str(TEMPLATES / "instruct.json")) + load_templates(str(TEMPLATES / "pretraining.json"))
UNSEEN = load_templates(str(TEMPLATES / "unseen.json"))


def bare(template: str) -> str:
    """Lower case, words only."""
    return " ".join(re.findall(r"\w+", template.lower()))


def test_at_least_sixty_distinct_templates():
    instruct = load_templates(str(TEMPLATES / "instruct.json"))
    assert len({bare(text) for text in instruct}) == len(instruct) >= 60
    assert all(text.count("<motion>") == 1 and "Placeholder" not in text and text == text.strip() for text in instruct)
    # of many kinds
    assert sum("?" in text for text in instruct) >= 15 and sum(text.startswith("<motion>") for text in instruct) >= 4
    lengths = [len(bare(text).split()) for text in instruct]
    assert min(lengths) <= 3 and max(lengths) >= 14


def test_no_unseen_template_is_trained_on():
    assert len({bare(text) for text in UNSEEN}) == len(UNSEEN) >= 12
    assert not {bare(text) for text in UNSEEN} & {bare(text) for text in TRAINED}


class Listener:
    """Stands in for a processor and keeps the prompts."""

    def __init__(self):
        self.prompts = []

    def __call__(self, prompts, motion_codes, answer):
        self.prompts += prompts
        return {"labels": torch.zeros(len(prompts), 2, dtype=torch.long)}


def draws(seed: int, epochs: int, clips: int) -> list[str]:
    listener = Listener()
    collator = TranslationCollator(listener, TRAINED)
    for epoch in range(epochs):
        rngs = [np.random.default_rng((seed, epoch, index)) for index in range(clips)]
        collator([{"codes": None, "text": "", "rng": rng} for rng in rngs])
    return listener.prompts


def test_one_template_a_clip_and_epoch_from_the_seed():
    prompts = draws(seed=0, epochs=40, clips=20)
    assert prompts == draws(seed=0, epochs=40, clips=20) != draws(seed=1, epochs=40, clips=20)
    assert set(prompts) == set(TRAINED)  # none is left out
    assert prompts[:20] != prompts[20:40]  # another epoch, other phrasings


@pytest.mark.parametrize(
    "inputs, said",
    [
        (["Read <Motion_Placeholder>.", "Say <Motion_Placeholder>", "Read <Motion_Placeholder>."], "is there 2 times"),
        (["Translate this."], "exactly one <Motion_Placeholder>: 'Translate this.'"),
        ("Read <Motion_Placeholder>.", "not a template file"),
        ([1], "not a template file"),
        ([], "no templates in it"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, toy, checkpoint, capsys, inputs, said):
    path = tmp_path / "mine.json"
    if inputs is not None:
        path.write_text(json.dumps({"m2t": {"a": {"class": "m2t", "input": inputs, "output": []}}}))
    runs = (
        ["instruct", "--model", checkpoint, "--data", str(toy / "set"), "--output_dir", str(tmp_path / "out")]
        + ["--templates", str(path), "--report_to", "none"],
        ["evaluate", "--model", checkpoint, "--data", str(toy / "set"), "--split", "test", "--output", str(tmp_path)]
        + ["--unseen-templates", str(path)],
    )
    for argv in runs:
        assert lslm_cli.main(argv) == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and error[0].startswith(f"lslm: {path}: ") and said in error[0]


def test_unseen_phrasings_are_scored_apart(toy, checkpoint, tmp_path):
    runs = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        options = {"unseen_templates": str(TEMPLATES / "unseen.json"), "report_clips": 0, "limit": 3, "seed": seed}
        results = evaluate(EvaluateKeys(str(toy / "set"), "test", str(tmp_path / name), checkpoint, **options))
        assert {f"{score}_unseen_templates" for score in UNSEEN_SCORES} <= set(results["metrics"])
        lines = (tmp_path / name / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert {row["prompt_unseen_templates"] for row in rows} <= set(UNSEEN)
        assert len({row["prompt"] for row in rows}) == 1 and not {row["prompt"] for row in rows} & set(UNSEEN)
        assert not (tmp_path / name / "report.html").exists()
        runs[name] = [row["prompt_unseen_templates"] for row in rows]
        # a random model says something else when it is asked something else
        assert any(row["prediction_unseen_templates"] != row["prediction"] for row in rows)
    assert runs["one"] == runs["again"] != runs["other"]
