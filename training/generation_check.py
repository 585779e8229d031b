"""Which key of a generation_config.json transformers does not take: found by trying, on a small model. Imports what
translating needs, and no more."""

import copy
import reprlib
from collections.abc import Callable

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from ..modeling_lslm.configuration_lslm import GENERATION_RANGES, check_ranges
from ..processing.motion_errors import printable


def check_generation(model: PreTrainedModel) -> None:
    """Try the settings of `model.generation_config` on a language model of one layer with as many words.

    Raises:
        ValueError: it generates nothing with them; names the fewest that are the reason for it.
    """
    config, default = vars(model.generation_config), vars(GenerationConfig())
    check_ranges(config, GENERATION_RANGES, "generation_config.json: ")
    if (layers := config.get("assistant_early_exit")) is not None:  # transformers asks the whole model for its layers
        raise ValueError(f"generation_config.json: assistant_early_exit is {layers!r:.40}: an LSLM cannot be cut short")
    given = {key: value for key, value in config.items() if key[0] != "_" and value != default.get(key)}
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    level = logging.get_verbosity()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        small = LlamaForCausalLM(LlamaConfig(vocab_size=model.config.get_text_config().vocab_size, **sizes)).eval()

        def error(left: dict) -> Exception | None:
            try:
                settings = GenerationConfig(**copy.deepcopy(left) | {"max_new_tokens": 4})
                answer = small.generate(torch.zeros(1, 2, dtype=torch.long), generation_config=settings)
                getattr(answer, "sequences", answer)[:, 2:].tolist()
            except Exception as error:
                return error

        logging.set_verbosity_error()
        try:
            if first := error(given):
                values = fewest(given, lambda left: error(left) is not None)
                reason = f"{type(first).__name__}: {first}"
                raise ValueError(
                    f"generation_config.json: {values}: nothing is generated with it ({reason})"
                ) from first
        finally:
            logging.set_verbosity(level)


def fewest(given: dict, fails: Callable[[dict], bool]) -> str:
    """In words, those of the values `given` with which it still `fails`."""
    guilty, size = list(given), len(given) // 2
    while size:  # leaves out halves that are no matter, then quarters, ...: single keys at the end
        start = 0
        while start < len(guilty):
            left = guilty[:start] + guilty[start + size :]
            if left and fails({name: given[name] for name in left}):
                guilty = left
            else:
                start += size
        size //= 2
    return ", ".join(f"{name} is {printable(reprlib.repr(given[name]))}" for name in guilty)
