"""Giving a stage again, in every way people do: no trained weight is lost, and stages.yaml says what happened."""

import json
import os
import resource
import shutil
import time
from pathlib import Path

import lslm_cli
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_fixtures import FPS, TOY_INSTRUCT, TOY_VQVAE, recipe, write_data

from lslm.training import record
from lslm.training.dataset.motion_text import MotionText
from lslm.training.locks import locked
from lslm.training.recipe import plain
from lslm.training.recipe_keys import KEYS
from lslm.training.stages import resume
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.instruct import InstructArguments
from lslm.training.stages.tokenizer import TokenizerArguments

pytest_plugins = ["training_fixtures"]
CLIP = Path(__file__).parents[1] / "examples" / "asl_cafe" / "clips" / "test-0000.npz"
STAGES = (TokenizerArguments, AlignArguments, InstructArguments)


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory) -> Path:
    """A folder with set/, a data set of its own, and run/, a sign tokenizer of 4 steps with checkpoints 2 and 4."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(toy / "set", folder / "set")
    assert give(folder) == 0
    return folder


def give(folder: Path, *words: str, **flags) -> int:
    """Run the command of the fixture in its copy `folder`, with other flags."""
    return lslm_cli.main([*command(folder, **flags), *words])


def command(folder: Path, relative: bool = False, **flags) -> list[str]:
    places = {"data": folder / "set", "output_dir": folder / "run"}
    if relative:
        places = {key: os.path.relpath(place) for key, place in places.items()}
    flags = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1, "quantizer": "ema"} | flags
    return ["tokenizer", *recipe(**TOY_VQVAE | places | flags)]


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A copy of `finished`."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def kill(folder: Path) -> None:
    """Leave of the run what a kill after step 3 leaves."""
    shutil.rmtree(folder / "run" / "checkpoint-4")
    for path in (folder / "run").iterdir():
        if path.is_file():
            path.unlink()


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != resume.LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def same(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "run" / "model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def assert_true(folder: Path) -> None:
    """stages.yaml beside all weights in `folder` says what the Trainer that wrote them was told, and what it read."""
    places = [path.parent for path in folder.rglob("model.safetensors")]
    assert places
    for place in places:
        stage = yaml.safe_load((place / "stages.yaml").read_text())["tokenizer"]
        args = torch.load(place / "training_args.bin", weights_only=False)
        told = {name: value for name, value in stage.items() if name != "used" and not name.startswith("until_step_")}
        assert told == {name: plain(getattr(args, name)) for name in told} and "resume_with_changes" not in told
        assert {"learning_rate", "data", "max_steps", "quantizer"} <= told.keys()
        del args.used
        assert stage["used"] == record.used(args) and stage["used"]["clips_per_step"] == 3


LEFT_ALONE = {
    # how it is given again: flags, words of the message
    "finished": ({}, ["finished, and left as it is"]),
    "finished, looked at otherwise": ({"logging_steps": 2, "save_total_limit": 1, "run_name": "b"}, ["left as it is"]),
    "finished, other flag": (
        {"learning_rate": 1e-3, "max_steps": 6},
        ["learning_rate 0.003 -> 0.001, max_steps 4 -> 6", "name another output_dir", "--resume-with-changes and more"],
    ),
    "finished, other seed": ({"seed": 1}, ["seed 42 -> 1"]),
    "finished, twice the clips": ({"gradient_accumulation_steps": 2}, ["clips_per_step 3 -> 6"]),
    "finished, other data": ({}, ["data ", "(", ") -> "]),
    "finished, other network": ({"partwise": "true"}, ["cannot go on with another partwise: name another output_dir"]),
    "finished, changes without steps": ({"learning_rate": 1e-3, "resume_with_changes": "true"}, ["give more steps"]),
    "killed, other flag": ({"weight_decay": 0.1}, ["holds a run", "weight_decay 0.0 -> 0.1", "--resume-with-changes"]),
    "killed, other data": ({}, ["holds a run", "data "]),
}


@pytest.mark.parametrize("way", LEFT_ALONE)
def test_what_was_trained_is_left_as_it_was(folder, capsys, way):
    flags, words = LEFT_ALONE[way]
    if way.startswith("killed"):
        kill(folder)
    assert_true(folder)
    if "data" in way:  # in the same place
        shutil.rmtree(folder / "set")
        write_data(folder / "set", ("train",))
        shutil.copy(folder / "set/data/train.parquet", folder / "set/data/train-2.parquet")
    before = content(folder)
    capsys.readouterr()
    assert give(folder, **flags) == (0 if "left as it is" in words[0] else 2)
    out, error = capsys.readouterr()
    line = (error if error else out).strip().splitlines()[-1]
    assert all(word in line for word in words) and len(line) < 700, line
    assert error.count("\n") <= 1 and content(folder) == before


def test_a_killed_run_ends_as_a_whole_one_also_from_elsewhere(folder, finished, monkeypatch):
    kill(folder)
    monkeypatch.chdir(folder / "set" / "data")
    assert give(folder, relative=True, save_total_limit=3) == 0
    assert same(folder, finished)
    assert "until_step_2" not in (folder / "run/stages.yaml").read_text()  # nothing that matters has changed


def test_a_damaged_last_checkpoint_is_passed_over(folder, finished, capsys):
    shutil.copytree(folder / "run", folder / "whole")
    kill(folder)
    shutil.copytree(folder / "whole/checkpoint-4", folder / "run/checkpoint-4")
    os.truncate(folder / "run/checkpoint-4/optimizer.pt", 100)
    assert give(folder) == 0 and "going on from" in capsys.readouterr().out
    assert same(folder, finished)
    assert_true(folder)


def test_another_folder_is_another_run(folder):
    before = content(folder / "run")
    assert give(folder, output_dir=folder / "other", learning_rate=1e-3) == 0
    assert content(folder / "run") == before
    assert_true(folder)


def test_a_folder_in_use_is_refused(folder, capsys):
    kill(folder)
    before = content(folder)
    with locked(folder / "run" / resume.LOCK, folder / "run", "run"):
        assert give(folder) == 2
    assert f"another run writes to {folder}/run (process {os.getpid()} on " in capsys.readouterr().err
    assert content(folder) == before and give(folder) == 0  # a lock that nobody holds any more


def test_a_second_process_is_refused_and_the_first_loses_nothing(folder, finished, commands):
    kill(folder)
    first, holding = commands.start(command(folder), hold_at=3), commands.holding
    while not holding.exists():
        assert first.is_alive()
        time.sleep(0.01)
    before = content(folder)
    second, log = commands.start(command(folder), LSLM_DEBUG=""), commands.log
    second.join(60)
    assert second.exitcode == 2 and content(folder) == before
    (line,) = log.read_text().splitlines()
    assert f"another run writes to {folder}/run (process {first.pid} on " in line and "wait for its end" in line
    first.kill()
    first.join()
    commands.run(command(folder))
    assert same(folder, finished)


def test_of_two_at_the_same_moment_one_trains(folder, finished, commands):
    kill(folder)
    started = [(commands.start(command(folder), LSLM_DEBUG=""), commands.log) for _ in range(2)]
    ends = []
    for process, log in started:
        process.join(60)
        ends.append((process.exitcode, log.read_text()))
    trained = [log for code, log in ends if code == 0 and "trained for 4 steps" in log]
    other = [log for code, log in ends if (code == 2 and "another run writes" in log) or "left as it is" in log]
    assert len(trained) == len(other) == 1, ends
    assert same(folder, finished)


def test_several_processes_are_refused_as_one_is(folder, commands):
    before = content(folder)
    started = [(commands.start(command(folder), LSLM_DEBUG="", **rank), commands.log) for rank in commands.ranks(2)]
    for process, _ in started:
        process.join(60)
        assert process.exitcode == 2
    logs = [log.read_text() for _, log in started]
    assert "clips_per_step 3 -> 6" in logs[0] and "Traceback" not in "".join(logs) and logs[0].count("lslm: ") == 1
    assert "lslm: " not in logs[1] and content(folder) == before


def test_changes_are_made_when_they_are_asked_for_and_recorded(folder, capsys):
    more = {"max_steps": 6, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    assert give(folder, "--resume-with-changes", **more) == 0
    stage = yaml.safe_load((folder / "run/stages.yaml").read_text())["tokenizer"]
    assert stage["until_step_4"] == {"learning_rate": 0.003, "max_steps": 4, "lr_scheduler_type": "linear"}
    assert_true(folder / "run/checkpoint-6")
    logged = {entry["step"]: entry["learning_rate"] for entry in history(folder / "run") if "learning_rate" in entry}
    assert logged[5] == logged[6] == 1e-3 and logged[1] == 3e-3  # not what the optimizer's checkpoint has
    before = content(folder)
    assert give(folder, **more) == 0 and content(folder) == before  # now this is what is finished


def history(folder: Path) -> list[dict]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def test_a_finished_model_is_there_until_the_next_one_is_whole(folder, finished, monkeypatch, capsys):
    """The disk is full; then the run is killed while it puts its model in place, and before that."""
    before = content(folder / "run")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:  # where data are read for the first time, and where a checkpoint is saved
        assert give(folder, "--resume-with-changes", max_steps=6) == 2
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        MotionText(str(folder / "set"), "train", FPS)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
        assert give(folder, "--resume-with-changes", max_steps=6) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lslm: ")]
    assert len(lines) == 2
    for line in lines:
        assert "is full (" in line and "What was saved before is whole: make room" in line
    assert (folder / "run" / "checkpoint-6").is_dir()  # begun
    now = content(folder / "run")
    assert {name: now[name] for name in before} == before and not (folder / "run" / resume.SAVING).exists()

    replace, replaced = Path.replace, []

    def killed(path, target):
        if path.parent.name == resume.SAVING and path.suffix != ".partial":
            replaced.append(path.name)
            if len(replaced) == 3:
                raise SystemExit(9)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        give(folder, "--resume-with-changes", max_steps=6)
    monkeypatch.undo()
    assert len(replaced) == 3
    assert give(folder, max_steps=6) == 0
    assert "finished, and left as it is" in capsys.readouterr().out and not same(folder, finished)
    assert_true(folder)
    assert not (folder / "run" / resume.SAVING).exists()


def test_a_run_that_went_on_from_a_finished_one_and_was_killed_goes_on(folder, finished):
    assert give(folder, "--resume-with-changes", max_steps=8) == 0
    shutil.copytree(folder, folder.with_name("killed"))
    killed = folder.with_name("killed")
    shutil.rmtree(killed / "run")
    shutil.copytree(finished / "run", killed / "run")
    shutil.copytree(folder / "run/checkpoint-6", killed / "run/checkpoint-6")
    assert give(killed) == 0 and same(killed, finished)  # the recipe of the one that is finished
    assert give(killed, max_steps=8) == 0 and same(killed, folder)
    stage = yaml.safe_load((killed / "run/stages.yaml").read_text())["tokenizer"]
    assert stage["until_step_4"] == {"max_steps": 4} and "until_step_6" not in stage


def test_a_folder_of_something_else_is_refused(toy, toy_tokenizer, toy_align, toy_aligned, tmp_path, capsys):
    """As another stage, into a folder that is read, over a model of others, with other parts."""
    shutil.copytree(toy_tokenizer, tmp_path / "tokenizer")
    shutil.copytree(toy_aligned, tmp_path / "align")
    shutil.copytree(toy / "llm", tmp_path / "llm")
    before = content(tmp_path)
    align = toy_align | {"max_steps": 2, "lora_r": 4, "projector_learning_rate": 1e-2}
    instruct = TOY_INSTRUCT | {"data": toy / "set", "model": tmp_path / "align", "max_steps": 1}
    for stage, flags, words in (
        ("align", align | {"output_dir": tmp_path / "tokenizer"}, "is of `lslm tokenizer`: name another output_dir"),
        ("instruct", instruct | {"output_dir": tmp_path / "align"}, "output_dir is the folder of model"),
        ("instruct", instruct | {"output_dir": tmp_path / "tokenizer"}, "is of `lslm tokenizer`"),
        ("align", align | {"output_dir": toy_tokenizer}, "output_dir is the folder of tokenizer"),
        ("align", align | {"output_dir": tmp_path / "llm"}, "no stages.yaml says of which stage it is"),
        ("align", align | {"output_dir": tmp_path / "align", "trainable": "projector"}, "go on with another trainable"),
        ("align", align | {"output_dir": tmp_path / "align", "lora_r": 2}, "lora_r 4 -> 2"),
        ("align", align | {"output_dir": tmp_path / "align", "backbone": toy / "qwen2"}, "backbone "),
    ):
        assert lslm_cli.main([stage, *recipe(**flags)]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    assert lslm_cli.main(["align", *recipe(**align | {"output_dir": tmp_path / "align"})]) == 0
    assert content(tmp_path) == before


def test_the_keys_that_pass_and_the_keys_that_never_do_are_keys():
    names = {name for stage in STAGES for name in stage.__dataclass_fields__}
    assert names >= record.FIXED | resume.RATES | set(record.PARENTS) | set(record.CLIPS_PER_STEP)
    passing = {name for name in names if record.PASSING.fullmatch(name)}
    ours = {name for keys in KEYS.values() for name in keys.__dataclass_fields__} - {"output_dir"}
    assert passing & ours == {"resume_with_changes", "dry_run", "eval_translations"}  # the rest shapes the model
    assert not passing & (record.FIXED | resume.RATES | {"data", "seed", "bf16", "max_steps", "dataloader_drop_last"})
    assert {"logging_steps", "save_steps", "report_to", "dataloader_num_workers", "eval_steps", "hub_token"} <= passing


@pytest.mark.parametrize("what", ["nothing", "begun", "checkpoint", "tokenizer", "llama"])
def test_what_is_no_model_of_the_stage_is_named(toy, toy_tokenizer, toy_aligned, tmp_path, capsys, what):
    """A stage that was not run, was refused, was killed; or is the wrong one."""
    place = tmp_path / what
    if what in ("begun", "checkpoint"):
        (place / "_lock").mkdir(parents=True)
    if what == "checkpoint":
        shutil.copytree(toy_aligned, place / "checkpoint-20")
    place = {"tokenizer": toy_tokenizer, "llama": toy / "llm"}.get(what, place)
    said = {
        "nothing": f"no model at {place}: no such folder here, and none on the Hub (",
        "begun": f"no model in {place}, which has no config.json: expected",
        "checkpoint": f"its last checkpoint is {place}/checkpoint-20",
        "tokenizer": f"{place} is a sign tokenizer, of lslm tokenizer: expected a model that translates, of lslm align",
        "llama": f"{place} is a model of type llama: expected",
    }[what]
    out = ["--output_dir", str(tmp_path / "out"), "--data", str(toy / "set")]
    own = [*out, "--model", str(place)]
    commands = [["align", *own], ["instruct", *own, "--dry_run", "true"], ["instruct", *own]]
    commands += [["translate", str(CLIP), "--model", str(place)], ["export", str(place), str(tmp_path / "export")]]
    commands += [["adapt", "--takes", str(toy), "--output", str(tmp_path / "me"), "--model", str(place)]]
    if what != "tokenizer":
        begun = ["align", *out, "--tokenizer", str(place), "--backbone", str(toy / "llm")]
        commands += [begun, [*begun, "--dry_run", "true"]]
        commands += [
            [
                "evaluate",
                "--data",
                str(toy / "set"),
                "--model",
                str(place),
                "--output",
                str(tmp_path / "s"),
                "--split",
                "test",
            ]
        ]
    for command in commands:
        assert lslm_cli.main(command) == 2, command
        lines = capsys.readouterr().err.strip().split("\n")
        assert lines[-1].startswith("lslm: ") and said in lines[-1], (command, lines)
    assert not list(tmp_path.glob("**/model.safetensors")) or what == "checkpoint"
