"""What a checkpoint holds, and how it comes back: the language model's own weights only where they are not those of
`config.backbone`, and at most one LoRA adapter, the one that `config.lora` describes."""

import copy
import math
import os

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging
from transformers.utils.hub import get_checkpoint_shard_files

from .backbone_lslm import find_backbone, load_backbone
from .configuration_lslm import LocalFirst, LslmConfig
from .modeling_sign_motion import refuse_incomplete

logger = logging.get_logger(__name__)

PLAIN_LORA = {"r", "lora_alpha", "lora_dropout", "target_modules"}  # W + lora_alpha / r * B A, and no more
# What `trust_remote_code` looks for in config.json, beside what transformers writes there by itself. The files of the
# processor and the pipeline come with the processor.
AUTO_MAP = {
    "AutoModelForMultimodalLM": "modeling_lslm.LslmForConditionalGeneration",
    "AutoProcessor": "processing_lslm.SignMotionProcessor",
}
PIPELINES = {
    "sign-translation": {
        "impl": "pipeline_lslm.SignTranslationPipeline",
        "pt": ["AutoModel"],
        "type": "multimodal",
    }
}


class LslmCheckpoint(PreTrainedModel):
    """Loading and saving for [`LslmPreTrainedModel`]."""

    _was_in_training = False

    def train(self, mode: bool = True):
        self._was_in_training |= mode  # an evaluation between two steps does not end a training
        return super().train(mode)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args, config=None, state_dict=None, merge_lora: bool = True, **kwargs
    ):
        """As `PreTrainedModel.from_pretrained`; also fetches the language model's own weights from `config.backbone`
        when the checkpoint does not hold them.

        Args:
            merge_lora: fold the checkpoint's LoRA adapter into the language model's weights, as [`merge_lora`] does:
                what comes is a plain model, for use and for an adapter of one's own. An adapter without extras needs
                no peft for this, whose import takes longer than the rest of loading. False: the adapter stays beside
                the weights, to be trained on. Beside quantised weights it always stays.

        Raises:
            ValueError: weights that the model needs are not in the checkpoint, or it holds others, or numbers that are
                not finite.
        """
        hub_names = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
        hub = {name: kwargs[name] for name in hub_names if name in kwargs}
        place = pretrained_model_name_or_path
        if not isinstance(config, PreTrainedConfig):
            config = cls.config_class.from_pretrained(config or place, **hub)
            for name in set(kwargs) & set(config.to_dict()) - {"dtype", "quantization_config"}:
                setattr(config, name, kwargs.pop(name))
        report = kwargs.pop("output_loading_info", False)
        lora, backbone = None, config.backbone if state_dict is None else None
        in_parts = backbone is not None or config.lora is not None
        if in_parts:  # transformers takes weights from one folder or from a state dict
            config = copy.deepcopy(config)
            lora, config.lora = config.lora, None
            dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None) or "auto"
            kwargs["dtype"] = dtype = (config.dtype or torch.float32) if dtype == "auto" else dtype
            variant = kwargs.pop("variant", None)
            held = _weights(place, variant, hub) if state_dict is None else dict(state_dict)
            adapter = {name: held.pop(name) for name in list(held) if ".lora_" in name}
            state_dict = {name.replace(".base_layer.", "."): weight for name, weight in held.items()}
            if backbone is not None:
                state_dict = backbone_state(load_backbone(backbone, place, dtype=dtype), config) | state_dict
            if lora is not None and merge_lora and is_plain(lora) and not hasattr(config, "quantization_config"):
                _refuse_unmatched(place, _fold(adapter, state_dict, lora))
                lora = config.backbone = None
            if cls.can_generate() and kwargs.get("generation_config") is None and place is not None:
                kwargs["generation_config"] = GenerationConfig.from_pretrained(place, **hub)
        model, loaded = super().from_pretrained(
            None if in_parts else place,
            *args,
            config=config,
            state_dict=state_dict,
            output_loading_info=True,
            **kwargs,
        )
        if place is not None:
            model.name_or_path = model.config.name_or_path = str(place)  # where an adapter says what it is for
            refuse_incomplete(model, place, loaded, kwargs.get("ignore_mismatched_sizes", False))
        if lora is not None:
            model.add_lora(lora)
            if not cls.can_generate():
                adapter = {name.removeprefix("model."): weight for name, weight in adapter.items()}
            _refuse_unmatched(place, adapter.keys() ^ {name for name in model.state_dict() if ".lora_" in name})
            model.load_state_dict(adapter, strict=False)
            if merge_lora and getattr(model, "hf_quantizer", None) is None:
                model.merge_lora()
        # the loader makes new parameters, which forget that they are frozen
        getattr(model, "model", model).vqvae.requires_grad_(False)
        return (model, loaded) if report else model

    def save_pretrained(self, save_directory, *args, state_dict=None, **kwargs):
        """As `PreTrainedModel.save_pretrained`; leaves the language model's own weights out as long as they are those
        of `config.backbone`. Where they have changed the checkpoint becomes complete, and a warning says so.

        Raises:
            ValueError: peft's layers that `config.lora` does not describe, or an adapter that is merged at the moment.
        """
        if self.can_generate():
            self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **AUTO_MAP}
            self.config.custom_pipelines = LocalFirst(PIPELINES)
        adapter_alone = getattr(self, "_hf_peft_config_loaded", False)  # transformers saves nothing else then
        if not adapter_alone:
            self._check_adapter()
        if not adapter_alone:
            given = self.state_dict() if state_dict is None else state_dict
            held = {_uncompiled(name): weight for name, weight in given.items()}
            if held.keys() != given.keys():
                state_dict = held
        if self.config.backbone is not None and not adapter_alone:
            change = self._change_of_backbone(held, save_directory)
            if change:
                logger.warning(
                    f"{change}: {save_directory} holds all of its weights, and takes none from {self.config.backbone}."
                )
                self.config.backbone = None
            else:
                state_dict = {name: weight for name, weight in held.items() if _beside_backbone(name)}
        configs = (self.config, self.config.text_config, self.config.vqvae_config)
        places = [config._name_or_path for config in configs]
        try:
            for config in configs:
                config._name_or_path = ""  # do not publish local paths
            return super().save_pretrained(save_directory, *args, state_dict=state_dict, **kwargs)
        finally:
            for config, place in zip(configs, places, strict=True):
                config._name_or_path = place

    def kept_names(self) -> set[str]:
        """Names of the weights that a checkpoint holds, as long as the language model is that of `config.backbone`."""
        tied = {"lm_head.weight"} if self.config.tie_word_embeddings else set()
        return {name for name in self.state_dict() if self.config.backbone is None or _beside_backbone(name)} - tied

    def _check_adapter(self):
        """Refuse to save what would not come back: peft's layers beside those of `config.lora`, a head that is tied
        where the configuration has it apart."""
        head = self.get_output_embeddings()
        if head is not None and not self.config.tie_word_embeddings:
            if head.weight is self.get_input_embeddings().weight:
                raise ValueError(
                    "The head is the table of word embeddings, and config.tie_word_embeddings says that it is not: "
                    "set it to True before saving, in config and in config.text_config."
                )
        layers = [
            module for module in self.modules() if hasattr(module, "base_layer") or hasattr(module, "original_module")
        ]
        if not layers:
            if self.config.lora is not None:
                logger.warning(
                    "The adapter that config.lora describes is no longer in the model: merged, or taken out by "
                    "PeftModel, which merges the active adapter alone. What is saved is the model as it is."
                )
            self.config.lora = None
            return
        if self.config.lora is None or not all(_described(layer, self.config.lora) for layer in layers):
            raise ValueError(
                "The language model holds peft layers that an LSLM checkpoint does not describe. Save the adapter with "
                "PeftModel.save_pretrained, or merge it first (PeftModel.merge_and_unload)."
            )
        if any(layer.merged for layer in layers):
            raise ValueError(
                "The LoRA adapter is merged at the moment, and loading would add it again: unmerge it before saving "
                "(PeftModel.unmerge_adapter), or fold it in for good (model.merge_lora())."
            )

    def _change_of_backbone(self, state: dict[str, torch.Tensor], save_directory) -> str | None:
        """In words, how the language model's weights in `state` differ from those that loading would take from
        `config.backbone` in `save_directory`; None where they are the same to the bit, or are its float32 weights in
        another dtype."""
        if getattr(self, "hf_quantizer", None) is not None:
            return "The language model is quantised"
        trained = [
            name
            for name, weight in self.named_parameters()
            if weight.requires_grad and not name.removeprefix("model.").startswith(("projector.", "vqvae."))
        ]
        if self._was_in_training and any(".lora_" not in name for name in trained):
            # also before its first step: who goes back to this checkpoint must find the weights in it
            return "The language model is being trained"
        if any(weight.device.type == "meta" for weight in state.values()):
            try:  # so that transformers does not take it for something every checkpoint needs
                from accelerate.utils.modeling import get_state_dict_offloaded_model
            except ImportError as error:
                raise ImportError("saving offloaded weights needs accelerate: pip install accelerate") from error

            state = get_state_dict_offloaded_model(self)
        parameters = {_uncompiled(name): weight for name, weight in self.named_parameters(remove_duplicate=False)}
        held = {}
        for name, weight in state.items():
            parameter = parameters.get(name)
            part = _plain(name).partition(".")[0]
            if parameter is not None and part in ("language_model", "lm_head") and ".lora_" not in name:
                held[_plain(name)] = parameter if hasattr(parameter, "quant_state") else weight
        changed: set[str] = set()
        for dtype in dict.fromkeys((self.dtype, torch.float32)):  # float32: weights that were cast after loading
            try:
                places = self.name_or_path, os.path.abspath(save_directory)
                here, there = (os.path.realpath(find_backbone(self.config.backbone, place)) for place in places)
                if here != there:
                    return f"From there, {self.config.backbone} is not {here}"
                backbone = load_backbone(self.config.backbone, self.name_or_path, dtype=dtype)
            except (OSError, ValueError) as error:
                return f"Whether the language model has changed cannot be told ({error})"
            expected = {_plain(name): weight for name, weight in backbone_state(backbone, self.config).items()}
            if "lm_head.weight" not in held:  # there is none, or it is the table of word embeddings
                del expected["lm_head.weight"]
            changed = held.keys() ^ expected.keys()
            changed |= {name for name in held.keys() & expected if not _same(held[name], expected[name])}
            if not changed:
                return None
        return f"The language model has changed ({_some(changed)})"

    def _need_weights(self, what: str):
        if any(parameter.device.type == "meta" for parameter in self.parameters()):
            raise ValueError(f"Cannot {what} where weights are offloaded: load the model without device_map first")

    def add_lora(self, lora: dict):
        """Put an untrained LoRA adapter into the language model.

        Args:
            lora: arguments of `peft.LoraConfig`, `target_modules` as a list of layer names.
        """
        self._need_weights("add a LoRA adapter")
        self.config.lora = self.base_model.config.lora = dict(lora)
        self.base_model.inject_lora()
        self._check_adapter()
        return self

    @torch.no_grad()
    def merge_lora(self):
        """Fold the LoRA adapter into the language model's weights, in place; checkpoints are complete from then on."""
        self._need_weights("merge a LoRA adapter")
        if self.config.lora is not None:
            try:  # so that transformers does not take it for something every checkpoint needs
                from peft.tuners.lora import LoraLayer
            except ImportError as error:
                raise ImportError("merging a LoRA adapter needs peft: pip install peft") from error

            for name, module in list(self.base_model.language_model.named_modules()):
                if isinstance(module, LoraLayer):
                    module.merge()
                    self.base_model.language_model.set_submodule(name, module.get_base_layer())
        self.config.lora = self.config.backbone = None
        return self


def _weights(place, variant: str | None, hub: dict) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, in one file or in several, under the names they have in the model with the head."""

    def file(name):
        stem, _, suffix = name.rpartition(".")
        return cached_file(place, f"{stem}.{variant}.{suffix}" if variant else name, **hub)

    try:
        files = [file(SAFE_WEIGHTS_NAME)]
    except OSError as error:
        try:
            files, _ = get_checkpoint_shard_files(place, file(SAFE_WEIGHTS_INDEX_NAME), **hub)
        except OSError:
            raise error from None
    weights = {name: weight for file in files for name, weight in load_file(file).items()}
    return {name if name.startswith(("model.", "lm_head.")) else f"model.{name}": w for name, w in weights.items()}


def _beside_backbone(name: str) -> bool:
    """Whether a weight is in a checkpoint that leaves the language model to its backbone."""
    return name.removeprefix("model.").startswith(("projector.", "vqvae.")) or ".lora_" in name


def _uncompiled(name: str) -> str:
    """The name of a weight without what `torch.compile` of a part puts into it."""
    return name.replace("_orig_mod.", "")


def _plain(name: str) -> str:
    """The name of a weight whether or not there is a head around the model and an adapter in it."""
    return name.removeprefix("model.").replace(".base_layer.", ".")


def _some(names) -> str:
    """The first names, and how many there are."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _same(held: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether `held`, of any dtype, on any device, in 4 bits or sharded, stands for the weights `expected`."""
    if hasattr(held, "quant_state"):
        kind = {name: getattr(held, name) for name in ("quant_type", "blocksize", "compress_statistics")}
        again = type(held)(expected.to(held.quant_state.dtype), requires_grad=False, **kind).to(held.device)
        return torch.equal(again.data, held.data)
    held = held.full_tensor() if hasattr(held, "full_tensor") else held
    return torch.equal(held, expected.to(held.device, held.dtype))


def backbone_state(source: PreTrainedModel, config: LslmConfig) -> dict[str, torch.Tensor]:
    """The weights of a causal language model under the names they have inside LSLM.

    Rows for the motion tokens are added as the mean of the others: the same on every load, so nobody has to store them.
    That of `<motion>` is a hair longer.
    """
    state = {}
    for name, weight in source.state_dict().items():
        if name in ("model.embed_tokens.weight", "lm_head.weight") and len(weight) < config.text_config.vocab_size:
            missing = config.text_config.vocab_size - len(weight)
            rows = weight.mean(0, keepdim=True).repeat(missing, 1)
            if config.motion_token_id >= len(weight):
                # the placeholder's row is never read, but `_placeholders` must tell it from the rows beside it
                rows[config.motion_token_id - len(weight)] *= 1 + 2**-6
            weight = torch.cat([weight, rows])
        if name != "lm_head.weight":
            state[f"model.language_model.{name.removeprefix('model.')}"] = weight
        elif not config.tie_word_embeddings:
            state[name] = weight
    if config.tie_word_embeddings:  # accelerate looks for a head that lies on disk by this name
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    return state


def is_plain(lora: dict) -> bool:
    """Whether these arguments of `peft.LoraConfig` say all that [`_fold`] needs, and no more."""
    return PLAIN_LORA - {"lora_dropout"} <= set(lora) <= PLAIN_LORA and not isinstance(lora["target_modules"], str)


def _described(layer: nn.Module, lora: dict) -> bool:
    """Whether a layer of peft's has one adapter, with the rank and the scale that `lora` gives it."""
    if set(getattr(layer, "lora_A", ())) != {"default"}:
        return False
    if lora.get("rank_pattern") or lora.get("alpha_pattern"):  # a rank and a scale for each layer
        return True
    rank, alpha = lora.get("r", 8), lora.get("lora_alpha", 8)  # peft's defaults
    scale = alpha / (math.sqrt(rank) if lora.get("use_rslora") else rank)
    return layer.r["default"] == rank and layer.scaling["default"] == scale


def _fold(adapter: dict[str, torch.Tensor], state: dict[str, torch.Tensor], lora: dict) -> set[str]:
    """Add LoRA layers to the weights they lie beside, in `state`; -> the names of layers that one has and the other
    not."""
    layers = tuple(f".{layer}.weight" for layer in lora["target_modules"])
    names = [name for name in state if name.startswith("model.language_model.") and name.endswith(layers)]
    pairs = {name: [f"{name.removesuffix('.weight')}.lora_{part}.default.weight" for part in "AB"] for name in names}
    unmatched = adapter.keys() ^ {name for pair in pairs.values() for name in pair}
    for name, (a, b) in pairs.items() if not unmatched else ():
        state[name] = state[name] + (adapter[b] @ adapter[a] * (lora["lora_alpha"] / lora["r"])).to(state[name].dtype)
    return unmatched


def _refuse_unmatched(place, names: set[str]):
    if names:
        raise ValueError(f"The LoRA adapter in {place} is not the one that its config.json describes: {_some(names)}")


__all__ = ["LslmCheckpoint", "backbone_state", "is_plain"]
