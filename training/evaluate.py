"""Score a model on one split of a data set.

    lslm evaluate --data examples/asl_cafe --split test --output runs/scores

Writes results.json (a flat "metrics" object, beside what it takes to repeat the run) and predictions.jsonl.
"""

import json
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import __version__ as transformers_version
from transformers import set_seed

from lslm.modeling_lslm import LslmForConditionalGeneration
from lslm.processing import SignMotionProcessor

from . import metrics
from .data import MotionText


def evaluate(
    data: str,
    split: str,
    output: str,
    model: str,
    *,
    command: str = "",
    batch_size: int = 16,
    num_beams: int | None = None,
    controls: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> dict:
    """Translate every clip of a split and write the scores.

    Args:
        data: data set folder; see `load_split`.
        split: its split.
        output: folder for results.json and predictions.jsonl.
        model: checkpoint folder or Hub id.
        command: what the user typed, for the record.
        controls: also score clips shuffled among the utterances and motion set to zero. A model that reads the motion
            is wrong on both; one that recites what people usually say is not.
        limit: the first N clips only.

    Returns:
        The content of results.json.
    """
    set_seed(seed)
    started = time.time()
    processor = SignMotionProcessor.from_pretrained(model)
    lslm = LslmForConditionalGeneration.from_pretrained(model).merge_lora().eval()
    if torch.cuda.is_available():
        lslm = lslm.cuda()
    extractor = processor.feature_extractor
    dataset = MotionText(data, split, extractor.fps, limit=limit)
    features = [extractor.normalize(extractor.to_features(joints)) for joints in dataset.joints]
    names = dataset.rows["name"] if "name" in dataset.rows.column_names else None
    names = None if names is None else list(names)

    def translate(clips: list[np.ndarray], what: str) -> list[str]:
        return translate_features(lslm, processor, clips, batch_size, num_beams, what)

    predictions = translate(features, f"translating {split}")
    scores = metrics.text_metrics(dataset.texts, predictions, names)
    if "seen_combination" in dataset.rows.column_names:
        unseen = [i for i, seen in enumerate(dataset.rows["seen_combination"]) if not seen]
        if unseen:
            texts = [[texts[i] for i in unseen] for texts in (dataset.texts, predictions)]
            scores["unseen_combinations"] = len(unseen)
            scores["wer_unseen_combinations"] = metrics.text_metrics(*texts)["wer"]
    if controls:
        # a shift of a random order: no clip stays with its own utterance
        order = np.random.default_rng(seed).permutation(len(features))
        shuffled = [None] * len(features)
        for here, there in zip(order, np.roll(order, 1), strict=True):
            shuffled[here] = features[there]
        zeroed = [np.zeros_like(clip) for clip in features]
        controlled = {"shuffled": shuffled, "zeroed": zeroed}
        if len(features) == 1:
            del controlled["shuffled"]  # there is no other clip
        for name, clips in controlled.items():
            scores[f"wer_{name}"] = metrics.text_metrics(dataset.texts, translate(clips, name))["wer"]
    scores |= tokenizer_metrics(lslm.model.vqvae, extractor, dataset, features, data)
    results = {
        "metrics": {name: round(value, 4) for name, value in scores.items()},
        "model": model,
        "data": data,
        "split": split,
        "command": command,
        "seed": seed,
        "seconds": round(time.time() - started, 1),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers_version,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {lslm.device.type}",
        "definitions": "BLEU sacrebleu 13a cased exp; WER lower-cased, word characters and apostrophes, corpus-level",
    }
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    with open(folder / "predictions.jsonl", "w", encoding="utf-8") as file:
        ids = dataset.rows["id"] if "id" in dataset.rows.column_names else range(len(predictions))
        for name, reference, prediction in zip(ids, dataset.texts, predictions, strict=True):
            file.write(
                json.dumps({"id": name, "reference": reference, "prediction": prediction}, ensure_ascii=False) + "\n"
            )
    return results


@torch.no_grad()
def translate_features(lslm, processor, clips, batch_size=16, num_beams=None, what="translating") -> list[str]:
    """Normalised (T, 623) features of clips -> their translations, batched by length, with a progress bar."""
    texts = [""] * len(clips)
    by_length = sorted(range(len(clips)), key=lambda i: -len(clips[i]))
    options = {} if num_beams is None else {"num_beams": num_beams}
    with tqdm(total=len(clips), desc=what, unit="clip") as bar:
        for start in range(0, len(clips), batch_size):
            indices = by_length[start : start + batch_size]
            batch = processor.encode_features([processor.prompt] * len(indices), [clips[i] for i in indices])
            batch = batch.to(lslm.device)
            sequences = lslm.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
            for i, text in zip(indices, processor.batch_decode(sequences), strict=True):
                texts[i] = text
            bar.update(len(indices))
    return texts


def tokenizer_metrics(vqvae, extractor, dataset: MotionText, features: list[np.ndarray], data: str) -> dict[str, float]:
    """What the sign tokenizer keeps of the motion: errors in mm, code usage, and (when the data set names its signs and
    has a training split) how many signs a nearest neighbour still recognises after decoding."""
    decoded, codes = [], []
    for clip in tqdm(features, desc="reconstructing", unit="clip"):
        code = vqvae.encode(torch.from_numpy(clip)[None].to(vqvae.device))
        codes.append(code[0].cpu().numpy())
        decoded.append(extractor.to_joints(vqvae.decode(code)[0, : len(clip)].cpu().numpy()))
    originals = [extractor.to_joints(clip) for clip in features]
    errors = [metrics.reconstruction_errors(a, b) for a, b in zip(originals, decoded, strict=True)]
    frames = [len(clip) for clip in features]
    scores = {name: float(np.average([e[name] for e in errors], weights=frames)) for name in errors[0]}
    scores |= metrics.code_usage(np.concatenate(codes), vqvae.config.codebook_size)
    try:
        known = MotionText(data, "train", extractor.fps)
    except FileNotFoundError:
        return scores
    if "signs" not in dataset.rows.column_names or "signs" not in known.rows.column_names:
        return scores
    reference, labels = _signs(
        known, (extractor.to_joints(extractor.normalize(extractor.to_features(joints))) for joints in known.joints)
    )
    for name, clips in (("decoded", decoded), ("original", originals)):
        query, truth = _signs(dataset, clips)
        if not labels or not truth:
            return scores
        scores[f"sign_recognition_{name}"] = metrics.nearest_neighbour_accuracy(reference, labels, query, truth)
    return scores


def _signs(dataset: MotionText, clips: Iterable[np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Descriptors and labels of the signs in `clips`, each take once."""
    seen, descriptors, labels = set(), [], []
    for row, clip in zip(dataset.rows, clips, strict=True):
        for sign in row["signs"] or ():
            start, end = (round(sign[key] * dataset.fps / row["fps"]) for key in ("start", "end"))
            cut = clip[start:end]
            if sign["take"] not in seen and len(cut) > 1:
                seen.add(sign["take"])
                descriptors.append(metrics.sign_descriptor(cut))
                labels.append(sign["label"])
    return np.array(descriptors), labels
