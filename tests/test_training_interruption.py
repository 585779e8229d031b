"""Training that is watched and interrupted: scores on validation, the best checkpoint, early stopping, signals, and
what a machine without room says."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import lslm_cli
import pytest
from lslm_cli.errors import report
from safetensors.torch import load_file
from test_training import differing, weights
from training_fixtures import TOY_INSTRUCT, TOY_VQVAE, read_jsonl, recipe
from transformers import TrainerCallback

from lslm.training import ablate
from lslm.training.recipe import parse
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.tokenizer import TokenizerArguments
from lslm.training.stages.translation import TranslationTrainer

pytest_plugins = ["training_fixtures"]
EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}


def state_of(folder: Path) -> dict:
    return json.loads((folder / "trainer_state.json").read_text())


def evaluations(folder: Path) -> list[dict]:
    return [entry for entry in state_of(folder)["log_history"] if "eval_loss" in entry]


# --- scores on validation, the best checkpoint, early stopping --------------------------------------------------------


def test_the_scores_while_training_are_those_of_evaluate(toy, toy_model, tmp_path):
    flags = {"data": toy / "set", "model": toy_model, "output_dir": tmp_path / "run", "max_steps": 2}
    flags |= EVALUATED | {"learning_rate": 0.0, "eval_translations": 9}
    flags |= {"templates": _the_prompt_of(toy_model, tmp_path)}
    assert lslm_cli.main(["instruct", *recipe(**TOY_INSTRUCT | flags)]) == 0
    where = {"data": toy / "set", "split": "validation", "model": toy_model, "output": tmp_path / "scores"}
    assert lslm_cli.main(["evaluate", *recipe(**where, report_clips=0)]) == 0
    expected = json.loads((tmp_path / "scores" / "results.json").read_text())["metrics"]
    (scores,) = evaluations(tmp_path / "run")
    assert scores["eval_utterances"] == 2 and scores["eval_wer"] > 0
    for name in ("bleu1", "bleu4", "chrf", "wer"):
        assert scores[f"eval_{name}"] == expected[name], name
    predictions = [row["prediction"] for row in read_jsonl(tmp_path / "scores" / "predictions.jsonl")]
    assert [sample["prediction"] for sample in read_jsonl(tmp_path / "run" / "samples.jsonl")] == predictions


def _the_prompt_of(model: Path, folder: Path) -> Path:
    """A file of templates with the prompt that the model was trained with."""
    prompt = json.loads((model / "processor_config.json").read_text())["prompt"]
    templates = {"translate": {"it": {"input": [prompt.replace("<motion>", "<Motion_Placeholder>")]}}}
    (folder / "templates.json").write_text(json.dumps(templates))
    return folder / "templates.json"


class Killed(Exception):
    pass


@pytest.fixture
def scored_run(toy_align, tmp_path, monkeypatch):
    """`lslm align` whose WER is best after step 4, in FOLDER, maybe killed at a step."""
    wer = {2: 90.0, 4: 50.0, 6: 60.0, 8: 50.0, 10: 40.0}
    monkeypatch.setattr(TranslationTrainer, "translate_some", lambda self: {"wer": wer[self.state.global_step]})

    def run(folder: str = "run", killed_at: int | None = None, **flags) -> int:
        class Kill(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == killed_at:
                    raise Killed

        monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*DEFAULT_CALLBACKS, Kill])
        flags = EVALUATED | {"metric_for_best_model": "wer", "eval_translations": 2, "max_steps": 10} | flags
        flags |= {"output_dir": tmp_path / folder, "save_total_limit": 2}
        return lslm_cli.main(["align", *recipe(**toy_align | flags)])

    from transformers.trainer import DEFAULT_CALLBACKS

    return run


@pytest.mark.parametrize("lora_r", [0, 2], ids=["whole", "lora"])
def test_early_stopping_keeps_the_best_wer_also_of_a_run_that_was_killed_and_moved(
    scored_run, tmp_path, lora_r, capsys
):
    flags = {"early_stopping_patience": 2, "lora_r": lora_r}
    assert scored_run("whole", **flags) == 0
    state, best = state_of(tmp_path / "whole"), weights(tmp_path / "whole")
    assert (state["global_step"], state["best_global_step"], state["best_metric"]) == (8, 4, 50.0)
    assert differing(best, load_file(tmp_path / "whole" / "checkpoint-4" / "model.safetensors")) == set()
    assert differing(best, load_file(tmp_path / "whole" / "checkpoint-8" / "model.safetensors")) != set()

    assert scored_run("run", killed_at=7, **flags) == 1
    (tmp_path / "run").rename(tmp_path / "moved")
    capsys.readouterr()
    assert scored_run("moved", **flags) == 0
    output, error = capsys.readouterr()
    assert f"going on from {tmp_path / 'moved' / 'checkpoint-6'}\n" in output
    assert f"{tmp_path / 'moved'}: trained for 8 steps; kept: step 4, wer 50\n" in output
    assert "missing keys" not in error and "does not exist" not in error
    assert differing(best, weights(tmp_path / "moved")) == set()
    assert state_of(tmp_path / "moved")["global_step"] == 8


def test_a_run_whose_best_checkpoint_is_gone_says_so_and_goes_on(scored_run, tmp_path, capsys):
    assert scored_run(killed_at=7, load_best_model_at_end="true") == 1
    (tmp_path / "run" / "checkpoint-4" / "optimizer.pt").unlink()
    assert scored_run(load_best_model_at_end="true") == 0
    assert "checkpoint-4, the best so far, cannot be loaded (no optimizer)" in capsys.readouterr().out
    assert state_of(tmp_path / "run")["best_global_step"] == 10


def test_no_sign_tokenizer_is_the_best_before_its_codebook_has_started(toy, tmp_path):
    flags = TOY_VQVAE | EVALUATED | {"data": toy / "set", "output_dir": tmp_path, "max_steps": 8, "quantizer": "ema"}
    flags |= {"codebook_warmup": 0.5, "load_best_model_at_end": "true", "commitment_weight": 10.0}
    assert lslm_cli.main(["tokenizer", *recipe(**flags)]) == 0
    losses = {entry["step"]: entry["eval_loss"] for entry in evaluations(tmp_path)}
    assert losses[4] < losses[8]  # of latents that were not rounded yet
    assert state_of(tmp_path)["best_global_step"] in (6, 8) and weights(tmp_path)["codebook.started"]


@pytest.mark.parametrize(
    ("stage", "flags", "message"),
    [
        (AlignArguments, {"metric_for_best_model": "wer"}, "of how many validation clips. Say eval_translations"),
        (AlignArguments, {"metric_for_best_model": "bleu"}, "no 'bleu' here; there are loss, bleu1, bleu4, chrf, wer"),
        (TokenizerArguments, {"metric_for_best_model": "eval_wer"}, "no 'wer' here; there are loss"),
        (
            AlignArguments,
            {"metric_for_best_model": "wer", "greater_is_better": "true", "eval_translations": 2},
            "greater_is_better: wer is better the lower",
        ),
        (TokenizerArguments, {"early_stopping_patience": 2}, "needs eval_strategy"),
        (TokenizerArguments, {"report_to": "clearml"}, "clearml is not installed; run: pip install clearml"),
    ],
    ids=["wer of nothing", "unknown", "of a tokenizer", "the wrong way", "no evaluation", "not installed"],
)
def test_what_cannot_choose_the_best_is_refused_before_data_is_read(tmp_path, stage, flags, message):
    with pytest.raises(ValueError, match=message):
        parse(stage, recipe(output_dir=tmp_path, **flags), "lslm test")


# --- signals ----------------------------------------------------------------------------------------------------------


def wait_for(text: str, process, commands) -> None:
    deadline = time.time() + 120
    while not (commands.log.is_file() and text in commands.log.read_text()):
        assert time.time() < deadline and process.exitcode is None, commands.log.read_text()[-3000:]
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.is_file() else []


@pytest.mark.parametrize(
    ("stage", "signum", "code"),
    [("tokenizer", signal.SIGINT, 130), ("align", signal.SIGTERM, 143)],
    ids=["tokenizer, Ctrl-C", "align, SIGTERM"],
)
def test_a_signal_saves_and_the_same_command_ends_with_the_same_weights(
    toy, toy_align, commands, tmp_path, stage, signum, code
):
    """As from a terminal or a queue, which signal the processes that read as well."""
    settings = {
        "tokenizer": TOY_VQVAE | {"data": toy / "set", "quantizer": "ema", "codebook_warmup": 0.3},
        "align": toy_align | {"eval_translations": 2, "eval_strategy": "epoch"},  # the language model as a whole
    }

    steps = {"tokenizer": 60, "align": 20}[stage]  # the slower ones are fewer

    def command(folder: str) -> list[str]:
        flags = {"output_dir": tmp_path / folder, "max_steps": steps, "logging_steps": 1, "dataloader_num_workers": 1}
        return [stage, *recipe(**settings[stage] | flags | {"dataloader_persistent_workers": "true"})]

    process = commands.start(command("stopped"))
    wait_for("'loss'", process, commands)
    for pid in [*children(process.pid), process.pid]:
        os.kill(pid, signum)
    process.join(60)
    log = commands.log.read_text()
    assert process.exitcode == code, log[-3000:]
    (checkpoint,) = (tmp_path / "stopped").glob("checkpoint-*")
    step = int(checkpoint.name.partition("-")[2])
    assert 0 < step < steps and not (tmp_path / "stopped" / "model.safetensors").exists()
    line = f"lslm: stopped after step {step} of {steps}, saved in {checkpoint}; to go on, give the same command again"
    assert log.splitlines()[-1] == line and "Traceback" not in log

    commands.run(command("stopped"))
    assert f"going on from {checkpoint}" in commands.log.read_text()
    commands.run(command("whole"))
    assert differing(weights(tmp_path / "whole"), weights(tmp_path / "stopped")) == set()
    if stage == "align":
        samples = [read_jsonl(tmp_path / folder / "samples.jsonl") for folder in ("whole", "stopped")]
        assert samples[0] == samples[1] and len(evaluations(tmp_path / "whole")) == 10


def test_a_second_ctrl_c_ends_at_once(toy, commands, tmp_path):
    flags = TOY_VQVAE | {"data": toy / "set", "output_dir": tmp_path, "max_steps": 4}
    process = commands.start(["tokenizer", *recipe(**flags)], hold_at=2)
    while not commands.holding.exists():
        assert process.exitcode is None, commands.log.read_text()[-3000:]
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    wait_for("Ctrl-C again ends at once", process, commands)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == -signal.SIGINT and not list(tmp_path.glob("checkpoint-*"))
    assert "Traceback" not in commands.log.read_text()


def test_ctrl_c_before_the_training_is_one_line(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("lslm.training.stages.tokenizer.main", interrupt)
    assert lslm_cli.main(["tokenizer", "--data", "x"]) == 130 and capsys.readouterr().err == "lslm: interrupted\n"


def test_an_interrupted_row_is_not_one_that_failed(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit $3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert ablate._lslm(["2"]) == 2
    for code in ("130", "143"):
        with pytest.raises(KeyboardInterrupt):
            ablate._lslm([code])


# --- what a machine without room says ---------------------------------------------------------------------------------


def test_a_reader_that_is_killed_is_one_line(toy, commands, tmp_path):
    flags = {"data": toy / "set", "output_dir": tmp_path, "max_steps": 4, "dataloader_num_workers": 1}
    process = commands.start(["tokenizer", *recipe(**TOY_VQVAE | flags)], hold_at=2)
    while not commands.holding.exists():
        assert process.exitcode is None, commands.log.read_text()[-3000:]
        time.sleep(0.005)
    if not (readers := children(process.pid)):
        process.kill()
        pytest.skip("needs /proc")
    os.kill(readers[0], signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 2
    assert commands.log.read_text().splitlines()[-1].startswith("lslm: a data loader worker ended: most often memory")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "a data loader worker ended"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "a data loader worker ended"),
        (RuntimeError("unable to write to file </torch_7_8_9>: No space left on device (28)"), "a data loader worker"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "a.py", line 1, in f\nValueError: clip x has no hands\n'
            ),
            "clip x has no hands",
        ),
    ],
    ids=["gone", "killed", "shm", "reader"],
)
def test_a_full_machine_is_one_line(error, line, capsys):
    assert report(error) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"lslm: {line}") and message.count("\n") == 1 and "Traceback" not in message
