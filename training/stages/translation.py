"""What stages 2 and 3 share: the arguments, which parts train, two learning rates, the run itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from ...hub_cards.languages import languages_of
from ...modeling_lslm import LslmForConditionalGeneration
from ...processing import SignMotionProcessor
from ...processing.processing_lslm import encode_motion
from ...processing.readers.wording import counted
from ..dataset.collators import EpochSampler, TranslationCollator, load_templates
from ..dataset.encodings import cached_codes, encode_clips
from ..dataset.motion_text import MotionText, read_texts
from ..dataset.spelling import rare_words, spelled
from ..dataset.streaming import train_loader, training_clips
from ..recipe import StageArguments
from ..recipe_keys import TranslationKeys
from .resume import StageTrainer, last_checkpoint, train_and_save

PARTS = ("projector", "language_model")
LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class TranslationArguments(TranslationKeys, StageArguments):
    """What `2_align` and `3_instruct` recipes share; every `TrainingArguments` field is one too."""


class TranslationTrainer(StageTrainer):
    """Trainer with a learning rate for the projector, and code dropout."""

    args: TranslationArguments

    def _get_train_sampler(self, train_dataset=None):
        lengths = [len(joints) for joints in self.train_dataset.joints]
        # of one optimizer step, over all processes: what meets in it does not depend on how it is divided
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.accelerator.num_processes
        return EpochSampler(len(lengths), self.args.seed, lengths, batch_size)

    def get_train_dataloader(self):
        return train_loader(self) if self.args.stream else super().get_train_dataloader()

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            cls, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups: dict[tuple[bool, bool], list] = {}
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault(("projector." in name, name in decayed), []).append(parameter)
            projector_lr = self.args.projector_learning_rate
            rates = {False: kwargs["lr"], True: kwargs["lr"] if projector_lr is None else projector_lr}
            decays = {False: 0.0, True: self.args.weight_decay}
            options = [
                {"params": groups[projector, decay], "lr": rates[projector], "weight_decay": decays[decay]}
                for projector, decay in sorted(groups)
            ]
            self.optimizer = cls(options, **kwargs)
        return self.optimizer

    def _issue_warnings_after_load(self, load_result):
        """Frozen weights are not in a checkpoint; only what trains can be missing."""
        frozen = {
            name for name, weight in self.model.named_parameters(remove_duplicate=False) if not weight.requires_grad
        }
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in frozen]
        super()._issue_warnings_after_load(load_result)

    def compute_loss(self, model, inputs, *args, **kwargs):
        inputs = dict(inputs)
        features, mask = inputs.pop("input_features", None), inputs.pop("input_features_mask", None)
        vqvae = self.accelerator.unwrap_model(model).model.vqvae
        if features is not None:  # here, since FSDP would round them to bfloat16 on their way into the model
            # clips that vary anyway are not worth float64
            varies = model.training and self.train_dataset is not None and self.train_dataset.vary.changes_clips
            dtype = torch.float32 if varies else torch.float64
            batch = {"input_features": features, "input_features_mask": mask}
            inputs |= encode_motion(vqvae, self.processing_class.feature_extractor, batch, dtype=dtype).inputs()
            if self.accelerator.unwrap_model(model).config.motion_input != "latents":
                del inputs["motion_latents"]
        if model.training and self.args.code_dropout > 0:
            codes = inputs["motion_codes"]
            random = torch.randint_like(codes, vqvae.config.codebook_size)
            dropped = torch.rand(codes.shape[:2], device=codes.device)[..., None] < self.args.code_dropout
            dropped = dropped & (codes[..., :1] >= 0)
            inputs["motion_codes"] = torch.where(dropped, random, codes)
            if "motion_latents" in inputs:
                noise = vqvae.embed(random).detach()
                inputs["motion_latents"] = torch.where(dropped, noise, inputs["motion_latents"])
        return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """As `Trainer.evaluate`; also translates a few clips, on the screen and in samples.jsonl."""
        scores = super().evaluate(*args, **kwargs)
        self.write_samples()
        return scores

    @torch.no_grad()
    def write_samples(self, count: int = 4):
        """Append translations of the first `count` evaluation clips to OUTPUT/samples.jsonl, and print them."""
        processor, data = self.processing_class, self.eval_dataset
        items = [data[i] for i in range(min(count, len(data)))]
        inputs = self.data_collator.inputs([processor.prompt] * len(items), items).to(self.args.device)
        was_training = self.model.training
        self.model.eval()
        with self.compute_loss_context_manager():
            sequences = self.accelerator.unwrap_model(self.model).generate(
                **inputs, max_new_tokens=64, synced_gpus=self.accelerator.num_processes > 1
            )
        self.model.train(was_training)
        if not self.is_world_process_zero():
            return
        texts = processor.batch_decode(sequences[:, inputs["input_ids"].shape[1] :])
        with open(Path(self.args.output_dir) / "samples.jsonl", "a", encoding="utf-8") as file:
            for item, text in zip(items, texts, strict=True):
                sample = {"step": self.state.global_step, "reference": item["text"], "prediction": text}
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
                print(f"step {self.state.global_step}: {item['text']!r} -> {text!r}", flush=True)


def set_trainable(model: LslmForConditionalGeneration, parts: list[str], args: TranslationArguments) -> None:
    """Freeze everything but `parts`. "language_model" means its LoRA adapter when there is or is to be one.

    Raises:
        ValueError: an unknown part.
    """
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        raise ValueError(f"trainable: expected some of {', '.join(PARTS)}, got {' '.join(parts) or 'nothing'}")
    if "language_model" in parts and args.lora_r and model.config.lora is None:
        sizes = {"r": args.lora_r, "lora_alpha": args.lora_alpha, "lora_dropout": args.lora_dropout}
        model.add_lora({**sizes, "target_modules": LORA_LAYERS})
    model.requires_grad_(False)
    if "projector" in parts:
        model.model.projector.requires_grad_(True)
    if "language_model" in parts:
        if model.config.lora is None:
            model.model.language_model.requires_grad_(True)
            model.lm_head.requires_grad_(True)
            model.config.backbone = None  # its weights change now: checkpoints must hold them
        else:
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.requires_grad_(True)


def load_in_4bit(model: LslmForConditionalGeneration, args: TranslationArguments) -> None:
    """QLoRA (Dettmers et al., 2023): replace the frozen layers under the adapter by 4-bit ones (NF4, double quantised).

    Only in memory: checkpoints hold projector and adapter, and load onto the full weights again.

    Raises:
        ValueError: no adapter, or a checkpoint that holds the language model's own weights; no bitsandbytes.
    """
    if model.config.lora is None or model.config.backbone is None:
        raise ValueError(
            "load_in_4bit trains an adapter on the weights of a backbone: it needs lora_r > 0, and a model whose "
            "language model has not been trained as a whole"
        )
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise ValueError("load_in_4bit needs bitsandbytes: pip install 'lslm[qlora]'") from error
    from peft.tuners.lora import LoraLayer

    for layer in model.model.language_model.modules():
        if isinstance(layer, LoraLayer):
            full = layer.get_base_layer()
            dtype = torch.bfloat16 if args.bf16 else torch.float32
            small = Linear4bit(full.in_features, full.out_features, compute_dtype=dtype, device="meta")
            # or else some CPUs repack the weights at an evaluation, and training after it has no gradients
            small.support_avx512bf16_for_cpu = False
            small.bias = full.bias
            small.weight = Params4bit(full.weight.data, requires_grad=False, quant_type="nf4", module=small)
            layer.base_layer = small.to(args.device)  # which quantises


class LengthLimit:
    """Which clips fit into `max_length` tokens with prompt and answer, even with the longest template."""

    def __init__(self, collator: TranslationCollator, max_length: int):
        self.collator, self.max_length = collator, max_length
        longest = max(collator.templates, key=len)
        self.around = collator.processor(longest, motion_codes=[[0]], answer="")["input_ids"].shape[1] - 1
        if max_length <= self.around + 1:
            raise ValueError(
                f"max_length is {max_length} tokens, and {self.around} are around motion and answer; give more, or "
                "leave it out"
            )

    def tokens(self, frames: int, text: str) -> int:
        """Tokens of a clip of so many frames and this text."""
        processor = self.collator.processor
        motion = processor.num_embeddings(processor.feature_extractor.num_codes(frames - 1))
        return self.around + motion + len(processor.answer_tokens(spelled(text, self.collator.spelled_words)))

    def __call__(self, frames: int, text: str) -> bool:
        return self.tokens(frames, text) <= self.max_length

    def leave_out(self, data: MotionText) -> None:
        """Keep the clips of `data` that fit. The others are not cut: half of an utterance with the text of the whole
        one teaches guessing.

        Raises:
            ValueError: none fits.
        """
        lengths = [self.tokens(len(joints), text) for joints, text in zip(data.joints, data.texts, strict=True)]
        fits = [index for index, length in enumerate(lengths) if length <= self.max_length]
        if not fits:
            raise ValueError(
                f"max_length is {self.max_length} tokens, but the shortest clip of {len(lengths)} has {min(lengths)}"
            )
        if len(fits) < len(lengths):
            left_out = f"{len(lengths) - len(fits)} of {counted(len(lengths), 'clip')}"
            print(f"left out {left_out} longer than {self.max_length} tokens (max_length)", flush=True)
        data.keep(fits)


def run(
    args: TranslationArguments,
    model: LslmForConditionalGeneration,
    processor: SignMotionProcessor,
    parent: str | None,
    start: Callable | None = None,
) -> None:
    """Train `model`, which came from the folder `parent`, on `args.data` and save it with its processor to
    `args.output_dir`; resumes by itself. `start`: [`start_projector`] but for model, processor, motion and texts."""
    set_seed(args.seed)
    set_trainable(model, args.trainable, args)
    if args.load_in_4bit:
        load_in_4bit(model, args)
    if args.device.type == "cpu":
        # the fused attention's way back is slow there: a tenth of a step, benchmarks/training_step.json
        model.set_attn_implementation("eager")
    extractor, rare = processor.feature_extractor, set()
    if args.spell_rare_words:
        rare = rare_words(read_texts(args.data, "train"))
    model.config.languages = languages_of(args.data) or model.config.languages
    templates = load_templates(args.templates, model.config.languages)
    if model.config.languages is None and any("English" in template for template in templates):
        print(
            f"{args.data} has no README.md with `language: [en, ase]` or others: prompts say English and ASL",
            flush=True,
        )
    collator = TranslationCollator(processor, templates, rare)
    fits = LengthLimit(collator, args.max_length) if args.max_length else None
    train = training_clips(args, extractor, fits=fits if args.stream else None)
    validation = MotionText(args.data, "validation", extractor.fps) if args.eval_strategy != "no" else None
    if fits and not args.stream:
        fits.leave_out(train)
    vqvae = model.model.vqvae.to(args.device)
    # clips that change, or are only passing, or are more than their codes, are encoded as they come
    latents = model.config.motion_input == "latents"
    kept = [] if args.stream or train.vary.changes_clips else [train]
    for data in [] if latents else kept + ([validation] if validation else []):
        with args.main_process_first(desc="encoding motion"):
            data.codes = cached_codes(vqvae, extractor, data.joints)
    if start and last_checkpoint(args.output_dir) is None:
        # clips that vary will not come again like this: not worth keeping, nor float64
        read = train.codes
        if read is None:
            clips = [train[index]["joints"] for index in range(len(train))]
            encoded = encode_clips(vqvae, extractor, clips, torch.float32)
            read = [(clip.latents if latents else clip.codes)[0].numpy() for clip in encoded]
        start(model, processor, read, train.texts)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        processing_class=processor,
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    clips = f"clips of {counted(len(train.files), 'shard')}" if args.stream else counted(len(train), "clip")
    print(f"training {' and '.join(args.trainable)}: {trained / 1e6:.1f} M parameters, {clips}", flush=True)
    train_and_save(trainer, parent)
