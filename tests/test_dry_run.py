"""`--dry_run true`: what a stage is said to need is what it takes, and nothing is written. `--dtype bfloat16`: what is
frozen is halved, what trains is not."""

import contextlib
import json
import shutil
from pathlib import Path

import lslm_cli
import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from training_fixtures import TOY_INSTRUCT, TOY_VQVAE, recipe

from lslm.modeling_lslm import LslmForConditionalGeneration
from lslm.training.stages import dry_run

pytest_plugins = ["training_fixtures"]


@pytest.fixture
def needs(monkeypatch):
    """What the last dry run predicted."""
    predicted = []
    report = dry_run.report
    monkeypatch.setattr(dry_run, "report", lambda args, needs: predicted.append(needs) or report(args, needs))
    return predicted


def without_weights(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors", "checkpoint-*", "*.bin")))


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def check(needs: dry_run.Needs, out: Path) -> None:
    """Of a run that saved a checkpoint at its end."""
    state = json.loads((out / "trainer_state.json").read_text())
    checkpoint = out / f"checkpoint-{state['global_step']}"
    assert needs.steps[1] == state["global_step"]
    for folder in (out, checkpoint):
        assert needs.model == pytest.approx((folder / "model.safetensors").stat().st_size, rel=0.01)
    saved = [
        tensor
        for moments in torch.load(checkpoint / "optimizer.pt")["state"].values()
        for tensor in (moments["exp_avg"], moments["exp_avg_sq"])
    ]
    assert needs.optimizer == sum(tensor.numel() * 4 for tensor in saved)


SAVED = {"save_strategy": "epoch", "num_train_epochs": 2, "logging_steps": 1}
SCHEMES = {
    "projector": {"trainable": ["projector"], "max_length": 40},
    "adapter": {"trainable": ["projector", "language_model"], "lora_r": 4, "dtype": "bfloat16", "bf16": "true"},
    "language model": {"trainable": ["language_model"]},
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_alignment_takes_what_its_dry_run_says(toy, toy_tokenizer, toy_align, tmp_path, needs, capsys, scheme):
    flags = toy_align | SAVED | {"output_dir": tmp_path / "run", "per_device_train_batch_size": 3} | SCHEMES[scheme]
    bare = {
        "backbone": without_weights(toy / "llm", tmp_path / "llm"),
        "tokenizer": without_weights(toy_tokenizer, tmp_path / "tokenizer"),
    }
    before = files(tmp_path)
    assert lslm_cli.main(["align", *recipe(**flags | bare | {"dry_run": "true"})]) == 0
    assert files(tmp_path) == before
    said = capsys.readouterr().out
    assert "nothing is trained or written" in said and "computed, not measured" in said
    assert lslm_cli.main(["align", *recipe(**flags)]) == 0
    check(needs[0], tmp_path / "run")
    assert f"{needs[0].left_out} of 8 clips longer" in capsys.readouterr().out or not needs[0].left_out
    assert needs[0].whole == (scheme == "language model") and len(needs) == 1


def test_the_other_stages_take_what_their_dry_run_says(toy, toy_aligned, tmp_path, needs):
    instruct = TOY_INSTRUCT | SAVED | {"data": toy / "set", "model": toy_aligned, "output_dir": tmp_path / "instruct"}
    tokenizer = TOY_VQVAE | SAVED | {"data": toy / "set", "output_dir": tmp_path / "tokenizer"}
    for command, flags in (("instruct", instruct), ("tokenizer", tokenizer)):
        bare = {"model": without_weights(toy_aligned, tmp_path / "bare")} if command == "instruct" else {}
        before = files(tmp_path)
        assert lslm_cli.main([command, *recipe(**flags | bare | {"dry_run": "true"})]) == 0
        assert files(tmp_path) == before
        assert lslm_cli.main([command, *recipe(**flags)]) == 0
        check(needs.pop(), tmp_path / command)


@pytest.mark.parametrize(
    "trained, checkpointing, dtype",
    [(True, False, torch.float32), (True, True, torch.float32), (False, True, torch.bfloat16)],
    ids=["all of it", "with checkpointing", "frozen in bfloat16"],
)
def test_a_step_without_numbers_holds_what_a_step_holds(fresh, trained, checkpointing, dtype):
    held = []
    for fake in (False, True):
        model, _ = fresh()
        parts = [model.model.language_model.to(dtype), model.lm_head.to(dtype), model.model.projector]
        parts[0].requires_grad_(trained)
        model.set_attn_implementation("sdpa")
        if checkpointing:
            dry_run._checkpoint_activations(model)
        step = dry_run._translation_step(model.train(), clips=3, tokens=40, motion=8, answer=12)
        with FakeTensorMode() if fake else contextlib.nullcontext():
            if fake:
                dry_run._on_fakes(parts)
            held.append(dry_run._step(step, parts, bf16=True))
    assert held[1].peak == pytest.approx(held[0].peak, rel=0.1) and held[1].flops == held[0].flops > 0


def test_weights_are_not_counted_as_what_a_step_holds():
    layer = torch.nn.Linear(1000, 1000)
    with FakeTensorMode():
        dry_run._on_fakes([layer.requires_grad_(False)])
        given = torch.zeros(3, 1000, requires_grad=True)
        assert dry_run._step(lambda: layer(given).sum(), [layer], bf16=False).peak < 1000 * 1000


def test_a_frozen_language_model_in_bfloat16_trains_as_an_adapter_and_loses_nothing(toy, toy_align, tmp_path, capsys):
    flags = toy_align | {"lora_r": 4, "max_steps": 2, "dtype": "bfloat16", "output_dir": tmp_path / "aligned"}
    assert lslm_cli.main(["align", *recipe(**flags)]) == 0
    saved = load_file(tmp_path / "aligned" / "model.safetensors")
    own = {name for name in saved if name.startswith(("model.projector.", "model.vqvae.")) or ".lora_" in name}
    assert set(saved) == own and any(".lora_" in name for name in own)
    assert {saved[name].dtype for name in own if saved[name].is_floating_point()} == {torch.float32}
    models = [
        LslmForConditionalGeneration.from_pretrained(tmp_path / "aligned", merge_lora=False, dtype=dtype)
        for dtype in ("auto", torch.float32)
    ]
    assert [model.dtype for model in models] == [torch.bfloat16, torch.float32] and models[1].config.backbone
    for dtype in ("bfloat16", "float32"):  # the next stage has the dtype that it is told, whatever this one had
        flags = TOY_INSTRUCT | {"data": toy / "set", "model": tmp_path / "aligned", "max_steps": 1, "dtype": dtype}
        assert lslm_cli.main(["instruct", *recipe(**flags | {"output_dir": tmp_path / dtype})]) == 0
        assert json.loads((tmp_path / dtype / "config.json").read_text())["dtype"] == dtype
        assert set(load_file(tmp_path / dtype / "model.safetensors")) == own
    assert "holds all of its weights" not in capsys.readouterr().err


@pytest.mark.parametrize("flags", [{}, {"dry_run": "true"}])
def test_a_language_model_does_not_train_in_bfloat16(toy_align, tmp_path, capsys, flags):
    flags = toy_align | {"dtype": "bfloat16", "max_steps": 1, "output_dir": tmp_path / "run"} | flags
    assert lslm_cli.main(["align", *recipe(**flags)]) == 2
    assert "dtype bfloat16 is for a frozen language model" in capsys.readouterr().err
    assert lslm_cli.main(["align", *recipe(**flags | {"dtype": "float16"})]) == 2
    assert "dtype: expected float32 or bfloat16, got float16" in capsys.readouterr().err
    assert not {path.name for path in (tmp_path / "run").rglob("*")} - {"_lock"}
