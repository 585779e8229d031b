"""Stage 3: instruction tuning (section 3.3, "Instruction Tuning").

    lslm instruct --config training/recipes/smollm2-135m/3_instruct.yaml

Goes on from an aligned model with many phrasings of "translate this": one template is drawn per sample and epoch.
`--trainable language_model` is the paper's choice.
"""

from dataclasses import dataclass, field

from ...modeling_lslm import LslmForConditionalGeneration
from ...processing import SignMotionProcessor
from ..dataset.motion_text import load_templates
from ..recipe import parse
from .translation import TEMPLATES, TranslationArguments, run


@dataclass
class InstructArguments(TranslationArguments):
    """All keys of a `3_instruct` recipe."""

    trainable: list[str] = field(
        default_factory=lambda: ["language_model"], metadata={"help": "what trains: projector, language_model or both"}
    )
    templates: str = field(default=str(TEMPLATES / "instruct.json"), metadata={"help": "JSON file of user messages"})
    model: str = field(default="", metadata={"help": "folder of the aligned model, from `lslm align`"})


def main(argv: list[str]) -> None:
    """Run the stage; see the module's docstring."""
    args = parse(InstructArguments, argv, "lslm instruct")
    if not args.model:
        raise ValueError("which model? Give model: in the recipe or --model FOLDER, the result of `lslm align`")
    processor = SignMotionProcessor.from_pretrained(args.model)
    processor.prompt = load_templates(args.templates)[0]
    run(args, LslmForConditionalGeneration.from_pretrained(args.model), processor, args.model)
