"""Which model a command uses, and how quietly. Imports transformers: for `run`, not for the help."""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers.utils import logging

import lslm

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


def quiet():
    """Leave standard error to what the user has to read."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="repaired NaN")


@contextmanager
def undamaged(model: str):
    """Loading `model`. Raises a ValueError that names it if its weights cannot be read."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{model}: damaged checkpoint ({error}); copy it again") from error
