"""`lslm ablate`: a matrix of trainings and its tables."""

import argparse
import sys


def arguments(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train and score every row of a matrix, one after the other, and print its tables beside the "
        "paper's figures. Finished rows are skipped and an interrupted row goes on where it was: give the same command "
        "again. Results: OUTPUT/tables.md, a CSV per table, a PNG per figure, and per row its recipe.yaml and "
        "results.json.",
        epilog="A row is a stage (tokenizer, align, instruct), the row it goes on from, and where it differs from the "
        "recipe; training/recipes/ablations.yaml holds the paper's and shows how to write your own.",
    )
    parser.add_argument("--config", metavar="FILE", help="the matrix (default: the paper's)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows (llama/mlp, 'qwen/*') and what they need")
    parser.add_argument("--dry-run", action="store_true", help="list the rows, what is done, and the tables they fill")
    parser.add_argument("--data", metavar="DIR", help="data set folder, instead of the matrix's")
    parser.add_argument("--output_dir", metavar="DIR", help="where everything goes, instead of the matrix's")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="repeat every row for each seed")
    return parser


def run(args) -> int:
    """`lslm ablate`."""
    from lslm.training import ablate as matrix

    config = matrix.read_config(args.config, data=args.data, output_dir=args.output_dir, seeds=args.seeds)
    rows = matrix.plan(config, args.only)
    if args.dry_run:
        matrix.check_recipes(config, rows)
        print(matrix.describe(config, rows))
        return 0
    failed = matrix.ablate(config, rows)
    print(f"written to {config['output_dir']}/tables.md")
    if failed:
        print(f"lslm: {len(failed)} of {len(rows)} rows failed: {', '.join(row.of for row in failed)}", file=sys.stderr)
    return 1 if failed else 0
