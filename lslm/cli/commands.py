"""The commands that need the model: imported when one of them runs."""

import json
import os
import re
import sys
import threading
import time
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging

import lslm

from . import _one_line, evaluate_parser

# peft imports bitsandbytes where there is one, which then complains of a CPU kernel that nothing here uses
logging.get_logger("bitsandbytes.backends.cpu.ops").setLevel("ERROR")

SHIPPED = Path(lslm.__file__).parent.parent / "examples" / "asl_cafe" / "checkpoint"


def shipped_or(model: str | None) -> str:
    """The model that the user named, or else the checkpoint of the repository.

    Raises:
        FileNotFoundError: neither is there.
    """
    if model is not None:
        return model
    if not SHIPPED.is_dir():
        raise FileNotFoundError("the shipped checkpoint lies in the source repository only; name a model with --model")
    return os.path.relpath(SHIPPED)


def _quiet():
    """Leave standard error to what the user has to read."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="repaired NaN")


def _as_flags(message: str) -> str:
    """A message for Python in the words of the command line: up='y' becomes --up=y."""
    message = re.sub(r"\b(fps|format|up|flat_hand_mean)='?([\w.-]+)'?", r"--\1=\2", message)
    return message.replace("=...", "").replace("--flat_hand_mean", "--flat-hand-mean")


def _load(file: str, args) -> lslm.Motion:
    """One file as the flags say; what the reader remarks goes to standard error.

    Raises:
        ValueError, OSError: as `load_motion`, in the words of the command line.
    """
    names = ("fps", "format", "up", "flat_hand_mean", "body_model")
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            motion = lslm.load_motion(file, **{name: getattr(args, name) for name in names})
    except (ValueError, OSError) as error:
        raise ValueError(_as_flags(_one_line(error))) from error
    for remark in remarks:
        if remark.category is UserWarning:
            print(f"lslm: {file}: {_as_flags(_one_line(remark.message))}", file=sys.stderr)
    return motion


def inspect(args) -> int:
    """`lslm inspect`: facts about every file; exit code 2 if any could not be read."""
    from lslm.processing.readers.inspection import as_text, draw_strip, inspect_motion

    failed = False
    png = None if args.png is None else Path(args.png)
    if png is not None and len(args.files) > 1:
        png.mkdir(parents=True, exist_ok=True)
    for file in args.files:
        try:
            motion = _load(file, args)
        except ValueError as error:
            failed = True
            if args.json:
                print(json.dumps({"file": file, "error": str(error)}, ensure_ascii=False), flush=True)
            print(f"lslm: {error}" if file in str(error) else f"lslm: {file}: {error}", file=sys.stderr)
            continue
        facts = inspect_motion(motion)
        if png is not None:
            out = png / f"{Path(file).stem}.png" if png.is_dir() else png
            draw_strip(motion, out)
            facts["png"] = str(out)
        text = json.dumps({"file": file} | facts, ensure_ascii=False) if args.json else as_text(file, facts)
        print(text, flush=True)
    return 2 if failed else 0


@torch.no_grad()
def translate(args) -> int:
    """`lslm translate`: every readable file to one line; exit code 2 if any could not be read."""
    _quiet()
    folder = shipped_or(args.model)
    motions, failures = {}, {}
    for file in args.files:
        try:
            motions[file] = _load(file, args)
        except ValueError as error:
            failures[file] = str(error)
    pipe = None
    for file in args.files:
        started = time.time()
        if file in motions:
            if pipe is None:
                from transformers import pipeline

                try:
                    pipe = pipeline("sign-translation", model=folder, model_kwargs={"merge_lora": True})
                except SafetensorError as error:
                    raise ValueError(f"{folder}: damaged checkpoint ({error}); copy it again") from error
            options = {k: v for k, v in (("prompt", args.prompt), ("num_beams", args.num_beams)) if v is not None}
            try:
                text = pipe(motions[file], **options)[0]["translation_text"]
            except ValueError as error:
                failures[file] = _one_line(error)
        if file in failures:
            if args.json:
                print(json.dumps({"file": file, "error": failures[file]}, ensure_ascii=False), flush=True)
            message = failures[file] if file in failures[file] else f"{file}: {failures[file]}"
            print(f"lslm: {message}", file=sys.stderr)
        elif args.json:
            motion = motions[file]
            result = {"file": file, "text": text, "frames": motion.num_frames, "fps": motion.fps}
            print(json.dumps(result | {"seconds": round(time.time() - started, 3)}, ensure_ascii=False), flush=True)
        else:
            line = " ".join(text.split())
            print(f"{file}: {line}" if len(args.files) > 1 else line, flush=True)
    return 2 if failures else 0


def demo(args) -> int:
    """`lslm demo`: returns when it is interrupted."""
    _quiet()
    from lslm.hub_cards.space import app

    models = list(dict.fromkeys(args.model or [shipped_or(None)]))
    print(f"Loading {', '.join(models)} ...", flush=True)
    try:
        pipes = app.load(models)
    except SafetensorError as error:
        raise ValueError(f"damaged checkpoint ({error}); copy it again") from error
    options = {"server_port": args.port, "share": args.share, "prevent_thread_lock": True, "quiet": True}
    try:
        _, local, public = app.serve(pipes, app.find_examples(SHIPPED.parent), **options)
    except OSError as error:
        if args.port is None or "port" not in str(error):
            raise
        raise OSError(f"port {args.port} is taken; name another with --port") from error
    for address in filter(None, (local, public)):
        print(f"The demo is at {address}  (Ctrl+C stops it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    return 0


def evaluate(args, command: str) -> int:
    """`lslm evaluate`."""
    _quiet()
    from lslm.training.evaluation.evaluate import evaluate as run
    from lslm.training.stages.translation import TEMPLATES

    results = run(
        args.data,
        args.split,
        args.output,
        shipped_or(args.model),
        command=command,
        batch_size=args.batch_size,
        num_beams=args.num_beams,
        controls=args.controls,
        unseen_templates=str(TEMPLATES / "unseen.json") if args.unseen_templates == "" else args.unseen_templates,
        report_clips=args.report_clips,
        fid=args.fid,
        limit=args.limit,
        seed=args.seed,
    )
    for name, value in results["metrics"].items():
        print(f"{name:32} {value:10.2f}" if isinstance(value, float) else f"{name:32} {value:10d}")
    also = " and report.html" if args.report_clips > 0 else ""
    print(f"written to {args.output}: results.json, predictions.jsonl{also}")
    return 0


def _read_lines(file: str) -> list[str]:
    """Sentences of a text file, one a line. Raises ValueError if there are none, or if it is not UTF-8 text."""
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")  # not splitlines: sentences may hold a U+2028
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    lines = lines[:-1] if not lines[-1] else lines
    if not lines:
        raise ValueError(f"{file} is empty; expected one sentence a line")
    return lines


def score(args) -> int:
    """`lslm score`."""
    _quiet()
    from lslm.training.evaluation import sign_translation_metrics as metrics

    definitions = args.definitions or metrics.DEFAULT
    definitions = metrics.ALL if "all" in definitions else definitions
    references, hypotheses = _read_lines(args.references), _read_lines(args.hypotheses)
    others = _read_lines(args.against) if args.against else None
    for file, lines in ((args.hypotheses, hypotheses), (args.against, others)):
        if lines is not None and len(lines) != len(references):
            raise ValueError(
                f"{file} has {len(lines)} lines, {args.references} has {len(references)}; expected a line for each"
            )
    empty = next((number for number, line in enumerate(references, 1) if not line.strip()), None)
    if empty:
        raise ValueError(f"{args.references}: line {empty} is empty; leave this sentence out of both files")

    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)
        scores = metrics.text_metrics(references, hypotheses, definitions=definitions)
        result = {"scores": scores, "signatures": {}}
        samples = 1000 if args.against and args.bootstrap is None else args.bootstrap
        if samples is not None:
            result["intervals"] = metrics.confidence_intervals(references, hypotheses, definitions, samples, args.seed)
        if others:
            result["against"] = metrics.text_metrics(references, others, definitions=definitions)
            result["test"] = metrics.compare(references, hypotheses, others, definitions, samples, args.seed)
    result["signatures"] = {k: v for k, v in metrics.signatures(definitions).items() if k in scores}
    result["notes"] = list(dict.fromkeys(_one_line(r.message) for r in remarks if r.category is UserWarning))
    for file, lines in ((args.hypotheses, hypotheses), (args.against, others or [])):
        silent = sum(not line.strip() for line in lines)
        if silent:
            result["notes"].append(f"{file}: {silent} of {len(lines)} lines are empty, and count as deletions")
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    for name, value in scores.items():
        cells = [f"{name:26}", _cell(value)]
        if others:
            cells.append(_cell(result["against"][name]))
        if others and name in result["test"]:
            test = result["test"][name]
            cells.append(f"{test['difference']:+8.2f} [{test['low']:+.2f}, {test['high']:+.2f}] p {test['p']:.3f}")
        elif samples is not None and name in result["intervals"]:
            low, high = result["intervals"][name]
            cells.append(f"[{low:.2f}, {high:.2f}]")
        print("  ".join([*cells, result["signatures"].get(name, "")]).rstrip())
    for note in result["notes"]:
        print(f"lslm: {note}", file=sys.stderr)
    return 0


def _cell(value: float) -> str:
    return f"{value:8.2f}" if isinstance(value, float) else f"{value:8d}"


def ablate(args) -> int:
    """`lslm ablate`."""
    from lslm.training import ablate as matrix

    config = matrix.read_config(args.config, data=args.data, output_dir=args.output_dir, seeds=args.seeds)
    rows = matrix.plan(config, args.only)
    for stage, words in config["evaluate"].items():  # now, not after hours of training
        needed = ["--data", "", "--split", "", "--output", ""]
        _, unknown = evaluate_parser().parse_known_args([*needed, *map(str, words)])
        if unknown:
            raise ValueError(
                f"evaluate, {stage}: `lslm evaluate` has no flag {unknown[0]!r}; flags and values are items of "
                'their own: [--limit, "80"]'
            )
    if args.dry_run:
        matrix.check_recipes(rows)
        print(matrix.describe(config, rows))
        return 0
    failed = matrix.ablate(config, rows)
    print(f"written to {config['output_dir']}/tables.md")
    if failed:
        print(f"lslm: {len(failed)} of {len(rows)} rows failed: {', '.join(row.of for row in failed)}", file=sys.stderr)
    return 1 if failed else 0


def data_build(args: dict) -> int:
    """`lslm data build`."""
    _quiet()
    from lslm.training.dataset.build import build as building

    source, out = args.pop("source"), args.pop("out")
    executor, tasks, workers = (args.pop(name) for name in ("executor", "tasks", "workers"))
    options = {name: value for name in ("partition", "time") if (value := args.pop(name)) is not None}
    if file := args.pop("executor_options"):
        import yaml

        try:
            found = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not YAML: {_one_line(error)}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{file}: expected `name: value` lines, arguments of datatrove's executor")
        options = found | options
    if not executor and (options or tasks):
        raise ValueError("--tasks, --partition, --time and --executor-options belong to --executor local, slurm or ray")
    reader = {name: args.pop(name) for name in ("format", "up", "flat_hand_mean", "body_model")}
    reader["fps"] = args.pop("source_fps")
    args["reader"] = {name: value for name, value in reader.items() if value is not None}
    license = {name: value for name in ("license", "license_name", "license_link") if (value := args.pop(name))}
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: expected 1 or more")
    if not executor:
        report = building.build(source, out, workers=workers or 1, **args, **license)
    else:
        from lslm.training.dataset.build import cluster as data_cluster

        building.plan(source, out, **args)
        shards = len(building.Places(out).shards())
        data_cluster.run(executor, out, tasks or shards, -1 if workers is None else workers, options, **license)
        if executor == "slurm":
            print(f"submitted: {min(tasks or shards, shards)} tasks, then one that writes {out}/report.md")
            return 0
        report = json.loads(Path(out, "report.json").read_text(encoding="utf-8"))
    splits = ", ".join(f"{split} {summary['clips']}" for split, summary in report["splits"].items())
    print(f"written to {out}: {report['clips']} clips ({splits}); {report['dropped']} dropped, see {out}/report.md")
    return 0
