"""docs/tutorial.md: every command runs, with two steps of each stage, and prints what the page shows."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WALK = ROOT / "examples" / "tutorial" / "walk.py"


def test_the_tutorial_runs_as_it_stands(tmp_path):
    for folder in ("examples", "training"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    walk = subprocess.run([sys.executable, str(WALK), "--quick"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert walk.returncode == 0, walk.stdout + walk.stderr
    assert walk.stdout.count("\n$ lslm ") >= 12 and not (tmp_path / "docs").exists()


def test_what_is_not_printed_is_told(monkeypatch):
    monkeypatch.syspath_prepend(str(WALK.parent))
    walk = importlib.import_module("walk")

    page = "text\n```console\n$ lslm data \\\n    build\nfirst\n...\nlast 1\n$ ls\n```\n```bash\n$ not this\n```\n"
    assert walk.commands_of(page) == [("lslm data build", ["first", "...", "last 1"]), ("ls", [])]
    assert walk.missing_line(["first", "...", "last 1"], "first\nmore\n  last 1\n", any_figures=False) is None
    assert walk.missing_line(["first", "last 1"], "last 1\nfirst\n", any_figures=False) == "last 1"
    assert walk.missing_line(["last 1"], "last 2\n", any_figures=False) == "last 1"
    assert walk.missing_line(["last 1"], "last 2.5\n", any_figures=True) is None
