"""Going on where a killed run was, so that it ends where an uninterrupted one ends."""

import json
from pathlib import Path

from transformers import Trainer, TrainerState

from ..dataset.streaming import StreamedMotionText
from ..recipe import save_stages


def last_checkpoint(folder: str) -> Path | None:
    """The latest complete checkpoint of a run, or None.

    A kill in the middle of saving leaves one that cannot be loaded. The Trainer writes trainer_state.json last.
    """
    complete = {}
    for path in Path(folder).glob("checkpoint-*"):
        try:
            complete[json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]] = path
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return complete[max(complete)] if complete else None


def train_and_save(trainer: Trainer, parent: str | None) -> None:
    """Train, going on from the last checkpoint in the output folder if there is one, and save the result there, with
    the recipes that led to it (`parent`: the folder of the stage before)."""
    if trainer.is_world_process_zero():
        save_stages(trainer.args, parent)
    checkpoint = last_checkpoint(trainer.args.output_dir)
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
