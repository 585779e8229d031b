"""What a built data set holds: counts that add up over shards, the report, and the card."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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

MEANING = {
    "id": "of the clip",
    "text": "what is said",
    "language": "of the text, a BCP 47 code",
    "fps": "frames per second",
    "num_frames": "frames, T",
    "signer": "who signs, as the source names them",
    "source": "motion file, relative to the source",
    "source_frames": "frames in that file, before resampling",
    "joints_mm": "joints (T, 52, 3), int16 millimetres",
    "valid": "T bit masks: bit j is 1 where joint j was observed and not filled in",
    "features": "motion features (T-1, 623), float32, not normalised",
    "jaw_pose": "rotation of the jaw (T, 3), axis times angle in radians; null where the file has none",
    "expression": "SMPL-X expression (T, n), of as many numbers as the file has; null where it has none",
}


def write_card(out: Path, report: Mapping, license: Mapping) -> bool:
    """Write README.md, unless somebody has made it their own.

    Args:
        license: `license`, `license_name`, `license_link` as `SignData` takes them. Without a licence the card lacks
            the metadata that the Hub wants, and `lslm data push` asks for it.

    Returns:
        whether it was written.
    """
    from ....hub_cards.cards import SignData, dataset_card

    path = out / "README.md"
    if path.is_file() and HEADER not in path.read_text(encoding="utf-8"):
        return False
    splits = {name: summary["clips"] for name, summary in report["splits"].items() if summary["clips"]}
    languages = sorted({code for summary in report["splits"].values() for code in summary["languages"]})
    data = SignData(
        name=out.resolve().name,
        about="3D motion of sign language with text.",
        fps=report["options"]["fps"],
        signers=len({name for summary in report["splits"].values() for name in summary["signers"]}) or None,
        splits=splits,
        columns={name: MEANING.get(name, "from the table of texts") for name in report["columns"]},
        **{"license": "unknown", **license},
    )
    files = {split: f"data/{split}*.parquet" for split in splits}
    card = dataset_card(f"USER/{data.name}", data, data_files=files, language=languages or None)
    if not license.get("license"):
        card = card.split("---\n", 2)[2].lstrip()
    path.write_text(f"{card.rstrip()}\n\n{HEADER}\n", encoding="utf-8")
    return True
