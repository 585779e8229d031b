"""Going on where a killed run was, so that it ends where an uninterrupted one ends."""

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainerState

from ..dataset.streaming import StreamedMotionText
from ..recipe import read_stages, save_stages

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


class _WithStages(TrainerCallback):
    """Checkpoints say what they were made with."""

    def __init__(self, stages: dict):
        self.stages = stages

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            save_stages(self.stages, Path(args.output_dir, f"checkpoint-{state.global_step}"))


def train_and_save(trainer: Trainer, parent: str | None) -> None:
    """Train, going on from the last checkpoint in the output folder if there is one, and save the result there, with
    the recipes that led to it (`parent`: the folder of the stage before)."""
    checkpoint = last_checkpoint(trainer.args.output_dir, tell=trainer.is_world_process_zero())
    stages = read_stages(trainer.args, parent, checkpoint)
    trainer.add_callback(_WithStages(stages))
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state and isinstance(trainer.train_dataset, StreamedMotionText):
        trainer.train_dataset.seen_batches = state.global_step * trainer.args.gradient_accumulation_steps
    if state and 0 < trainer.args.max_steps <= state.global_step:
        # killed between the last step and the end, or not at all: the Trainer would take one step more
        folder = trainer.args.output_dir
        print(f"{folder}: has its {state.global_step} steps; to train anew, remove it or name another", flush=True)
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero():
        save_stages(stages, trainer.args.output_dir)  # before a push, which takes the folder as it is
    trainer.save_model(trainer.args.output_dir)
    trainer.save_state()
    if trainer.is_world_process_zero():
        plot_losses(trainer.state.log_history, Path(trainer.args.output_dir) / "losses.png")


def plot_losses(history: list[dict], path: Path) -> None:
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
    axes.set(xlabel="step", ylabel="loss", title=path.parent.name)
    axes.legend()
    figure.savefig(path, dpi=120)
