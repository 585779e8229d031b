"""Stage 2: align sign motion with the language model (section 3.3, "Pretraining").

    lslm align --config training/recipes/smollm2-135m/2_align.yaml

Joins the sign tokenizer of stage 1 and a pretrained language model, and trains on pairs of motion and text with the
paper's pretraining template: the motion is the whole prompt, the text the answer. `--trainable projector` is the
paper's choice; `projector language_model` its joint, `language_model` (from a projector run, `--model`) its staged
scheme.
"""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import set_seed

from ...hub_cards.languages import languages_of
from ...hub_cards.models import config_of
from ...modeling_lslm import (
    LslmConfig,
    LslmForConditionalGeneration,
    SignMotionVQVAE,
    SignMotionVQVAEConfig,
    load_backbone_config,
    load_backbone_tokenizer,
)
from ...processing import SignMotionFeatureExtractor, SignMotionProcessor
from ..dataset.collators import load_templates
from ..recipe import require
from ..recipe_keys import AlignKeys
from .dry_run import dry_run
from .projector_start import start_projector
from .resume import run_stage, say
from .translation import TranslationArguments, refuse_other, run

SHAPE = ("motion_input", "projector_hidden_size", "codes_per_embedding")  # of the projector


@dataclass
class AlignArguments(AlignKeys, TranslationArguments):
    """All keys of a `2_align` recipe."""

    def __post_init__(self):
        if self.ctc_steps and (self.stream or self.motion_input == "vocabulary" or "projector" not in self.trainable):
            raise ValueError(
                "ctc_steps start a projector that trains, on clips in memory: they need trainable projector, "
                "motion_input projector or latents, and stream false"
            )
        super().__post_init__()


def main(argv: list[str]) -> None:
    """Run the stage; see the module's docstring."""
    run_stage(AlignArguments, argv, train)


def train(args: AlignArguments) -> None:
    set_seed(args.seed)
    dtype = getattr(torch, args.dtype)
    if not args.dry_run:
        say(args, f"loading {args.model or f'the language model {args.backbone}'}")
    if args.model:
        config, processor = config_of(args.model, LslmConfig), SignMotionProcessor.from_pretrained(args.model)
        made = {name: getattr(config, name) for name in SHAPE}
        made |= {"right_handed": processor.feature_extractor.right_handed, "system_prompt": processor.system_prompt}
        refuse_other(args, made)
        if args.dry_run:
            return dry_run(args, config, processor)
        model = LslmForConditionalGeneration.from_pretrained(args.model, merge_lora=False, dtype=dtype)
    else:
        require(args, "backbone", "tokenizer")
        sign_tokenizer = config_of(args.tokenizer, SignMotionVQVAEConfig)
        extractor = SignMotionFeatureExtractor.from_pretrained(args.tokenizer)
        extractor.right_handed = args.right_handed
        processor = SignMotionProcessor(
            extractor,
            load_backbone_tokenizer(args.backbone),
            prompt=load_templates(args.templates, languages_of(args.data))[0],
            system_prompt=args.system_prompt,
            codes_per_embedding=args.codes_per_embedding,
        )
        joined = {"vocab_size": len(processor.tokenizer), "motion_token_id": processor.motion_token_id}
        joined |= {name: getattr(args, name) for name in SHAPE}
        if args.dry_run:
            sizes = load_backbone_config(args.backbone), sign_tokenizer
            return dry_run(args, LslmConfig.joined(*sizes, backbone=args.backbone, **joined), processor)
        vqvae = SignMotionVQVAE.from_pretrained(args.tokenizer)
        model = LslmForConditionalGeneration.from_backbone(
            args.backbone, vqvae, keep_backbone=True, dtype=dtype, **joined
        )
    start = None
    if args.ctc_steps:
        names = ("steps", "batch_size", "learning_rate", "code_dropout")
        options = {name: getattr(args, f"ctc_{name}") for name in names}
        start = partial(start_projector, seed=args.seed, bf16=args.bf16, **options)
    run(args, model, processor, args.model or args.tokenizer, start, args.ctc_variations)
