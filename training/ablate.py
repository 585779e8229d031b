"""Run a matrix of trainings, row by row, and print its tables: the paper's Tables 1 to 8 and Figure 2 by default.

    lslm ablate --data DIR --output_dir runs/paper

A row is a stage with its recipe, the row it goes on from, and where it differs from the recipe; see
training/recipes/ablations.yaml. Each row is trained and scored by processes of its own, with a recipe of its own that
repeats it: OUTPUT/seed-0/llama/mlp/recipe.yaml. Rows that have a results.json are skipped, and a row that was
interrupted goes on where it was. OUTPUT/results.jsonl has a line for each finished row, its recipe and its results:
where only that file was kept, its rows count as finished.
"""

import csv
import dataclasses
import fnmatch
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..hub_cards.yaml_files import read_yaml
from .locks import is_locked
from .provenance import save_results
from .recipe import check_keys, parse
from .recipe_keys import EvaluateKeys
from .stages.align import AlignArguments
from .stages.instruct import InstructArguments
from .stages.interruption import SIGNALS, Stopped
from .stages.resume import LOCK, is_finished
from .stages.tokenizer import TokenizerArguments

RECIPES = Path(__file__).parent / "recipes"
# stage -> its file in a folder of recipes, its keys
STAGES = {
    "tokenizer": ("1_tokenizer.yaml", TokenizerArguments),
    "align": ("2_align.yaml", AlignArguments),
    "instruct": ("3_instruct.yaml", InstructArguments),
}
# number of runs -> two-sided 95 % quantile of Student's t
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


@dataclass(frozen=True)
class Row:
    """One training run: a row of the matrix, for one backbone and seed."""

    of: str  # "codebook-1024", or "llama/mlp"
    seed: int
    stage: str
    folder: Path
    parent: "Row | None"
    recipe: dict  # complete: recipe file, budget and the row's own keys

    @property
    def chain(self) -> str:
        return f"{self.parent.chain} > {self.of}" if self.parent else self.of

    def results(self) -> dict | None:
        """What `lslm evaluate` wrote, or None while the row is not finished."""
        try:
            return json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def state(self) -> str:
        """finished; running now; trained, but not scored; interrupted, with a checkpoint to go on from; begun, without
        one; to do."""
        if self.results():
            return "finished"
        if is_locked(self.folder / LOCK):
            return "running"
        if is_finished(self.folder):
            return "trained"
        if any(self.folder.glob("checkpoint-*/trainer_state.json")):
            return "interrupted"
        return "begun" if (self.folder / LOCK).is_file() else "to do"


def read_config(path: str | Path | None, **overrides) -> dict:
    """A matrix file, with what it leaves out taken from ablations.yaml and `overrides` on top.

    Raises:
        FileNotFoundError: no such file. ValueError: not a matrix, an unknown key, a row that goes on from an unknown or
            later row, a table of an unknown one.
    """
    config = read_yaml(RECIPES / "ablations.yaml")
    path = path or RECIPES / "ablations.yaml"
    matrix = read_yaml(Path(path))
    if unknown := sorted(matrix.keys() - config):
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(config))}")
    for key in ("budget", "evaluate"):
        if strays := sorted((matrix.get(key) or {}).keys() - STAGES.keys()):
            raise ValueError(f"{path}: {key}: unknown stage {strays[0]!r}; there are {', '.join(STAGES)}")
    if "rows" in matrix and "tables" not in matrix:
        config["tables"] = []  # those of the paper are about other rows
    place = Path(path).parent if "backbones" in matrix else RECIPES
    config |= matrix | {key: value for key, value in overrides.items() if value is not None}
    seen = []
    for name, row in config["rows"].items():
        if row.get("stage") not in STAGES:
            raise ValueError(f"{path}: row {name!r}: stage is {row.get('stage')!r}, expected {', '.join(STAGES)}")
        if row.get("from") not in ([None] if row["stage"] == "tokenizer" else seen):
            raise ValueError(
                f"{path}: row {name!r}: expected `from:` with the name of an earlier row (a tokenizer row has none), "
                f"got {row.get('from')!r}"
            )
        seen.append(name)
    config["backbones"] = {name: _recipes(recipes, place) for name, recipes in config["backbones"].items()}
    names = {row.of for row in plan(config)} if "tables" in matrix else set()
    for table in matrix.get("tables") or ():
        if strays := [row["of"] for row in table["rows"] if row["of"] not in names]:
            raise ValueError(f"{path}: {table['title']!r}: no row {strays[0]!r}; there are {', '.join(sorted(names))}")
    return config


def _recipes(name: str, place: Path) -> str:
    """A folder of recipes: beside the matrix file, or one that comes with the package, or as seen from here."""
    return next((str(folder) for folder in (place / name, RECIPES / name) if folder.is_dir()), name)


def plan(config: dict, only: list[str] | None = None) -> list[Row]:
    """The rows to run, parents first; with `only` (names or patterns like `llama/*`), those and what they go on from.

    Raises:
        FileNotFoundError: a recipe is missing. ValueError: `only` names no row; an unknown recipe key.
    """
    rows: dict[tuple[str, int], Row] = {}
    root = Path(config["output_dir"])
    for seed in config["seeds"]:
        for name, row in config["rows"].items():
            shared = row["stage"] == "tokenizer"  # one sign tokenizer serves all backbones
            for backbone, recipes in list(config["backbones"].items())[: 1 if shared else None]:
                of = name if shared else f"{backbone}/{name}"
                parent = None if shared else rows.get((row["from"], seed)) or rows[f"{backbone}/{row['from']}", seed]
                folder = root / f"seed-{seed}" / of
                recipe = read_yaml(Path(recipes) / STAGES[row["stage"]][0])
                recipe |= {"data": config["data"]} | config["budget"].get(row["stage"], {})
                recipe |= {key: value for key, value in row.items() if key not in ("stage", "from")}
                recipe |= {"output_dir": str(folder), "seed": seed}
                if parent:
                    recipe["tokenizer" if parent.stage == "tokenizer" else "model"] = str(parent.folder)
                rows[of, seed] = Row(of, seed, row["stage"], folder, parent, recipe)
    if not only:
        return list(rows.values())
    wanted: set[tuple[str, int]] = set()
    for pattern in only:
        matches = [row for row in rows.values() if fnmatch.fnmatch(row.of, pattern)]
        if not matches:
            names = ", ".join(dict.fromkeys(row.of for row in rows.values()))
            raise ValueError(f"no row {pattern!r}; there are {names}")
        for row in matches:
            while row:
                wanted.add((row.of, row.seed))
                row = row.parent
    return [row for key, row in rows.items() if key in wanted]


def check_recipes(config: dict, rows: list[Row]) -> None:
    """Refuse what would fail after hours of training: a key that the stage or the evaluation does not know, codes that
    cannot be words.

    Raises:
        ValueError: with the nearest known key, or the row.
    """
    for stage, keys in config["evaluate"].items():
        if not isinstance(keys, dict):
            raise ValueError(f"evaluate: {stage}: expected keys of `lslm evaluate` such as {{limit: 80}}, got {keys!r}")
        check_keys(f"evaluate: {stage}", keys, set(EvaluateKeys.__dataclass_fields__))
        parse(EvaluateKeys, _flags({"data": "there", **keys}), "lslm evaluate")  # values of the right kind
    for row in rows:
        fields = dataclasses.fields(STAGES[row.stage][1])
        check_keys(row.of, row.recipe, {field.name for field in fields if field.init})
        codebooks = row.parent.recipe if row.parent else {}
        many = codebooks.get("partwise") or codebooks.get("num_quantizers", 1) > 1
        if row.recipe.get("motion_input") == "vocabulary" and many:
            raise ValueError(
                f"row {row.of!r}: motion_input: vocabulary makes a word of every code, and {row.parent.of!r} has one "
                "for every combination of its codebooks; give it partwise: false and num_quantizers: 1"
            )


def ablate(config: dict, rows: list[Row]) -> list[Row]:
    """Train and score `rows`, skipping finished ones, and write the tables; -> the rows that failed.

    A row whose parent failed counts as failed.

    Raises:
        ValueError: a row was begun with other settings.
    """
    check_recipes(config, rows)
    _unpack_results(Path(config["output_dir"]))
    for row in rows:  # all before the first: a mistake should not show after a day
        _claim(row)
    to_do = _to_do(rows)
    failed: list[Row] = []
    for number, row in enumerate(rows, 1):
        what = f"[{number}/{len(rows)}] {row.of}, seed {row.seed}"
        if row not in to_do:
            print(f"{what}: finished before", flush=True)
        elif row.parent in failed:
            print(f"{what}: left out, {row.parent.of} failed", flush=True)
            failed.append(row)
        else:
            goes_on = ", goes on" if row.state() in ("interrupted", "trained") else ""
            print(f"{what}: {row.stage}{goes_on}", flush=True)
            train = [row.stage, "--config", str(row.folder / "recipe.yaml")]
            score = ["evaluate", *_flags(scored(row, config))]
            started = time.monotonic()
            try:
                broken = train if _lslm(train) else None
            finally:  # interrupted or not
                minutes = _add_minutes(row, (time.monotonic() - started) / 60)
            if broken is None and _lslm(score):
                broken = score
            if broken:
                print(f"{what}: FAILED; again alone: lslm {' '.join(broken)}", file=sys.stderr, flush=True)
                failed.append(row)
                continue
            results = row.results()
            results["metrics"]["training_minutes"] = round(minutes, 2)
            save_results(row.folder, results)
            write_tables(config)  # what there is so far
    write_tables(config)
    write_results(config)
    return failed


def scored(row: Row, config: dict) -> dict:
    """Keys of `lslm evaluate` for a row. In the matrix's own, {output_dir} is where it runs and {data} what the row
    learns from, which may have a test of its own."""
    keys = {"model": row.folder, "data": config["data"], "split": config["split"], "output": row.folder}
    places = {"output_dir": config["output_dir"], "data": row.recipe["data"]}
    more = config["evaluate"].get(row.stage, {})
    return keys | {key: value.format(**places) if isinstance(value, str) else value for key, value in more.items()}


def _to_do(rows: list[Row]) -> list[Row]:
    """Rows without results, and what they go on from where only results were kept, not the weights."""
    to_do: list[Row] = []
    for row in reversed(rows):  # children first
        waiting = any(child.parent is row for child in to_do) and not (row.folder / "config.json").is_file()
        if waiting or not row.results():
            to_do.append(row)
    return to_do


def _flags(keys: dict) -> list[str]:
    """Keys of a recipe as flags: what they were then stands in the results, in one line."""
    words = []
    for key, value in keys.items():
        if value is not None:
            words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return words


def _lslm(command: list[str]) -> int:
    """Run `lslm COMMAND ...` in a process of its own: what it took of memory is free again afterwards.

    Raises:
        Stopped: Ctrl-C or SIGTERM came.
    """
    with subprocess.Popen([sys.executable, "-m", "lslm_cli", *command]) as process:
        # a Ctrl+C reaches the process by itself, a SIGTERM does not; either has it save a checkpoint
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue
        signal.signal(signal.SIGTERM, before)
    for signum in SIGNALS:
        if process.returncode in (128 + signum, -signum):
            raise Stopped("interrupted; to go on, give the same command again", signum)
    return process.returncode


def _add_minutes(row: Row, minutes: float) -> float:
    """Add to what the row's training has taken so far, loading included; -> the sum."""
    path = row.folder / "training_minutes"
    minutes += float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0
    path.write_text(f"{minutes:.4f}\n", encoding="utf-8")
    return minutes


def _claim(row: Row) -> None:
    """Write the row's recipe into its folder, or make sure that it is the one the row was begun with."""
    path = row.folder / "recipe.yaml"
    if path.is_file():
        old = read_yaml(path)
        if changed := sorted(key for key in old.keys() | row.recipe.keys() if old.get(key) != row.recipe.get(key)):
            raise ValueError(
                f"{path}: begun with other settings of {', '.join(changed)}; remove {row.folder} to begin anew, or "
                "choose another --output_dir"
            )
        return
    row.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(row.recipe, sort_keys=False), encoding="utf-8")


# --- one file for all rows --------------------------------------------------------------------------------------------


def read_results(path: Path) -> dict[tuple[str, int], dict]:
    """(row, seed) -> line of a results.jsonl: {"row", "seed", "recipe", "results"}. No file: no lines."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(line["row"], line["seed"]): line for line in map(json.loads, lines)}


def write_results(config: dict) -> None:
    """Write the finished rows into OUTPUT/results.jsonl; lines of rows and seeds that `config` does not name stay."""
    path = Path(config["output_dir"]) / "results.jsonl"
    lines = read_results(path)
    for row in plan(config):
        if results := row.results():
            recipe = read_yaml(row.folder / "recipe.yaml")
            lines[row.of, row.seed] = {"row": row.of, "seed": row.seed, "recipe": recipe, "results": results}
    ordered = sorted(lines.values(), key=lambda line: (line["seed"], line["row"]))
    unfinished = path.with_suffix(f".{os.getpid()}")  # seeds may run side by side
    unfinished.write_text("".join(f"{json.dumps(line)}\n" for line in ordered), encoding="utf-8")
    unfinished.replace(path)


def _unpack_results(root: Path) -> None:
    """Where `root` holds no rows but a results.jsonl: a folder for each of its lines, with that recipe and results."""
    if any(root.glob("seed-*")):
        return
    for (of, seed), line in read_results(root / "results.jsonl").items():
        folder = root / f"seed-{seed}" / of
        save_results(folder, line["results"])
        (folder / "recipe.yaml").write_text(yaml.safe_dump(line["recipe"], sort_keys=False), encoding="utf-8")


# --- tables -----------------------------------------------------------------------------------------------------------


def write_tables(config: dict) -> None:
    """Write OUTPUT/tables.md, a CSV per table and a PNG per plot from the rows' results.json.

    Our figures are means over the seeds, with the half width of the 95 % interval of Student's t when there are
    several; the paper's stand in brackets.
    """
    root = Path(config["output_dir"])
    root.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[dict]] = {}
    for row in plan(config):
        if results := row.results():
            runs.setdefault(row.of, []).append(results["metrics"])
    blocks = []
    for table in config["tables"]:
        stem = table["title"].partition(":")[0].lower().replace(" ", "_")
        metrics = table["metrics"]
        values = {row["of"]: summary(runs.get(row["of"], []), metrics) for row in table["rows"]}
        lines = [[*table["head"], *metrics.values()], ["---"] * (len(table["head"]) + len(metrics))]
        records = [["row", "metric", "mean", "half_width_95", "seeds", "paper"]]
        for row in table["rows"]:
            papers = row.get("paper") or [None] * len(metrics)
            figures = [(name, values[row["of"]].get(name), paper) for name, paper in zip(metrics, papers, strict=True)]
            lines.append([*row["name"], *(cell(ours, paper) for _, ours, paper in figures)])
            records += [[row["of"], name, *(ours or (None, None, 0)), paper] for name, ours, paper in figures]
        blocks.append(f"**{table['title']}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        with open(root / f"{stem}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(records)
        if table.get("plot"):
            _plot(table, values, root / f"{stem}.png")
    (root / "tables.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def summary(runs: list[dict], metrics: dict) -> dict[str, tuple[float, float | None, int]]:
    """metric -> mean, half width of the 95 % interval (None for one run), number of runs."""
    summary = {}
    for metric in metrics:
        values = [run[metric] for run in runs if run.get(metric) is not None]
        count = len(values)
        if values:
            half = T_95.get(count, 2.0) * statistics.stdev(values) / count**0.5 if count > 1 else None
            summary[metric] = statistics.mean(values), half, count
    return summary


def cell(value: tuple | None, paper: float | None = None) -> str:
    ours = "" if value is None else f"{value[0]:.1f}" + ("" if value[1] is None else f" ± {value[1]:.1f}")
    return f"{ours or '–'} ({paper:g})" if paper is not None else ours or "–"


def _plot(table: dict, values: dict, path: Path) -> None:
    """One panel per metric over the rows, in the manner of the paper's Figure 2."""
    if not any(values.values()):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(table["metrics"]), 3), layout="constrained")
    panels = figure.subplots(1, len(table["metrics"]), squeeze=False)[0]
    for panel, (metric, name) in zip(panels, table["metrics"].items(), strict=True):
        points = [(row["name"][0], *values[row["of"]][metric]) for row in table["rows"] if metric in values[row["of"]]]
        names, means, halves, _ = zip(*points, strict=True) if points else ((), (), (), ())
        panel.errorbar(names, means, [half or 0.0 for half in halves], marker="o", capsize=3)
        panel.set(title=name, xlabel=table["head"][0], ylim=(0, None))
    figure.suptitle(table["title"])
    figure.savefig(path, dpi=150)


def describe(config: dict, rows: list[Row]) -> str:
    """What would run, for `--dry-run`: every row with its chain, state and the tables it fills."""
    _unpack_results(Path(config["output_dir"]))
    tables: dict[str, list[str]] = {}
    for table in config["tables"]:
        for row in table["rows"]:
            tables.setdefault(row["of"], []).append(table["title"].partition(":")[0])
    lines = []
    for row in rows:
        fills = ", ".join(tables.get(row.of, ())) or "no table"
        lines.append(f"{row.state():11} seed {row.seed}  {row.stage:10} {row.chain}  ({fills})")
    finished = sum(line.startswith("finished") for line in lines)
    return "\n".join([*lines, f"{len(lines)} rows, {finished} finished; results go to {config['output_dir']}"])
