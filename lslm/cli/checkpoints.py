"""Which model a command uses, and how quietly. Imports transformers: for `run`, not for the help."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # Windows: memory is not limited
    resource = None

from safetensors import SafetensorError
from transformers import AutoProcessor, Pipeline, pipeline
from transformers.utils import logging

import lslm
from lslm.hub_cards.models import config_of
from lslm.modeling_lslm import LslmConfig, LslmForConditionalGeneration
from lslm.modeling_lslm.configuration_lslm import check_ranges
from lslm.training.generation_check import check_generation

# peft imports bitsandbytes where there is one, which then complains of a CPU kernel that nothing here uses
logging.get_logger("bitsandbytes.backends.cpu.ops").setLevel("ERROR")

TEMPLATE_MEMORY = 3 * 2**29  # bytes that a prompt may take, beside what the process has
SHIPPED = Path(lslm.__file__).parent.parent / "examples" / "asl_cafe" / "checkpoint"

PROCESSOR_RANGES = {"codes_per_embedding": (1, 64)}
EXTRACTOR_RANGES = {"fps": (1.0, 1000.0), "max_seconds": (0.0, float("inf")), "feature_size": (1, 2**16)}


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


def load_pipeline(model: str) -> Pipeline:
    """`pipeline("sign-translation", model)`, which tries twice, and then raises both tracebacks as one message."""
    with undamaged(model):
        config_of(model, LslmConfig)
        loaded = LslmForConditionalGeneration.from_pretrained(model)
        with memory_limit():
            check_generation(loaded)
        try:
            processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
        except (TypeError, AttributeError, KeyError) as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            raise ValueError(f"{model}: its processor_config.json is not as it was saved ({reason})") from error
        for values, ranges in ((processor, PROCESSOR_RANGES), (processor.feature_extractor, EXTRACTOR_RANGES)):
            check_ranges(vars(values), ranges, "processor_config.json: ")
        if not all(isinstance(text or "", str) for text in (processor.prompt, processor.system_prompt)):
            raise ValueError("processor_config.json: prompt or system_prompt is no text")
        extractor = processor.feature_extractor
        if not isinstance(extractor.right_handed, bool):
            raise ValueError(f"processor_config.json: right_handed is {extractor.right_handed!r:.40}: true or false?")
        for name in ("mean", "std"):
            if len(getattr(extractor, name) or [0] * extractor.feature_size) != extractor.feature_size:
                raise ValueError(f"processor_config.json: {name} is no list of {extractor.feature_size} numbers")
        if not all(value > 0 for value in processor.feature_extractor.std or ()):
            raise ValueError("processor_config.json: std holds numbers that nothing can be divided by")
        try:
            with memory_limit():
                processor(processor.prompt, motion_codes=[[[0] * loaded.config.vqvae_config.num_codebooks]])
        except Exception as error:  # whatever a template of somebody else raises
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"{model}: its chat template or tokenizer writes no prompt ({what[:300]})") from error
        return pipeline("sign-translation", model=loaded, processor=processor)


@contextmanager
def memory_limit() -> Iterator[None]:
    """A block that may allocate `TEMPLATE_MEMORY` and then gets a MemoryError, where the system limits that (Linux)."""
    if resource is None or not os.path.exists("/proc/self/statm"):
        yield
        return
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [used + TEMPLATE_MEMORY, soft, hard]
    lowest = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def undamaged(model: str):
    """Loading `model`. Raises a ValueError that names it if its weights cannot be read."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{model}: damaged checkpoint ({error}); copy it again") from error
