"""Which key of a recipe the Trainer of transformers does not take: found by trying, on a model of one weight."""

import contextlib
import copy
import dataclasses
import os
import re
import tempfile

import torch
from accelerate.state import AcceleratorState
from torch import nn
from transformers import Trainer, TrainingArguments

from .generation_check import fewest

# what a trial does not do: write, report, ask the Hub, train for long
QUIET = {"report_to": "none", "push_to_hub": False, "save_strategy": "no", "eval_strategy": "no", "max_steps": 1}
QUIET |= {"load_best_model_at_end": False, "metric_for_best_model": None, "greater_is_better": None}
QUIET |= {"disable_tqdm": True, "dataloader_num_workers": 0}


@contextlib.contextmanager
def naming(recipe: dict):
    """An error within becomes a ValueError that names the keys of `recipe` which are the reason for it.

    They are if the library's own Trainer, with a model of one weight, ends in the same error; the fewest with which it
    does are named. Where it does not, the error is left as it is: a fault of ours stays one.
    """
    try:
        yield
    except Exception as raised:
        error = raised
        names = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
        given = {name: value for name, value in recipe.items() if name in names}
        said = isinstance(error, ValueError) and any(re.search(rf"\b{name}\b", str(error)) for name in recipe)
        if said or not _same(given, error):
            raise
        values = fewest(given, lambda left: _same(left, error))
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{values}: the Trainer of transformers does not take it ({reason})") from error


def _same(given: dict, error: Exception) -> bool:
    """Whether a trial with these arguments ends in this error."""
    try:
        _trial(given)
    except Exception as again:
        return type(again) is type(error) and str(again) == str(error)
    return False


def _trial(given: dict) -> None:
    """Train a model of one weight for a step, and evaluate it."""
    AcceleratorState._reset_state()  # with the last one's precision there would be no other
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            places = {"output_dir": folder, "use_cpu": given.get("use_cpu") or not torch.cuda.is_available()}
            args = TrainingArguments(**copy.deepcopy(given) | QUIET | places)
            data = [{"inputs": torch.ones(1)}] * 2
            trainer = Trainer(model=_OneWeight(), args=args, train_dataset=data, eval_dataset=data)
            trainer.train()
            trainer.evaluate()


class _OneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs):
        outputs = self.layer(inputs)
        return {"loss": outputs.square().mean(), "logits": outputs}
