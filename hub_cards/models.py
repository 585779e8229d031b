"""What a folder or a Hub id that somebody names as a model is."""

import os
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from ..modeling_lslm import LslmConfig, SignMotionVQVAEConfig

KINDS = {
    LslmConfig.model_type: "a model that translates, of lslm align, instruct or adapt",
    SignMotionVQVAEConfig.model_type: "a sign tokenizer, of lslm tokenizer",
}


def config_of(place: str, *kinds: type) -> PretrainedConfig:
    """The configuration of a model of ours, before anything else of it is read.

    Args:
        place: folder or Hub id.
        kinds: what it may be: `LslmConfig`, a model that translates, `SignMotionVQVAEConfig`, a sign tokenizer.

    Raises:
        FileNotFoundError: there is no model. ValueError: it is of another kind.
    """
    expected = " or ".join(KINDS[kind.model_type] for kind in kinds)
    folder = Path(place)
    if folder.exists() and not (folder / "config.json").is_file():
        last = max(folder.glob("checkpoint-*/config.json"), default=None, key=os.path.getmtime)
        way = f"; its last checkpoint is {last.parent}" if last else ": has its stage been run to its end?"
        raise FileNotFoundError(f"no model in {place}, which has no config.json: expected {expected}{way}")
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)  # None asks, and waits for an answer
    except (OSError, ValueError) as error:
        if folder.exists():
            raise
        raise no_model(place, error) from error
    if not isinstance(config, kinds):
        what = KINDS.get(config.model_type, f"a model of type {config.model_type}")
        raise ValueError(f"{place} is {what}: expected {expected}")
    return config


def no_model(place: str, error: Exception) -> FileNotFoundError:
    """What to raise where there is no such folder, and the Hub's client says why it has none either."""
    why = " ".join(str(error).split())[:200]
    return FileNotFoundError(f"no model at {place}: no such folder here, and none on the Hub ({why})")
