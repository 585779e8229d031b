"""The releases that LSLM needs: read from setup.py, written to constraints.txt, compared with what is installed.

    lowest        prints the lower bound of every requirement as a constraint, for an environment of the oldest releases
    newest        prints every requirement without its upper bound, for an environment of the newest
    write         writes constraints.txt from the environment that runs this, and moves upper bounds past it
    moved         names the packages of the environment that runs this that are not as constraints.txt says
    known-breaks  succeeds where that environment holds a release that .ci/known-breaks names
    cpu-torch     succeeds where pip has a CPU build of torch for an interpreter; says why where not

Requirements are those of the package and of its extras demo, train and dev. torch stays as setup.py declares it:
another release may bring gigabytes of CUDA. Needs packaging and setuptools.
"""

import argparse
import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import distributions, metadata
from pathlib import Path
from unittest import mock

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
KNOWN_BREAKS = ROOT / ".ci" / "known-breaks"
# where upper bounds are written; tests/test_versions.py holds them together
DECLARATIONS = [
    "setup.py",
    "hub_cards/cards.py",
    "hub_cards/space/requirements.txt",
    "modeling_lslm/configuration_lslm.py",
]
AS_DECLARED = "torch"
OLDEST_PYTHON = 10  # the minor of python_requires
BOUNDED = re.compile(r"([A-Za-z][\w.-]*)(>=[\d.]+),<([\d.]+)")
# what code beside published weights knows of it
TESTED_WITH = re.compile(r'(TESTED_WITH = "[\d.]+"), "[\d.]+"')


def declarations() -> dict:
    """What setup.py hands to setuptools."""
    captured = {}
    with mock.patch("setuptools.setup", lambda **arguments: captured.update(arguments)):
        runpy.run_path(str(ROOT / "setup.py"))
    return captured


def requirements(extras: tuple[str, ...] = ("demo", "train", "dev")) -> list[Requirement]:
    """What setup.py requires, with extras, each once, by name."""
    declared = declarations()
    lines = {*declared["install_requires"], *(line for extra in extras for line in declared["extras_require"][extra])}
    return [Requirement(line) for line in sorted(lines)]


def lowest() -> list[str]:
    """`name==bound` of every requirement but torch."""
    return [
        f"{requirement.name}=={specifier.version}"
        for requirement in requirements()
        for specifier in requirement.specifier
        if specifier.operator == ">=" and requirement.name != AS_DECLARED
    ]


def newest() -> list[str]:
    """Every requirement without upper bounds, torch as declared."""
    lines = [str(requirement) for requirement in requirements()]  # such as numpy<3,>=2.0
    return [line if line.startswith(AS_DECLARED) else re.sub(r"<[\d.]+,?", "", line) for line in lines]


def installed() -> dict[str, str]:
    """Version of every package of this environment, without a build's local part, by name."""
    return {canonicalize_name(one.metadata["Name"]): Version(one.version).public for one in distributions()}


def constraints() -> dict[str, str]:
    """The version of every package in constraints.txt, by name."""
    lines = [Requirement(line) for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()]
    return {line.name: next(iter(line.specifier)).version for line in lines}


def constraint(name: str, version: str, requires_python: str) -> str:
    """A line of constraints.txt: says nothing to a Python that the release is not for."""
    allowed = SpecifierSet(requires_python)
    minor = next((minor for minor in range(OLDEST_PYTHON, 100) if f"3.{minor}.99" in allowed), OLDEST_PYTHON)
    marker = f' ; python_version >= "3.{minor}"' if minor > OLDEST_PYTHON else ""
    return f"{name}=={version}{marker}"


def with_bounds(text: str, versions: dict[str, str]) -> str:
    """`text` with every `name>=lower,<upper` moved to the release after the one in `versions`, to as many places as the
    bound was written with: 5.25.1 moves `<5.25` to `<5.26`, and `<6` stays. TESTED_WITH ends at that transformers."""

    def moved(match: re.Match) -> str:
        name, lower, upper = match.groups()
        if name == AS_DECLARED or canonicalize_name(name) not in versions:
            return match[0]
        places = upper.count(".") + 1
        *kept, last = [*Version(versions[canonicalize_name(name)]).release, 0, 0][:places]
        return f"{name}{lower},<{'.'.join(map(str, [*kept, last + 1]))}"

    if "transformers" in versions:
        minor = ".".join(map(str, Version(versions["transformers"]).release[:2]))
        text = TESTED_WITH.sub(rf'\1, "{minor}"', text)
    return BOUNDED.sub(moved, text)


def write(without: list[str]) -> None:
    """constraints.txt from this environment, `without` some packages; then the upper bounds."""
    before = constraints() if CONSTRAINTS.exists() else {}
    left_out = {"lslm", "pip", "setuptools", *(canonicalize_name(Requirement(line).name) for line in without)}
    versions = {name: version for name, version in sorted(installed().items()) if name not in left_out}
    lines = [constraint(name, at, metadata(name).get("Requires-Python", "")) for name, at in versions.items()]
    CONSTRAINTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(differences(before, versions)) or "moved: nothing")
    for path in DECLARATIONS:
        text = (ROOT / path).read_text(encoding="utf-8")
        new = with_bounds(text, versions)
        (ROOT / path).write_text(new, encoding="utf-8")
        for old, now in zip(text.splitlines(), new.splitlines(), strict=True):
            if old != now:
                print(f"{path}: {now.strip()}")


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """One line for each package that moved, came or went."""
    changed = sorted(name for name in before.keys() & now if before[name] != now[name])
    return [
        *(f"moved: {name} {before[name]} -> {now[name]}" for name in changed),
        *(f"gone: {name} {before[name]}" for name in sorted(before.keys() - now)),
        *(f"new: {name} {now[name]}" for name in sorted(now.keys() - before)),
    ]


def moved() -> list[str]:
    """What differs between constraints.txt and this environment; packages that only the environment has are not named,
    it also holds pip and what the Makefile adds."""
    before = constraints()
    now = {name: version for name, version in installed().items() if name in before}
    return differences(before, now) or ["moved: nothing"]


def known_breaks(text: str, versions: dict[str, str]) -> list[str]:
    """The lines `name==version  date  reason` whose release is installed."""
    breaks = []
    for line in text.splitlines():
        parts = re.fullmatch(r"([\w.-]+)==(\S+)  \d{4}-\d\d-\d\d  \S.*", line)
        if parts and versions.get(canonicalize_name(parts[1])) == parts[2]:
            breaks.append(line)
        if line.strip() and not parts and not line.startswith("#"):
            raise SystemExit(f"{KNOWN_BREAKS.name}: expected `name==version  YYYY-MM-DD  reason`, got {line!r}")
    return breaks


def no_cpu_torch(python: str) -> str | None:
    """Why no tests run on this interpreter, or None. pip reads the wheel's metadata alone, without a download."""
    path = shutil.which(python)
    if path is None:
        return "no interpreter"
    torch = next(str(requirement) for requirement in requirements() if requirement.name == AS_DECLARED)
    pip = [sys.executable, "-m", "pip", "--python", path, "install", "--quiet", "--use-feature=fast-deps"]
    report = ["--dry-run", "--no-deps", "--ignore-installed", "--report", "-", torch]
    answer = subprocess.run([*pip, *report], capture_output=True, text=True)
    if answer.returncode:
        return f"pip finds no {torch}: {answer.stderr.strip().splitlines()[-1]}"
    wheel = json.loads(answer.stdout)["install"][0]["metadata"]
    for needed in map(Requirement, wheel.get("requires_dist", [])):
        # an extra's packages are not installed; a marker may keep CUDA to one platform
        installed_too = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if installed_too and needed.name.startswith(("nvidia", "cuda")):
            return f"torch {wheel['version']} would bring CUDA ({needed.name} and more)"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("lowest", "newest", "moved", "known-breaks"):
        commands.add_parser(name)
    commands.add_parser("write").add_argument("without", nargs="*", help="packages that are pinned elsewhere")
    commands.add_parser("cpu-torch").add_argument("python", help="an interpreter, such as python3.12")
    arguments = parser.parse_args()
    if arguments.command == "write":
        write(arguments.without)
    elif arguments.command == "known-breaks":
        breaks = known_breaks(KNOWN_BREAKS.read_text(encoding="utf-8"), installed())
        print("\n".join(f"KNOWN BREAK: {line}" for line in breaks) or "no release of .ci/known-breaks is installed")
        return 0 if breaks else 1
    elif arguments.command == "cpu-torch":
        if reason := no_cpu_torch(arguments.python):
            print(f"Python {arguments.python.removeprefix('python')}: not run, {reason}")
            return 1
    else:
        print("\n".join({"lowest": lowest, "newest": newest, "moved": moved}[arguments.command]()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
