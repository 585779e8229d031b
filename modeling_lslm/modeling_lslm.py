"""LSLM: a language model that reads sign motion (sections 3.2 and 3.3 of the paper).

Motion features -> frozen VQ-VAE -> codes -> codebook vectors -> two-layer MLP -> motion embeddings, which take the
place of the `<motion>` placeholders among the word embeddings.

Shapes: B prompts, S tokens, N clips, T frames, L codes, C codebooks, H hidden size of the language model.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModel, Cache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import (
    TransformersKwargs,
    can_return_tuple,
)

from .backbone_lslm import load_backbone
from .checkpoint_lslm import LslmCheckpoint, backbone_state, is_plain
from .confidence_lslm import confidences, words_of
from .configuration_lslm import LslmConfig
from .modeling_sign_motion import SignMotionVQVAE, float32_by_default

MOTION_INPUTS = ("input_features", "input_features_mask", "motion_codes", "motion_latents")
# What the cache of keys and values is called changes with the release of transformers (`past_key_values` until 5.23,
# `cache` from 5.24 on), and this file is beside weights that nobody renews. So outputs are those of the library with a
# field more, filled with whatever the language model's output holds. A cache may be given under either name, and goes
# on under that of the library at hand; where that is a third one (None here), `generate` and the language model still
# hand theirs to each other, through arguments that are not named here.
CACHE_NAMES = ("cache", "past_key_values")
CACHE_NAME = next((name for name in CACHE_NAMES if name in BaseModelOutputWithPast.__dataclass_fields__), None)


def _cache_argument(**given) -> dict:
    """The cache that a caller named in one of two ways, as the library at hand names it."""
    given = {name: cache for name, cache in given.items() if cache is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are two names of one thing; give one of them")
    return {CACHE_NAME or name: cache for name, cache in given.items()}


@dataclass
class LslmCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Output of [`LslmForConditionalGeneration`]: loss, (B, S, vocabulary) logits, cache, optional (B, S, H) states and
    attentions of the language model, and the (sum of L, H) motion embeddings that were put in."""

    motion_embeds: torch.FloatTensor | None = None


@dataclass
class LslmModelOutputWithPast(BaseModelOutputWithPast):
    """Output of [`LslmModel`]: (B, S, H) last states, and the (sum of L, H) motion embeddings that were put in."""

    motion_embeds: torch.FloatTensor | None = None


class LslmProjector(nn.Module):
    """phi of section 3.2: (..., L, D) codebook vectors -> (..., ceil(L / K), H) motion embeddings, each of K =
    `codes_per_embedding` codes; what the last one lacks are zeros."""

    def __init__(self, config: LslmConfig):
        super().__init__()
        hidden = config.projector_hidden_size or config.text_config.hidden_size
        self.stack = config.codes_per_embedding
        size = config.vqvae_config.num_parts * config.vqvae_config.code_dim
        self.linear_1 = nn.Linear(self.stack * size, hidden)
        self.linear_2 = nn.Linear(hidden, config.text_config.hidden_size)

    def forward(self, codebook_vectors: torch.Tensor) -> torch.Tensor:
        weight = self.linear_1.weight
        if weight.is_floating_point():  # 4-bit weights are uint8
            codebook_vectors = codebook_vectors.to(weight.dtype)
        if self.stack > 1:
            lacking = -codebook_vectors.shape[-2] % self.stack
            codebook_vectors = nn.functional.pad(codebook_vectors, (0, 0, 0, lacking))
            codebook_vectors = codebook_vectors.unflatten(-2, (-1, self.stack)).flatten(-2)
        return self.linear_2(nn.functional.gelu(self.linear_1(codebook_vectors)))

    @torch.no_grad()
    def start(self, codebook: torch.Tensor, std: float):
        """Fresh weights whose outputs over `codebook` (K, D) have the standard deviation `std`: as large as word
        embeddings, so that the language model neither overlooks nor stumbles over them."""
        for linear in (self.linear_1, self.linear_2):
            init.xavier_uniform_(linear.weight)
            init.zeros_(linear.bias)
        # codebooks differ in scale by orders of magnitude: fold theirs into the first layer
        self.linear_1.weight.div_(codebook.std())
        self.linear_2.weight.mul_(std / self(codebook).std())


class LslmMotionWords(nn.Module):
    """The paper's baseline in the projector's place (`motion_input="vocabulary"`): each of the K codes is a new word,
    with one row of H numbers for the way in (from `codes`) and, as in language models with tied embeddings, for the way
    out (from `states`, to K logits)."""

    def __init__(self, config: LslmConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vqvae_config.codebook_size, config.text_config.hidden_size))

    def forward(self, codes: torch.Tensor | None = None, states: torch.Tensor | None = None) -> torch.Tensor:
        if states is not None:
            return states @ self.weight.to(states.dtype).T
        return nn.functional.embedding(codes, self.weight)

    @torch.no_grad()
    def start(self, codebook: torch.Tensor, std: float):
        """Fresh rows with the standard deviation `std` of word embeddings. What the `codebook` knows does not enter."""
        init.normal_(self.weight, std=std)


def _motion_input(config: LslmConfig) -> nn.Module:
    return LslmMotionWords(config) if config.motion_input == "vocabulary" else LslmProjector(config)


class LslmPreTrainedModel(LslmCheckpoint):
    config: LslmConfig
    config_class = LslmConfig
    base_model_prefix = "model"
    _auto_class = "AutoModel"  # checkpoints carry the code
    input_modalities = ("audio", "text")  # transformers has no word for motion; audio is the modality treated alike
    supports_gradient_checkpointing = True
    _no_split_modules = ["SignMotionVQVAE"]
    _skip_keys_device_placement = list(CACHE_NAMES)
    _keep_in_fp32_modules_strict = ["projector", "lora_A", "lora_B"]  # and those of the sign tokenizer
    _keep_in_fp32_modules = [".*projector", ".*lora_A", ".*lora_B"]  # the same, as quantizers read names
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, LslmMotionWords):
            init.normal_(module.weight, std=self.config.get_text_config().initializer_range)


class LslmModel(LslmPreTrainedModel):
    """Language model, projector and sign tokenizer, without the head."""

    _keys_to_ignore_on_load_unexpected = ["lm_head.weight"]  # of a checkpoint with a head

    def __init__(self, config: LslmConfig):
        super().__init__(config)
        # The language model comes first: transformers takes a model's dtype from its first parameter, and the sign
        # tokenizer is float32 always.
        self.language_model = AutoModel.from_config(config.text_config)
        with float32_by_default():
            self.projector = _motion_input(config)
        self.vqvae = SignMotionVQVAE._from_config(config.vqvae_config).requires_grad_(False)
        self.post_init()
        if config.lora is not None:
            self.inject_lora()

    def inject_lora(self):
        """Put the LoRA layers of `config.lora` into the language model."""
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(
                "A LoRA adapter beside the language model's weights needs peft: pip install peft"
                + (" (or merge_lora=True)" if is_plain(self.config.lora) else "")
            ) from error

        try:
            lora = LoraConfig(**self.config.lora)
        except TypeError as error:
            raise ValueError(f"lora: {error}; expected arguments of peft.LoraConfig") from error
        inject_adapter_in_model(lora, self.language_model)
        for name, module in self.language_model.named_modules():
            if "lora_" in name:
                module.float()
                module._is_hf_initialized = True  # LoRA has its own start (B = 0), which `init_weights` would undo

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.language_model.set_input_embeddings(value)

    def get_motion_embeds(
        self,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        motion_latents: torch.Tensor | None = None,
    ) -> torch.FloatTensor:
        """Motion to what the language model sees of it.

        Args:
            input_features: (N, T, F) normalised motion features with `input_features_mask` (N, T), or
            motion_codes: (N, L, C) int64, -100 past each clip's end.
            motion_latents: (N, L, D) of these codes, zeros past each clip's end, for `motion_input="latents"`; without
                them it reads the codes' own vectors. Others do not look at them.

        Returns:
            (sum of the clips' ceil(L / codes_per_embedding), H) motion embeddings, clip after clip, in the projector's
            dtype.
        """
        if motion_codes is None:
            encoding = self.vqvae.encode(input_features, input_features_mask)
            motion_codes, motion_latents = encoding.codes, encoding.latents
        if motion_codes.ndim != 3:
            shape = tuple(motion_codes.shape)
            raise ValueError(f"motion_codes have the shape {shape}, expected (clips, length, codebooks)")
        valid = motion_codes[:, :: self.config.codes_per_embedding, 0] >= 0
        if self.config.motion_input == "vocabulary":
            return self.projector(motion_codes[valid][:, 0])
        reads_latents = self.config.motion_input == "latents" and motion_latents is not None
        vectors = motion_latents if reads_latents else self.vqvae.embed(motion_codes).detach()
        embeds = self.projector(vectors)
        return embeds[valid.to(embeds.device)]

    def embed_prompts(
        self,
        input_ids: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        motion_latents: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> tuple[torch.FloatTensor, torch.FloatTensor | None]:
        """Prompts to what the language model reads: (B, S, H), with the motion embeddings in the placeholders' places,
        and these by themselves. An engine that takes embeddings (vLLM's `prompt_embeds`) needs no more.

        Args and errors as in [`LslmForConditionalGeneration.forward`].
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        given = input_features is not None or motion_codes is not None
        motion_embeds, num_embeds = None, 0
        if given:
            motion_embeds = self.get_motion_embeds(input_features, input_features_mask, motion_codes, motion_latents)
            motion_embeds = motion_embeds.to(inputs_embeds.device, inputs_embeds.dtype)
            num_embeds = motion_embeds.shape[0]  # len() would fix it in a graph
        elif cache is not None and inputs_embeds.shape[1] == 1:  # a step of decoding: no question to the device
            return inputs_embeds, None
        placeholders = self._placeholders(input_ids, inputs_embeds)
        if torch.compiler.is_compiling():  # a graph cannot branch on a number
            if given:
                torch._assert_async(placeholders.sum() == num_embeds, "as many <motion> as motion embeddings")
        elif (num_placeholders := int(placeholders.sum())) != num_embeds:
            num_cached = 0 if cache is None else int(cache.get_seq_length())
            raise ValueError(
                f"The prompts hold {num_placeholders} <motion> placeholders (id {self.config.motion_token_id}) but the "
                f"motion has {num_embeds} embeddings. "
                + (
                    f"The cache holds {num_cached} tokens with their motion: give only what came after them."
                    if num_cached
                    else "Build both with the same SignMotionProcessor call, and do not truncate the prompt."
                    if given
                    else "Give what SignMotionProcessor makes of the clips beside input_ids: input_features and "
                    "input_features_mask, or motion_codes. A tokenizer alone does not read motion."
                )
            )
        if not given:
            return inputs_embeds, None
        return inputs_embeds.masked_scatter(placeholders[..., None], motion_embeds), motion_embeds

    def _placeholders(self, input_ids, inputs_embeds):
        """(B, S) bool: where the motion embeddings go."""
        if input_ids is not None:
            return input_ids == self.config.motion_token_id
        token = torch.tensor(self.config.motion_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.get_input_embeddings()(token)).all(-1)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        input_features: torch.FloatTensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        motion_codes: torch.LongTensor | None = None,
        motion_latents: torch.FloatTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LslmModelOutputWithPast:
        """See [`LslmForConditionalGeneration.forward`]; what is not named here goes to the language model as it is, a
        cache by the library's name for it."""
        kwargs |= _cache_argument(**{name: kwargs.pop(name, None) for name in CACHE_NAMES})
        cache = kwargs.get(CACHE_NAME)
        inputs_embeds, motion_embeds = self.embed_prompts(
            input_ids, input_features, input_features_mask, motion_codes, inputs_embeds, motion_latents, cache
        )
        if use_cache is None and self.training:
            # Trainer switches the cache off in the top config only; with a cache, packed sequences would see each other
            use_cache = False
        outputs = self.language_model(inputs_embeds=inputs_embeds, use_cache=use_cache, return_dict=True, **kwargs)
        return LslmModelOutputWithPast(**outputs, motion_embeds=motion_embeds)


class LslmForConditionalGeneration(LslmPreTrainedModel, GenerationMixin):
    """LSLM with the language model's head: sign motion and a prompt in, English out."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: LslmConfig):
        super().__init__(config)
        self.model = LslmModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        input_features: torch.FloatTensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        motion_codes: torch.LongTensor | None = None,
        motion_latents: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LslmCausalLMOutputWithPast:
        """Predict the next token of prompts that contain motion.

        Args:
            input_ids: (B, S) int64, with one `<motion>` placeholder for each code of each clip, in order; for each
                `codes_per_embedding` of them where these are several.
            input_features: (N, T, F) normalised motion features of all clips of the batch, or
            input_features_mask: (N, T), 1 for the frames of the clip, 0 for right padding.
            motion_codes: (N, L, C) int64 codes, -100 past each clip's end. Same logits as the features they come from;
                a model of latents needs these as well for that ([`MotionEncoding`] has both).
            motion_latents: (N, L, D), zeros past each clip's end.
            cache: keys and values of earlier tokens; `past_key_values` is the same.
            labels: (B, S) int64, -100 where nothing is to be learnt.
            logits_to_keep: compute logits for the last n positions only (0: all).

        Raises:
            ValueError: the number of placeholders differs from the number of codes; a cache under both names.
        """
        outputs = self.model(
            input_ids=input_ids,
            input_features=input_features,
            input_features_mask=input_features_mask,
            motion_codes=motion_codes,
            motion_latents=motion_latents,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            cache=cache,
            past_key_values=past_key_values,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            scored = logits
            if self.config.motion_input == "vocabulary":
                states = outputs.last_hidden_state[:, keep].to(logits.dtype)
                scored = torch.cat([logits, self.model.projector(states=states)], -1)
            loss = self.loss_function(scored, labels, vocab_size=scored.shape[-1], **kwargs)
        states_and_cache = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return LslmCausalLMOutputWithPast(loss=loss, logits=logits, **states_and_cache)

    # ---- generation ----------------------------------------------------------------------------------------------

    def generate(self, *args, cache: Cache | None = None, past_key_values: Cache | None = None, **kwargs):
        """As `GenerationMixin.generate`; a cache of the user's own may be given under either name.

        Raises:
            ValueError: a cache under both names; `prefill_chunk_size` with motion, which would lose its place.
        """
        if kwargs.get("prefill_chunk_size") and any(kwargs.get(name) is not None for name in MOTION_INPUTS):
            raise ValueError("prefill_chunk_size cuts the prompt, and motion cannot be cut with it: leave it out")
        if kwargs.get("input_features") is not None:  # encoded once, not for each beam and not in each step
            features, mask = kwargs.pop("input_features"), kwargs.pop("input_features_mask", None)
            kwargs |= self.model.vqvae.encode(features, mask).inputs()
        return super().generate(*args, **kwargs, **_cache_argument(cache=cache, past_key_values=past_key_values))

    @torch.no_grad()
    def generate_with_probabilities(self, **kwargs) -> tuple[torch.LongTensor, torch.Tensor]:
        """As [`generate`]: (N, S) tokens of the answers, without the prompts, and the probability of each."""
        output = self.generate(**kwargs, return_dict_in_generate=True, output_logits=True)
        chances = self.compute_transition_scores(
            output.sequences, output.logits, output.get("beam_indices"), normalize_logits=True
        )
        return output.sequences[:, kwargs["input_ids"].shape[1] :], chances.exp().clamp(max=1)

    def check_confidence(self, least: float) -> None:
        """Raise a ValueError if `least` is no confidence, or if there is no telling, for want of a calibration."""
        if not isinstance(least, (int, float)) or isinstance(least, bool) or not 0 <= least <= 1:
            raise ValueError(f"min_confidence is {least!r}, expected a number from 0 to 1")
        confidences([], 0.0, self.config.calibration)

    def confidence(
        self, tokens: list[str], probabilities: list[float], oddity: float
    ) -> tuple[list[dict], float | None]:
        """How sure one may be of an answer, by `config.calibration`.

        Args:
            tokens, probabilities: of the answer, as the pipeline gives them.
            oddity: of its motion, see [`SignMotionVQVAE.oddity`].

        Returns:
            Each `word` with its `probability` and its `confidence`, which is how likely it is right; and the expected
            share of right words, 0 where there are none. Both confidences are None without a calibration.
        """
        words = words_of(tokens, probabilities)
        if self.config.calibration is None:
            sure, share = [None] * len(words), None
        else:
            sure = confidences([chance for _, chance in words], oddity, self.config.calibration)
            share = sum(sure) / max(len(sure), 1)
        rows = ((*word, one) for word, one in zip(words, sure, strict=True))
        return [dict(zip(("word", "probability", "confidence"), row, strict=True)) for row in rows], share

    def prepare_inputs_for_generation(
        self, input_ids, inputs_embeds=None, motion_codes=None, is_first_iteration=False, **kwargs
    ):
        # `generate` looks for inputs_embeds in this signature before it accepts them
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        inputs["motion_codes"] = motion_codes
        if not is_first_iteration and kwargs.get("use_cache", True):
            # an assistant's first step is none to transformers: there the placeholders are still to be read
            ids = inputs.get("input_ids")
            if ids is None or ids.shape[1] == 1 or not (ids == self.config.motion_token_id).any():
                for key in MOTION_INPUTS:  # the placeholders are in the cache by now
                    inputs.pop(key, None)
        return inputs

    def _expand_inputs_for_generation(self, expand_size=1, is_encoder_decoder=False, input_ids=None, **model_kwargs):
        """Repeat the inputs for beams or several answers, keeping the clips of one prompt together: a prompt with clips
        A and B becomes A B A B, where the plain repetition would give A A B B."""
        motion = {key: model_kwargs.pop(key) for key in MOTION_INPUTS if model_kwargs.get(key) is not None}
        if motion and expand_size > 1 and input_ids is not None:
            lengths = (motion["motion_codes"][..., 0] >= 0).sum(-1)
            lengths = -(-lengths // self.config.codes_per_embedding)
            embeds = model_kwargs.get("inputs_embeds")
            placeholders = self.model._placeholders(input_ids if embeds is None else None, embeds).sum(-1)
            owner = torch.searchsorted(placeholders.cumsum(0), lengths.cumsum(0))
            order = torch.cat([(owner == i).nonzero()[:, 0].repeat(expand_size) for i in range(len(placeholders))])
            motion = {key: value[order] for key, value in motion.items()}
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        return input_ids, {**model_kwargs, **motion}

    # ---- building ------------------------------------------------------------------------------------------------

    @classmethod
    def from_backbone(
        cls,
        backbone: str,
        vqvae: SignMotionVQVAE,
        *,
        vocab_size: int,
        motion_token_id: int,
        keep_backbone: bool = False,
        dtype: torch.dtype = torch.float32,
        **config_kwargs,
    ) -> "LslmForConditionalGeneration":
        """Join a pretrained language model and a trained sign tokenizer; only the projector (and LoRA) is new.

        Args:
            backbone: see [`load_backbone`].
            vqvae: the trained sign tokenizer.
            vocab_size: number of tokens once the motion tokens are added (`len(tokenizer)`).
            motion_token_id: id of the `<motion>` placeholder.
            keep_backbone: leave the language model's own weights out of saved checkpoints and load them from `backbone`
                again, for as long as they are the same (projector or LoRA training).
            dtype: of the language model. float32 to train it (bfloat16 weights do not move at the paper's learning
                rates), bfloat16 does for a frozen one.

        Raises:
            ValueError: not a Llama- or Qwen2-like model, or one whose text-only logits LSLM does not reproduce (it
                scales or caps them, say).
        """
        source = load_backbone(backbone, dtype=dtype)
        if not hasattr(getattr(source, "model", None), "embed_tokens") or not hasattr(source, "lm_head"):
            raise ValueError(f"{backbone} is a {type(source).__name__}; LSLM needs a Llama- or Qwen2-like causal LM")
        config = LslmConfig.joined(
            source.config,
            vqvae.config,
            vocab_size,
            motion_token_id=motion_token_id,
            backbone=backbone if keep_backbone else None,
            **config_kwargs,
        )
        lora, config.lora = config.lora, None
        projector = _motion_input(config)
        # every codebook vector once; of several codebooks, the first of each together, then the second ones, ...
        same = torch.arange(vqvae.config.codebook_size, device=vqvae.device)
        vectors = vqvae.embed(same[:, None].expand(-1, vqvae.config.num_codebooks)).detach()
        projector.start(vectors, source.get_input_embeddings().weight.float().std().item())
        state = {f"model.vqvae.{k}": v for k, v in vqvae.state_dict().items()}
        state |= {f"model.projector.{k}": v for k, v in projector.state_dict().items()}
        state |= backbone_state(source, config)
        model = cls.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
        end = source.generation_config.eos_token_id or source.config.eos_token_id
        model.generation_config = GenerationConfig(
            max_new_tokens=96,  # a translation is as long as its utterance
            do_sample=False,
            bos_token_id=source.config.bos_token_id,
            eos_token_id=end,
            pad_token_id=motion_token_id - 1,  # <motion_pad>
            suppress_tokens=list(range(motion_token_id - 3, motion_token_id + 1)),  # the motion tokens are no words
        )
        _check_same_logits(model, source, backbone)
        return model if lora is None else model.add_lora(lora)


@torch.no_grad()
def _check_same_logits(model: LslmForConditionalGeneration, source: PreTrainedModel, backbone: str):
    """Refuse a backbone that does more than decoder + linear head: it would translate, but wrongly."""
    vocab = source.config.vocab_size
    ids = torch.arange(1, 64).mul(7919).remainder(vocab)[None].to(source.device)
    expected = source(ids).logits.float()
    got = model(ids).logits[..., :vocab].float()
    difference = (got - expected).abs().max().item()
    tolerance = (1e-4 if source.dtype == torch.float32 else 3e-2) * expected.abs().max().item()
    if not difference <= tolerance:
        raise ValueError(
            f"LSLM does not reproduce the text-only logits of {backbone} ({type(source).__name__}): they differ by "
            f"{difference:.3g}, allowed is {tolerance:.3g}. Use a Llama or Qwen2 model."
        )


__all__ = ["LslmForConditionalGeneration", "LslmModel", "LslmPreTrainedModel"]
