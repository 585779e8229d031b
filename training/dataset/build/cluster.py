"""The same build on many machines: datatrove runs the shards of the plan as tasks, then the end of the build.

Source and data set lie on a file system that all of them see. Task r of w makes the shards r, r + w, r + 2 w, ...
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor

from .build import THREADS, finish, locked
from .shards import Places, build_shard, confine

EXECUTORS = {"local": LocalPipelineExecutor, "slurm": SlurmPipelineExecutor, "ray": RayPipelineExecutor}


def make_shards(out: str, data: Any, rank: int, world_size: int) -> None:
    """A step of a pipeline: every `world_size`-th shard of the plan in `out`, from `rank` on."""
    confine()
    with locked(out, shared=True):
        for name in list(Places(out).shards())[rank::world_size]:
            build_shard(out, name)


def end_build(out: str, license: Mapping[str, str], data: Any, rank: int, world_size: int) -> None:
    """A step of a pipeline: shards to their place, statistics, report, card."""
    finish(out, **license)


def run(
    executor: str,
    out: str | os.PathLike,
    tasks: int,
    workers: int = -1,
    options: Mapping[str, Any] | None = None,
    **license: str,
) -> None:
    """Build the planned data set `out` with an executor of datatrove.

    Args:
        executor: "local", "slurm" (returns when the jobs are submitted) or "ray" (the cluster of `RAY_ADDRESS`).
        tasks: parts of the work, at most as many as there are shards. workers: how many of them at a time; -1: all.
        options: further arguments of the executor, such as `partition` and `time` of Slurm.
        license: see [`finish`].

    Raises:
        ValueError: an option that the executor does not know or lacks. Whatever a task raises that runs here.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"no executor {executor!r}; expected one of {', '.join(EXECUTORS)}")
    places = Places(os.path.abspath(out))
    options, activate = dict(options or {}), Path(sys.prefix, "bin", "activate")
    if executor == "slurm":
        if missing := {"partition", "time"} - options.keys():
            raise ValueError(f"Slurm needs a {' and a '.join(sorted(missing))}; give --partition and --time")
        if activate.is_file() and not options.keys() & {"venv_path", "condaenv", "env_command"}:
            options["venv_path"] = str(activate)
    os.environ.update(THREADS)  # tasks inherit it; each has one core
    # Shards know themselves whether they are done. What datatrove remembers of earlier runs would hide changed files.
    logs = places.work / "logs" / time.strftime("%Y%m%d-%H%M%S")
    tasks = max(1, min(tasks, len(places.shards())))
    kind = EXECUTORS[executor]
    steps = partial(make_shards, str(places.out)), partial(end_build, str(places.out), license)
    try:
        first = kind([steps[0]], tasks=tasks, workers=workers, logging_dir=f"{logs}/shards", **options)
        last = kind([steps[1]], tasks=1, workers=1, logging_dir=f"{logs}/finish", depends=first, **options)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {' '.join(str(error).split())}; see its documentation") from error
    last.run()
