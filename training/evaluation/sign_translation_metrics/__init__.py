"""Scores of translations, as functions; the same as an `evaluate` module: `evaluate.load("<path of this folder>")`.

`sign_translation_metrics.py` is what `evaluate` loads, and alone needs that library. It is copied elsewhere together
with the files it imports, so the files of this folder import nothing of ours but each other.
"""

from .significance import compare, confidence_intervals
from .text_metrics import ALL, DEFAULT, check_pairs, normalize_words, signatures, text_metrics

__all__ = [
    "ALL",
    "DEFAULT",
    "check_pairs",
    "compare",
    "confidence_intervals",
    "normalize_words",
    "signatures",
    "text_metrics",
]
