"""The HTML report of `lslm evaluate`: translations with what the model was unsure of, beside the moving signer.

One file that asks the network for nothing; report.html beside this module is its template, skeleton.js and display.css
are what the demo page shows as well. After the paper's Figures 3 and 4, which show motion, prompt, translation and
ground truth.
"""

import math
import re
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...modeling_lslm.confidence_lslm import words_of
from .display import LEGEND, motion_payload, sureness_html, word_html
from .sign_translation_metrics.text_metrics import align

HERE = Path(__file__).parent
Spans = list[tuple[int, int]]


def report_html(results: dict, rows: list[dict], clips: list[np.ndarray], fps: float) -> str:
    """The report as one HTML page.

    Args:
        results: as in results.json.
        rows: lines of predictions.jsonl, of the clips to show.
        clips: (T, 52, 3) joints of each row in metres, +y up, the signer facing +z.
        fps: their frame rate.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(
        results=results,
        clips=[_clip(row) for row in rows],
        motions=[motion_payload(clip, fps, name=str(row["id"])) for row, clip in zip(rows, clips, strict=True)],
        legend=Markup(LEGEND),
        skeleton=Markup((HERE / "skeleton.js").read_text(encoding="utf-8")),
        display=Markup((HERE / "display.css").read_text(encoding="utf-8")),
    )


def differences(reference: str, prediction: str) -> tuple[Spans, Spans, int]:
    """Where two texts differ, word by word, as WER counts it.

    Returns:
        Spans (start, end) of the words of `reference` that were missed or replaced, those of the words of `prediction`
        that are wrong or too many, and the number of word errors.
    """
    expected, said = (list(re.finditer(r"[\w']+", text)) for text in (reference, prediction))
    pairs = align(*([word[0].lower() for word in words] for words in (expected, said)))
    missed, wrong = [], []
    expected_words, said_words = iter(expected), iter(said)
    for expected_word, said_word in pairs:
        for word, words, spans in ((expected_word, expected_words, missed), (said_word, said_words, wrong)):
            if word is not None:
                span = next(words).span()
                if expected_word != said_word:
                    spans.append(span)
    return missed, wrong, sum(expected_word != said_word for expected_word, said_word in pairs)


def _clip(row: dict) -> dict:
    """What the template shows of a line of predictions.jsonl."""
    text, again = "".join(row["tokens"]), row.get("prediction_unseen_templates")
    missed, wrong, errors = differences(row["reference"], text)
    sure = math.prod(row["probabilities"])
    words = words_of(row["tokens"], row["probabilities"])
    certain = row.get("confidences")  # none in predictions of a model that is not calibrated
    if certain:
        words = [(word, one) for (word, _), one in zip(words, certain, strict=True)]
    return {
        "row": row,
        "errors": errors,
        "sure": sure,
        "reference": _marked(row["reference"], missed, "missed"),
        "output": _tinted(text, words, wrong),
        "again": None if again is None else _marked(again, differences(row["reference"], again)[1], "wrong"),
        "sureness": Markup(sureness_html(words, sure, row["tokens"][-1:] == [""], row.get("confidence"))),
    }


def _marked(text: str, spans: Spans, kind: str) -> Markup:
    """`text` as HTML with `spans` (start, end) of it marked."""
    pieces, last = [], 0
    for start, end in spans:
        pieces += [text[last:start], Markup('<mark class="{}">{}</mark>').format(kind, text[start:end])]
        last = end
    return Markup("").join([*pieces, text[last:]])


def _tinted(text: str, words: list[tuple[str, float]], wrong: Spans) -> Markup:
    """`text` as HTML, each word tinted by how unsure the model was of it, and the wrong ones marked."""
    shown = []
    for place, (_, chance) in zip(re.finditer(r"\S+", text), words, strict=True):
        inside = [(start - place.start(), end - place.start()) for start, end in wrong if start in range(*place.span())]
        shown.append(word_html(_marked(place[0], inside, "wrong"), chance))
    return Markup(" ".join(shown))
