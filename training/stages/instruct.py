"""Stage 3: instruction tuning (section 3.3, "Instruction Tuning").

    lslm instruct --config training/recipes/smollm2-135m/3_instruct.yaml

Goes on from an aligned model with many phrasings of "translate this": one template is drawn per sample and epoch.
`--trainable language_model` is the paper's choice.
"""

from dataclasses import dataclass

import torch

from ...hub_cards.languages import languages_of
from ...hub_cards.models import config_of
from ...modeling_lslm import LslmConfig, LslmForConditionalGeneration
from ...processing import SignMotionProcessor
from ..dataset.collators import load_templates
from ..recipe import require
from ..recipe_keys import InstructKeys
from .dry_run import dry_run
from .resume import run_stage, say
from .translation import TranslationArguments, run


@dataclass
class InstructArguments(InstructKeys, TranslationArguments):
    """All keys of a `3_instruct` recipe."""


def main(argv: list[str]) -> None:
    """Run the stage; see the module's docstring."""
    run_stage(InstructArguments, argv, train)


def train(args: InstructArguments) -> None:
    require(args, "model")
    config = config_of(args.model, LslmConfig)
    processor = SignMotionProcessor.from_pretrained(args.model)
    processor.prompt = load_templates(args.templates, languages_of(args.data) or config.languages)[0]
    if args.dry_run:
        return dry_run(args, config, processor)
    say(args, f"loading {args.model}")
    # an adapter is trained on
    options = {"merge_lora": False, "dtype": getattr(torch, args.dtype)}
    model = LslmForConditionalGeneration.from_pretrained(args.model, **options)
    run(args, model, processor, args.model)
