"""`lslm evaluate`: the scores of a model on a split of a data set."""

import sys
import warnings

from .errors import one_line, printable
from .recipes import RecipeParser


def arguments(prog: str) -> RecipeParser:
    return RecipeParser(
        prog,
        description="""\
Score a model on a split: translations (BLEU, chrF, ROUGE-L, WER, names apart; with 95 % intervals over clips) and
sign tokenizer (errors in mm, code usage, signs recognised after decoding). Says whether the motion helps, or whether
there is no evidence that it is read, and how far its confidence can be trusted. Writes results.json,
predictions.jsonl (with the probability of every token), reliability.png and report.html (translations beside moving
signers).

A recipe is one flat YAML file; every key is a flag too (--num_beams 4, or --num-beams 4), and the flag wins.""",
        epilog=f"""\
examples
  {prog} --config training/recipes/smollm2-135m/4_evaluate.yaml
  {prog} --data examples/asl_cafe --split test --unseen-templates --output runs/scores""",
    )


def run(args) -> int:
    """Evaluate and print the scores."""
    from lslm.training.evaluation.confidence import as_text as reliability_text
    from lslm.training.evaluation.evaluate import evaluate
    from lslm.training.evaluation.robustness import as_text
    from lslm.training.recipe import parse, require
    from lslm.training.recipe_keys import EvaluateKeys

    from .checkpoints import quiet, shipped_or, undamaged

    quiet()
    keys = parse(EvaluateKeys, args.words, args.prog)
    require(keys, "split", "output")
    keys.model = shipped_or(keys.model)
    with undamaged(keys.model), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"lslm: {one_line(message)}", file=sys.stderr)
        results = evaluate(keys, command=" ".join([args.prog, *args.words]))
    intervals = results.get("intervals", {})
    for name, value in results["metrics"].items():
        number = f"{value:10.2f}" if isinstance(value, float) else f"{value:10d}"
        interval = "  [{:.2f}, {:.2f}]".format(*intervals[name]) if name in intervals else ""
        print(f"{name:32} {number}{interval}")
    for signer, row in results.get("signers", {}).items():
        interval = "  [{:.2f}, {:.2f}]".format(*row["interval"]) if "interval" in row else ""
        print(printable(f"WER of signer {signer:18} {row['wer']:10.2f}{interval}  ({row['clips']} clips)"))
    for note in results["notes"]:
        print(f"lslm: {note}", file=sys.stderr)
    if "motion" in results:
        print(results["motion"]["summary"])
    written = ["results.json", "predictions.jsonl"]
    if "confidence" in results:
        print(reliability_text(results["confidence"]))
        written.append("reliability.png")
    if "robustness" in results:
        print(as_text(results["robustness"], results["metrics"]["wer"]))
        written.append("robustness.png")
    if keys.report_clips > 0:
        written.append("report.html")
    print(f"written to {keys.output}: {', '.join(written[:-1])} and {written[-1]}")
    return 0
