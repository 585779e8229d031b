"""Which files are read silently wrong? Some 550 small files of known motions, each with one thing wrong or unsaid.

    python benchmarks/corpus.py [OUT] [--seed 0] [--kind KIND] [--word WORD]

Writes the files of tests/motion_corpus.py, which says what they are and what counts as right, into a temporary folder
and reads each. Prints those that are not right, and a table by kind; writes OUT/results.json.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from motion_corpus import KINDS, cases, judge

from lslm.training.provenance import record_of_script, save_results

VERDICTS = ("right", "said", "refused", "silently wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of results.json")
    parser.add_argument("--seed", type=int, default=0, help="of the random motions (default 0)")
    parser.add_argument("--kind", default="", choices=("", *KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--word", default="", metavar="WORD", help="only files with this in their name")
    args = parser.parse_args()
    rows = []
    for case in cases(args.seed, args.kind, args.word):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"kind": case.kind, "name": case.name, **judge(case, Path(folder))})
        if rows[-1]["verdict"] != "right":
            print(f"{rows[-1]['verdict']}: {case.kind}: {case.name}: {rows[-1]['why']}")
    counts = {name: Counter(row["verdict"] for row in rows if row["kind"] == name) for name in KINDS}
    counts["all"] = sum(counts.values(), Counter())
    for name, count in counts.items():
        print(f"{name:26}{count.total():5} files", *(f"{verdict} {count[verdict]:4}" for verdict in VERDICTS), sep=", ")
    if args.out:
        metrics = {name: {verdict: count[verdict] for verdict in VERDICTS} for name, count in counts.items()}
        record = record_of_script("cpu", packages=("numpy",))
        others = [row for row in rows if row["verdict"] != "right"]
        save_results(args.out, {"metrics": metrics, "seed": args.seed, **record, "not_right": others})


if __name__ == "__main__":
    main()
