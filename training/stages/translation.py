"""What stages 2 and 3 share: the arguments, which parts train, two learning rates, the run itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import set_seed

from ...hub_cards.languages import languages_of
from ...modeling_lslm import LslmForConditionalGeneration, MotionEncoding
from ...processing import SignMotionProcessor
from ...processing.processing_lslm import encode_motion
from ...processing.readers.wording import counted
from ..dataset.collators import EpochSampler, TranslationCollator, load_templates
from ..dataset.encodings import cached_codes, encode_clips
from ..dataset.motion_text import MotionText, read_texts
from ..dataset.spelling import rare_words, spelled
from ..dataset.streaming import train_loader, training_clips
from ..evaluation.evaluate import translate_clips
from ..evaluation.sign_translation_metrics import text_metrics
from ..generation_check import check_generation
from ..recipe import StageArguments
from ..recipe_keys import TranslationKeys
from ..record import PASSING, used
from .resume import StageTrainer, last_checkpoint, say, train_and_save

PARTS = ("projector", "language_model")
STARTED = "_projector_start"  # in an output folder, until the stage is finished
TEXT_METRICS = {"bleu1": True, "bleu4": True, "chrf": True, "wer": False}  # and whether more is better
SAMPLES = 4  # translations to look at
LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class TranslationArguments(TranslationKeys, StageArguments):
    """What `2_align` and `3_instruct` recipes share; every `TrainingArguments` field is one too."""

    metrics: ClassVar[dict[str, bool]] = StageArguments.metrics | TEXT_METRICS

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: expected float32 or bfloat16, got {self.dtype}")
        super().__post_init__()
        metric = (self.metric_for_best_model or "").removeprefix("eval_")
        if metric in TEXT_METRICS and not self.eval_translations:
            raise ValueError(
                f"metric_for_best_model {metric}: of how many validation clips? Say eval_translations; more than the "
                "split has are all of it"
            )


class TranslationTrainer(StageTrainer):
    """Trainer with a learning rate for the projector, and code dropout."""

    args: TranslationArguments

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._encoded: dict[int, MotionEncoding] = {}  # validation clips that are translated

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
        """Frozen weights are not in a checkpoint, and of tied ones only one is; only what else trains can be missed."""
        weights, missing = dict(self.model.named_parameters(remove_duplicate=False)), set(load_result.missing_keys)
        loaded = {id(weight) for name, weight in weights.items() if name not in missing}
        there = {name for name, weight in weights.items() if id(weight) in loaded or not weight.requires_grad}
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in there]
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

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        """As the Trainer's; also translates some clips. Their scores are among its metrics, for logs, early stopping
        and the choice of the best checkpoint."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in self.translate_some().items()})
        return output

    @torch.no_grad()
    def translate_some(self) -> dict[str, float]:
        """Translate `eval_translations` validation clips, spread over the split, into OUTPUT/samples.jsonl; print the
        first few.

        Returns:
            Scores as `lslm evaluate` gives them, and the number of clips as `utterances`; nothing if the recipe does
            not say how many.
        """
        data, processor = self.eval_dataset, self.processing_class
        count = SAMPLES if self.args.eval_translations is None else min(self.args.eval_translations, len(data))
        chosen = np.linspace(0, len(data) - 1, min(count, len(data))).astype(int).tolist()
        if not chosen:
            return {}
        model, was_training = self.accelerator.unwrap_model(self.model), self.model.training
        with self.accelerator.split_between_processes(chosen, apply_padding=True) as indices:
            new = sorted(set(indices) - self._encoded.keys())  # once: the sign tokenizer does not change
            clips = [data.joints[index] for index in new]
            self._encoded |= zip(new, encode_clips(model.model.vqvae, processor.feature_extractor, clips), strict=True)
            self.model.eval()
            with self.compute_loss_context_manager():
                translations = translate_clips(
                    model,
                    processor,
                    [self._encoded[index] for index in indices],
                    batch_size=self.args.per_device_eval_batch_size,
                    synced_gpus=self.accelerator.num_processes > 1,
                )
            self.model.train(was_training)
            pairs = [(index, translation.text) for index, translation in zip(indices, translations, strict=True)]
        texts = dict(gather_object(pairs))
        references, predictions = [data.texts[index] for index in chosen], [texts[index] for index in chosen]
        if self.is_world_process_zero():
            self._write_samples(references, predictions)
        if self.args.eval_translations is None:
            return {}
        scores = text_metrics(references, predictions, definitions=["bleu", "chrf", "wer"])
        return {name: round(scores[name], 4) for name in (*TEXT_METRICS, "utterances") if name in scores}

    def _write_samples(self, references: list[str], predictions: list[str]) -> None:
        """Append to samples.jsonl; lines of this step and later ones are of a run that was killed, and go."""
        path, step = Path(self.args.output_dir) / "samples.jsonl", self.state.global_step
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        lines = [line for line in lines if json.loads(line)["step"] < step]
        for number, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
            sample = {"step": step, "reference": reference, "prediction": prediction}
            lines.append(json.dumps(sample, ensure_ascii=False))
            if number < SAMPLES:
                print(f"step {step}: {reference!r} -> {prediction!r}", flush=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def new_adapter(args: TranslationArguments) -> dict:
    """`config.lora` of the adapter that the arguments ask for."""
    sizes = {"r": args.lora_r, "lora_alpha": args.lora_alpha, "lora_dropout": args.lora_dropout}
    return {**sizes, "target_modules": LORA_LAYERS}


def refuse_other(args: TranslationArguments, made: dict) -> None:
    """Raise a ValueError where the recipe gives another value than that with which the model was `made`."""
    for name, value in made.items():
        if name in args.recipe and args.recipe[name] != value:
            raise ValueError(
                f"{name} is {args.recipe[name]!r}, but the model was made with {value!r}, which training does not "
                f"change: leave {name} out, or make another model from tokenizer and backbone"
            )


def set_trainable(model: LslmForConditionalGeneration, parts: list[str], args: TranslationArguments) -> None:
    """Freeze everything but `parts`. "language_model" means its LoRA adapter when there is or is to be one.

    Raises:
        ValueError: an unknown part; a language model that would train in bfloat16; sizes of another adapter than the
            model's.
    """
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        raise ValueError(f"trainable: expected some of {', '.join(PARTS)}, got {' '.join(parts) or 'nothing'}")
    if "language_model" in parts and args.lora_r and model.config.lora is None:
        model.add_lora(new_adapter(args))
    elif model.config.lora is not None:
        refuse_other(args, {"lora_r": model.config.lora["r"], "lora_alpha": model.config.lora["lora_alpha"]})
    model.requires_grad_(False)
    if "projector" in parts:
        model.model.projector.requires_grad_(True)
    if "language_model" in parts:
        if model.config.lora is None:
            if args.dtype != "float32":
                raise ValueError(
                    f"dtype {args.dtype} is for a frozen language model: its own weights would train in it, and "
                    "steps as small as these round to none. Leave it out, or train an adapter (lora_r)"
                )
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
    variations: int = 1,
    clips: MotionText | None = None,
    rare: set[str] | None = None,
) -> None:
    """Train `model`, which came from the folder `parent`, on `args.data` and save it with its processor to
    `args.output_dir`; resumes by itself. `start`: [`start_projector`] but for model, processor, motion and texts; it
    sees each clip that varies in so many `variations`. `clips`: trained on instead of the training split; `rare`: words
    that are spelled, instead of those of its texts."""
    check_generation(model)
    set_seed(args.seed)
    set_trainable(model, args.trainable, args)
    if args.load_in_4bit:
        load_in_4bit(model, args)
    if args.device.type == "cpu":
        # the fused attention's way back is slow there: a tenth of a step, benchmarks/training_step.json
        model.set_attn_implementation("eager")
    extractor = processor.feature_extractor
    if rare is None:
        rare = rare_words(read_texts(args.data, "train")) if args.spell_rare_words else set()
    model.config.languages = languages_of(args.data) or model.config.languages
    model.config.calibration = None  # that of a model which changes now
    templates = load_templates(args.templates, model.config.languages)
    if model.config.languages is None and any("English" in template for template in templates):
        print(
            f"{args.data} has no README.md with `language: [en, ase]` or others: prompts say English and ASL",
            flush=True,
        )
    collator = TranslationCollator(processor, templates, rare)
    fits = LengthLimit(collator, args.max_length) if args.max_length else None
    train = clips or training_clips(args, extractor, fits=fits if args.stream else None)
    validation = None
    if args.eval_strategy != "no":
        validation = MotionText(args.data, "validation", extractor.fps, max_seconds=extractor.max_seconds)
    if fits and not args.stream:
        fits.leave_out(train)
    vqvae = model.model.vqvae.to(args.device)
    # clips that change, or are only passing, or are more than their codes, are encoded as they come
    latents = model.config.motion_input == "latents"
    kept = [] if args.stream or train.vary.changes_clips else [train]
    for data in [] if latents else kept + ([validation] if validation else []):
        with args.main_process_first(desc="encoding motion"):
            data.codes = cached_codes(vqvae, extractor, data.joints)
    begun = Path(args.output_dir, STARTED)
    if start and last_checkpoint(args.output_dir) is None and not _projector_of(begun, model, args):
        # clips that vary will not come again like this: not worth keeping, nor float64
        read, texts = train.codes, train.texts
        if read is None:
            read, texts = [], texts * (variations if train.vary.changes_clips else 1)
            for epoch in range(len(texts) // len(train)):
                indices = tqdm(range(len(train)), desc=f"variation {epoch + 1}", unit="clip", delay=1)
                clips = [train[epoch, index]["joints"] for index in indices]
                encoded = encode_clips(vqvae, extractor, clips, torch.float32)
                read += [(clip.latents if latents else clip.codes)[0].numpy() for clip in encoded]
        start(model, processor, read, texts)
        if args.process_index == 0:
            _keep_projector(begun, model, args)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        processing_class=processor,
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    amount = f"clips of {counted(len(train.files), 'shard')}" if args.stream else counted(len(train), "clip")
    size = f"{trained / 1e6:.1f} M" if trained >= 1e5 else f"{trained:,}"
    say(args, f"training {' and '.join(args.trainable)}: {size} parameters, {amount}")
    train_and_save(trainer, parent)
    if args.process_index == 0:
        begun.unlink(missing_ok=True)


def _origin(args: TranslationArguments) -> dict[str, str]:
    """What a started projector depends on, and more: a run of any other recipe starts its own."""
    recipe = {name: value for name, value in args.recipe.items() if not PASSING.fullmatch(name)}
    return {"origin": json.dumps([recipe, used(args)], sort_keys=True)}


def _keep_projector(path: Path, model: LslmForConditionalGeneration, args: TranslationArguments) -> None:
    """Minutes of work that a kill before the first checkpoint need not lose."""
    partial = path.with_suffix(".partial")
    save_file(model.model.projector.state_dict(), partial, _origin(args))
    partial.replace(path)


def _projector_of(path: Path, model: LslmForConditionalGeneration, args: TranslationArguments) -> bool:
    """Whether a killed run of this recipe left a started projector, which `model` then has."""
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != _origin(args):
                return False
            model.model.projector.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    except (OSError, SafetensorError):
        return False
    say(args, "the projector was started before")
    return True
