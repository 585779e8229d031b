"""A data set of German Sign Language from its files to its cards: nothing says American or English."""

import csv
import json
import re

import lslm_cli
import numpy as np
import pytest
import yaml
from card_lint import lint_card
from motion_writers import a_motion, signavatars
from training_fixtures import TOY_ALIGN, TOY_INSTRUCT, TOY_VQVAE, recipe, write_backbone

from lslm.hub_cards.cards import License, with_license
from lslm.hub_cards.languages import languages_of
from lslm.hub_cards.space import app
from lslm.processing import SignMotionProcessor
from lslm.training.dataset.build.build import build
from lslm.training.dataset.collators import load_templates
from lslm.training.recipe_keys import TEMPLATES

pytest_plugins = ["training_fixtures"]
WEATHER = ["Heute regnet es im Norden.", "Morgen scheint die Sonne.", "Am Abend wird es kühl."]
SPLITS = {"train": 6, "validation": 2, "test": 2}
OTHER_LANGUAGES = re.compile(r"\b(ASL|ase|American|English|en)\b")


@pytest.fixture(scope="module")
def weather(tmp_path_factory):
    """What `lslm data build` makes of ten invented clips in SignAvatars' layout, and of a row without a file."""
    folder = tmp_path_factory.mktemp("german")
    (folder / "clips").mkdir()
    rows = []
    for split, count in SPLITS.items():
        for number in range(count):
            name = f"{split}-{number}"
            signavatars(folder / "clips" / f"{name}.pkl", a_motion(26, seed=len(rows)), np.zeros(90))
            rows.append({"id": name, "text": WEATHER[number % 3], "split": split, "signer": f"P{number % 2}"})
    rows.append({"id": "lost", "text": WEATHER[0], "split": "train", "signer": "P0"})
    with open(folder / "clips" / "sentences.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    options = {"fps": 15.0, "language": "de", "sign_language": "gsg", "origin": "https://example.org/wetter"}
    build(folder / "clips", folder / "wetter", workers=0, progress=False, **options)
    return folder / "wetter"


@pytest.fixture(scope="module")
def trained(weather):
    """Folders of the three stages, a few steps each, and the scores of the last."""
    run = weather.parent / "run"
    (weather.parent / "Llama-tiny").mkdir()
    write_backbone(weather.parent / "Llama-tiny")
    stages = {name: run / name for name in ("tokenizer", "align", "instruct")}
    text = {"max_steps": 1, "trainable": ["projector", "language_model"]}
    parts = {"tokenizer": stages["tokenizer"], "backbone": weather.parent / "Llama-tiny"}
    keys = {
        "tokenizer": TOY_VQVAE | {"max_steps": 2, "codebook_warmup": 0.5, "quantizer": "ema"},
        "align": TOY_ALIGN | text | parts | {"lora_r": 2},
        "instruct": TOY_INSTRUCT | text | {"model": stages["align"]},
    }
    for name, folder in stages.items():
        assert lslm_cli.main([name, *recipe(**keys[name], data=weather, output_dir=folder)]) == 0
    scores = {"data": weather, "split": "test", "model": stages["instruct"], "output": run / "scores"}
    assert lslm_cli.main(["evaluate", *recipe(**scores, report_clips=0)]) == 0
    return stages


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def printed_card(capsys) -> str:
    """The card at the end of what a dry run prints."""
    return "---\n" + capsys.readouterr().out.partition("\n---\n")[2].rpartition("\nhttp")[0]


def test_the_data_card_says_what_a_stranger_asks(weather):
    card = (weather / "README.md").read_text(encoding="utf-8")
    assert lint_card(card, "dataset") == ["license: missing"]
    assert front_matter(card)["language"] == ["de", "gsg"] and "german-sign-language" in front_matter(card)["tags"]
    for fact in (
        "3D motion of German Sign Language with German text",
        "| signed | German Sign Language (`gsg`) |",
        "| written | German (`de`) |",
        "| clips | 10: train 6, validation 2, test 2; 0.00 hours |",
        "| people who sign | 2 |",
        "| source | [example.org/wetter](https://example.org/wetter) |",
        "| licence | not stated yet",
        "`signavatars` 10",
        "- **Estimates.** Where its files were estimated from video, the motion has the errors of that estimate.",
        "24 (10 clips); resampled to 15",
        "taken as 24 fps",
        "built-in skeleton (no SMPL-X model): 10 clips",
        "| no motion file | 1 |",
        "| `joints_mm` | `int16 (T, 52, 3)` | joints in millimetres |",
        "2 of the 2 people in test can also be seen in train",
    ):
        assert fact in card, fact
    assert not OTHER_LANGUAGES.search(card)


def test_prompts_are_in_the_languages_of_the_data(weather, trained):
    languages = {"signed": {"gsg": "German Sign Language"}, "written": {"de": "German"}}
    assert languages_of(weather) == languages
    for folder in trained.values():
        config = json.loads((folder / "config.json").read_text())
        assert config["languages"] == config.get("vqvae_config", config)["languages"] == languages
    prompt = SignMotionProcessor.from_pretrained(trained["instruct"]).prompt
    assert prompt == "Translate the German Sign Language in <motion> into German."
    for name in ("instruct", "unseen"):
        templates = load_templates(str(TEMPLATES / f"{name}.json"), languages)
        assert len(set(templates)) == len(load_templates(str(TEMPLATES / f"{name}.json")))
        assert not any(OTHER_LANGUAGES.search(text) or re.search(r"\b[Aa]n German", text) for text in templates)
    english = {"signed": {"ase": "American Sign Language"}, "written": {"en": "English"}}
    path = str(TEMPLATES / "instruct.json")
    assert load_templates(path, english) == load_templates(path)


def test_model_cards_are_in_the_languages_of_the_data(weather, trained, capsys):
    """With the licence files of the language model, and an example of the model's own data with its reference."""
    readme = weather / "README.md"
    readme.write_text(with_license(readme.read_text(encoding="utf-8"), License("cc-by-nc-4.0")), encoding="utf-8")
    base = weather.parent / "Llama-tiny"
    argv = ["publish", str(trained["instruct"]), "me/Llama-3.2-wetter", "--dry-run"]
    argv += ["--base-model", "meta-llama/Llama-3.2-1B"]
    assert lslm_cli.main(argv) == 2
    assert "wants a copy of itself" in capsys.readouterr().err
    (base / "LICENSE.txt").write_text("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\n")
    (base / "USE_POLICY.md").write_text("policy\n")
    assert lslm_cli.main([*argv[:2], "me/wetter", *argv[3:]]) == 2
    assert 'a model name that begins with "Llama"' in capsys.readouterr().err
    assert lslm_cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "base_model/LICENSE.txt" in out and "base_model/USE_POLICY.md" in out and "NOTICE" in out
    card = "---\n" + out.partition("\n---\n")[2].rpartition("\nhttp")[0]
    assert lint_card(card) == [] and not OTHER_LANGUAGES.search(card)
    assert front_matter(card)["language"] == ["de", "gsg"] and front_matter(card)["license"] == "llama3.2"
    for fact in (
        "3D motion of German Sign Language into German text",
        "| signed | German Sign Language (`gsg`) |",
        "| trained on | wetter: 6 sentences, 2 people sign; source: [example.org/wetter](https://example.org/wetter) |",
        ", of 2 sentences of the test split; [all scores](#scores) |",
        "| is the motion read? | **2 clips are too few to tell whether the motion is read; it takes 10.** |",
        "models/llama3_2/LICENSE); of the data: `cc-by-nc-4.0`; [what they ask for](#licences) |",
        "| limits | [what it is not for](#what-it-is-for-and-what-it-is-not-for) |",
        "- **Few signers.** 2 people sign in wetter.",
        "- 2 of the 2 people in test can also be seen in train: scores say little about new signers.",
        "Data: wetter (German Sign Language, German), 6 sentences",
        "Scored on wetter: 2 sentences",
        "The clip is `test-0` of the test split of wetter.",
        "| Heute regnet es im Norden. |",
        "- Data: wetter, `cc-by-nc-4.0`.",
        "**Built with Llama**",
    ):
        assert fact in card, fact
    assert lslm_cli.main(["publish", str(trained["tokenizer"]), "me/codes", "--dry-run"]) == 0
    card = printed_card(capsys)
    assert lint_card(card) == [] and not OTHER_LANGUAGES.search(card)
    assert "| trained on | wetter: 6 sentences, 2 people sign; source: [example.org/wetter]" in card
    assert "3D motion of German Sign Language into codes" in card and front_matter(card)["license"] == "cc-by-nc-4.0"


def test_what_the_card_of_the_data_said_outlives_its_folder(weather, trained, tmp_path, capsys):
    weather.rename(tmp_path / "moved")
    try:
        argv = ["publish", str(trained["tokenizer"]), "me/codes", "--dry-run", "--license", "mit"]
        assert lslm_cli.main(argv) == 0
    finally:
        (tmp_path / "moved").rename(weather)
    card = printed_card(capsys)
    assert "wetter" in card and "German Sign Language" in card and lint_card(card) == []


def test_the_page_names_the_language_that_the_checkpoints_write():
    class Pipe:
        def __init__(self, languages):
            self.model = type("Model", (), {"config": type("Config", (), {"languages": languages})})

    german = {"signed": {"gsg": "German Sign Language"}, "written": {"de": "German"}}
    english = {"signed": {"ase": "American Sign Language"}, "written": {"en": "English"}}
    page = app.introduction({"a": Pipe(german)})
    assert "motion to German" in page and not OTHER_LANGUAGES.search(page)
    assert "(ASL Cafe)" in app.introduction({"a": Pipe(english)})
    for pipes in ({"a": Pipe(german), "b": Pipe(english)}, {"a": Pipe(None)}):
        assert "motion to text" in app.introduction(pipes)
    assert "<" not in app.language({"a": Pipe({"written": {"x": "<b>${a}"}})}, "written")
