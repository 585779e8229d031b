"""The HTML report of `lslm evaluate`: translations with what the model was unsure of, beside the moving signer.

One file that asks the network for nothing; report.html beside this module is its page, skeleton.js and display.css are
what the demo page shows as well. After the paper's Figures 3 and 4, which show motion, prompt, translation and ground
truth.
"""

import html
import json
import math
import re
from pathlib import Path

import numpy as np

from .display import LEGEND, motion_payload, sureness_html, word_html, words_of
from .sign_translation_metrics.text_metrics import align

HERE = Path(__file__).parent
NOTHING = '<span class="nothing">(nothing)</span>'
# what stands large at the top, if it was measured
HEADLINES = {
    "wer": ("WER", "%", "word errors per reference word; lower is better"),
    "bleu4": ("BLEU-4", "", "matching runs of up to four words; 100 is the reference itself"),
    "chrf": ("chrF", "", "matching runs of letters; 100 is the reference itself"),
    "rouge_l": ("ROUGE-L", "", "longest common run of words in order; 100 is the reference itself"),
    "exact_match": ("Exact", "%", "sentences that equal the reference to the letter"),
    "wer_unseen_templates": ("WER, new prompts", "%", "asked in words that no training prompt has; lower is better"),
}


def report_html(results: dict, rows: list[dict], clips: list[np.ndarray], fps: float) -> str:
    """The report as one HTML page.

    Args:
        results: as in results.json.
        rows: lines of predictions.jsonl, of the clips to show.
        clips: (T, 52, 3) joints of each row in metres, +y up, the signer facing +z.
        fps: their frame rate.
    """
    shown = [motion_payload(clip, fps, name=str(row["id"])) for row, clip in zip(rows, clips, strict=True)]
    total = results["metrics"].get("utterances", len(rows))
    parts = {
        "title": html.escape(f"{results['model']} on {results['data']}, {results['split']}"),
        "headlines": _headlines(results["metrics"]),
        "metrics": _metrics(results["metrics"], results.get("signatures", {})),
        "record": _record(results),
        "shown": f"{len(rows)} of {total} clips"
        + f", drawn at random (seed {int(results['seed'])})" * (len(rows) < total),
        "clips": "\n".join(_clip(number, row) for number, row in enumerate(rows)),
        "legend": LEGEND,
        "content": json.dumps(shown).replace("<", "\\u003c"),  # so that no name ends the script element
        "skeleton": _part("skeleton.js"),
        "display": _part("display.css"),
    }
    # in one pass: what is put in is not searched again
    return re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], _part("report.html"))


def _part(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def differences(reference: str, prediction: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Where two texts differ, word by word, as WER counts it.

    Returns:
        Spans (start, end) of the words of `reference` that were missed or replaced, those of the words of `prediction`
        that are wrong or too many, and the number of word errors.
    """
    words, other = (list(re.finditer(r"[\w']+", text)) for text in (reference, prediction))
    missed, wrong, errors = [], [], 0
    ours, theirs = iter(other), iter(words)
    for expected, said in align(*([word[0].lower() for word in side] for side in (words, other))):
        errors += expected != said
        for word, side, found in ((expected, theirs, missed), (said, ours, wrong)):
            if word is not None:
                span = next(side).span()
                if expected != said:
                    found.append(span)
    return missed, wrong, errors


def _clip(number: int, row: dict) -> str:
    text, chances = "".join(row["tokens"]), row["probabilities"]
    missed, wrong, errors = differences(row["reference"], text)
    sure = math.prod(chances)
    words = words_of(row["tokens"], chances)
    verdict = "exact" if row["prediction"] == row["reference"] else _count(errors, "word error")
    lines = [
        ("Prompt", f'<q class="prompt">{html.escape(row["prompt"])}</q>'),
        ("Reference", _marked(row["reference"], missed, "missed") or NOTHING),
        ("Output", _tinted(text, words, wrong) or NOTHING),
    ]
    if "prediction_unseen_templates" in row:
        again = row["prediction_unseen_templates"]
        lines += [
            ("New prompt", f'<q class="prompt">{html.escape(row["prompt_unseen_templates"])}</q>'),
            ("Output", _marked(again, differences(row["reference"], again)[1], "wrong") or NOTHING),
        ]
    name = html.escape(str(row["id"]))
    return (
        f'<li class="clip" data-errors="{errors}" data-sure="{sure:.6g}">'
        f'<header><button type="button" class="choose" data-clip="{number}" aria-pressed="false">'
        f'<span aria-hidden="true">▶</span> <span>{name}</span></button>'
        f'<span class="verdict{" good" if not errors else ""}">{verdict}</span></header>'
        f"<dl>{''.join(f'<dt>{term}</dt><dd>{said}</dd>' for term, said in lines)}</dl>"
        f"{sureness_html(words, sure, row['tokens'][-1:] == [''])}</li>"
    )


def _marked(text: str, spans: list[tuple[int, int]], kind: str) -> str:
    """`text` as HTML with `spans` (start, end) of it marked."""
    pieces, last = [], 0
    for start, end in spans:
        pieces += [html.escape(text[last:start]), f'<mark class="{kind}">{html.escape(text[start:end])}</mark>']
        last = end
    return "".join([*pieces, html.escape(text[last:])])


def _tinted(text: str, words: list[tuple[str, float]], wrong: list[tuple[int, int]]) -> str:
    """`text` as HTML, each word tinted by how unsure the model was of it, and the wrong ones marked."""
    shown = []
    for place, (_, chance) in zip(re.finditer(r"\S+", text), words, strict=True):
        spans = [
            (start - place.start(), end - place.start()) for start, end in wrong if place.start() <= start < place.end()
        ]
        shown.append(word_html(_marked(place[0], spans, "wrong"), chance))
    return " ".join(shown)


def _headlines(metrics: dict) -> str:
    return "".join(
        f'<div class="score"><dt>{label}</dt><dd><b>{metrics[name]:.1f}</b>{unit}</dd>'
        f'<dd class="what">{what}</dd></div>'
        for name, (label, unit, what) in HEADLINES.items()
        if name in metrics
    )


def _metrics(metrics: dict, signatures: dict) -> str:
    rows, before = [], None
    for name, value in metrics.items():
        shown = f"{value:.2f}" if isinstance(value, float) else value
        signature = signatures.get(name)
        said = f"<small>{html.escape(signature)}</small>" if signature and signature != before else ""  # once for many
        rows.append(f'<tr><th scope="row">{html.escape(name)}{said}</th><td>{shown}</td></tr>')
        before = signature
    return "".join(rows)


def _record(results: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items())
    facts = {
        "Command": f"<code>{html.escape(results['command'])}</code>" if results.get("command") else "",
        "Model": html.escape(str(results["model"])),
        "Data": html.escape(f"{results['data']}, split {results['split']}"),
        "Machine": html.escape(str(results.get("machine", ""))),
        "Versions": html.escape(versions),
        "Time": f"{results['seconds']:.0f} s" if "seconds" in results else "",
    }
    return "".join(f"<div><dt>{term}</dt><dd>{fact}</dd></div>" for term, fact in facts.items() if fact)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
