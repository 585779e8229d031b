"""A folder of motion files and its texts -> a training set: parquet files for `datasets`, statistics, report, card.

    plan     clips joined with their texts, dealt to splits, sorted, cut into shards     OUT/.build/plan
    videos   landmarks of those that have none, each by itself                           OUT/.build/landmarks
    shards   each by itself, in any process, in any order                                OUT/.build/staged
    finish   shards to their place, mean and deviation of train, report, card            OUT/data and OUT

The same source and options give the same bytes: with any number of processes, after a kill. Given again,
a build reads only clips that are new or changed, and until it is done the old data set stays as it was.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features
from tqdm import tqdm

from ....processing import motion_features
from ....processing.readers.confined import PRELOADED, context_of
from ....processing.readers.video import NOT_INSTALLED, check_installed, extract_all
from ....processing.readers.wording import counted
from ...locks import locked
from . import report as data_report
from .duplicates import shared_motion
from .shards import (
    COLUMNS,
    FEATURE_FPS,
    JOINTS,
    Places,
    Recipe,
    build_shard,
    confine,
    digest,
    read_record,
    state,
    write_whole,
)
from .sources import Catalogue, find_tables, is_video
from .tables import json_line
from .texts import SPLITS

LONG = -2  # histogram's last bars
TICK, LOG_EVERY = 0.2, 10.0  # seconds between two looks at the progress: on a terminal, in a log file
# Of the processes of a build: one thread, and memory that stays with them. glibc else gives every larger array back to
# the system, and its pages are cleared again for the next one: a third of a worker's time.
ENVIRONMENT = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "ARROW")}
ENVIRONMENT |= {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28)}


def build(
    source: str | os.PathLike, out: str | os.PathLike, *, workers: int = 1, progress: bool = True, **options
) -> dict:
    """Build the data set `out` from the folder `source`.

    Args:
        workers: processes that make shards, each with one more that reads the files, with limits of time and memory;
            0: this process does all. They are spawned: a script that calls this needs its `if __name__ == "__main__":`.
        progress: show a bar on stderr.
        texts: tables of texts; None: those in `source`.
        columns: names to keep, in this order, or with types; None: all.
        license, license_name, license_link, origin: for the card.
        reader, further options: see [`Recipe`].

    Returns:
        what report.json holds.

    Raises:
        ValueError, OSError: texts or options cannot be used, a video is in several splits, `out` cannot be written, or
            another build writes to it. Never for a clip: clips that cannot be used are in `out`/dropped.jsonl.
    """
    if not os.path.isdir(source):
        raise NotADirectoryError(20, "expected a folder of motion files", str(source))
    if os.path.abspath(out) == os.path.abspath(source):
        raise ValueError(f"{out}: the data set cannot go into the folder of its source; name another")
    names = ("license", "license_name", "license_link", "origin")
    license = {name: value for name in names if (value := options.pop(name, None))}
    with locked(Places(os.path.abspath(out)).work / "lock", out, "build"):
        plan(source, out, **options)
        extract_videos(out, workers, progress)
        build_shards(out, workers, progress)
        return finish(out, **license)


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    texts: Sequence[str | os.PathLike] | None = None,
    columns: Features | Sequence[str] | None = None,
    reader: Mapping[str, Any] | None = None,
    **options,
) -> None:
    """Join clips and texts, and write down which clips make which shard. Arguments as in [`build`]."""
    source, places = Path(os.path.abspath(source)), Places(os.path.abspath(out))
    reader = dict(reader or {})
    if "body_model" in reader:
        reader["body_model"] = os.path.abspath(reader["body_model"])  # the same file from whatever folder
    recipe = Recipe(str(source), str(places.landmarks), reader=reader, **options)
    tables = find_tables(source, places.out) if texts is None else [Path(os.path.abspath(path)) for path in texts]
    for path in (places.staged, places.records, places.data):
        path.mkdir(parents=True, exist_ok=True)
    _mend(places)
    scratch = places.work / "catalogue.sqlite"
    options = {name: getattr(recipe, name) for name in ("split_by", "seed", "language", "video_before")}
    catalogue = Catalogue(scratch, **options)
    try:
        _add_texts(catalogue, tables, source, texts is not None)
        catalogue.add_files(source, [places.out, *tables])
        catalogue.check_videos(recipe.shared_videos)
        draft = places.work / "plan.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        shards: dict[str, int] = {}  # name: clips
        for split in SPLITS:
            shards |= _write_plan(draft, split, catalogue.clips(split), recipe.shard_size)
        if not shards:
            key, file = catalogue.examples()
            why = next((f"; {fault.id}: {fault.reason}" for fault in catalogue.left_out() if fault.id), "")
            names = f"a text is for {key!r}, a file is called {file!r}"
            raise ValueError(f"{source}: no text fits a file; {names}{why}")
        left_out: Counter[str] = Counter()
        with open(draft / "left_out.jsonl", "w", encoding="utf-8") as lines:
            for fault in catalogue.left_out():
                row = {"id": fault.id, "file": fault.file, "reason": fault.reason}
                lines.write(json_line(row))
                left_out[fault.kind or fault.reason] += 1
    finally:
        catalogue.close()
        scratch.unlink()
    columns = _columns(columns, catalogue.columns)
    recipe = replace(recipe, columns=columns.to_dict(), reader_version=_reader_version(reader))
    facts = {
        "left_out": left_out,
        "sign_languages": [recipe.sign_language] if recipe.sign_language else sorted(catalogue.sign_languages),
        "tables": catalogue.tables,
        "other_files": dict(sorted(catalogue.other_files.items())),
        "remarks": dict(sorted(catalogue.remarks.items())),
        "options": recipe.options,
        "columns": list(columns),
    }
    contents = {"recipe": vars(recipe), "old": list(_old_shards(places)), "facts": facts, "shards": shards}
    for name, content in contents.items():
        (draft / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    shutil.rmtree(places.plan, ignore_errors=True)
    os.replace(draft, places.plan)


def _add_texts(catalogue: Catalogue, tables: Sequence[Path], source: Path, named: bool) -> None:
    """Tables that nobody named may be of something else; then the last complaint explains why there are no texts."""
    complaint = f"{source}: no table of texts in it; name one (csv, tsv, jsonl, json) with --texts"
    for path in tables:
        near = os.path.relpath(path.parent, source).replace(os.sep, "/")
        try:
            catalogue.add_texts(path, "" if near == "." or near.startswith("..") else near)
        except (ValueError, OSError) as error:
            if named:
                raise
            complaint = str(error)
            catalogue.other_files[f"{path.name}, no table of texts"] += 1
    if not catalogue.tables:
        raise ValueError(complaint)


def _write_plan(folder: Path, split: str, clips: Iterable[dict], shard_size: int) -> dict[str, int]:
    """Cut the clips of a split into shards; -> their names, with the number of clips."""
    clips, shards = iter(clips), {}
    while shard := list(itertools.islice(clips, shard_size)):
        name = f"{split}-{len(shards):05d}"
        lines = "".join(map(json_line, shard))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        shards[name] = len(shard)
    return shards


def _columns(wanted: Features | Sequence[str] | None, extra: Mapping[str, pa.DataType]) -> Features:
    if clash := [name for name in extra if name in COLUMNS]:
        raise ValueError(f"the tables of texts have the column {clash[0]!r}, which the build fills; rename it")
    types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in extra.items()}
    available = Features(COLUMNS | Features.from_arrow_schema(pa.schema(list(types.items()))))
    if wanted is None:
        return available
    if missing := [name for name in wanted if name not in available]:
        raise ValueError(f"no column {missing[0]!r}; there are {', '.join(available)}")
    if not {"text", "fps", JOINTS} <= set(wanted):
        raise ValueError(f"a data set needs the columns text, fps and {JOINTS}; name them too")
    return Features(wanted if isinstance(wanted, Features) else {name: available[name] for name in wanted})


def _reader_version(reader: Mapping[str, Any]) -> str:
    """Changes with the code that reads motion, and with a file that it is given: then all clips are read again."""
    code = sorted(Path(motion_features.__file__).parent.rglob("*.py"))
    files = [state(Path(value)) for value in reader.values() if isinstance(value, (str, os.PathLike))]
    return digest([[path.name, path.read_text(encoding="utf-8")] for path in code] + files)


def _old_shards(places: Places) -> Iterable[tuple[str, str, str, str]]:
    """Finished shards from which rows may be taken: record, parquet file, ids of the first and the last clip."""
    for records, files in ((places.records, places.data), (places.staged, places.staged)):
        for record in sorted(records.glob("*.json")):
            parquet = files / f"{record.stem}.parquet"
            shard = read_record(record, parquet)
            if shard and (shard["key"] or records == places.records):  # one without a key may be staged anew meanwhile
                yield str(record), str(parquet), shard["first"], shard["last"]


# --- videos -----------------------------------------------------------------------------------------------------------


def extract_videos(out: str | os.PathLike, workers: int = 1, progress: bool = True) -> None:
    """Find the landmarks in the videos of the plan, unless they are there already; arguments as in [`build`].

    Raises:
        ValueError: all clips are videos, and nothing here reads them.
    """
    places = Places(out)
    recipe = Recipe.load(places)
    files = set()
    for name in places.shards():
        with open(places.plan / f"{name}.jsonl", encoding="utf-8") as lines:
            files |= {json.loads(line)["file"] for line in lines}
    videos = sorted(filter(is_video, files))
    if videos and len(videos) == len(files):
        check_installed()
    todo: dict[Path, Path] = {}
    for video in videos:
        landmarks = recipe.landmarks_of(video)
        fault = landmarks.with_suffix(".json")
        if fault.exists() and json.loads(fault.read_text(encoding="utf-8"))["again"]:
            fault.unlink()
        if not landmarks.exists() and not fault.exists():
            todo[Path(recipe.source, video)] = landmarks
    if not todo:
        return
    places.landmarks.mkdir(exist_ok=True)
    for video, error in extract_all([*todo.items()], workers, progress).items():
        problem, kind = getattr(error, "problem", None) or str(error), getattr(error, "kind", None)
        again = kind in (None, NOT_INSTALLED)  # the machine's fault, not the video's
        fault = {"problem": problem, "kind": kind, "again": again}
        write_whole(todo[video].with_suffix(".json"), json.dumps(fault))


# --- the shards -------------------------------------------------------------------------------------------------------


def build_shards(out: str | os.PathLike, workers: int = 1, progress: bool = True) -> None:
    """Make all shards of the plan; arguments as in [`build`].

    Raises:
        OSError: a shard cannot be written, or a process died.
    """
    places = Places(out)
    names = places.shards()
    pause = TICK if sys.stderr.isatty() else LOG_EVERY
    clips = sum(names.values())
    with tqdm(total=clips, unit="clip", dynamic_ncols=True, mininterval=pause, disable=not progress) as bar:
        if not workers:
            for name in names:
                build_shard(places.out, name, bar.update)
            return
        context = context_of((*PRELOADED, __name__))
        counter = context.Value("q", 0)
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)  # read by libraries when the processes start
        pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(names)), context, _start, (counter,))
        try:
            running = [pool.submit(_work, str(places.out), name) for name in names]
            while running:
                done, running = concurrent.futures.wait(running, TICK, concurrent.futures.FIRST_COMPLETED)
                bar.update(counter.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise OSError(
                "a process of the build died, perhaps for want of memory; give the same command again, with fewer"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


_counter = None  # in a process of the pool: clips that are done, over all of them


def _start(counter) -> None:
    """Begin a process of the pool: one thread, and an end when the build ends in whatever way."""
    global _counter
    import torch

    _counter = counter
    confine()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(out: str, name: str) -> None:
    def tick(clips: int) -> None:
        with _counter.get_lock():
            _counter.value += clips

    build_shard(out, name, tick)


# --- the end ----------------------------------------------------------------------------------------------------------


def _place(places: Places, name: str, staged: Path) -> None:
    """Put a staged shard into `data`. Its old record goes first: it must never vouch for another file."""
    record, parquet = places.records / f"{name}.json", places.data / f"{name}.parquet"
    record.unlink(missing_ok=True)
    if staged.with_suffix(".parquet").exists():
        os.replace(staged.with_suffix(".parquet"), parquet)
    elif not json.loads(staged.with_suffix(".json").read_text(encoding="utf-8"))["rows"]:
        parquet.unlink(missing_ok=True)
    os.replace(staged.with_suffix(".json"), record)


def _mend(places: Places) -> None:
    """End the move of a shard that a kill cut in two."""
    for record in places.staged.glob("*.json"):
        name = record.stem.rpartition("-")[0]
        moved = not record.with_suffix(".parquet").exists() and not (places.records / f"{name}.json").exists()
        shard = read_record(record, places.data / f"{name}.parquet") if moved else None
        if shard and shard["rows"]:
            os.replace(record, places.records / f"{name}.json")


def finish(out: str | os.PathLike, **license: str) -> dict:
    """Put the shards of the plan into place, and write statistics.json, dropped.jsonl, the report and the card.

    Raises:
        ValueError: a shard is missing.
    """
    places = Places(out)
    names, facts = places.shards(), json.loads((places.plan / "facts.json").read_text(encoding="utf-8"))
    if missing := [name for name in names if not (places.plan / f"{name}.key").is_file()]:
        raise ValueError(f"{len(missing)} of {len(names)} shards are not done, such as {missing[0]}; build them first")
    keys = {name: (places.plan / f"{name}.key").read_text(encoding="utf-8") for name in names}
    staged = {name: path for name in names if (path := places.staged / f"{name}-{keys[name]}.json").exists()}
    records = {name: staged.get(name, places.records / f"{name}.json") for name in names}
    if shared := _check_motion(records, Recipe.load(places)):
        facts["remarks"]["clips with the motion of a clip in another split"] = shared
    for name, path in staged.items():
        _place(places, name, path)
    for folder, suffix in ((places.records, ".json"), (places.data, ".parquet")):
        for path in folder.glob(f"*{suffix}"):
            if path.stem not in names:
                path.unlink()
    shutil.rmtree(places.staged)
    splits: dict[str, dict] = {}
    sums: dict = {}
    with open(places.work / "dropped.tmp", "w", encoding="utf-8") as dropped:
        for name in names:  # always in this order: float64 sums depend on it
            record = json.loads((places.records / f"{name}.json").read_text(encoding="utf-8"))
            split = name.rpartition("-")[0]
            splits[split] = data_report.add(splits.get(split, {}), record["summary"])
            sums = data_report.add(sums, record["sums"] or {})
            for fault in record["dropped"]:
                row = {name: fault[name] for name in ("id", "file", "reason")}
                dropped.write(json_line(row))
        with open(places.plan / "left_out.jsonl", encoding="utf-8") as lines:
            shutil.copyfileobj(lines, dropped)
    os.replace(places.work / "dropped.tmp", places.out / "dropped.jsonl")
    if long := sum(sum(summary["seconds_histogram"][LONG:]) for summary in splits.values()):
        remark = (
            f"clips of {data_report.SECONDS[LONG]} s and more; an utterance lasts seconds (--max-seconds drops them)"
        )
        facts["remarks"][remark] = long
    facts["shards"] = {split: sum(name.startswith(f"{split}-") for name in names) for split in splits}
    _write_statistics(places.out / "statistics.json", sums, facts["options"], splits.get("train"))
    report = data_report.write_report(places.out, splits, facts)
    data_report.write_card(places.out, report, Recipe.load(places).schema, license)
    return report


def _check_motion(records: Mapping[str, Path], recipe: Recipe) -> int:
    """How many pairs of clips in different splits are the same motion.

    Raises:
        ValueError: there are some, and nobody asked for splits that may share videos.
    """
    ids: dict[str, list[str]] = {}
    sketches: dict[str, list[str]] = {}
    for name, path in records.items():
        split = name.rpartition("-")[0]
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            ids.setdefault(split, []).append(row["id"])
            sketches.setdefault(split, []).append(row["sketch"])
    shared = [(one, ids[one][i], other, ids[other][j]) for one, i, other, j in shared_motion(sketches)]
    if shared and not recipe.shared_videos and recipe.split_by not in ("clip", "signer"):
        one, first, other, second = shared[0]
        raise ValueError(
            f"{counted(len(shared), 'pair')} of clips are one motion in two splits, such as {first!r} in {one} and "
            f"{second!r} in {other}; take one of them out, give them one video name, or keep it so (--shared-videos)"
        )
    return len(shared)


def _write_statistics(path: Path, sums: Mapping, options: Mapping, train: Mapping) -> None:
    """Mean and standard deviation of the 623 features over the frames of train, as they are: a deviation may be 0. And
    which share of the joints was observed: those of the others are of what was filled in."""
    if not sums.get("frames"):
        path.unlink(missing_ok=True)
        return
    frames, total, squares = sums["frames"], np.array(sums["sum"]), np.array(sums["squares"])
    mean = total / frames
    deviation = np.sqrt(np.maximum(squares / frames - mean**2, 0.0))
    content = {
        "split": "train",
        "frames": frames,
        "fps": options["fps"] or FEATURE_FPS,
        "convention": options["convention"],
        "target_skeleton": "humanml3d",
        "observed": data_report.observed(train),
        "mean": mean.tolist(),
        "std": deviation.tolist(),
    }
    write_whole(path, json.dumps(content, indent=1) + "\n")
