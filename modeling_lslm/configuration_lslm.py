"""Configurations of the VQ-VAE sign tokenizer and of LSLM."""

import re
import sys

import transformers
from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.utils import logging

from .confidence_lslm import EVIDENCE

TESTED_WITH = "5.16", "5.24"  # the first and the last minor release of transformers that all tests passed on


def _remark_on_a_newer_library():
    """Say so when code beside weights, which stays as it was published, runs on a library that nobody tried it on."""
    major, minor = map(int, TESTED_WITH[1].split("."))
    here = re.match(r"(\d+)(?:\.(\d+))?", transformers.__version__)
    newer = here is not None and (int(here[1]), int(here[2] or 0)) > (major, minor)
    if newer and __name__.startswith("transformers_modules"):
        logging.get_logger(__name__).warning_once(
            f"The code beside these weights was tested with transformers {' to '.join(TESTED_WITH)}; this is "
            f"{transformers.__version__}. Where it fails: pip install 'transformers<{major}.{minor + 1}'. "
            "Who published it can renew it: lslm publish --code-only."
        )


_remark_on_a_newer_library()


# What configurations of earlier checkpoints say, and nothing ever changed: the code has these values.
CONSTANTS = {"dilation_growth_rate": 3, "projector_hidden_act": "gelu"}


# What a configuration may say, so that one from a stranger ends in a line and not in exhausted memory.
RANGES = {
    "feature_size": (1, 2**16),
    "hidden_size": (1, 2**16),
    "codebook_size": (1, 2**20),
    "code_dim": (1, 2**16),
    "num_quantizers": (1, 64),
    "num_downsamples": (0, 8),
    "num_res_blocks": (0, 12),
    "projector_hidden_size": (1, 2**16),
    "codes_per_embedding": (1, 64),
    "motion_token_id": (0, 2**24),
    "commitment_weight": (0.0, 1e6),
    "position_weight": (0.0, 1e6),
    "ema_decay": (0.0, 1.0),
    "dead_code_threshold": (0.0, 1.0),
}
# the same of the language model, whichever it is
TEXT_RANGES = {
    "vocab_size": (1, 2**24),
    "hidden_size": (1, 2**16),
    "intermediate_size": (1, 2**20),
    "num_hidden_layers": (1, 512),
    "num_attention_heads": (1, 2**12),
    "num_key_value_heads": (1, 2**12),
    "head_dim": (1, 2**12),
    "max_position_embeddings": (1, 2**30),
    "num_labels": (0, 2**16),
}
GENERATION_RANGES = {"num_beams": (1, 64), "num_return_sequences": (1, 64), "max_new_tokens": (1, 2**20)}
GENERATION_RANGES |= {"encoder_no_repeat_ngram_size": (0, 2**10)}  # it keeps as many lists of them as it is large
GENERATION_RANGES |= dict.fromkeys(("bos_token_id", "pad_token_id"), (0, 2**24))
LORA_RANGES = {"r": (1, 2**14), "lora_alpha": (0.0, 2.0**20), "lora_dropout": (0.0, 1.0)}


def _check(config: PreTrainedConfig, kwargs: dict) -> None:
    """Refuse numbers outside of `RANGES` and other values of `CONSTANTS`, which `kwargs` lose."""
    for name, value in CONSTANTS.items():
        if kwargs.pop(name, value) != value:
            raise ValueError(f"{name} cannot be changed: LSLM has {value!r}")
    check_ranges(vars(config), RANGES)


def check_ranges(values: dict, ranges: dict, what: str = "") -> None:
    """Refuse what is there and not a number from the least to the most; a whole one where these are."""
    for name, (least, most) in ranges.items():
        value, whole = values.get(name), isinstance(least, int)
        told = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if value is not None and not (told and least <= value <= most):
            number = "a whole number" if whole else "a number"
            raise ValueError(f"{what}{name} is {value!r:.40}, expected {number} from {least} to {most}")


def _check_lora(lora: dict) -> None:
    """Refuse numbers out of all bounds, and what peft would take for the pattern of a search that does not end."""
    if not isinstance(lora, dict):
        raise ValueError(f"lora is {str(lora)[:40]!r}, expected arguments of peft.LoraConfig")
    check_ranges(lora, LORA_RANGES, "lora: ")
    modules = lora.get("target_modules") or []
    names = (
        [modules] if isinstance(modules, str) else list(modules) if isinstance(modules, (list, tuple, set)) else [None]
    )
    names += [name for key in ("rank_pattern", "alpha_pattern") for name in lora.get(key) or {}]
    for name in names:  # each is a regular expression to peft; some, such as (a+)+$, are never done
        if not isinstance(name, str) or re.search(r"\)[*+{]", name) or len(re.findall("[*+{]", name)) > 3:
            raise ValueError(f"lora: {str(name or modules)[:40]!r} is no name of layers, and no plain pattern of names")


class _NoKernels:
    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """A config.json without a kernel of the Hub, which is code: whoever loads asks for that, not who published; and
        whose values are of the kinds that transformers takes for granted."""
        for name in ("text_config", "vqvae_config", "custom_pipelines", "auto_map", "lora", "languages", "calibration"):
            if not isinstance(config_dict.get(name), (dict, PreTrainedConfig, type(None))):
                raise ValueError(f"config.json has {name} {str(config_dict[name])[:40]!r}, expected names and values")
        if "text_config" in cls.sub_configs and config_dict.get("text_config") is None:
            raise ValueError("config.json has no text_config: it does not say which language model it is")
        parts = [config_dict, config_dict.get("text_config"), config_dict.get("vqvae_config")]
        for part in filter(lambda part: isinstance(part, dict), parts):
            for name in ("dtype", "torch_dtype"):
                if not re.fullmatch(r"(b?float|int|uint)\d+\w*|None", str(part.get(name)).removeprefix("torch.")):
                    raise ValueError(f"config.json has {name} {str(part[name])[:40]!r}, expected one such as 'float32'")
            for name in ("attn_implementation", "_attn_implementation", "experts_implementation"):
                if "/" in str(part.get(name)):
                    raise ValueError(f"config.json has {name} {part[name]!r}: kernels are for from_pretrained(...)")
        return super().from_dict(config_dict, **kwargs)


@strict
class SignMotionVQVAEConfig(_NoKernels, PreTrainedConfig):
    """Shape and training objective of [`SignMotionVQVAE`].

    The defaults are the paper's (section 3.1, Table 9: 1024 codes) on MotionGPT's network: width 512, depth 3, dilation
    3, stride 4 in all, codes of 512 numbers.

    Args:
        feature_size: numbers per frame of the (normalised) motion features; 623 for 52 joints.
        hidden_size: width of the convolutions.
        codebook_size: number of codes.
        code_dim: numbers per code.
        partwise: the body, the left and the right hand each have an encoder, a codebook of `codebook_size` and a
            decoder of their own (52 joints only); False is the paper's one codebook.
        num_quantizers: residual quantisation: each further codebook says what the ones before it left over; 1 is the
            paper's.
        linear_path: beside its convolutions the encoder has a linear map from the frames of a code to the latent, and
            the decoder one back. What training never showed, such as another signer's hands, comes through it
            undistorted; False is the paper's network.
        num_downsamples: how often time is halved; one code stands for `2 ** num_downsamples` frames.
        num_res_blocks: residual blocks after each halving (and before each doubling).
        quantizer: `"gradient"`, the codebook learns by the second term of equation 2, or `"ema"`, it follows the
            moving average of what is assigned to it and codes that fall out of use are moved (MotionGPT's `ema_reset`).
        commitment_weight: beta of equation 2. The paper does not give it; 0.25 is that of the VQ-VAE paper.
        position_weight: weight of the joint positions within the L1 term. 1 is the paper's equation 2.
        ema_decay: decay of the moving averages (`"ema"`).
        dead_code_threshold: a code used less than this fraction of an even share is moved onto a latent of the batch
            (`"ema"`).
        languages: what is "signed" in the training data and "written" in their texts: code -> name of each language, as
            `{"signed": {"gsg": "German Sign Language"}, "written": {"de": "German"}}`; None: not known.
    """

    model_type = "sign_motion_vqvae"
    base_config_key = "vqvae_config"
    _auto_class = "AutoConfig"  # checkpoints carry the code

    feature_size: int = 623
    hidden_size: int = 512
    codebook_size: int = 1024
    code_dim: int = 512
    partwise: bool = False
    num_quantizers: int = 1
    linear_path: bool = False
    num_downsamples: int = 2
    num_res_blocks: int = 3
    quantizer: str = "gradient"
    commitment_weight: float | int = 0.25
    position_weight: float | int = 1.0
    ema_decay: float | int = 0.99
    dead_code_threshold: float | int = 0.2
    languages: dict | None = None

    def __post_init__(self, **kwargs):
        _check(self, kwargs)
        super().__post_init__(**kwargs)
        if self.quantizer not in ("gradient", "ema"):
            raise ValueError(f'quantizer must be "gradient" or "ema", not {self.quantizer!r}')
        if self.codebook_size * self.code_dim * self.num_codebooks > 2**27 or self.hidden_size > 2**13:
            raise ValueError(
                f"hidden_size {self.hidden_size} and {self.num_codebooks} codebooks of {self.codebook_size} times "
                f"{self.code_dim} numbers are more than a sign tokenizer has: 8192, and 2**27 in all"
            )
        if self.partwise and self.feature_size != 623:
            raise ValueError(f"partwise needs the 623 features of 52 joints, not {self.feature_size}")

    @property
    def num_parts(self) -> int:
        """One, or body, left hand and right hand."""
        return 3 if self.partwise else 1

    @property
    def num_codebooks(self) -> int:
        """C, `num_quantizers` for each part: a code is a choice from each."""
        return self.num_parts * self.num_quantizers

    @property
    def downsample_factor(self) -> int:
        """Frames per code."""
        return 2**self.num_downsamples


class LocalFirst(dict):
    """`config.custom_pipelines` whose tasks count as absent while the same task is registered in this process.

    `pipeline()` prefers `custom_pipelines` over the registry and then asks for `trust_remote_code`, even when the
    package that implements the task has been imported.
    """

    def __contains__(self, task):
        module = sys.modules.get("transformers.pipelines")
        return super().__contains__(task) and not (module and task in module.PIPELINE_REGISTRY.supported_tasks)


@strict
class LslmConfig(_NoKernels, PreTrainedConfig):
    """A frozen VQ-VAE sign tokenizer, a two-layer MLP projector and a causal language model.

    Args:
        vqvae_config: the sign tokenizer.
        text_config: the language model (any Llama or Qwen2 architecture).
        motion_token_id: id of the `<motion>` placeholder; 128259 with Llama 3, 151668 with Qwen2.5 (paper, Table 9).
        motion_input: how motion reaches the language model. `"projector"`: the vectors of its codes through the
            MLP (the paper). `"latents"`: the same, but with what the encoder says before it is rounded to codes, where
            there is motion and not only codes. `"vocabulary"`: each code is a new word with an embedding of its own,
            which also competes in the softmax of the training loss (MotionGPT, the paper's baseline).
        projector_hidden_size: width between the two layers; None means that of the language model.
        codes_per_embedding: how many codes, one after the other, make a motion embedding: prompts get shorter, and a
            sign is longer than the frames of one code. 1 is the paper's.
        backbone: where the language model's own weights come from, when the checkpoint does not hold them (see
            [`load_backbone`]); None when the checkpoint is complete.
        lora: arguments of `peft.LoraConfig` when the language model carries a LoRA adapter, else None.
        languages: as of the sign tokenizer, of the data that the language model was trained on.
        calibration: how confidence follows from what the model says (`lslm evaluate --calibrate`): the numbers of
            [`confidences`]; None: never measured.
    """

    model_type = "lslm"
    _auto_class = "AutoConfig"  # checkpoints carry the code
    # what Trainer does not hand to `compute_metrics`: the cache, by either name that transformers has had for it, and
    # what has another number of rows than the batch
    keys_to_ignore_at_inference = ["cache", "past_key_values", "motion_embeds"]
    sub_configs = {"vqvae_config": SignMotionVQVAEConfig, "text_config": AutoConfig}

    vqvae_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    motion_token_id: int = 128259
    motion_input: str = "projector"
    projector_hidden_size: int | None = None
    codes_per_embedding: int = 1
    backbone: str | None = None
    lora: dict | None = None
    languages: dict | None = None
    calibration: dict | None = None
    tie_word_embeddings: bool = False

    @classmethod
    def joined(cls, text_config: PreTrainedConfig, vqvae_config: PreTrainedConfig, vocab_size: int, **kwargs):
        """Of a language model and a sign tokenizer that are put together: `vocab_size` tokens at least, the motion
        tokens included. Further arguments as of the class."""
        text = text_config.to_dict()
        text["vocab_size"] = max(vocab_size, text_config.vocab_size)  # Qwen has spare rows: never shrink
        return cls(vqvae_config=vqvae_config.to_dict(), text_config=text, **kwargs)

    def __post_init__(self, **kwargs):
        _check(self, kwargs)
        if self.lora is not None:
            _check_lora(self.lora)
        if self.calibration is not None:
            found = {name for name, number in self.calibration.items() if number is not None}
            if found != {"bias", *EVIDENCE}:
                told, needed = (", ".join(sorted(names)) or "nothing" for names in (found, {"bias", *EVIDENCE}))
                raise ValueError(f"calibration has {told}, not {needed}; make another: `lslm evaluate --calibrate`")
            check_ranges(self.calibration, dict.fromkeys(self.calibration, (-1e15, 1e15)), "calibration: ")
        if self.motion_input not in ("projector", "latents", "vocabulary"):
            raise ValueError(f'motion_input must be "projector", "latents" or "vocabulary", not {self.motion_input!r}')
        if self.vqvae_config is None or isinstance(self.vqvae_config, dict):
            self.vqvae_config = SignMotionVQVAEConfig(**(self.vqvae_config or {}))
        if self.motion_input == "vocabulary" and self.vqvae_config.num_codebooks > 1:
            raise ValueError('motion_input="vocabulary" needs a sign tokenizer with one codebook: each code is a word')
        if self.motion_input == "vocabulary" and self.codes_per_embedding > 1:
            raise ValueError('motion_input="vocabulary" makes a word of each code: codes_per_embedding must be 1')
        if self.text_config is None or isinstance(self.text_config, dict):
            text = dict(self.text_config or {})
            check_ranges(text, TEXT_RANGES, "text_config: ")
            kind = text.pop("model_type", "llama")
            if kind == self.model_type or kind not in list(CONFIG_MAPPING):
                raise ValueError(f"text_config has model_type {kind!r}, expected a language model such as 'llama'")
            self.text_config = CONFIG_MAPPING[kind](**text)
        # Tying is the language model's business, but transformers reads it at the top: without this the head of a tied
        # backbone is silently left at its random start.
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        custom_pipelines = kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        if custom_pipelines:
            self.custom_pipelines = LocalFirst(custom_pipelines)


__all__ = ["LslmConfig", "SignMotionVQVAEConfig"]
