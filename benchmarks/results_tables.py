"""Print the tables of README.md and docs/ from recorded results, or put them there.

python benchmarks/results_tables.py            print
python benchmarks/results_tables.py --write    replace what stands between the markers of these files
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCORES = ROOT / "examples" / "asl_cafe" / "scores"
ABLATIONS, LEVERS = (ROOT / "examples" / "asl_cafe" / "ablations" / name for name in ("results", "levers"))
READING, DECODING, CORPUS, DRY_RUN, SYNTHETIC, STRANGERS, SERVICE = (
    ROOT / "benchmarks" / f"{name}.json"
    for name in ("sign_reading", "decoding", "corpus", "dry_run", "synthetic_signer", "strangers", "service")
)

LEXICON, LEXICON_NARROW = (ROOT / "benchmarks" / f"{name}.json" for name in ("lexicon", "lexicon_three_people"))
LEXICON_SCORES = {
    "WER %": "wer",
    "names exact %": "names_exact_match",
    "names, character error %": "names_character_error_rate",
    "calibration error of words, %": "ece_words",
}

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
# attempts on people and cameras that training did not see: the name of their files -> what they were
VARIED = {"varied": "1. all mirrored", "right_handed": "2. right-handed", "longer": "3. longer"}
SHIPPED = {"shipped": "4. once more, shipped"}
VARIED_SCORES = {
    "WER %": "wer",
    "names exact %": "names_exact_match",
    "names, character error %": "names_character_error_rate",
    "calibration error of words, %": "ece_words",
    "right hand, wrist-aligned, mm": "right_hand_wrist_aligned_mm",
    "signs recognised (1-NN), decoded %": "sign_recognition_decoded",
}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: list[str], rows: Iterable[Iterable[str | float | None]]) -> str:
    """In Markdown, fractions with one decimal, None as an empty cell."""
    lines = []
    for row in (head, *rows):
        cells = (f"{cell:.1f}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def score(results: dict, name: str) -> str | int | None:
    """A score with its 95 % interval, if one is recorded; None if the score is not."""
    value, interval = results["metrics"].get(name), results.get("intervals", {}).get(name)
    if not isinstance(value, float):
        return value
    return f"{value:.1f}" + ("" if interval is None else " ({:.1f} to {:.1f})".format(*interval))


def motion(results: dict) -> str:
    """Whether the motion is read."""
    return results.get("motion", {"summary": "Whether the motion is read was not tested."})["summary"]


def made_with(results: dict, command: str | None = None, seed: str = "") -> str:
    """The command of a file of results, and what it ran on."""
    versions = results["versions"]
    return (
        f"`{command or results['command']}`{seed}; torch {versions['torch']}, transformers {versions['transformers']}, "
        f"{results['machine']}."
    )


def summary() -> str:
    """How people are read whom training did not see, five of the shipped checkpoint's scores, and whether it reads."""
    results = {name: read(SCORES / f"{name}.json") for name in ("results", "spelling")}
    rows = ([label.format(**results[file]["metrics"]), score(results[file], key)] for label, file, key in SUMMARY)
    utterances = results["results"]["metrics"]["utterances"]
    strangers = read(STRANGERS)["metrics"]["left hands read as right ones"]
    letters, words = (
        [people[name][0] for people in strangers.values() if name in people] for name in ("letters", "words")
    )
    others = (
        f"**Strangers are read worse.** {read(LEXICON)['sentence']} Of people kept from training one at a time "
        f"{min(letters):.0f} to {max(letters):.0f} % of the single letters are read right, and {min(words):.0f} to "
        f"{max(words):.0f} % of the words. The scores below are of people that it knows."
    )
    summed = table([f"{utterances} test utterances", "(95 % interval)"], rows)
    return "\n\n".join([others, summed, motion(results["results"])])


def shipped() -> str:
    """What the shipped checkpoint scores."""
    results, beams, spelling = (read(SCORES / f"{name}.json") for name in ("results", "beams", "spelling"))
    scores, spelled = results["metrics"], spelling["metrics"]
    translation = ([label, score(results, key), score(beams, key)] for label, key in TRANSLATION.items())
    spelled_words = ([label, score(spelling, key)] for label, key in SPELLED.items())
    tokenizer = ([label, scores[key]] for label, key in TOKENIZER.items())
    remark = (
        f"{scores['utterances']} utterances, {scores['reference_words']} words, {scores['names']} names, "
        f"{scores['unseen_combinations']} with a sign combination unseen in training, and {spelled['utterances']} "
        f"words spelled; in brackets 95 % intervals over utterances (bootstrap); "
        f"{'; '.join(results['signatures'][name] for name in ('bleu4', 'chrf', 'rouge_l', 'wer'))}. "
    )
    blocks = [
        motion(results),
        table(["translation", "test", "with 4 beams"], translation),
        table(["spelled words that training never had", "spelling"], spelled_words),
        table(["sign tokenizer", "test"], tokenizer),
        remark + made_with(results, seed=f", seed {results['seed']}"),
    ]
    return "\n\n".join(blocks)


def others() -> str:
    """How the shipped checkpoint reads under conditions of other cameras, trackers and people, and one that was trained
    on three people as their camera saw them."""
    conditions, narrow = read(SCORES / "robustness.json"), read(SCORES / "three_people_robustness.json")
    other = narrow["robustness"]
    rows = [["as they are", conditions["metrics"]["wer"], "", f"(of {narrow['metrics']['wer']:.1f})"]]
    for name, row in conditions["robustness"].items():
        cells = (
            "{:+.1f} ({:+.1f} to {:+.1f})".format(one["difference"], *one["interval"]) for one in (row, other[name])
        )
        rows.append([name, row["wer"], *cells])
    clips, still = conditions["metrics"]["utterances"], conditions["confidence"]["no_signing"]["clips"]
    heads = [f"the first {clips} test utterances", "WER %", "points above, 95 % interval", "trained on three people"]
    blocks = [
        table(heads, rows),
        f"Of {still} clips of people who do not sign, {score(conditions, 'no_signing_sure')} % get a sentence of a "
        "confidence above 0.5. " + made_with(conditions, seed=f", seed {conditions['seed']}"),
    ]
    return "\n\n".join(blocks)


def varied() -> str:
    """What training on more people, synthetic signers and varied clips brings and costs: four attempts."""
    splits = ("validation", "small_talk")
    attempts = VARIED | SHIPPED
    found = [[read(SCORES / f"{name}_{split}.json") for split in splits] for name in attempts]
    conditions = [read(SCORES / f"{name}_robustness.json") for name in VARIED]
    counted = [
        f"{name}, the first {one['metrics']['utterances']}"
        for name, one in zip(VARIED.values(), conditions, strict=True)
    ]
    heads = [f"{attempt}: {split}" for attempt in attempts.values() for split in splits]
    scores = ([label, *(score(one, key) for pair in found for one in pair)] for label, key in VARIED_SCORES.items())
    points = "{wer:.1f}: {difference:+.1f} ({0[0]:+.1f} to {0[1]:+.1f})"
    rows = [["as they are", *(results["metrics"]["wer"] for results in conditions)]]
    for name in conditions[0]["robustness"]:
        kept = [results["robustness"][name] for results in conditions]
        rows.append([name, *(points.format(row["interval"], **row) for row in kept)])
    sure = [f"{score(results, 'no_signing_sure')} %" for results in conditions]
    count = conditions[0]["confidence"]["no_signing"]["clips"]
    blocks = [
        table(["scores", *heads], scores),
        table(["test utterances", *(f"{name}: WER %, points above" for name in counted)], rows),
        f"Of {count} clips of people who do not sign, {' and '.join(sure)} get a sentence of a confidence above 0.5. "
        + made_with(conditions[1], seed=f", seed {conditions[1]['seed']}"),
    ]
    return "\n\n".join(blocks)


def lexicon() -> str:
    """How the alphabet of a stranger is read."""
    found = {"shipped": read(LEXICON), "trained on three people, without variation": read(LEXICON_NARROW)}
    rows = ([name, *(score(results, key) for key in LEXICON_SCORES.values())] for name, results in found.items())
    shipped = found["shipped"]
    return (
        table(["checkpoint", *LEXICON_SCORES], rows) + f"\n\n{shipped['utterances']} utterances. {made_with(shipped)}"
    )


def strangers() -> str:
    """How much is read of people whom training did not see, and what brings it."""
    results = read(STRANGERS)
    names = results["names"]
    rows = (
        [row, person, *(scores[metric][0] if metric in scores else None for metric in names)]
        for row, people in results["metrics"].items()
        for person, scores in people.items()
    )
    remark = f"{results['clips']} utterances to learn from, {results['steps']} steps. {made_with(results)}"
    return table(["trained", "kept from training", *names.values()], rows) + f"\n\n{remark}"


def matrix(folder: Path, config: str, remark: str = "") -> str:
    """Tables as `lslm ablate` filled them: two to see, the others to open."""
    first, second, *others = (folder / "tables.md").read_text(encoding="utf-8").strip().split("\n\n**")
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    seeds = len({row["seed"] for row in rows})
    blocks = [f"{first}\n\n**{second}"]
    if others:
        blocks += ["<details><summary>The other tables</summary>", "**" + "\n\n**".join(others), "</details>"]
    blocks.append(
        f"{len(rows)} rows, {seeds} seed{'s' * (seeds > 1)}; with several, ± is half of Student's 95 % interval. "
        + remark
        + made_with(rows[0]["results"], f"lslm ablate --config examples/asl_cafe/ablations/{config}")
    )
    return "\n\n".join(blocks)


def reading() -> str:
    """What a projector reads in something else than codes."""
    results = read(READING)
    rows = (
        [variant, *(f"{mean:.1f} ± {half:.1f}" for mean, half in (scores[metric] for metric in results["names"]))]
        for variant, scores in results["metrics"].items()
    )
    seeds = len(next(iter(results["runs"].values())))
    return table(["The projector reads", *results["names"].values()], rows) + f"\n\n{seeds} seeds. {made_with(results)}"


def synthetic() -> str:
    """What people and the synthetic signer make of each other's letters, and where their index fingers point."""
    results = read(SYNTHETIC)
    rows = []
    for name, readers in results["readings"].items():
        right, deviation = readers["network"]["right"]
        weak = [f"{letter} {part:.0f}" for letter, part in readers["network"]["letters"].items() if part < 50]
        rows.append([name, readers["nearest_neighbour"]["right"][0], f"{right:.1f} ± {deviation:.1f}", ", ".join(weak)])
    points = results["index_points"]
    directions = (
        [letter.upper(), *("({:+.2f}, {:+.2f}, {:+.2f})".format(*points[source][letter]) for source in points)]
        for letter in "ghpqxd"
    )
    takes = ", ".join(f"{count} letters of {source}" for source, count in results["takes"].items())
    machine = f"torch {results['versions']['torch']}, {results['machine']}"
    blocks = [
        table(["learns from -> reads", "nearest neighbour, % right", "network, % right", "under 50 %"], rows),
        table(["index finger points to (left, up, camera)", *points], directions),
        f"{takes}; means of letters, ± deviation of {results['seeds']} seeds. `{results['command']}`; {machine}.",
    ]
    return "\n\n".join(blocks)


def decoding() -> str:
    """What beams and a length penalty change."""
    results = read(DECODING)
    rows = []
    for way, row in results["rows"].items():
        difference, low, high = row["against_greedy"]
        against = "" if way == "greedy" else f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
        errors = [row["names_character_error_rate"], row["spelling_character_error_rate"]]
        left_out = f"{row['insertions']}, {row['deletions']}"
        rows.append([way, row["wer"], against, left_out, *errors, f"{row['seconds_per_clip']:.2f}"])
    head = ["Decoding", "WER %", "against greedy, 95 % interval", "words put in, left out", "names, character error %"]
    utterances = results["utterances"]
    remark = f"{utterances['test']} utterances, {utterances['spelling']} spelled words. {made_with(results)}"
    return table([*head, "letters of words never seen, %", "seconds a clip"], rows) + "\n\n" + remark


def corpus() -> str:
    """How motion files with one thing wrong or unsaid are read."""
    results = read(CORPUS)
    verdicts = list(results["metrics"]["all"])
    rows = ([kind, sum(counts.values()), *counts.values()] for kind, counts in results["metrics"].items())
    remark = f"`{results['command']}`, seed {results['seed']}; numpy {results['versions']['numpy']}."
    return table(["one thing wrong or unsaid in", "files", *verdicts], rows) + "\n\n" + remark


def three_billion() -> str:
    """What the 3B recipes need, by their dry runs."""
    stages, gib, rows = read(DRY_RUN)["stages"], 2**30, []

    def minutes(needs: dict, processes: str) -> str:  # of an A100, 312 TFLOP/s
        seconds = needs["flops"] * needs["steps"][processes] / needs["steps"]["1"] / 312e12
        return f"{seconds / 0.4 / 60:.0f} to {seconds / 0.3 / 60:.0f}"

    for name, needs in stages.items():
        memory = [needs["memory"][processes] / gib for processes in ("1", "8")]
        sharded = [needs["memory_fsdp"][processes] / gib if needs["whole"] else None for processes in ("2", "4", "8")]
        files = [needs["model"] / gib, needs["checkpoint"] / gib]
        row = [name, needs["trained"] / 1e6, needs["loading"] / gib, *memory, *sharded, *files]
        rows.append([*row, minutes(needs, "1"), minutes(needs, "8")])
    head = [
        "what trains",
        "M numbers train",
        "host, while loading",
        "1 GPU",
        "each of 2 to 8",
        "FSDP2: each of 2",
        "4",
        "8",
    ]
    head += ["model.safetensors", "checkpoint to go on from", "minutes, 1 A100", "8 A100"]
    needs = next(iter(stages.values()))
    remark = (
        f"Sizes in GiB. {needs['clips']:,} clips of {needs['tokens']:.0f} tokens, the longest {needs['longest']}; "
        f"three epochs, 16 clips a GPU: {needs['steps']['1']:,} steps on one, {needs['steps']['8']:,} on 8. "
        f"`{read(DRY_RUN)['command']}`"
    )
    return table(head, rows) + f"\n\n{remark}"


def dry_run_measured() -> str:
    """What dry runs say and what runs take."""
    names = {"step": "memory that a step adds", "memory": "memory in a step, in all"}
    names |= {"model": "model.safetensors", "optimizer": "optimizer.pt"}
    rows = [
        [f"{dtype}: {names[what]}", said / 2**20, row["taken"][what] / 2**20]
        for dtype, row in read(DRY_RUN)["measured"].items()
        for what, said in row["said"].items()
    ]
    return table(["MiB", "said", "taken"], rows) + f"\n\n{made_with(read(DRY_RUN))}"


def service() -> str:
    """The demo page under the load of 32 programs."""
    results = read(SERVICE)
    measured, memory = results["metrics"], results["metrics"]["server_memory_mb"]
    rows = [
        ["answered", measured["answered"]],
        ['told "busy"', measured["told_busy"]],
        ["other errors", measured["other_errors"]],
        ["texts that are not those of the clip alone", measured["texts_that_differ_from_the_clip_alone"]],
        ["seconds for an answer: half within", measured["seconds"]["0.5"]],
        ["99 % within", measured["seconds"]["0.99"]],
        ["clips a second, of all clients", f"{measured['requests_per_second']:.2f}"],
        ["clips a second, of one client alone", f"{measured['requests_per_second_of_one_client']:.2f}"],
        ["longest wait for `/health`, s", f"{measured['seconds_of_health']['1.0']:.2f}"],
        ["memory before, MiB", memory["before"]],
        *([f"after {100 * float(part):.0f} %", memory[part]] for part in ("0.25", "0.5", "1.0")),
    ]
    return table(["32 clients, 300 requests", ""], rows) + f"\n\n{made_with(results)}"


# file -> name of each of its blocks -> the table in it
BLOCKS = {
    "README.md": {"summary": summary},
    "docs/formats.md": {"corpus": corpus},
    "docs/training.md": {"three billion": three_billion, "dry run": dry_run_measured},
    "docs/serving.md": {"service": service},
    "docs/results.md": {
        "results": shipped,
        "others": others,
        "varied": varied,
        "lexicon": lexicon,
        "strangers": strangers,
        "synthetic": synthetic,
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
    """The text of a file of `BLOCKS` with fresh tables between the markers.

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
