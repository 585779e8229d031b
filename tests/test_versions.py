"""setup.py, constraints.txt, cards and Space name the same releases; pip refuses others in words."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
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
UPPER = next(str(one) for one in Requirement(TRANSFORMERS).specifier if one.operator == "<")


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
    assert UPPER == f"<{tested.major}.{tested.minor + 1}"
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
    names = [requirement.name for requirement in every_requirement()]
    assert len(names) == len(set(names)), "one package, two requirements"


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
    assert (
        versions.constraint("peft", "0.21.2", ">=3.10.0") == versions.constraint("peft", "0.21.2", "") == "peft==0.21.2"
    )


def test_known_breaks_are_those_that_are_installed():
    text = "# a comment\n\npeft==0.22.0  2026-12-01  adapters load with other names\n"
    assert versions.known_breaks(text, {"peft": "0.21.2"}) == []
    assert versions.known_breaks(text, {"peft": "0.22.0"}) == [text.splitlines()[-1]]
    for wrong in ("peft ==0.22.0  2026-12-01  x", "peft==0.22.0 2026-12-01 x", "peft>=0.22  2026-12-01  x"):
        with pytest.raises(SystemExit, match="expected `name==version"):
            versions.known_breaks(wrong, {})
    for line in versions.KNOWN_BREAKS.read_text(encoding="utf-8").splitlines():
        assert not line or re.fullmatch(r"#.*|[\w.-]+==\S+  \d{4}-\d\d-\d\d  \S.*", line), line


def make_wheel(folder: Path, name: str, version: str, requires: list[str]) -> None:
    """A package without content."""
    info = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def pip_install(folder: Path, transformers: list[str]) -> subprocess.CompletedProcess:
    """What pip would install for lslm where `folder` is all there is, with these releases of transformers."""
    make_wheel(folder, "lslm", "1.0", REQUIRED)
    for requirement in map(Requirement, REQUIRED):
        lower = next(one.version for one in requirement.specifier if one.operator == ">=")
        for version in transformers if requirement.name == "transformers" else [lower]:
            make_wheel(folder, requirement.name, version, [])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    options = ["--dry-run", "--ignore-installed", "--no-index", "--find-links", str(folder)]
    command = [sys.executable, "-m", "pip", "install", *options, "lslm"]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)


def releases() -> tuple[str, str]:
    """The newest release of transformers that is allowed, and the first that is not."""
    return PINNED["transformers"], f"{UPPER[1:]}.0"


def test_pip_refuses_a_transformers_that_was_not_tested(tmp_path):
    _, later = releases()
    answer = pip_install(tmp_path, [later])
    assert answer.returncode != 0
    assert "ERROR: No matching distribution found for transformers" in answer.stderr and UPPER in answer.stderr


def test_pip_takes_the_newest_transformers_that_was_tested(tmp_path):
    tested, later = releases()
    answer = pip_install(tmp_path, [tested, later])
    assert answer.returncode == 0, answer.stderr
    assert f"transformers-{tested}" in answer.stdout and f"transformers-{later}" not in answer.stdout.splitlines()[-1]
