"""What was published once goes on working: with the code that travels with it, with that code renewed, and with our
package. The checkpoints are kept in published/ as they were on the Hub; published/freeze.py keeps another one."""

import json
import zipfile
from pathlib import Path

import pytest
import transformers
from packaging.version import Version
from published.freeze import answer, answer_of_travelling_code

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.hub_cards.renew import renewed_files
from lslm.processing import SignTranslationPipeline

ZIPS = {path.stem: path for path in sorted(Path(__file__).parent.glob("published/*.zip"))}
# The first transformers that the code in a zip does not work with, and what it says there. Those that are not named
# work with every transformers that setup.py allows.
ENDS = {"2026-11-23": ("5.24", "unexpected keyword argument 'cache'")}


@pytest.fixture(params=ZIPS)
def published(request, tmp_path):
    """The date of a checkpoint, its folder, and what it answered then."""
    with zipfile.ZipFile(ZIPS[request.param]) as archive:
        archive.extractall(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    del expected["made_with"]
    return request.param, tmp_path / "checkpoint", expected


def check(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert found["text"] == expected["text"] and found["motion_codes"] == expected["motion_codes"]
    assert found["logits"] == pytest.approx(expected["logits"], abs=1e-4)  # sums differ between builds of torch


def test_every_zip_is_small_and_the_table_names_zips():
    assert ZIPS and ENDS.keys() <= ZIPS.keys()
    assert max(path.stat().st_size for path in ZIPS.values()) < 300_000


def test_the_code_that_travels_answers_as_it_did(published, tmp_path):
    date, folder, expected = published
    end, complaint = ENDS.get(date, (None, None))
    if end and Version(transformers.__version__) >= Version(end):
        with pytest.raises(AssertionError, match=complaint):
            answer_of_travelling_code(folder, tmp_path)
    else:
        check(answer_of_travelling_code(folder, tmp_path), expected)


def test_renewed_code_answers_as_the_old_did(published, tmp_path):
    _, folder, expected = published
    for name, content in renewed_files(folder, "lslm").items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    check(answer_of_travelling_code(folder, tmp_path), expected)


def test_our_package_answers_as_the_old_code_did(published):
    _, folder, expected = published
    model, processor = LslmForConditionalGeneration.from_pretrained(folder), SignMotionProcessor.from_pretrained(folder)
    pipe = SignTranslationPipeline(model=model, processor=processor)
    check(answer(pipe, str(folder / "example.npz")), expected)
