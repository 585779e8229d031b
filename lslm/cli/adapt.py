"""`lslm adapt`: a trained model learns to read one more person."""

import argparse

from .motion_files import FILES, reader_arguments


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Teach a trained model to read one more person: yourself, say. Record each letter about five times, and words that the
data set has signs for, one sign a file, and put them into a folder for each sign:

  DIR/a/1.npz  DIR/a/2.npz  ...  DIR/z/5.npz  DIR/hello/1.bvh  ...

Nobody has to sign a sentence. The command composes utterances of the takes: made-up names, and what the data set says.
Half of what is trained on are clips that the model knows, so that it forgets less of those it could read; `lslm
evaluate` on their test tells how much. It takes minutes, and writes a checkpoint like any other. Given again after a
kill, it goes on.""",
        epilog=f"""\
{FILES}
A file that cannot be read, or is longer than a sign, is named and left out; a label that the data set does not have is
refused. How well it went, `lslm evaluate` tells with clips of that person that are not among the takes.

examples
  lslm adapt --takes my_signs --output runs/me
  lslm translate --model runs/me greeting.npz
  lslm adapt --takes phone/ --image-size 1080x1920 --fps 30 --output runs/me --model runs/asl_cafe/3_instruct""",
    )
    add = parser.add_argument
    add("--takes", required=True, metavar="DIR", help="folder with DIR/LABEL/FILE; LABEL is a letter or a word")
    add("--output", "--output_dir", required=True, metavar="OUT", help="folder of the new checkpoint")
    add("--model", metavar="FOLDER", help="checkpoint with an adapter (default: the shipped ASL Cafe model)")
    add(
        "--data",
        metavar="DIR",
        help="data set of what the model knows, which says where its signs are (default: what it was trained on)",
    )
    add("--splits", nargs="+", metavar="NAME", help="splits of it to train on (train)")
    add("--steps", type=int, metavar="N", help="steps of training; time goes with it (as the recipe has it)")
    add("--share", type=float, metavar="X", help="share of the new person in what is trained on (as the recipe has it)")
    add("--seed", type=int, metavar="N", help="of all that is drawn (0)")
    add("--config", metavar="FILE", help="recipe for all else (default: training/recipes/adapt.yaml)")
    add(
        "--resume-with-changes",
        action="store_true",
        help="go on with a run in OUT although takes, data or recipe are others now",
    )
    reader_arguments(parser)
    return parser


def run(args) -> int:
    """`lslm adapt`."""
    from .checkpoints import shipped_or
    from .stages import quiet

    quiet()
    from lslm.training.stages.adapt import adapt

    names = ("fps", "format", "clip", "up", "flat_hand_mean", "image_size", "body_model")
    reader = {name: value for name in names if (value := getattr(args, name)) is not None}
    flags = {"splits": args.splits, "max_steps": args.steps, "share": args.share, "seed": args.seed}
    flags = {name: value for name, value in flags.items() if value is not None}
    if args.resume_with_changes:
        flags["resume_with_changes"] = True
    model = shipped_or(args.model)
    adapt(args.takes, args.output, model=model, data=args.data, config=args.config, reader=reader, **flags)
    return 0
