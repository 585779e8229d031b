"""`lslm score`: anyone's translations against references."""

import argparse
import json
import sys
import warnings
from pathlib import Path

from .errors import one_line


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Score translations against references: two text files, one sentence a line, line by line. An empty line in HYP is a
translation of nothing; in REF it is an error. Every score is printed with its signature, which says what exactly was
computed: the same text moves by 3 BLEU with the definition. Percent, but for counts.""",
        epilog="""\
definitions
  bleu            BLEU-1 to 4: sacrebleu, 13a, cased; the usual one
  bleu_lower      the same, lower-cased
  bleu_none       the same, cased, words split at blanks alone
  bleu_motiongpt  as MotionGPT counts: lower-cased, no punctuation, no smoothing
  rbleu           reduced BLEU-4 (Tarres et al.): without the most frequent words
  chrf            chrF2
  rouge_l         ROUGE-L F1 as Google's rouge_score
  rouge_l_coco    ROUGE-L as in COCO captioning (recall weighs more)
  cider           CIDEr-D x 100; needs two different references
  wer             word error rate; insertions, deletions, substitutions: counts, per sentence, percent
  exact_match     sentences that are the same to the letter

examples
  lslm score predictions.txt references.txt --bootstrap 1000
  lslm score new.txt references.txt --against old.txt --definitions bleu wer""",
    )
    parser.add_argument("hypotheses", metavar="HYP", help="translations")
    parser.add_argument("references", metavar="REF", help="what they should have been")
    parser.add_argument(
        "--against",
        metavar="HYP2",
        help="translations by another system: prints the differences, with paired bootstrap intervals and the p of an "
        "approximate randomisation test",
    )
    parser.add_argument("--definitions", nargs="+", metavar="NAME", help="which, or all (default: all but bleu_*)")
    parser.add_argument(
        "--bootstrap",
        type=int,
        metavar="N",
        help="95 %% intervals from N resamples of the sentences (1000 is usual; off, but 1000 with --against)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    parser.add_argument("--json", action="store_true", help="one JSON object: scores, signatures, intervals, notes")
    return parser


def run(args) -> int:
    """`lslm score`."""
    from lslm.training.evaluation import sign_translation_metrics as metrics

    from .checkpoints import quiet

    quiet()

    definitions = args.definitions or metrics.DEFAULT
    definitions = metrics.ALL if "all" in definitions else definitions
    references, hypotheses = _read_lines(args.references), _read_lines(args.hypotheses)
    others = _read_lines(args.against) if args.against else None
    for file, lines in ((args.hypotheses, hypotheses), (args.against, others)):
        if lines is not None and len(lines) != len(references):
            raise ValueError(
                f"{file} has {len(lines)} lines, {args.references} has {len(references)}; expected a line for each"
            )
    empty = next((number for number, line in enumerate(references, 1) if not line.strip()), None)
    if empty:
        raise ValueError(f"{args.references}: line {empty} is empty; leave this sentence out of both files")

    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always", UserWarning)
        scores = metrics.text_metrics(references, hypotheses, definitions=definitions)
        result = {"scores": scores, "signatures": {}}
        samples = 1000 if args.against and args.bootstrap is None else args.bootstrap
        if samples is not None:
            result["intervals"] = metrics.confidence_intervals(references, hypotheses, definitions, samples, args.seed)
        if others:
            result["against"] = metrics.text_metrics(references, others, definitions=definitions)
            result["test"] = metrics.compare(references, hypotheses, others, definitions, samples, args.seed)
    result["signatures"] = {k: v for k, v in metrics.signatures(definitions).items() if k in scores}
    result["notes"] = list(dict.fromkeys(one_line(r.message) for r in remarks if r.category is UserWarning))
    for file, lines in ((args.hypotheses, hypotheses), (args.against, others or [])):
        silent = sum(not line.strip() for line in lines)
        if silent:
            result["notes"].append(f"{file}: {silent} of {len(lines)} lines are empty, and count as deletions")
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    for name, value in scores.items():
        cells = [f"{name:26}", _cell(value)]
        if others:
            cells.append(_cell(result["against"][name]))
        if others and name in result["test"]:
            test = result["test"][name]
            cells.append(f"{test['difference']:+8.2f} [{test['low']:+.2f}, {test['high']:+.2f}] p {test['p']:.3f}")
        elif samples is not None and name in result["intervals"]:
            low, high = result["intervals"][name]
            cells.append(f"[{low:.2f}, {high:.2f}]")
        print("  ".join([*cells, result["signatures"].get(name, "")]).rstrip())
    for note in result["notes"]:
        print(f"lslm: {note}", file=sys.stderr)
    return 0


def _read_lines(file: str) -> list[str]:
    """Sentences of a text file, one a line. Raises ValueError if there are none, or if it is not UTF-8 text."""
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")  # not splitlines: sentences may hold a U+2028
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    lines = lines[:-1] if not lines[-1] else lines
    if not lines:
        raise ValueError(f"{file} is empty; expected one sentence a line")
    return lines


def _cell(value: float) -> str:
    return f"{value:8.2f}" if isinstance(value, float) else f"{value:8d}"
