"""The HTML report of `lslm evaluate`: translations with what the model was unsure of, beside the moving signer.

One file that asks the network for nothing; report.html beside this module is its page, style and script. After the
paper's Figures 3 and 4, which show motion, prompt, translation and ground truth.
"""

import base64
import html
import json
import math
import re
from pathlib import Path

import numpy as np

from ...processing.motion_features import LEFT_HAND, PARENTS, RIGHT_HAND
from .sign_translation_metrics.text_metrics import align

PAGE = Path(__file__).with_name("report.html")
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
    content = {"fps": fps, "parents": PARENTS, "left": LEFT_HAND, "right": RIGHT_HAND}
    content["clips"] = [{"frames": len(joints), "motion": pack_motion(joints)} for joints in clips]
    total = results["metrics"].get("utterances", len(rows))
    parts = {
        "title": html.escape(f"{results['model']} on {results['data']}, {results['split']}"),
        "headlines": _headlines(results["metrics"]),
        "metrics": _metrics(results["metrics"], results.get("signatures", {})),
        "record": _record(results),
        "shown": f"{len(rows)} of {total} clips"
        + f", drawn at random (seed {int(results['seed'])})" * (len(rows) < total),
        "clips": "\n".join(_clip(number, row) for number, row in enumerate(rows)),
        "content": json.dumps(content),  # numbers and base64: nothing in it can end the script element
    }
    # in one pass: what is put in is not searched again
    return re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], PAGE.read_text(encoding="utf-8"))


def pack_motion(joints: np.ndarray) -> str:
    """(T, 52, 3) joints in metres -> base64 of little-endian int16 millimetres, in the order of the array.

    What is further than 32 m from the origin is put there.
    """
    return base64.b64encode(np.clip(np.round(joints * 1000.0), -32767, 32767).astype("<i2").tobytes()).decode()


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
    tokens, chances = list(row["tokens"]), list(row["probabilities"])
    text = "".join(tokens)
    end = _tinted("end", chances[-1], "token end") if tokens[-1:] == [""] else ""
    missed, wrong, errors = differences(row["reference"], text)
    sure = math.prod(chances)
    verdict = "exact" if row["prediction"] == row["reference"] else _count(errors, "word error")
    doubt = ""
    if chances:
        least = int(np.argmin(chances))
        what = f"“{tokens[least].strip()}”" if tokens[least] else "the end"
        doubt = f"; least sure of {html.escape(what)} ({chances[least]:.2f})"
    lines = [
        ("Prompt", f'<q class="prompt">{html.escape(row["prompt"])}</q>'),
        ("Reference", _marked(row["reference"], missed, "missed", [row["reference"]])),
        ("Output", _marked(text, wrong, "wrong", tokens, chances) + end),
    ]
    if "prediction_unseen_templates" in row:
        again = row["prediction_unseen_templates"]
        _, wrong, _ = differences(row["reference"], again)
        lines += [
            ("New prompt", f'<q class="prompt">{html.escape(row["prompt_unseen_templates"])}</q>'),
            ("Output", _marked(again, wrong, "wrong", [again])),
        ]
    name = html.escape(str(row["id"]))
    return (
        f'<li class="clip" data-errors="{errors}" data-sure="{sure:.6g}">'
        f'<header><button type="button" class="choose" data-clip="{number}" aria-pressed="false">'
        f'<span aria-hidden="true">▶</span> <span class="name">{name}</span></button>'
        f'<span class="verdict{" good" if not errors else ""}">{verdict}</span></header>'
        f"<dl>{''.join(f'<dt>{term}</dt><dd>{said}</dd>' for term, said in lines)}</dl>"
        f'<p class="sure">Whole sentence {sure:.2f}{doubt}</p></li>'
    )


def _marked(text: str, spans: list[tuple[int, int]], kind: str, tokens: list[str], chances: list[float] = ()) -> str:
    """`text` as HTML with the words in `spans` marked; with `chances`, each token is tinted by how unsure the model
    was of it."""
    ends = np.cumsum([len(token) for token in tokens])
    cuts = sorted({0, len(text), *(int(end) for end in ends if end < len(text)), *np.ravel(spans).astype(int).tolist()})
    pieces = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        piece = html.escape(text[start:end])
        if chances:
            piece = _tinted(piece, chances[int(np.searchsorted(ends, start, side="right"))])
        if any(first <= start < last for first, last in spans):
            piece = f'<mark class="{kind}">{piece}</mark>'
        pieces.append(piece)
    return "".join(pieces) or '<span class="nothing">(nothing)</span>'


def _tinted(piece: str, chance: float, kind: str = "token") -> str:
    word = piece.lstrip()
    tinted = f'<span class="{kind}" style="--p:{chance:.3f}" title="{chance:.3f}">{word}</span>'
    return piece[: len(piece) - len(word)] + tinted


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
