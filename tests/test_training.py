"""The three stages: what moves and what does not, what a checkpoint holds, where a run that was killed ends.

Runs that are killed have a process of their own; the rest runs here.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lslm_cli
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_fixtures import TOY_INSTRUCT, TOY_VQVAE, cut_short, read_jsonl, recipe, write_backbone
from transformers import pipeline

from lslm.modeling_lslm import LslmForConditionalGeneration, LslmModel, SignMotionVQVAE
from lslm.processing import SignMotionFeatureExtractor, SignMotionProcessor
from lslm.training.dataset.collators import TranslationCollator
from lslm.training.dataset.encodings import cached_codes, fingerprint
from lslm.training.dataset.motion_text import MotionText
from lslm.training.dataset.spelling import spelled
from lslm.training.recipe import parse
from lslm.training.stages.align import AlignArguments
from lslm.training.stages.instruct import InstructArguments
from lslm.training.stages.translation import LengthLimit, TranslationTrainer, run, set_trainable

pytest_plugins = ["training_fixtures"]
create_optimizer = TranslationTrainer.create_optimizer


def weights(folder):
    return load_file(folder / "model.safetensors")


def differing(one, other):
    """Names of tensors that are not bit-equal."""
    assert set(one) == set(other)
    return {name for name in one if not torch.equal(one[name], other[name])}


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantizer, warmup, saved_at, killed_at, workers, partwise",
    [
        ("ema", 0.5, 5, 7, 0, False),  # before the k-means start, in the middle of the second epoch
        ("ema", 0.3, 9, 10, 0, True),  # after it, at the end of an epoch
        ("gradient", 0.0, 5, 7, 1, False),  # with batches made beside the training, as in the recipes
    ],
)
def test_a_killed_tokenizer_run_ends_with_the_same_codebook(
    toy, commands, tmp_path, quantizer, warmup, saved_at, killed_at, workers, partwise
):
    def command(out, save):
        flags = {"data": toy / "set", "output_dir": out, "max_steps": 16, "quantizer": quantizer, "ema_decay": 0.8}
        flags |= {"codebook_warmup": warmup, "save_strategy": "steps", "save_steps": save, "save_total_limit": 2}
        flags |= {"dataloader_num_workers": workers, "partwise": partwise}
        return ["tokenizer", *recipe(**TOY_VQVAE | flags)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands.run(command(whole, 100))
    checkpoint = killed / f"checkpoint-{saved_at}"
    commands.kill(command(killed, saved_at), checkpoint, killed_at)
    assert not (killed / "model.safetensors").exists()  # it was killed before its end
    early = weights(checkpoint)
    assert bool(early["codebook.started"]) == (saved_at > int(warmup * 16))
    cut_short(checkpoint, killed_at)  # and as if it had been killed once more, while it saved
    commands.run(command(killed, saved_at))
    expected, resumed = weights(whole), weights(killed)
    assert differing(expected, resumed) == set()
    assert {"codebook.weight", "codebook.started"} <= set(expected) and expected["codebook.started"]
    assert {"codebook.ema_sum", "codebook.ema_count"} <= set(expected) or quantizer == "gradient"
    part = "parts.1." if partwise else ""
    moved = {"codebook.weight", f"encoder.{part}conv_in.weight", f"decoder.{part}conv_out.weight"}
    assert differing(expected, early) >= moved
    assert json.loads((killed / "trainer_state.json").read_text())["global_step"] == 16
    extractors = [SignMotionFeatureExtractor.from_pretrained(folder) for folder in (whole, killed)]
    assert extractors[0].std == extractors[1].std


def test_a_killed_instruct_run_ends_with_the_same_weights(toy, toy_aligned, commands, tmp_path):
    def command(out, save):
        flags = {"data": toy / "set", "model": toy_aligned, "output_dir": out, "max_steps": 7, "code_dropout": 0.3}
        flags |= {"save_strategy": "steps", "save_steps": save, "trainable": ["projector", "language_model"]}
        flags |= {"per_device_train_batch_size": 3}
        return ["instruct", *recipe(**TOY_INSTRUCT | flags)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands.run(command(whole, 100))
    commands.kill(command(killed, 4), killed / "checkpoint-4", 5)  # 3 batches an epoch: in the middle of the second
    cut_short(killed / "checkpoint-4", 8)
    commands.run(command(killed, 4))
    assert "missing keys" not in commands.log.read_text()  # of the frozen weights, which a checkpoint leaves out
    expected, resumed = weights(whole), weights(killed)
    assert differing(expected, resumed) == set()
    assert any("lora_B" in name for name in differing(expected, weights(killed / "checkpoint-4")))


def _terminated(argv: list[str]) -> None:
    import transformers.trainer
    from transformers import TrainerCallback

    class Terminate(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    torch.set_num_threads(1)
    transformers.trainer.DEFAULT_CALLBACKS.append(Terminate)
    os._exit(lslm_cli.main(argv))


def test_a_run_that_is_asked_to_end_ends_as_a_whole_one(toy, commands, tmp_path):
    def command(out):
        flags = {"data": toy / "set", "output_dir": out, "max_steps": 5, "save_strategy": "steps", "save_steps": 2}
        return ["tokenizer", *recipe(**TOY_VQVAE | flags)]

    process = commands.context.Process(target=_terminated, args=(command(tmp_path / "ended"),))
    process.start()
    process.join(300)
    assert process.exitcode and not (tmp_path / "ended" / "model.safetensors").exists()
    for out in ("ended", "whole"):
        commands.run(command(tmp_path / out))
    assert differing(weights(tmp_path / "ended"), weights(tmp_path / "whole")) == set()


@pytest.fixture
def short_run(toy, tmp_path):
    """Trains a tokenizer for so many steps, with a checkpoint at every second one."""

    def run(steps: int, **flags) -> int:
        flags = {"max_steps": steps, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 5} | flags
        flags = TOY_VQVAE | {"data": toy / "set", "output_dir": tmp_path / "run", "quantizer": "ema"} | flags
        return lslm_cli.main(["tokenizer", *recipe(**flags)])

    assert run(4) == 0
    return run


def test_a_run_that_fails_says_nothing_of_a_success(toy, tmp_path, capsys):
    (tmp_path / "parent").mkdir()
    flags = TOY_INSTRUCT | {"data": toy / "set", "model": tmp_path / "parent", "output_dir": tmp_path / "run"}
    assert lslm_cli.main(["instruct", *recipe(**flags)]) == 2
    assert not list((tmp_path / "run").glob("stages.yaml"))


@pytest.mark.parametrize(
    "damage", ["optimizer.pt gone", "optimizer.pt cut", "model.safetensors cut", "rng_state.pth flip"]
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_taken(short_run, tmp_path, capsys, damage):
    folder, (name, how) = tmp_path / "run", damage.split()
    whole = weights(folder)

    def hurt(step: int):
        path = folder / f"checkpoint-{step}" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if how == "flip" else content[: len(content) // 2])
        if how == "gone":
            path.unlink()

    hurt(4)
    (folder / "model.safetensors").unlink()  # as if killed
    assert short_run(4) == 0 and differing(whole, weights(folder)) == set()
    said = capsys.readouterr().out
    assert f"checkpoint-4 cannot be loaded ({'no optimizer' if how == 'gone' else name}" in said
    assert f"going on from {folder / 'checkpoint-2'}" in said
    hurt(2)
    hurt(4)
    (folder / "model.safetensors").unlink()
    assert short_run(4) == 2 and "to train anew, remove" in capsys.readouterr().err


@pytest.mark.parametrize("length", ["max_steps", "num_train_epochs"])
def test_the_command_of_a_finished_run_changes_nothing(toy, tmp_path, length):
    flags = {"data": toy / "set", "output_dir": tmp_path, "quantizer": "ema", "save_strategy": "steps", "save_steps": 2}
    for steps in (4, 4, 6) if length == "max_steps" else (3, 3, 6):  # again; and then with more steps
        flags[length] = steps if length == "max_steps" else steps // 3
        command = ["tokenizer", *recipe(**TOY_VQVAE | flags), *(["--resume-with-changes"] if steps == 6 else [])]
        before = weights(tmp_path) if (tmp_path / "model.safetensors").exists() else None
        assert lslm_cli.main(command) == 0
        assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == steps
        assert before is None or bool(differing(before, weights(tmp_path))) == (steps == 6)


# --- stage 1 ----------------------------------------------------------------------------------------------------------


def test_the_sign_tokenizer_learns_and_is_saved_with_what_it_needs(toy, tmp_path):
    flags = {"data": toy / "set", "output_dir": tmp_path, "max_steps": 40, "quantizer": "ema", "codebook_warmup": 0.5}
    flags |= {"logging_steps": 5, "augment": "false", "eval_strategy": "steps", "eval_steps": 20}
    assert lslm_cli.main(["tokenizer", *recipe(**TOY_VQVAE | flags)]) == 0
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    logs = [entry for entry in history if "reconstruction" in entry]
    assert logs[-1]["reconstruction"] < 0.9 * logs[0]["reconstruction"] and logs[-1]["perplexity"] > 3
    assert logs[0]["commitment"] == 0 < logs[-1]["commitment"]  # no quantisation in the first half
    assert sum("eval_loss" in entry for entry in history) == 2
    vqvae, extractor = SignMotionVQVAE.from_pretrained(tmp_path), SignMotionFeatureExtractor.from_pretrained(tmp_path)
    assert vqvae.codebook.started and vqvae.config.quantizer == "ema" and vqvae.config.codebook_size == 16
    assert extractor.fps == 15.0 and extractor.downsample_factor == 4 and len(extractor.mean) == 623
    clips = MotionText(str(toy / "set"), "train", 15.0).joints
    codes = {tuple(vqvae.encode(extractor(clip)["input_features"]).codes.flatten().tolist()) for clip in clips}
    assert len(codes) == len(clips)


# --- stages 2 and 3 ---------------------------------------------------------------------------------------------------


@pytest.fixture
def align(toy, tmp_path, fresh):
    """Train a fresh model with these flags; -> its weights before and after, by their names after."""

    def align(**flags):
        model, processor = fresh()
        flags = TOY_INSTRUCT | {"data": toy / "set", "output_dir": tmp_path} | flags
        args = parse(AlignArguments, recipe(**flags), "lslm align")
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        run(args, model, processor, None)
        after = {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}
        return before, after, model

    return align


def test_a_checkpoint_of_the_projector_alone_leaves_the_language_model_out(align, tmp_path):
    _, _, model = align(trainable="projector", max_steps=3, weight_decay=0.1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 4
    # the language model's weights are not in the checkpoint, they come from where they came from
    saved = weights(tmp_path)
    assert trained <= set(saved) and all(name.startswith(("model.projector.", "model.vqvae.")) for name in saved)
    assert model.config.backbone and LslmForConditionalGeneration.from_pretrained(tmp_path).config.backbone


def test_projector_and_adapter_move_and_the_backbone_does_not(align, tmp_path):
    before, after, model = align(trainable=["projector", "language_model"], lora_r=2, lora_dropout=0.1, max_steps=3)
    lora = {name for name in after if "lora_" in name}
    assert len(lora) == 2 * 7 * 2  # A and B on seven layers of two blocks
    assert differing(before, {k: v for k, v in after.items() if k not in lora}) == {
        name for name in before if name.startswith("model.projector.")
    }
    assert all(after[name].abs().max() > 0 for name in lora)  # B starts at zero
    loaded = LslmForConditionalGeneration.from_pretrained(tmp_path, merge_lora=False)
    assert differing({k.replace(".base_layer", ""): v for k, v in loaded.state_dict().items()}, after) == set()
    assert loaded.config.lora["r"] == 2 and loaded.config.backbone


def test_a_language_model_without_adapter_is_trained_and_saved_whole(align, toy, tmp_path):
    before, after, model = align(trainable="language_model", max_steps=3)
    still = {name for name in before if name.startswith(("model.projector.", "model.vqvae."))}
    moved = differing(before, after)
    assert moved & still == set() and {"model.language_model.embed_tokens.weight", "lm_head.weight"} <= moved
    # all of it but embeddings of tokens that did not occur
    assert moved | still == set(before)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.get("backbone") is None and config.get("lora") is None
    hidden = toy / "llm-gone"
    (toy / "llm").rename(hidden)  # nothing but the folder is needed any more
    try:
        loaded = LslmForConditionalGeneration.from_pretrained(tmp_path)
    finally:
        hidden.rename(toy / "llm")
    assert differing(dict(loaded.state_dict()), after) == set()


@pytest.mark.parametrize("bf16", ["false", "true"])
@pytest.mark.parametrize(
    ("scheme", "stage"),
    [
        (["projector"], AlignArguments),
        (["projector", "language_model"], AlignArguments),
        (["language_model"], AlignArguments),
        (["language_model"], InstructArguments),
        (["projector", "language_model"], InstructArguments),
    ],
    ids=["mlp", "joint", "staged", "instruct-llm", "instruct-joint"],
)
def test_exactly_the_intended_parameters_move(fresh, toy, tmp_path, scheme, stage, bf16):
    """Every scheme of the paper, in float32 and with bfloat16 autocast; the weights stay float32 in both."""
    model, processor = fresh()
    flags = TOY_INSTRUCT | {"data": toy / "set", "output_dir": tmp_path, "trainable": scheme, "bf16": bf16}
    args = parse(stage, recipe(**flags, max_steps=3, weight_decay=0.1), "lslm test")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(args, model, processor, None)
    moved = differing(before, dict(model.state_dict()))
    parts = {"projector": "model.projector.", "language_model": "model.language_model."}
    intended = {name for name in before if name.startswith(tuple(parts[part] for part in scheme))}
    if "language_model" in scheme:
        intended.add("lm_head.weight")  # tied to the embeddings
    assert moved == intended and all(p.dtype == torch.float32 for p in model.parameters())


def test_what_may_be_trained_is_checked(fresh, toy, tmp_path):
    model, _ = fresh()
    args = parse(AlignArguments, recipe(data=toy / "set", output_dir=tmp_path), "lslm align")
    for parts in ([], ["projektor"], ["projector", "vqvae"]):
        with pytest.raises(ValueError, match="trainable: expected some of projector, language_model"):
            set_trainable(model, parts, args)
    assert model.config.lora is None and model.config.backbone


def test_two_learning_rates(fresh, toy, tmp_path):
    model, _ = fresh()
    flags = {"data": toy / "set", "output_dir": tmp_path, "learning_rate": 1e-4, "weight_decay": 0.1, "lora_r": 2}
    for more, expected in ({}, 1e-4), ({"projector_learning_rate": 5e-3}, 5e-3), ({"projector_learning_rate": 0}, 0):
        args = parse(InstructArguments, recipe(**flags, report_to="none", **more), "lslm instruct")
        set_trainable(model, ["projector", "language_model"], args)
        optimizer = TranslationTrainer(model=model, args=args).create_optimizer()
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        trained = {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}
        assert len(groups) == len(trained) == 4 + 28
        for name, group in trained.items():
            assert group["lr"] == (expected if "projector" in name else 1e-4), name
            assert group["weight_decay"] == (0.0 if name.endswith("bias") else 0.1), name


def test_instruct_goes_on_from_align(toy, toy_aligned, tmp_path):
    flags = {"data": toy / "set", "model": toy_aligned, "output_dir": tmp_path, "max_steps": 1, "learning_rate": 0.0}
    flags = TOY_INSTRUCT | flags
    assert lslm_cli.main(["instruct", *recipe(**flags)]) == 0
    assert differing(weights(toy_aligned), weights(tmp_path)) == set()
    processor = SignMotionProcessor.from_pretrained(tmp_path)
    assert processor.prompt == "Translate the American Sign Language in <motion> into English."
    assert processor.system_prompt == ""  # as in align
    # by default the language model alone: here, the adapter that it came with
    assert lslm_cli.main(["instruct", *recipe(**flags | {"output_dir": tmp_path / "on", "learning_rate": 1e-2})]) == 0
    moved = differing(weights(toy_aligned), weights(tmp_path / "on"))
    assert moved and all("lora_" in name for name in moved)


def test_align_goes_on_from_a_model(toy, toy_aligned, tmp_path):
    flags = {"data": toy / "set", "model": toy_aligned, "output_dir": tmp_path, "max_steps": 1}
    flags = TOY_INSTRUCT | flags
    assert lslm_cli.main(["align", *recipe(**flags)]) == 0
    assert all("projector" in name for name in differing(weights(toy_aligned), weights(tmp_path)))


def test_four_clips_are_learnt_by_heart(toy, toy_model):
    history = json.loads((toy_model / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[0] > 2 and losses[-1] < 0.1
    processor = SignMotionProcessor.from_pretrained(toy_model)
    model = LslmForConditionalGeneration.from_pretrained(toy_model).eval()
    clips = MotionText(str(toy / "set"), "train", 15.0, limit=4)
    batch = processor(motion=list(clips.joints), fps=15.0)
    said = model.generate(**batch)[:, batch["input_ids"].shape[1] :]
    assert processor.batch_decode(said) == clips.texts


def test_code_dropout_replaces_codes_in_training_only(toy_model, toy, tmp_path, monkeypatch):
    model = LslmForConditionalGeneration.from_pretrained(toy_model)
    clips = MotionText(str(toy / "set"), "train", 15.0)
    collator = TranslationCollator(SignMotionProcessor.from_pretrained(toy_model), ["<motion>"])
    batch = collator([clips[0], clips[3]])
    true = model.model.vqvae.encode(batch["input_features"], batch["input_features_mask"]).codes
    flags = {"data": toy / "set", "output_dir": tmp_path, "code_dropout": 0.5, "report_to": "none"}
    args = parse(AlignArguments, recipe(**flags), "lslm align")
    trainer = TranslationTrainer(model=model, args=args, processing_class=collator.processor)
    seen, embed = [], model.model.vqvae.embed
    monkeypatch.setattr(model.model.vqvae, "embed", lambda codes: seen.append(codes) or embed(codes))
    torch.manual_seed(0)
    for training in (True, False):
        trainer.compute_loss(model.train(training), dict(batch))
    dropped, kept = seen
    assert torch.equal(kept, true) and torch.equal(dropped < 0, true < 0)
    share = (dropped != true)[true >= 0].float().mean()
    assert 0.1 < share < 0.8 and dropped.max() < 16


@pytest.mark.parametrize("augment", [False, True])
def test_a_model_of_latents_is_trained_on_them_and_translates(toy, toy_align, tmp_path, monkeypatch, augment):
    """Projector's start, code dropout, evaluation while training, resuming, and the translation with its codes."""
    seen, read = [], LslmModel.get_motion_embeds

    def get_motion_embeds(model, features=None, mask=None, codes=None, latents=None):
        seen.append((model.training, codes, latents))
        return read(model, features, mask, codes, latents)

    monkeypatch.setattr(LslmModel, "get_motion_embeds", get_motion_embeds)
    flags = toy_align | {"output_dir": tmp_path, "trainable": "projector", "motion_input": "latents", "ctc_steps": 3}
    flags |= {"code_dropout": 0.5, "augment": augment, "max_steps": 2}
    flags |= {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    assert lslm_cli.main(["align", *recipe(**flags)]) == 0
    embed = LslmForConditionalGeneration.from_pretrained(tmp_path).model.vqvae.embed
    trained = [(codes, latents) for training, codes, latents in seen if training]
    assert len(trained) == 2
    for codes, latents in trained:
        rounded = (latents == embed(codes)).all(-1)[codes[..., 0] >= 0].float().mean()
        assert 0.1 < rounded < 0.9  # dropped ones are vectors of random codes, the others no codes at all
    assert all(codes is None or latents is not None for training, codes, latents in seen)
    assert len(read_jsonl(tmp_path / "samples.jsonl")) == 4  # two clips, twice
    assert lslm_cli.main(["align", *recipe(**flags | {"max_steps": 3, "resume_with_changes": "true"})]) == 0

    pipe = pipeline("sign-translation", model=str(tmp_path))
    clip = {"joints": MotionText(str(toy / "set"), "test", 15.0).joints[0], "fps": 15.0}
    seen.clear()
    plain, detailed = pipe(clip), pipe(clip, details=True)
    assert plain[0]["translation_text"] == detailed[0]["translation_text"] and detailed[0]["motion_codes"]
    assert all(latents is not None for _, _, latents in seen)


def test_only_clips_that_vary_have_codes_of_float32(toy_model, toy, tmp_path, monkeypatch):
    model = LslmForConditionalGeneration.from_pretrained(toy_model)
    collator = TranslationCollator(SignMotionProcessor.from_pretrained(toy_model), ["<motion>"])
    args = parse(AlignArguments, recipe(data=toy / "set", output_dir=tmp_path, report_to="none"), "lslm align")
    seen, encode = [], model.model.vqvae.encode
    monkeypatch.setattr(
        model.model.vqvae,
        "encode",
        lambda features, mask, dtype: seen.append(dtype) or encode(features, mask, dtype),
    )
    for augment, training in ((True, True), (True, False), (False, True)):
        clips = MotionText(str(toy / "set"), "train", 15.0, augment=augment)
        options = {"train_dataset": clips, "processing_class": collator.processor}
        trainer = TranslationTrainer(model=model, args=args, **options)
        trainer.compute_loss(model.train(training), dict(collator([clips[0], clips[3]])))
    assert seen == [torch.float32, torch.float64, torch.float64]


def test_a_missing_ingredient_is_named(toy, toy_tokenizer, tmp_path, capsys):
    data = recipe(data=toy / "set", output_dir=tmp_path, report_to="none")
    tokenizer, backbone = ["--tokenizer", str(toy_tokenizer)], ["--backbone", str(toy / "llm")]
    for argv, said in [
        (["align", *data, *tokenizer], "which backbone? Give backbone: in the recipe or --backbone"),
        (["align", *data, *backbone], "which tokenizer? Give tokenizer: in the recipe or --tokenizer"),
        (["instruct", *data], "which model? Give model: in the recipe or --model: the aligned"),
        (["tokenizer", *recipe(data=tmp_path, output_dir=tmp_path / "out")], "no split 'train' in"),
        (["align", *data, "--bakcbone", "x"], "unknown argument '--bakcbone'; did you mean --backbone?"),
    ]:
        assert lslm_cli.main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"lslm: {said}") and error.count("\n") == 1, error


def test_what_a_model_was_made_with_is_not_changed_by_a_key(toy, toy_aligned, tmp_path, capsys):
    """A key that would be swallowed is refused; the same value is fine."""
    flags = {"data": toy / "set", "model": toy_aligned, "output_dir": tmp_path / "out", "max_steps": 1}
    joint = {"trainable": ["projector", "language_model"]}
    changes = [
        {"codes_per_embedding": 2},
        {"motion_input": "latents"},
        {"projector_hidden_size": 7},
        {"right_handed": "true"},
        {"system_prompt": "Be polite."},
        joint | {"lora_r": 8},
        joint | {"lora_r": 0},
        joint | {"lora_r": 4, "lora_alpha": 1},
    ]
    for stage, changed in [*(("align", change) for change in changes), ("instruct", joint | {"lora_r": 8})]:
        for dry in ("true", "false"):
            assert lslm_cli.main([stage, *recipe(**TOY_INSTRUCT | flags | changed | {"dry_run": dry})]) == 2
            error = capsys.readouterr().err
            assert f"lslm: {[*changed][-1]} is " in error and "leave" in error and error.count("\n") == 1, error
    assert [file.name for file in (tmp_path / "out").iterdir()] in ([], ["_lock"])
    same = {"codes_per_embedding": 1, "right_handed": "false", "lora_r": 4, "dry_run": "true"} | joint
    assert lslm_cli.main(["align", *recipe(**TOY_INSTRUCT | flags | same)]) == 0


def test_how_left_hands_are_read_is_saved_with_a_model(toy_align, tmp_path):
    flags = toy_align | {"output_dir": tmp_path, "max_steps": 1, "right_handed": "true"}
    assert lslm_cli.main(["align", *recipe(**flags)]) == 0
    assert SignMotionProcessor.from_pretrained(tmp_path).feature_extractor.right_handed is True


# --- the same run, divided otherwise ----------------------------------------------------------------------------------


def losses(folder) -> list[float]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_the_losses_do_not_depend_on_how_a_batch_is_divided(toy_align, tmp_path, commands):
    """8 clips at once, one after the other, and 4 in each of two processes."""
    flags = toy_align | {"max_steps": 5, "logging_steps": 1, "learning_rate": 1e-2}

    def command(name, batch, accumulation):
        divided = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        return ["align", *recipe(**flags | divided | {"output_dir": tmp_path / name})]

    assert lslm_cli.main(command("whole", 8, 1)) == 0
    assert lslm_cli.main(command("accumulated", 1, 8)) == 0
    commands.run(command("two", 4, 1), processes=2)
    whole = losses(tmp_path / "whole")
    assert len(whole) == 5 and whole[-1] < whole[0] - 0.1
    for name in ("accumulated", "two"):
        np.testing.assert_allclose(losses(tmp_path / name), whole, rtol=1e-4, err_msg=name)


def test_two_processes_can_share_a_model(fresh, tmp_path):
    """FSDP2 with bfloat16: everything but the sign tokenizer in shards, the same codes and the same loss."""
    model, _ = fresh()
    model.config.backbone = None  # save it whole
    model.save_pretrained(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = str(Path(__file__).with_name("sharded_process.py"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, script, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("trainable", [["projector"], ["projector", "language_model"]])
def test_activation_checkpointing_changes_nothing_but_memory(align, tmp_path, trainable):
    flags = {"trainable": trainable, "lora_r": 2, "max_steps": 3, "logging_steps": 1, "learning_rate": 1e-2}
    _, plain, _ = align(**flags, output_dir=tmp_path / "plain")
    _, checkpointed, _ = align(**flags, activation_checkpointing="true", output_dir=tmp_path / "checkpointed")
    np.testing.assert_allclose(losses(tmp_path / "checkpointed"), losses(tmp_path / "plain"), rtol=1e-5)
    for name, weight in plain.items():
        torch.testing.assert_close(checkpointed[name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("error:.*an autograd kernel was not registered")
def test_qlora_trains_on_four_bits_and_saves_an_adapter_for_all_of_them(toy, toy_align, tmp_path, monkeypatch):
    from bitsandbytes.nn import Linear4bit

    backbone = write_backbone(tmp_path / "llm", width=128)  # 4-bit kernels want rows of 64
    flags = toy_align | {"backbone": backbone, "max_steps": 8, "lora_r": 2, "logging_steps": 1, "learning_rate": 2e-3}
    flags |= {"eval_strategy": "steps", "eval_steps": 4}  # which generates between training steps
    trained = []
    monkeypatch.setattr(
        TranslationTrainer, "create_optimizer", lambda self: trained.append(self.model) or create_optimizer(self)
    )
    for name, small in (("full", "false"), ("out", "true")):
        command = recipe(**flags, load_in_4bit=small, output_dir=tmp_path / name)
        assert lslm_cli.main(["align", *command]) == 0
    layers = [module for module in trained[1].modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7 and all(layer.weight.dtype == torch.uint8 for layer in layers)
    curve = losses(tmp_path / "full")
    assert np.mean(curve[4:]) < np.mean(curve[:4]) - 0.1
    np.testing.assert_allclose(losses(tmp_path / "out"), curve, rtol=0.03)
    saved = weights(tmp_path / "out")
    assert all(name.startswith(("model.projector.", "model.vqvae.")) or "lora_" in name for name in saved)
    full = LslmForConditionalGeneration.from_pretrained(tmp_path / "out")
    batch = {"input_ids": torch.arange(9)[None]}
    expected, got = (model.eval()(**batch).logits.float() for model in (full, trained[1]))
    assert 0 < (got - expected).abs().max() < 0.2 * expected.abs().max()
    flags = {"data": toy / "set", "model": tmp_path / "out", "output_dir": tmp_path / "next", "max_steps": 1}
    assert lslm_cli.main(["instruct", *recipe(**TOY_INSTRUCT | flags, load_in_4bit="true")]) == 0


@pytest.mark.parametrize("flags", [{"lora_r": 0}, {"trainable": "projector"}])
def test_qlora_without_an_adapter_is_refused(fresh, toy, tmp_path, flags):
    model, processor = fresh()
    flags = {"data": toy / "set", "output_dir": tmp_path, "trainable": "language_model", "lora_r": 2} | flags
    args = parse(InstructArguments, recipe(**TOY_INSTRUCT | flags, load_in_4bit="true"), "lslm instruct")
    with pytest.raises(ValueError, match="load_in_4bit trains an adapter .* needs lora_r > 0"):
        run(args, model, processor, None)


# --- codes, long clips, samples ---------------------------------------------------------------------------------------


def test_codes_are_kept_on_disk_and_made_anew_for_another_tokenizer(toy, toy_tokenizer, tmp_path, monkeypatch):
    vqvae = SignMotionVQVAE.from_pretrained(toy_tokenizer)
    extractor = SignMotionFeatureExtractor.from_pretrained(toy_tokenizer)
    joints = MotionText(str(toy / "set"), "train", extractor.fps).joints
    codes = cached_codes(vqvae, extractor, joints, tmp_path)
    for clip, found in zip(joints, codes, strict=True):
        features = torch.from_numpy(extractor.normalize(extractor.to_features(clip)))[None]
        assert np.array_equal(vqvae.encode(features).codes[0].numpy(), found)

    with monkeypatch.context() as context:  # the second time nothing is encoded
        context.delattr(SignMotionVQVAE, "encode")
        again = cached_codes(vqvae, extractor, joints, tmp_path)
    assert all(np.array_equal(one, other) for one, other in zip(codes, again, strict=True))

    keys = {fingerprint(vqvae, extractor, joints), fingerprint(vqvae, extractor, joints[1:])}
    moved = [joints[0] + np.float32(1e-3), *joints[1:]]
    keys.add(fingerprint(vqvae, extractor, moved))
    with torch.no_grad():
        vqvae.codebook.weight[0, 0] += 1e-3
    keys.add(fingerprint(vqvae, extractor, joints))
    extractor.std = [2 * number for number in extractor.std]
    keys.add(fingerprint(vqvae, extractor, joints))
    assert len(keys) == 5


def test_training_on_kept_codes_is_training_on_motion(align, tmp_path, monkeypatch):
    """Without augmentation the same losses, whether codes come from disk or from features."""
    flags = {"trainable": "projector", "max_steps": 3, "augment": "false", "logging_steps": 1}
    align(**flags, output_dir=tmp_path / "kept")
    monkeypatch.setattr("lslm.training.stages.translation.cached_codes", lambda *args: None)
    align(**flags, output_dir=tmp_path / "made")
    np.testing.assert_allclose(losses(tmp_path / "kept"), losses(tmp_path / "made"), rtol=1e-5)


def test_clips_that_are_too_long_are_left_out_and_counted(fresh, toy, capsys):
    _, processor = fresh()
    templates = ["<motion>", "Translate <motion> into English."]

    def tokens(data, index):
        codes = processor.feature_extractor.num_codes(len(data.joints[index]) - 1)
        batch = processor(templates[1], motion_codes=[[0]] * codes, answer=spelled(data.texts[index], {"coffee"}))
        return batch["input_ids"].shape[1]

    data = MotionText(str(toy / "set"), "train", 15.0)
    lengths = sorted(tokens(data, index) for index in range(8))
    collator = TranslationCollator(processor, templates, {"coffee"})
    LengthLimit(collator, lengths[4]).leave_out(data)
    assert len(data) == len(data.rows) == sum(length <= lengths[4] for length in lengths)
    assert max(tokens(data, index) for index in range(len(data))) == lengths[4]
    assert f"left out {8 - len(data)} of 8 clips longer than {lengths[4]} tokens" in capsys.readouterr().out
    short = lengths[0] - 1
    with pytest.raises(ValueError, match=f"max_length is {short} tokens, but the shortest clip of .* has {lengths[0]}"):
        LengthLimit(collator, short).leave_out(data)
    with pytest.raises(ValueError, match="max_length is 3 tokens, and .* are around motion and answer; give more"):
        LengthLimit(collator, 3)  # before any clip is read


def test_evaluation_shows_translations_and_the_end_a_plot(align, tmp_path, capsys):
    align(trainable="projector", max_steps=4, eval_strategy="steps", eval_steps=2, logging_steps=1)
    samples = read_jsonl(tmp_path / "samples.jsonl")
    assert [sample["step"] for sample in samples] == [2, 2, 4, 4]  # the validation split has two clips
    assert samples[0]["reference"] == "Some tea and not now."
    assert f"step 2: 'Some tea and not now.' -> {samples[0]['prediction']!r}" in capsys.readouterr().out
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
