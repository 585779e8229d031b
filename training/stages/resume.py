"""One stage in its output folder: what may be written there, and going on where a killed run was, so that it ends where
an uninterrupted one ends."""

import contextlib
import errno
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerState

from ..blame import naming
from ..dataset.streaming import StreamedMotionText
from ..locks import locked
from ..recipe import StageArguments, parse
from ..record import FIXED, changed, last_stage, parents, read_stages, recorded, save_stages, used
from .interruption import find_best, is_over, train_until_stopped

# in an output folder, beside its checkpoints; a push leaves out what begins like this
LOCK, SAVING, PUSHING = "_lock", "_saving", "_pushing"
FULL = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "file write failed",
)
RATES = {"learning_rate", "projector_learning_rate"}
# what a run goes on with, by how the names of the files begin
PARTS = {"weights": ("model", "pytorch_model"), "optimizer": "optimizer", "scheduler": "scheduler", "rng": "rng_state"}


def last_checkpoint(folder: str, tell: bool = False) -> Path | None:
    """The latest complete checkpoint of a run that can be loaded, or None if none is complete.

    A kill in the middle of saving leaves one that is not. The Trainer writes trainer_state.json last.

    Args:
        tell: print which later ones cannot be loaded.

    Raises:
        OSError: there are complete ones, and none of them can be loaded.
    """
    complete = {}
    for path in Path(folder).glob("checkpoint-*"):
        try:
            complete[json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]] = path
        except (OSError, ValueError, KeyError, TypeError):
            continue
    damaged = []
    for step in sorted(complete, reverse=True):
        if (damage := _damage(complete[step])) is None:
            if damaged and tell:
                print(f"{'; '.join(damaged)}; going on from {complete[step]}", flush=True)
            return complete[step]
        damaged.append(f"{complete[step]} cannot be loaded ({damage})")
    if damaged:
        raise OSError(f"{'; '.join(damaged)}; to train anew, remove {folder} or name another output_dir")
    return None


def _damage(checkpoint: Path) -> str | None:
    """What keeps a run from going on there, or None. Archives are read to the end: they have a checksum."""
    files = sorted(checkpoint.iterdir())
    for part, names in PARTS.items():
        if not any(file.name.startswith(names) for file in files):
            return f"no {part}"
    for file in files:
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix in (".pt", ".pth"):
                with zipfile.ZipFile(file) as archive:
                    if archive.testzip():
                        raise zipfile.BadZipFile("its checksum is another")
        except (OSError, SafetensorError, zipfile.BadZipFile) as error:
            return f"{file.name}: {error}"
    return None


def run_stage(stage: type[StageArguments], argv: list[str], train: Callable[[Any], None]) -> None:
    """Parse `argv` and `train` what it says, if the output folder is the stage's to write: nothing in it is lost, and
    no other process writes there. A stage that is finished is left as it is.

    Args:
        stage: its arguments, from the module that is called like the stage.

    Raises:
        ValueError: see [`parse`]; the folder holds something else, or a run of another recipe. OSError: another process
            trains there; the data or a parent cannot be read; the disk is full.
    """
    args = parse(stage, argv, f"lslm {stage.__module__.rpartition('.')[2]}")
    if args.dry_run:
        return train(args)  # which writes nothing
    with contextlib.ExitStack() as stack:
        answer: list[bool | None] = [None]
        try:
            if args.process_index == 0:  # for all of a torchrun
                _refuse_inputs(args)
                stack.enter_context(locked(Path(args.output_dir, LOCK), args.output_dir, "run"))
                _move_in(Path(args.output_dir))
                goes_on = _goes_on(args)
                used(args)  # before anything is loaded
                answer = [goes_on]
        finally:
            broadcast_object_list(answer)
        if answer[0] is None:
            sys.exit(2)  # the first process says why
        if answer[0]:
            # trials of several processes would wait for each other where only one has the error
            with naming(args.recipe) if args.world_size == 1 else contextlib.nullcontext():
                with _one_line_if_full(args.output_dir):
                    train(args)


def _refuse_inputs(args: StageArguments) -> None:
    """Refuse to write into a folder that the stage reads."""
    for key, place in {"data": args.data, **parents(args)}.items():
        if os.path.isdir(place) and os.path.realpath(place) == os.path.realpath(args.output_dir):
            raise ValueError(f"output_dir is the folder of {key}, {place}, and would replace it: name another")


def _goes_on(args: StageArguments) -> bool:
    """Whether there is something to train: False for a finished stage with the same recipe.

    Raises:
        ValueError: the folder holds something else, or was made with another recipe. OSError: see [`last_checkpoint`].
    """
    folder, other = Path(args.output_dir), "name another output_dir"
    stages, finished = recorded(folder), is_finished(folder)
    if finished and not stages:
        raise ValueError(f"{folder} holds a model, and no stages.yaml says of which stage it is: {other}")
    differences = _of_the_stage(args, folder, stages)
    if finished and not differences:
        print(f"{folder}: finished, and left as it is; to train anew, remove it or {other}", flush=True)
        return False
    try:
        checkpoint = last_checkpoint(args.output_dir)
    except OSError:
        if not finished:
            raise
        checkpoint = None  # what is finished does not need them
    if checkpoint and (not finished or _global_step(checkpoint) > _global_step(folder)):
        # a run that was killed, maybe on its way from a finished one
        finished, differences = False, _of_the_stage(args, checkpoint, recorded(checkpoint))
    if not differences or not (finished or checkpoint):
        return True
    shown = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in differences.items())
    state = f"{folder} {'is finished' if finished else 'holds a run'}, with another recipe: {shown}"
    fixed = FIXED | (RATES if args.lr_scheduler_type == "reduce_lr_on_plateau" else set())  # it has no way back
    if names := [name for name in differences if name in fixed]:
        raise ValueError(f"{state}. A run cannot go on with another {', '.join(names)}: {other}")
    if not args.resume_with_changes:
        more = " and more steps" if finished else ""
        raise ValueError(f"{state}. Nothing was done: {other}, or go on with --resume-with-changes{more}")
    if checkpoint is None:
        raise ValueError(f"{state}. It has no checkpoint to go on from: {other}")
    trained = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    left = args.max_steps - trained.global_step if args.max_steps > 0 else args.num_train_epochs - trained.epoch
    if left <= 0:
        raise ValueError(f"{state}. {checkpoint} has all of its steps, and that would change nothing: give more steps")
    return True


def _of_the_stage(args: StageArguments, folder: Path, stages: dict) -> dict:
    """How the recipe differs from that of `stages`, the record in `folder`. Refuses one of another stage."""
    if (stage := last_stage(stages)) not in (None, args.stage):
        raise ValueError(f"{folder} is of `lslm {stage}`: name another output_dir for `lslm {args.stage}`")
    return changed(args, stages[args.stage]) if stage else {}


def is_finished(folder: Path) -> bool:
    """Whether weights lie there, which a stage puts into its output folder at the end."""
    return any(any(folder.glob(weights)) for weights in ("*.safetensors", "pytorch_model*.bin", "*.gguf"))


def _global_step(folder: Path) -> int:
    try:
        return json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError):
        return 0


class StageTrainer(Trainer):
    """Trainer whose checkpoints say what they were made with, and which goes on with the recipe that is given now."""

    args: StageArguments
    stages: dict
    saved = False  # whether the output folder has the model that the run ends with

    def _save_checkpoint(self, model, trial):
        if self.is_world_process_zero():  # before trainer_state.json, which makes it complete
            folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            folder.mkdir(parents=True, exist_ok=True)
            save_stages(self.stages, folder)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint):
        """As the Trainer's, which takes learning rates and more from the checkpoint, whatever the recipe says."""
        given = [dict(group) for group in self.optimizer.param_groups] if checkpoint else []
        super()._load_optimizer_and_scheduler(checkpoint)
        lambdas = getattr(self.lr_scheduler, "lr_lambdas", None)
        if given and lambdas and not self.is_deepspeed_enabled:
            self.lr_scheduler.base_lrs = [group["initial_lr"] for group in given]
            for group, now, factor in zip(self.optimizer.param_groups, given, lambdas, strict=True):
                group |= {name: now[name] for name in ("initial_lr", "weight_decay", "betas", "eps") if name in now}
                group["lr"] = now["initial_lr"] * factor(self.lr_scheduler.last_epoch)
            self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what is logged

    def save_model(self, output_dir=None, _internal_call=False):
        """As the Trainer's; a push at the end does not write anew what it sends."""
        if output_dir or not self.saved:
            super().save_model(output_dir, _internal_call)

    def _push_from_checkpoint(self, checkpoint_folder):
        """As the Trainer's, which copies the weights of a checkpoint to where those of the end belong."""
        output_dir, self.args.output_dir = self.args.output_dir, str(Path(self.args.output_dir, PUSHING))
        try:
            os.makedirs(self.args.output_dir, exist_ok=True)
            super()._push_from_checkpoint(checkpoint_folder)
        finally:
            self.args.output_dir = output_dir


def say(args, text: str) -> None:
    """A line about what is being done, from one process."""
    if args.process_index == 0:
        print(text, flush=True)


def train_and_save(trainer: StageTrainer, parent: str | None) -> None:
    """Train, going on from the last checkpoint in the output folder if there is one, and save the result there, with
    the recipes that led to it (`parent`: folder or Hub id of the stage before). What was there before is replaced when
    the whole of it is written."""
    folder, first = Path(trainer.args.output_dir), trainer.is_world_process_zero()
    checkpoint = last_checkpoint(trainer.args.output_dir, tell=first)
    trainer.stages = read_stages(trainer.args, parent, checkpoint) if first else {}
    if checkpoint and first:
        find_best(checkpoint, _damage)
    trainer.accelerator.wait_for_everyone()
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state and isinstance(trainer.train_dataset, StreamedMotionText):
        trainer.train_dataset.seen_batches = state.global_step * trainer.args.gradient_accumulation_steps
    if is_over(trainer, state):
        # killed between the last step, or an early stop, and the end: the Trainer would take one step more
        say(trainer.args, f"{folder}: has its {state.global_step} steps, and saves its model")
        best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
        trainer._load_from_checkpoint(best or str(checkpoint))
        trainer.state = state
    else:
        if checkpoint:
            say(trainer.args, f"going on from {checkpoint}")
        train_until_stopped(trainer, checkpoint)
    aside = folder / SAVING
    if first:
        shutil.rmtree(aside, ignore_errors=True)
    trainer.save_model(str(aside), _internal_call=True)  # which does not push
    if first:
        trainer.state.save_to_json(str(aside / "trainer_state.json"))
        plot_losses(trainer.state.log_history, aside / "losses.png", folder.name)
        save_stages(trainer.stages, aside)  # last: now it is whole
        _move_in(folder)
    if trainer.args.push_to_hub:
        trainer.saved = True
        trainer.push_to_hub(commit_message="Model save", revision=trainer.args.hub_revision)
        shutil.rmtree(folder / PUSHING, ignore_errors=True)
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    which = f"; kept: step {best}, {trainer.args.metric_for_best_model} {trainer.state.best_metric:.4g}" if best else ""
    say(trainer.args, f"{folder}: trained for {trainer.state.global_step} steps{which}")


def _move_in(folder: Path) -> None:
    """Put what a stage has saved aside into its output folder; of what is not whole, free the disk. A kill on the way
    is no matter, since the next run does the rest."""
    aside = folder / SAVING
    if (aside / "stages.yaml").is_file():
        for path in sorted(aside.iterdir(), key=lambda path: path.name == "stages.yaml"):
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _one_line_if_full(folder: str):
    """Raise an OSError that says what to do when the disk is full; libraries say it in their own ways."""
    try:
        yield
    except Exception as error:
        causes, cause = [], error
        while cause and cause not in causes:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        if not (full := next((str(cause) for cause in causes if any(text in str(cause) for text in FULL)), None)):
            raise
        shutil.rmtree(Path(folder, SAVING), ignore_errors=True)
        raise OSError(
            errno.ENOSPC,
            f"its disk, or that of the Hugging Face cache, is full ({' '.join(full.split())[:150]}). What was saved "
            "before is whole: make room, and give the same command again",
            folder,
        ) from error


def plot_losses(history: list[dict], path: Path, title: str) -> None:
    """A picture of the losses that a Trainer logged: training, and evaluation where there was one."""
    curves = {
        name: [(entry["step"], entry[key]) for entry in history if key in entry]
        for name, key in (("training", "loss"), ("validation", "eval_loss"))
    }
    if not any(curves.values()):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 20 else None)
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.legend()
    figure.savefig(path, dpi=120)
