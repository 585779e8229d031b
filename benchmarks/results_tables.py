"""Print the tables of README.md and docs/results.md from recorded results, or put them there.

python benchmarks/results_tables.py            print
python benchmarks/results_tables.py --write    replace what stands between the markers of both files
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCORES = ROOT / "examples" / "asl_cafe" / "scores"
ABLATIONS, LEVERS = (ROOT / "examples" / "asl_cafe" / "ablations" / name for name in ("results", "levers"))
READING, DECODING = (ROOT / "benchmarks" / f"{name}.json" for name in ("sign_reading", "decoding"))

TRANSLATION = {
    "WER %": "wer",
    "WER % without names": "wer_without_names",
    "WER %, sign combinations unseen in training": "wer_unseen_combinations",
    "BLEU-1": "bleu1",
    "BLEU-4": "bleu4",
    "chrF": "chrf",
    "ROUGE-L": "rouge_l",
    "sentences exact %": "exact_match",
    "names exact %": "names_exact_match",
    "names, character error %": "names_character_error_rate",
    "WER %, phrasings unseen in training": "wer_unseen_templates",
    "right sentences surer than wrong ones % (50: a coin)": "confidence_auc",
    "WER %, clips shuffled": "wer_shuffled",
    "WER %, motion zeroed": "wer_zeroed",
}
SUMMARY = [
    ("words wrong (WER), %", "results", "wer"),
    ("BLEU-4", "results", "bleu4"),
    ("fingerspelled names completely right, %", "results", "names_exact_match"),
    ("{utterances} spelled words that training never had, completely right, %", "spelling", "names_exact_match"),
    ("signs recognised after a trip through the codes, % ({sign_recognition_original:.1f} before)",)
    + ("results", "sign_recognition_decoded"),
    ("control, words wrong with the motion set to zero, %", "results", "wer_zeroed"),
]
SPELLED = {
    "character error %": "names_character_error_rate",
    "words exact %": "names_exact_match",
    "WER %": "wer",
}
TOKENIZER = {
    "upper body, root-aligned, mm": "upper_body_mm",
    "hands, root-aligned, mm": "hands_mm",
    "left hand, wrist-aligned, mm": "left_hand_wrist_aligned_mm",
    "right hand, wrist-aligned, mm": "right_hand_wrist_aligned_mm",
    "codes used, of 6 x 1024": "codes_used",
    "perplexity (geometric mean of the six codebooks)": "perplexity",
    "signs recognised (1-NN), original %": "sign_recognition_original",
    "signs recognised (1-NN), decoded %": "sign_recognition_decoded",
}


def summary() -> str:
    """Six of the shipped checkpoint's scores."""
    scores = {
        name: json.loads((SCORES / f"{name}.json").read_text(encoding="utf-8"))["metrics"]
        for name in ("results", "spelling")
    }
    lines = [f"| {scores['results']['utterances']} test utterances | |", "|---|---|"]
    lines += [f"| {label.format(**scores[file])} | {scores[file][key]:.1f} |" for label, file, key in SUMMARY]
    return "\n".join(lines)


def shipped() -> str:
    """What the shipped checkpoint scores."""
    results, beams, spelling = (
        json.loads((SCORES / f"{name}.json").read_text(encoding="utf-8")) for name in ("results", "beams", "spelling")
    )
    scores, versions, harder = results["metrics"], results["versions"], spelling["metrics"]
    lines = ["| translation | test | with 4 beams |", "|---|---|---|"]
    for label, key in TRANSLATION.items():
        beam = beams["metrics"].get(key)
        lines.append(f"| {label} | {scores[key]:.1f} | {'' if beam is None else f'{beam:.1f}'} |")
    lines += ["", "| spelled words that training never had | spelling |", "|---|---|"]
    lines += [f"| {label} | {harder[key]:.1f} |" for label, key in SPELLED.items()]
    lines += ["", "| sign tokenizer | test |", "|---|---|"]
    lines += [
        f"| {label} | {scores[key]} |" if isinstance(scores[key], int) else f"| {label} | {scores[key]:.1f} |"
        for label, key in TOKENIZER.items()
    ]
    lines += [
        "",
        f"{scores['utterances']} utterances, {scores['reference_words']} words, {scores['names']} names, "
        f"{scores['unseen_combinations']} with a sign combination unseen in training, and {harder['utterances']} words "
        f"spelled; {'; '.join(results['signatures'][name] for name in ('bleu4', 'chrf', 'rouge_l', 'wer'))}. "
        f"`{results['command']}`, seed {results['seed']}; torch {versions['torch']}, transformers "
        f"{versions['transformers']}, {results['machine']}.",
    ]
    return "\n".join(lines)


def matrix(folder: Path, config: str, remark: str = "") -> str:
    """Tables as `lslm ablate` filled them: two to see, the others to open."""
    if not (folder / "tables.md").is_file():
        return "The rows are still being run."
    found = (folder / "tables.md").read_text(encoding="utf-8").strip().split("\n\n**")
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    seeds = len({row["seed"] for row in rows})
    versions, machine = (rows[0]["results"][key] for key in ("versions", "machine"))
    lines = ["\n\n**".join(found[:2])]
    if found[2:]:
        others = "**" + "\n\n**".join(found[2:])
        lines += ["<details><summary>The other tables</summary>", others, "</details>"]
    lines.append(
        f"{len(rows)} rows, {seeds} seed{'s' * (seeds > 1)}; with several, ± is half of Student's 95 % interval. "
        f"{remark}`lslm ablate --config examples/asl_cafe/ablations/{config}`; torch {versions['torch']}, transformers "
        f"{versions['transformers']}, {machine}."
    )
    return "\n\n".join(lines)


def reading() -> str:
    """What a projector reads in something else than codes."""
    results = json.loads(READING.read_text(encoding="utf-8"))
    lines = [
        f"| The projector reads | {' | '.join(results['names'].values())} |",
        "|---" * (1 + len(results["names"])) + "|",
    ]
    for variant, scores in results["metrics"].items():
        cells = (f"{mean:.1f} ± {half:.1f}" for mean, half in (scores[metric] for metric in results["names"]))
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    versions = results["versions"]
    seeds = len(next(iter(results["runs"].values())))
    lines.append(
        f"\n{seeds} seeds. `{results['command']}`; torch {versions['torch']}, transformers {versions['transformers']}, "
        f"{results['machine']}."
    )
    return "\n".join(lines)


def decoding() -> str:
    """What beams and a length penalty change."""
    results = json.loads(DECODING.read_text(encoding="utf-8"))
    lines = [
        "| Decoding | WER % | against greedy, 95 % interval | words put in, left out | names, character error % | "
        "letters of words never seen, % | seconds a clip |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, row in results["rows"].items():
        difference, low, high = row["against_greedy"]
        against = "" if way == "greedy" else f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
        lines.append(
            f"| {way} | {row['wer']:.1f} | {against} | {row['insertions']}, {row['deletions']} | "
            f"{row['names_character_error_rate']:.1f} | {row['spelling_character_error_rate']:.1f} | "
            f"{row['seconds_per_clip']:.2f} |"
        )
    utterances, versions = results["utterances"], results["versions"]
    lines.append(
        f"\n{utterances['test']} utterances, {utterances['spelling']} spelled words. `{results['command']}`; torch "
        f"{versions['torch']}, transformers {versions['transformers']}, {results['machine']}."
    )
    return "\n".join(lines)


# file -> name of each of its blocks -> the table in it
BLOCKS = {
    "README.md": {"summary": summary},
    "docs/results.md": {
        "results": shipped,
        "levers": lambda: matrix(LEVERS, "levers.yaml"),
        "reading": reading,
        "decoding": decoding,
        "ablations": lambda: matrix(
            ABLATIONS,
            "matrix.yaml",
            "The paper's own figures, on How2Sign with 3B models, stand in brackets. ",
        ),
    },
}


def with_tables(file: str) -> str:
    """The text of README.md or docs/results.md with fresh tables between the markers.

    Raises:
        ValueError: a marker is missing.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    for name, table in BLOCKS[file].items():
        begin, end = f"<!-- {name}: benchmarks/results_tables.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{file} has no {begin} ... {end}")
        text = pattern.sub(lambda _, table=table, begin=begin, end=end: f"{begin}\n{table()}\n{end}", text)
    return text


if __name__ == "__main__":
    for file, tables in BLOCKS.items():
        if "--write" in sys.argv:
            (ROOT / file).write_text(with_tables(file), encoding="utf-8")
        else:
            print("\n\n".join(table() for table in tables.values()))
