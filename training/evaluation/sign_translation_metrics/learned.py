"""Scores that need a trained model, read from a local folder. Their libraries are extras of their own."""

from collections.abc import Sequence

from .text_metrics import check_pairs


def bertscore(
    references: Sequence[str], predictions: Sequence[str], folder: str, layer: int
) -> tuple[dict[str, float], dict[str, str]]:
    """BERTScore F1 in percent, mean over sentences; no idf, no rescaling. An empty prediction scores 0.

    Args:
        folder: an encoder with its tokenizer, for instance a copy of roberta-large.
        layer: whose hidden states are compared; 17 is usual for roberta-large.

    Returns:
        {"bertscore": value} and its signature, by the same name.

    Raises:
        ValueError: bert-score is not installed; see also `check_pairs`.
    """
    check_pairs(references, predictions)
    try:
        from bert_score import score
    except ModuleNotFoundError as error:
        raise ValueError(f"BERTScore needs {error.name}; run: pip install 'lslm[bertscore]'") from error
    spoken = [i for i, prediction in enumerate(predictions) if prediction.strip()]  # it fails on empty ones
    total, signature = 0.0, f"{folder}_L{layer}_no-idf"
    if spoken:
        (_, _, f1), signature = score(
            [predictions[i] for i in spoken],
            [references[i] for i in spoken],
            model_type=folder,
            num_layers=layer,
            return_hash=True,
        )
        total = float(f1.sum())
    return {"bertscore": 100.0 * total / len(predictions)}, {"bertscore": f"BERTScore F1|{signature}"}


def bleurt(
    references: Sequence[str], predictions: Sequence[str], folder: str
) -> tuple[dict[str, float], dict[str, str]]:
    """BLEURT x 100, mean over sentences.

    Args:
        folder: an unpacked BLEURT checkpoint, for instance BLEURT-20.

    Returns, Raises: as [`bertscore`].
    """
    check_pairs(references, predictions)
    try:
        from bleurt.score import BleurtScorer
    except ModuleNotFoundError as error:
        raise ValueError(
            f"BLEURT needs {error.name}; run: pip install git+https://github.com/google-research/bleurt"
        ) from error
    found = BleurtScorer(folder).score(references=list(references), candidates=list(predictions))
    return {"bleurt": 100.0 * sum(found) / len(found)}, {"bleurt": f"BLEURT x 100|{folder}|mean over sentences"}
