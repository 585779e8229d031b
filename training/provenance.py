"""What a file of results was made with: versions, machine, command, commit. One place, so that records are alike."""

import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def versions(*packages: str) -> dict[str, str]:
    """Package -> version, of installed packages; "python" is the interpreter."""
    return {name: platform.python_version() if name == "python" else version(name) for name in packages}


def machine(*details: str) -> str:
    """The processor's architecture and, say, "2 threads", "cpu"."""
    return ", ".join([platform.machine(), *details])


def commit() -> str | None:
    """The commit of our code in a source checkout, or None."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def record_of_script(*details: str, packages: tuple[str, ...] = ("torch", "transformers")) -> dict:
    """What the results of a script say of its run: `command`, `versions` and `machine` (with `details`)."""
    command = shlex.join(["python", *sys.argv])
    return {"command": command, "versions": versions(*packages), "machine": machine(*details)}


def save_results(folder: str | Path, results: dict) -> None:
    """Write FOLDER/results.json; the folder is made."""
    path = Path(folder, "results.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
