"""The matrix of trainings: the paper's is complete, rows run, resume and fill the tables."""

import csv
import json
import os
import runpy
import shutil
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import lslm_cli
import pyarrow
import pytest
import yaml
from pyarrow import parquet

from lslm.training import ablate
from lslm.training.evaluation import motion_embedding
from lslm.training.locks import locked
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.resume import LOCK

pytest_plugins = ["training_fixtures"]
CAFE = Path(__file__).parent.parent / "examples" / "asl_cafe"
BUDGET = {
    "tokenizer": {
        "fps": 15.0, "window": 16, "hidden_size": 16, "code_dim": 8, "num_res_blocks": 1, "quantizer": "ema",
        "codebook_warmup": 0.0, "per_device_train_batch_size": 4, "augment": False, "partwise": False,
    },
    "align": {"lora_r": 2, "per_device_train_batch_size": 4, "augment": False, "projector_hidden_size": 16},
    "instruct": {"lora_r": 2, "per_device_train_batch_size": 4, "augment": False},
}  # fmt: skip
SHORT = {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
SHORT |= {"bf16": False, "dataloader_num_workers": 0}


@pytest.fixture
def backbones(tmp_path, monkeypatch):
    """Makes folders of recipes, name -> (folder of ASL Cafe's ablations, language model); rows run in this process,
    since importing torch 40 times is slow."""
    monkeypatch.setattr(ablate, "_lslm", lslm_cli.main)

    def folders(**sources):
        for name, (recipes, backbone) in sources.items():
            shutil.copytree(CAFE / "ablations" / recipes, tmp_path / "recipes" / name)
            align = tmp_path / "recipes" / name / "2_align.yaml"
            align.write_text(yaml.safe_dump(yaml.safe_load(align.read_text()) | {"backbone": str(backbone)}))
        return {name: str(tmp_path / "recipes" / name) for name in sources}

    return folders


@pytest.fixture
def matrix(toy, tmp_path, backbones):
    """Writes a matrix on toy data and two toy backbones."""
    folders = backbones(llama=("smollm2-135m", toy / "llm"), qwen=("smollm2-135m", toy / "qwen2"))

    def write(**keys):
        config = {
            "data": str(toy / "set"),
            "output_dir": str(tmp_path / "runs"),
            "backbones": folders,
            "budget": {stage: budget | SHORT for stage, budget in BUDGET.items()},
            "evaluate": {stage: {"limit": 3} for stage in ("align", "instruct")},
        }
        path = tmp_path / "matrix.yaml"
        path.write_text(yaml.safe_dump(config | keys, sort_keys=False))
        return str(path)

    return write


def test_a_sigterm_reaches_the_row_that_runs(tmp_path, monkeypatch):
    """As of a queue that signals one process alone: the row saves, and ends with the matrix."""
    row = """
        import pathlib, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        pathlib.Path("runs").touch()
        time.sleep(20)
    """
    (tmp_path / "lslm_cli.py").write_text(textwrap.dedent(row))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)

    def send():
        while not Path("runs").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        threading.Thread(target=send, daemon=True).start()
        with pytest.raises(KeyboardInterrupt, match="give the same command again") as ended:
            ablate._lslm([])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.exit_code == 143


def test_the_matrix_of_the_paper_is_complete():
    """Every row of Tables 1 to 8 and Figure 2: as many as the paper prints, each of them one that is trained."""
    config = ablate.read_config(None)
    rows = {row.of for row in ablate.plan(config)}
    printed = {"Table 1": 4, "Table 2": 5, "Table 3": 3, "Table 4": 4, "Table 5": 3, "Table 6": 5, "Table 7": 5}
    printed |= {"Table 8": 8, "Figure 2": 4}
    of_the_paper = {}
    for table in config["tables"]:
        assert {row["of"] for row in table["rows"]} <= rows
        for row in table["rows"]:
            assert len(row["name"]) == len(table["head"])
            assert len(row.get("paper", table["metrics"])) == len(table["metrics"])
        names = [" ".join(row["name"]) for row in table["rows"]]
        of_the_paper[table["title"].partition(":")[0]] = sum("not in the paper" not in name for name in names)
    assert of_the_paper == printed


def test_the_levers_of_the_demo_are_rows_that_train():
    """Each row is in a table; the demo's own rows are its recipes, and a row may have data of its own. The paper's way,
    codes, is one flag away."""
    config = ablate.read_config(CAFE / "ablations" / "levers.yaml")
    rows = {row.of: row for row in ablate.plan(config) if row.seed == 0}
    ablate.check_recipes(config, list(rows.values()))
    assert {row["of"] for table in config["tables"] for row in table["rows"]} == set(rows)
    recipe = yaml.safe_load((ablate.RECIPES / "smollm2-135m" / "2_align.yaml").read_text())
    changed = {key for key, value in rows["smollm2/demo"].recipe.items() if recipe.get(key) != value}
    assert changed <= {"data", "tokenizer", "output_dir", "max_steps", "ctc_steps", "save_steps"}
    demo, codes = rows["smollm2/demo"].recipe, rows["smollm2/codes"].recipe
    assert {key for key in demo if demo[key] != codes[key]} == {"motion_input", "output_dir"}
    assert codes["motion_input"] == AlignArguments.motion_input
    assert rows["smollm2/no-recombination"].recipe["data"] == "examples/asl_cafe"
    assert lslm_cli.main(["ablate", "--config", str(CAFE / "ablations" / "levers.yaml"), "--dry-run"]) == 0


def test_a_row_of_strangers_is_scored_on_whom_it_never_saw():
    config = ablate.read_config(CAFE / "ablations" / "strangers.yaml")
    rows = ablate.plan(config)
    ablate.check_recipes(config, rows)
    people = {row.of.rpartition("/")[2].removeprefix("tokenizer-") for row in rows}
    assert people == {"borisgraudt", "first-three", "tamtridung", "dmohazab"} and len(rows) == 8
    for row in rows:
        keys = ablate.scored(row, config)
        assert (
            keys["data"]
            == row.recipe["data"]
            == f"runs/strangers/without-{row.of.rpartition('/')[2].removeprefix('tokenizer-')}"
        )
        assert row.stage == "tokenizer" or row.parent.recipe["data"] == row.recipe["data"]
        assert row.stage == "tokenizer" or row.recipe["right_handed"] is True
        assert keys["split"] == "test" and keys["output"] == row.folder


def test_dry_run_lists_every_row_and_trains_none(matrix, capsys, tmp_path):
    assert lslm_cli.main(["ablate", "--config", matrix(), "--dry-run", "--seeds", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (4 + 2 * 9) + 1 and "44 rows, 0 finished" in lines[-1]
    assert any("codebook-1024 > llama/mlp > llama/staged  (Table 1, Table 3, Table 6)" in line for line in lines)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def cafe(tmp_path):
    """The first clips of each split of ASL Cafe as a data set folder."""
    (tmp_path / "cafe").mkdir()
    for split, count in (("train", 16), ("validation", 4), ("test", 3)):
        clips = next(parquet.ParquetFile(CAFE / "data" / f"{split}.parquet").iter_batches(count))
        parquet.write_table(pyarrow.Table.from_batches([clips]), tmp_path / "cafe" / f"{split}.parquet")
    return tmp_path / "cafe"


# one of each kind: codes as words, projector alone, language model alone, both, with an adapter and without
SOME_ROWS = ["codebook-256", "llama/motiongpt-joint", "llama/staged", "llama/mlp-llm", "qwen/joint-joint"]


def test_rows_of_every_kind_run_and_fill_the_tables(cafe, toy, backbones, tmp_path, capsys, monkeypatch):
    """The repository's matrix on real signing, a toy Llama in SmolLM2's place and the small Qwen2, two steps a row."""
    monkeypatch.setitem(motion_embedding.TRAINING, "steps", 2)
    monkeypatch.setattr(sys, "argv", ["tiny_qwen2.py", str(tmp_path / "tiny-qwen2"), "--data", str(cafe)])
    runpy.run_path(str(CAFE / "ablations" / "tiny_qwen2.py"), run_name="__main__")
    matrix = yaml.safe_load((CAFE / "ablations" / "matrix.yaml").read_text())
    short = SHORT | {"per_device_train_batch_size": 2, "augment": False}
    matrix |= {
        "data": str(cafe),
        "output_dir": str(tmp_path / "runs"),
        "seeds": [0],
        "backbones": backbones(llama=("smollm2-135m", toy / "llm"), qwen=("tiny-qwen2", tmp_path / "tiny-qwen2")),
        "budget": {stage: budget | short for stage, budget in matrix["budget"].items()},
    }
    for stage in ("align", "instruct"):
        matrix["evaluate"][stage] |= {"limit": 2}
    # too few clips for a k-means start of 2048 codes
    matrix["budget"]["tokenizer"] |= {"hidden_size": 16, "code_dim": 8, "codebook_warmup": 0.0, "limit": 8}
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(matrix, sort_keys=False))
    command = ["ablate", "--config", str(path), "--only", *SOME_ROWS]
    assert lslm_cli.main(command) == 0
    root = tmp_path / "runs"
    finished = {str(path.parent.relative_to(root / "seed-0")) for path in root.glob("seed-0/**/results.json")}
    parents = {"codebook-1024", "llama/motiongpt", "llama/mlp", "qwen/joint"}
    assert finished == {*SOME_ROWS} | parents == {row.of for row in ablate.plan(ablate.read_config(path), SOME_ROWS)}
    # every figure of the paper has one of ours before it, where the row was run
    filled = set()
    for table in ablate.read_config(path)["tables"]:
        stem = table["title"].partition(":")[0].lower().replace(" ", "_")
        with open(root / f"{stem}.csv") as file:
            for record in csv.DictReader(file):
                assert (record["mean"] != "") == (record["row"] in finished), record
                filled.add((record["row"], record["metric"], record["mean"]))
    assert finished <= {row for row, _, _ in filled} and (root / "tables.md").read_text().count("\n| ") >= 41
    results = json.loads((root / "seed-0/qwen/joint-joint/results.json").read_text())
    metrics, minutes = results["metrics"], (root / "seed-0/qwen/joint-joint/training_minutes").read_text()
    assert ("qwen/joint-joint", "bleu1", str(metrics["bleu1"])) in filled
    assert results["command"].endswith("--limit 2 --report_clips 0")
    # what a row costs stands beside what it gains
    assert metrics["training_minutes"] == pytest.approx(float(minutes), abs=0.006)
    assert 0 < metrics["training_minutes"] < 10 and 1 < metrics["parameters_m"] < 1000
    assert all(float(mean) >= 0 for row, metric, mean in filled if metric == "fid" and mean)
    assert (root / "figure_2.png").stat().st_size > 5000

    capsys.readouterr()
    assert lslm_cli.main(command) == 0  # nothing is done twice
    assert capsys.readouterr().out.count("finished before") == len(finished)


def test_recipes_lie_beside_the_matrix_or_come_with_the_package(matrix, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = matrix(backbones={"llama": "recipes/llama", "qwen": "qwen2.5-3b"})
    found = ablate.read_config(path)["backbones"]
    assert found == {"llama": str(tmp_path / "recipes" / "llama"), "qwen": str(ablate.RECIPES / "qwen2.5-3b")}
    rows = {row.of: row.recipe for row in ablate.plan(ablate.read_config(path))}
    assert rows["llama/mlp"]["backbone"].endswith("llm") and rows["qwen/mlp"]["backbone"].startswith("Qwen/")


def test_the_state_of_a_row_is_what_lies_in_its_folder(matrix, tmp_path, capsys):
    path = matrix(rows={name: {"stage": "tokenizer", "codebook_size": 8} for name in "abcdef"})
    folders = {name: tmp_path / "runs/seed-0" / name for name in "abcdef"}
    for name in "bcdef":
        folders[name].mkdir(parents=True)
        (folders[name] / "recipe.yaml").write_text("stage: tokenizer")
    for name in "cdef":
        (folders[name] / LOCK).touch()
    (folders["d"] / "checkpoint-2").mkdir()
    (folders["d"] / "checkpoint-2" / "trainer_state.json").write_text("{}")
    (folders["e"] / "model.safetensors").touch()
    command = ["ablate", "--config", path, "--dry-run"]
    with locked(folders["f"] / LOCK, folders["f"], "run"):
        assert lslm_cli.main(command) == 0
    states = [line.split("  ")[0].partition(" seed")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert states[:6] == ["to do", "to do", "begun", "interrupted", "trained", "running"]


def test_a_failed_row_takes_its_children_along_and_no_others(matrix, capfd, tmp_path):
    rows = {
        "codes": {"stage": "tokenizer", "codebook_size": 16},
        "broken": {"stage": "align", "from": "codes", "trainable": ["projectile"]},
        "child": {"stage": "instruct", "from": "broken"},
        "good": {"stage": "align", "from": "codes", "trainable": ["projector"]},
    }
    path = matrix(rows=rows, backbones={"llama": str(tmp_path / "recipes/llama")})
    assert lslm_cli.main(["ablate", "--config", path]) == 1
    out, error = capfd.readouterr()
    assert "llama/child, seed 0: left out, llama/broken failed" in out
    assert "2 of 4 rows failed: llama/broken, llama/child" in error and "expected some of projector" in error
    assert (tmp_path / "runs/seed-0/llama/good/results.json").is_file()


def test_a_row_of_which_only_results_were_kept_is_trained_again_for_its_children(matrix, tmp_path, capsys):
    rows = {
        "codes": {"stage": "tokenizer", "codebook_size": 16},
        "mlp": {"stage": "align", "from": "codes", "trainable": ["projector"]},
        "other": {"stage": "align", "from": "codes", "trainable": ["projector"]},
        "staged": {"stage": "align", "from": "mlp", "trainable": ["language_model"]},
    }
    path = matrix(rows=rows, backbones={"llama": str(tmp_path / "recipes/llama")})
    assert lslm_cli.main(["ablate", "--config", path]) == 0
    runs = tmp_path / "runs/seed-0"
    before = {name: (runs / name / "model.safetensors").read_bytes() for name in ("codes", "llama/mlp", "llama/staged")}
    for file in [*runs.rglob("*.json"), *runs.rglob("*.safetensors")]:
        if file.name != "results.json" or "staged" in str(file):
            file.unlink()
    capsys.readouterr()
    assert lslm_cli.main(["ablate", "--config", path]) == 0
    out = capsys.readouterr().out
    assert "llama/other, seed 0: finished before" in out and "llama/mlp, seed 0: align" in out
    assert {name: (runs / name / "model.safetensors").read_bytes() for name in before} == before


def test_one_file_keeps_the_results_of_all_rows(matrix, tmp_path, capsys):
    rows = {"codes": {"stage": "tokenizer", "codebook_size": 16}}
    assert lslm_cli.main(["ablate", "--config", matrix(rows=rows)]) == 0
    runs = tmp_path / "runs"
    folder = runs / "seed-0" / "codes"
    kept, recipe, results = (runs / "results.jsonl", folder / "recipe.yaml", folder / "results.json")
    (line,) = ablate.read_results(kept).values()
    assert (line["row"], line["seed"]) == ("codes", 0) and line["results"] == json.loads(results.read_text())
    before = [file.read_bytes() for file in (kept, recipe, results)]
    shutil.rmtree(runs / "seed-0")
    capsys.readouterr()
    assert lslm_cli.main(["ablate", "--config", matrix(rows=rows)]) == 0
    assert "codes, seed 0: finished before" in capsys.readouterr().out
    assert [file.read_bytes() for file in (kept, recipe, results)] == before
    assert not (folder / "config.json").exists()
    # a row removed to begin anew does not come back, and seeds that are not asked for keep their lines
    shutil.rmtree(folder)
    assert lslm_cli.main(["ablate", "--config", matrix(rows=rows), "--dry-run"]) == 0
    assert "0 finished" in capsys.readouterr().out
    ablate.write_results(ablate.read_config(matrix(rows=rows), seeds=[5]))
    assert ("codes", 0) in ablate.read_results(kept)


def test_a_row_is_not_continued_with_other_settings(matrix, tmp_path, capsys):
    rows = {"codes": {"stage": "tokenizer", "codebook_size": 16}}
    assert lslm_cli.main(["ablate", "--config", matrix(rows=rows)]) == 0
    rows["codes"]["codebook_size"] = 8
    assert lslm_cli.main(["ablate", "--config", matrix(rows=rows)]) == 2
    assert "other settings of codebook_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"row": {}}, "unknown key 'row'"),
        ({"rows": {"a": {"stage": "translate"}}}, "expected tokenizer, align, instruct"),
        ({"rows": {"a": {"stage": "align", "from": "b"}}}, "an earlier row"),
        ({"rows": {"a": {"stage": "align"}}}, "an earlier row"),
        ({"rows": {"a": {"stage": "align", "from": "a"}}}, "an earlier row"),
        ({"rows": {"a": {"stage": "tokenizer", "from": "a"}}}, "an earlier row"),
        ({"rows": {"a": {"stage": "tokenizer", "codebok_size": 16}}}, "did you mean codebook_size"),
        ({"budget": {"tokenizer": {"partwise": True}}}, "give it partwise: false"),
        ({"backbones": {"llama": "nowhere"}}, "nowhere"),
        (
            {"evaluate": {"aline": {"limit": 80}}},
            "evaluate: unknown stage 'aline'; there are tokenizer, al",
        ),
        ({"budget": {"aline": {"limit": 80}}}, "budget: unknown stage 'aline'"),
        (
            {"tables": [{"title": "T", "head": ["a"], "metrics": {}, "rows": [{"of": "mlp", "name": ["x"]}]}]},
            "'T': no row 'mlp'; there are codebook-1024",
        ),
        ({"evaluate": {"align": ["--limit", "80"]}}, "expected keys of `lslm evaluate` such as {limit: 80}, got ['--"),
        ({"evaluate": {"align": {"limt": 80}}}, "evaluate: align: unknown key 'limt'; did you mean limit?"),
        ({"evaluate": {"align": {"limit": "many"}}}, "many"),
    ],
)
def test_a_wrong_matrix_is_one_line(matrix, capsys, keys, said):
    assert lslm_cli.main(["ablate", "--config", matrix(**keys), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_only_takes_along_what_a_row_goes_on_from(matrix):
    config = ablate.read_config(matrix())
    assert [row.of for row in ablate.plan(config, ["qwen/mlp-llm"])] == ["codebook-1024", "qwen/mlp", "qwen/mlp-llm"]
    with pytest.raises(ValueError, match="no row 'mlp'; there are .*llama/mlp"):
        ablate.plan(config, ["mlp"])


def test_intervals_are_those_of_student():
    """1, 2, 3: mean 2, standard deviation 1, t = 4.30 with two degrees of freedom."""
    mean, half, count = ablate.summary([{"wer": value} for value in (1.0, 2.0, 3.0)], {"wer": "WER"})["wer"]
    assert (mean, count) == (2.0, 3) and half == pytest.approx(4.30 / 3**0.5)
    assert ablate.cell((2.0, half, 3), 5.0) == "2.0 ± 2.5 (5)" and ablate.cell(None, None) == "–"
