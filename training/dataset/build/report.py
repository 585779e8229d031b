"""What a built data set holds: counts that add up over shards, the report, and the card."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ....hub_cards.cards import NO_OWNER, SignData, code, columns_of, dataset_card, limits_of_signers, markdown
from ....hub_cards.languages import is_written, read_metadata
from ....processing.motion_errors import printable
from ....processing.motion_features import LEFT_HAND, LOWER_BODY, RIGHT_HAND, UPPER_BODY
from ....processing.readers.wording import counted
from ...recipe_keys import FeatureKeys

PARTS = {"upper_body": UPPER_BODY, "legs": LOWER_BODY, "left_hand": LEFT_HAND, "right_hand": RIGHT_HAND}
WINDOW = FeatureKeys.window / FeatureKeys.fps  # seconds of the sign tokenizer's training windows, as recipes have them
SECONDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60)  # where the bars of the histograms end
WORDS = (1, 2, 3, 5, 8, 11, 16, 21, 31, 51)
BAR = 40  # characters of the longest bar
MOST = 20  # of reasons, notes and other names in report.md; report.json has all
HEADER = "<!-- written by lslm data build; a text of your own stays if you delete this line -->"


def summarise(clips: Sequence[Mapping], facts: Sequence[Mapping], dropped: Sequence[Mapping]) -> dict:
    """Counts of one shard. Those of two shards are added with [`add`].

    Args:
        clips: of the plan. facts: about each of them. dropped: clips that are not among them.
    """
    seconds = [fact["frames"] / fact["fps"] for fact in facts]
    words = [len(clip["text"].split()) for clip in clips]
    return {
        "clips": len(clips),
        "dropped": len(dropped),
        "frames": sum(fact["frames"] for fact in facts),
        "seconds": sum(seconds),
        "words": sum(words),
        "observed": {part: sum(fact["observed"][part] for fact in facts) for part in PARTS},
        "seconds_histogram": _histogram(seconds, SECONDS),
        "words_histogram": _histogram(words, WORDS),
        "below_window": sum((fact["frames"] - 1) / fact["fps"] < WINDOW for fact in facts),
        "formats": _count(fact["format"] for fact in facts),
        "source_fps": _count(f"{fact['source_fps']:.6g}" for fact in facts),
        "languages": _count(clip["language"] for clip in clips if clip["language"]),
        "signers": _count(clip["signer"] for clip in clips if clip["signer"]),
        "notes": _count(note for fact in facts for note in fact["notes"]),
        "reasons": _count(fault["kind"] for fault in dropped),
    }


def add(one, other):
    """Sum of two results of [`summarise`]: numbers, lists of them, and mappings."""
    if isinstance(one, Mapping):
        return {**one, **{key: add(one[key], other[key]) if key in one else other[key] for key in other}}
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other


def observed(summary: Mapping) -> dict[str, float]:
    """Share of the joints of each part that were observed, over the frames of a split."""
    frames = max(summary["frames"], 1)
    return {part: round(summary["observed"][part] / frames / len(joints), 4) for part, joints in PARTS.items()}


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _histogram(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Values below the first edge, between it and the second, ..., from the last on."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return counts


# --- the report -------------------------------------------------------------------------------------------------------


def write_report(out: Path, splits: Mapping[str, dict], facts: Mapping) -> dict:
    """Write report.json and report.md.

    Args:
        splits: the sum of [`summarise`] over the shards of each split. facts: `left_out` (counts by reason), `tables`,
            `other_files`, `remarks`, `shards`, `options`, `columns`.

    Returns:
        what report.json holds.
    """
    dropped = sum(summary["dropped"] for summary in splits.values()) + sum(facts["left_out"].values())
    clips = sum(summary["clips"] for summary in splits.values())
    report = {"found": clips + dropped, "clips": clips, "dropped": dropped, **facts, "splits": splits}
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(_markdown(report), encoding="utf-8")
    return report


def _markdown(report: Mapping) -> str:
    lines = ["# What the build found", ""]
    lines += [f"{counted(report['clips'], 'clip')}, {report['dropped']} dropped, {report['found']} found.", ""]
    columns = "clips | dropped | hours | mean seconds | mean words | signers | upper body seen | legs | left hand"
    lines += [f"| split | {columns} | right hand |", "|---" * 11 + "|"]
    total: dict = {}
    for split, summary in report["splits"].items():
        total = add(total, summary)
        clips, seconds = max(summary["clips"], 1), summary["seconds"]
        cells = [split, summary["clips"], summary["dropped"], f"{seconds / 3600:.2f}", f"{seconds / clips:.2f}"]
        cells += [f"{summary['words'] / clips:.1f}", len(summary["signers"]) or "?"]
        cells += [f"{100 * share:.0f} %" for share in observed(summary).values()]
        lines += ["| " + " | ".join(map(str, cells)) + " |"]
    reasons = add(total.get("reasons", {}), report["left_out"])
    for title, counts in (
        ("Dropped, by reason (each one: dropped.jsonl)", reasons),
        ("Assumed about tables and files", report["remarks"]),
        ("Assumed or filled in while reading", total.get("notes", {})),
        ("Frame rate of the files", total.get("source_fps", {})),
        ("Languages of the texts", total.get("languages", {})),
        ("Tables of texts, rows", report["tables"]),
        ("Files that are no motion, by suffix", report["other_files"]),
    ):
        if counts:
            lines += ["", f"## {title}", "", *_bars(sorted(counts.items(), key=lambda item: (-item[1], item[0])))]
    for title, name, edges in (("Seconds", "seconds_histogram", SECONDS), ("Words", "words_histogram", WORDS)):
        if total:
            below = [f"below {edge}" for edge in edges] + [f"{edges[-1]} and more"]
            lines += ["", f"## {title} of a clip", "", *_bars(list(zip(below, total[name], strict=True)), len(below))]
    if short := total.get("below_window"):
        window = f"a training window of the sign tokenizer ({FeatureKeys.window} frames, {WINDOW:g} s)"
        lines += ["", f"{counted(short, 'clip')} shorter than {window}, which is padded then."]
    options = json.dumps(report["options"], indent=1, ensure_ascii=False)
    return "\n".join([*lines, "", "## How it was made", "", "```json", options, "```", ""])


def _bars(counts: Sequence[tuple[str, int]], most: int = MOST) -> list[str]:
    """Names, counts and bars of text in a code block."""
    shown = [(printable(str(name))[:120], count) for name, count in counts[:most]]
    longest = max(count for _, count in shown) or 1
    width, digits = max(len(name) for name, _ in shown), len(str(longest))
    lines = [
        f"{name:<{width}}  {count:>{digits}}  {'#' * -(-BAR * count // longest)}".rstrip() for name, count in shown
    ]
    fence = max(["``", *re.findall("`+", "".join(lines))], key=len) + "`"  # longer than any within
    return [f"{fence}text", *lines, *([f"and {len(counts) - most} more"] if len(counts) > most else []), fence]


# --- the card ---------------------------------------------------------------------------------------------------------


def write_card(out: Path, report: Mapping, features: Mapping, license: Mapping) -> bool:
    """Write README.md, unless somebody has made it their own.

    Args:
        features: `datasets.Features` of the data set.
        license: `license`, `license_name`, `license_link` and `origin` as `SignData` takes them. A licence that the
            card states already, and this does not, stays. Without one `lslm data push` asks for it.

    Returns:
        whether it was written.
    """
    path = out / "README.md"
    if path.is_file() and HEADER not in path.read_text(encoding="utf-8"):
        return False
    total: dict = {}
    for summary in report["splits"].values():
        total = add(total, summary)
    splits = {name: summary["clips"] for name, summary in report["splits"].items() if summary["clips"]}
    names = ("license", "license_name", "license_link")
    stated = {name: value for name, value in read_metadata(out).items() if name in names and value != "unknown"}
    data = SignData(
        name=out.resolve().name,
        language=[*filter(is_written, sorted(total["languages"])), *report["sign_languages"]],
        fps=report["options"]["fps"],
        signers=len(total["signers"]) or None,
        splits=splits,
        hours=total["seconds"] / 3600,
        **columns_of(features),
        made=_how_made(report, total),
        dropped=dict(_most(add(total["reasons"], report["left_out"]))),
        limits=_limits(report, total),
        **(license if license.get("license") or license.get("license_name") else {**stated, **license}),
    )
    files = {split: f"data/{split}*.parquet" for split in splits}
    card = dataset_card(f"{NO_OWNER}/{data.name}", data, data_files=files)
    path.write_text(f"{card.rstrip()}\n\n{HEADER}\n", encoding="utf-8")
    return True


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent, and how many more there are."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    remainder = sum(count for _, count in ordered[MOST:])
    return ordered[:MOST] + [("others", remainder)] * bool(remainder)


def _how_made(report: Mapping, total: Mapping) -> list[str]:
    """Sentences: what the files were, their rates, what was assumed and changed while they were read."""
    options = report["options"]
    formats = ", ".join(f"{code(name)} {count}" for name, count in _most(total["formats"]))
    made = ["With `lslm data build`; `--` begins its options."]
    made += [f"Clips by the format of their files: {formats}."] if formats else []
    tables = ", ".join(f"{code(name)} ({rows} rows)" for name, rows in report["tables"].items())
    made += [f"Texts: {tables}."]
    rates = ", ".join(f"{rate} ({count} clips)" for rate, count in _most(total["source_fps"]))
    kept = f"resampled to {options['fps']:g}" if options["fps"] else "kept as they are"
    made += [f"Frames per second of the files: {rates}; {kept}."] if rates else []
    if (given := options["reader"].get("fps")) is not None:
        made += [f"{given:g} frames per second were given by hand for files that no table gives a rate for."]
    if model := options["reader"].get("body_model"):
        made += [f"Body model files: {code(model)}."]
    made += [f"{markdown(note)}: {count} clips." for note, count in _most(total["notes"])]
    return made


def _limits(report: Mapping, total: Mapping) -> list[str]:
    """What the counts say that a user has to know."""
    seen = {part: total["observed"][part] / max(total["frames"], 1) / len(joints) for part, joints in PARTS.items()}
    shares = ", ".join(f"{part.replace('_', ' ')} {100 * share:.0f} %" for part, share in seen.items())
    limits = [f"Joints that were observed, and not filled in: {shares}."] if total["frames"] else []
    signers = {split: summary["signers"] for split, summary in report["splits"].items() if summary["clips"]}
    return limits + limits_of_signers(signers)
