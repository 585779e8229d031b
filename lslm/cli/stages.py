"""`lslm tokenizer`, `lslm align` and `lslm instruct`: the three stages of training."""

import importlib
import io
import sys

from .recipes import RecipeParser

HOW = """

A recipe is one flat YAML file. Every key is a flag too (--{0}), and the flag wins.
A run that was stopped goes on where it was: give the same command again. One that is finished is left as it is, and
another recipe for the same output_dir is refused: name another, or say --resume-with-changes."""
ABOUT = {
    "tokenizer": """\
Stage 1: train the VQ-VAE sign tokenizer. It learns to write motion as a sequence of codes (one per four frames) from
which the motion can be rebuilt; the codebook is what the language model reads later."""
    + HOW.format("codebook_size 512"),
    "align": """\
Stage 2: align sign motion with a language model. Joins a pretrained language model, the sign tokenizer of stage 1
(frozen from here on) and a new two-layer projector, and trains on pairs: the motion is the prompt, the text the
answer."""
    + HOW.format("lora_r 16"),
    "instruct": """\
Stage 3: instruction tuning. Goes on from an aligned model with many phrasings of "translate this"; one is drawn for
each clip and epoch, so the model follows the request rather than one wording of it."""
    + HOW.format("code_dropout 0.1"),
}
EXAMPLES = {
    "tokenizer": "1_tokenizer.yaml --max_steps 500 --output_dir runs/try",
    "align": "2_align.yaml --trainable projector",
    "instruct": "3_instruct.yaml --max_steps 100",
}


def arguments(prog: str) -> RecipeParser:
    stage = prog.split()[1]
    return RecipeParser(
        prog,
        trainer="--output_dir, --max_steps, --learning_rate, --per_device_train_batch_size, --bf16, --seed, "
        "--save_steps, --report_to, ...",
        description=ABOUT[stage],
        epilog=f"example: {prog} --config training/recipes/smollm2-135m/{EXAMPLES[stage]}",
    )


def run(args) -> int:
    quiet()
    importlib.import_module(f"lslm.training.stages.{args.prog.split()[1]}").main(args.words)
    return 0


def quiet() -> None:
    """Leave out the lines of libraries on which nobody can act: bars of a second at every checkpoint, a padding token
    that the tokenizer and the language model now share. Downloads keep their bars."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file has each line when it is printed
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    enable_progress_bars()
    tokens = "The tokenizer has new PAD/BOS/EOS tokens"
    logging.get_logger("transformers.trainer_utils").addFilter(lambda line: not line.getMessage().startswith(tokens))
