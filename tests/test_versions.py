"""setup.py, constraints.txt, cards and Space name the same releases."""

import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from lslm.hub_cards.cards import TORCH, TRANSFORMERS
from lslm.modeling_lslm.configuration_lslm import TESTED_WITH

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("versions", ROOT / ".ci" / "versions.py")
versions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(versions)

PINNED = versions.constraints()
REQUIRED = versions.declarations()["install_requires"]
ALLOWED = Requirement(TRANSFORMERS).specifier


def every_requirement() -> list[Requirement]:
    return versions.requirements(tuple(versions.declarations()["extras_require"]))


def test_constraints_are_names_and_versions_in_order():
    lines = versions.CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    form = r'[a-z0-9-]+==[a-z0-9.]+( ; python_version >= "3\.\d+")?'
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names)) and not {"lslm", "pip", "setuptools"} & set(names)


def test_constraints_satisfy_what_setup_requires():
    for requirement in versions.requirements():
        if requirement.name != "pip":
            assert PINNED[requirement.name.lower()] in requirement.specifier, requirement


def test_upper_bounds_are_the_releases_after_the_tested_ones():
    tested = Version(PINNED["transformers"])
    assert PINNED["transformers"] in ALLOWED and f"{tested.major}.{tested.minor + 1}.0" not in ALLOWED
    for path in versions.DECLARATIONS:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert versions.with_bounds(text, PINNED) == text, path


def test_everything_has_a_lower_bound_and_what_runs_an_upper_one():
    tools = {requirement.name for requirement in versions.requirements(("dev",))}
    run_time = versions.requirements(tuple(set(versions.declarations()["extras_require"]) - {"dev"}))
    for requirement in every_requirement():
        assert any(one.operator == ">=" for one in requirement.specifier), requirement
        if requirement.name not in tools or requirement in run_time:
            assert any(one.operator == "<" for one in requirement.specifier), requirement
    others = versions.requirements(tuple(set(versions.declarations()["extras_require"]) - {"video"}))
    names = [requirement.name for requirement in others]
    assert len(names) == len(set(names)), "one package, two requirements"


def test_videos_need_older_releases_that_the_others_allow():
    """MediaPipe wants numpy 1.26, and that an older pyarrow."""
    allowed = {requirement.name: requirement.specifier for requirement in versions.requirements()}
    assert "1.26.4" in allowed["numpy"] and "25.0.0" in allowed["pyarrow"]
    videos = {requirement.name: requirement.specifier for requirement in versions.requirements(("video",))}
    assert "25.0.0" in videos["pyarrow"] and "26.0.0" not in videos["pyarrow"]


def test_cards_space_and_travelling_code_say_what_setup_does():
    assert {TRANSFORMERS, TORCH} < set(REQUIRED)
    first, last = TESTED_WITH
    assert TRANSFORMERS.startswith(f"transformers>={first},<") and PINNED["transformers"].startswith(f"{last}.")
    lines = (ROOT / "hub_cards" / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    space = {Requirement(line) for line in lines if not line.startswith("#")}
    declared = set(versions.requirements(("space",)))
    assert space == {requirement for requirement in declared if requirement.name != "gradio"}


def test_oldest_and_newest_of_the_requirements():
    lowest, newest = versions.lowest(), versions.newest()
    assert f"transformers=={re.search('>=([^,]+)', TRANSFORMERS)[1]}" in lowest
    assert not [line for line in lowest if line.startswith("torch=")]
    assert [line for line in newest if "<" in line] == [str(Requirement(TORCH))]


@pytest.mark.parametrize(
    ("bound", "tested", "moved"),
    [("5.25", "5.25.1", "5.26"), ("6", "5.30.0", "6"), ("6", "6.0.1", "7"), ("2", "1", "2")],
)
def test_a_bound_moves_to_the_release_after_the_tested_one(bound, tested, moved):
    text = '["one>=5.16,<{}", "two>=1"]'
    assert versions.with_bounds(text.format(bound), {"one": tested}) == text.format(moved)
    assert versions.with_bounds(text.format(bound), {"two": tested}) == text.format(bound)
    assert versions.with_bounds('TESTED_WITH = "5.16", "5.24"', {"transformers": "5.25.1"}).endswith('"5.16", "5.25"')


def test_a_bump_says_what_moved():
    before, now = {"peft": "0.21.2", "six": "1", "torch": "2.13.0"}, {"peft": "0.22.0", "torch": "2.13.0", "yarl": "1"}
    assert versions.differences(before, now) == ["moved: peft 0.21.2 -> 0.22.0", "gone: six 1", "new: yarl 1"]


def test_a_release_for_later_pythons_constrains_only_those():
    assert versions.constraint("numpy", "2.4.6", ">=3.11") == 'numpy==2.4.6 ; python_version >= "3.11"'
    for requires_python in (">=3.10.0", ""):
        assert versions.constraint("peft", "0.21.2", requires_python) == "peft==0.21.2"


def test_known_breaks_are_those_that_are_installed():
    text = "# a comment\n\npeft==0.22.0  2026-12-01  adapters load with other names\n"
    assert versions.known_breaks(text, {"peft": "0.21.2"}) == []
    assert versions.known_breaks(text, {"peft": "0.22.0"}) == [text.splitlines()[-1]]
    for wrong in ("peft ==0.22.0  2026-12-01  x", "peft==0.22.0 2026-12-01 x", "peft>=0.22  2026-12-01  x"):
        with pytest.raises(SystemExit, match="expected `name==version"):
            versions.known_breaks(wrong, {})
    versions.known_breaks(versions.KNOWN_BREAKS.read_text(encoding="utf-8"), {})  # ours are lines of that form
