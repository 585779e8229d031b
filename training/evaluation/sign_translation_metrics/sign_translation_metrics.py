"""The scores as an `evaluate` module, offline:

    scores = evaluate.load("training/evaluation/sign_translation_metrics").compute(predictions=[...], references=[...])

`evaluate` copies this file and those that it imports by name here, no others.
"""

import datasets
import evaluate

from .significance import confidence_intervals
from .text_metrics import DEFAULT, check_pairs, signatures, text_metrics


class SignTranslationMetrics(evaluate.Metric):
    """Corpus scores of translations; see `compute`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Scores of sign language translation: BLEU, reduced BLEU, chrF, ROUGE-L, CIDEr, WER; each with "
            "its signature.",
            citation="",
            inputs_description=SignTranslationMetrics._compute.__doc__,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add sentences; checked here, because `evaluate` would turn a number into a string."""
        check_pairs(references, predictions)
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions, references, names=None, definitions=DEFAULT, bootstrap=0, seed=0):
        """Scores of `predictions`, each against one of `references`: in percent but for counts.

        Args:
            names: the fingerspelled name in each reference, or None.
            definitions: names of `DEFINITIONS` in text_metrics.py; `lslm score --help` says what each is.
            bootstrap: number of resamples for 95 % intervals; 0: none.
            seed: of the resamples.

        Returns:
            The scores, by name; "signatures": name -> definition; "intervals": name -> (low, high), with `bootstrap`.
        """
        scores = text_metrics(references, predictions, names, definitions)
        stated = {name: signature for name, signature in signatures(definitions).items() if name in scores}
        if bootstrap:
            scores["intervals"] = confidence_intervals(references, predictions, definitions, bootstrap, seed, names)
        return scores | {"signatures": stated}
