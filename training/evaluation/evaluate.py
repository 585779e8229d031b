"""Score a model on one split of a data set.

    lslm evaluate --data examples/asl_cafe --split test --output runs/scores

Writes results.json (a flat "metrics" object, beside what it takes to repeat the run), predictions.jsonl (a line a clip:
id, reference, prediction, prompt, tokens and their probabilities) and report.html.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import set_seed

from ...hub_cards.data_sets import data_revision
from ...hub_cards.models import config_of
from ...modeling_lslm import (
    LslmConfig,
    LslmForConditionalGeneration,
    MotionEncoding,
    SignMotionVQVAE,
    SignMotionVQVAEConfig,
)
from ...modeling_lslm.confidence_lslm import words_of
from ...processing import SignMotionFeatureExtractor, SignMotionProcessor
from ...processing.pipeline_lslm import Translation, spell_out
from ...processing.readers.wording import counted
from ..dataset.collators import load_templates
from ..dataset.encodings import encode_clips
from ..dataset.motion_text import MotionText, clip_features
from ..generation_check import check_generation
from ..provenance import machine, save_results, versions
from ..recipe_keys import EvaluateKeys
from ..record import model_revision
from . import confidence, motion_metrics, no_signing
from . import robustness as robust
from .motion_embedding import MotionEmbedding, motion_embedding
from .motion_verdict import FEWEST, NOT_TESTED, SAMPLES, motion_verdict, other_clips
from .report import report_html
from .sign_translation_metrics import confidence_intervals, signatures, text_metrics

# text scores that are also given for phrasings never trained on
UNSEEN_SCORES = ("wer", "bleu1", "bleu4", "chrf", "rouge_l", "exact_match")
FEWEST_FOR_FID = 500  # fewer clips than that, and an FID is mostly of how few they are
NO_SIGNING = 200  # clips of people who do not sign
# what signatures() does not define
SIGNATURES = {
    "ece_words": "expected calibration error of the confidence of words, %; 15 bins of equal width",
    "ece_clips": "expected calibration error of the share of right words that is expected of a clip, %; 15 bins",
    "no_signing_sure": "clips of people who do not sign that get a sentence of a confidence above 0.5, %",
    "wer_shuffled": "WER of the translation of another clip about as long",
    "wer_zeroed": "WER of the translation of as many frames of mean motion features",
}


def _folder_of_results(output: str) -> Path:
    """Made before anything is computed, so that nothing is computed for nothing.

    Raises:
        ValueError: it cannot be made, or written to.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "no permission to write")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"--output {output} is no folder for results ({why}): name another") from error
    return folder


def evaluate(keys: EvaluateKeys, command: str = "") -> dict:
    """Translate every clip of a split and write the scores; of a sign tokenizer alone, score what it keeps.

    Args:
        keys: what is scored, and how. Scores in the words of `unseen_templates` end in `_unseen_templates`.
        command: what the user typed, for the record.

    Returns:
        The content of results.json: `metrics`; of translations their 95 % `intervals` over clips, and `motion`, whether
        it is read ([`motion_verdict`]); `notes`, what to know before a score is quoted; what it takes to repeat it.
    """
    set_seed(keys.seed)
    started = time.time()
    config = config_of(keys.model, LslmConfig, SignMotionVQVAEConfig)
    model_commit = model_revision(keys.model)
    if keys.calibrate:
        confidence.check_calibration(keys.model, keys.split, config)
    templates = load_templates(keys.unseen_templates, config.languages) if keys.unseen_templates else []
    folder = _folder_of_results(keys.output)
    lslm = processor = None
    if isinstance(config, SignMotionVQVAEConfig):
        vqvae = SignMotionVQVAE.from_pretrained(keys.model)
        extractor = SignMotionFeatureExtractor.from_pretrained(keys.model)
    else:
        processor = SignMotionProcessor.from_pretrained(keys.model)
        lslm = LslmForConditionalGeneration.from_pretrained(keys.model, merge_lora=False)
        check_generation(lslm)
        vqvae, extractor = lslm.model.vqvae, processor.feature_extractor
    parameters = _parameters(lslm or vqvae)
    if lslm is not None:
        lslm = lslm.merge_lora().eval()
    if torch.cuda.is_available():
        (lslm or vqvae).cuda()
    dataset = MotionText(keys.data, keys.split, extractor.fps, limit=keys.limit, max_seconds=extractor.max_seconds)
    features = [clip_features(extractor, joints) for joints in dataset.joints]
    if keys.fid and len(features) < 2:
        which = f"{keys.data} {keys.split}"
        raise ValueError(f"an FID needs at least 2 clips, {which} has {len(features)}; leave the FID out")
    embedding = motion_embedding(keys.fid, keys.data, extractor) if keys.fid else None
    clips = encode_clips(vqvae, extractor, features)
    scores, of_translations, rows = {}, {}, []
    if lslm is not None:
        translate = partial(translate_clips, lslm, processor, batch_size=keys.batch_size, num_beams=keys.num_beams)
        zeroed = None
        if keys.controls:
            # without motion, clips are told apart by their length alone: one of each is enough
            still = {int(clip.lengths): np.zeros_like(frames) for clip, frames in zip(clips, features, strict=True)}
            zeroed = dict(zip(still, encode_clips(vqvae, extractor, [*still.values()]), strict=True))
        scores, of_translations, rows = translation_metrics(
            translate, processor.prompt, dataset, clips, templates, zeroed, keys.seed
        )
    if rows:
        if keys.calibrate:
            lslm.config.calibration = _calibration(keys, lslm, extractor, dataset, clips, rows, translate)
            confidence.save_calibration(keys.model, lslm.config.calibration)
        calibrated = lslm.config.calibration is not None
        words = _words(lslm, clips, rows)
        chances, certain = ([[word[key] for word in clip] for clip in words] for key in ("probability", "confidence"))
        for row, confidences in zip(rows if calibrated else (), certain, strict=calibrated):
            row["confidence"] = round(float(np.mean(confidences or [0.0])), 4)
            row["confidences"] = [round(one, 4) for one in confidences]
        texts = [row["prediction"] for row in rows]
        of_translations["confidence"] = confidence.reliability(
            dataset.texts, texts, chances, certain if calibrated else None
        )
        scores |= {f"ece_{of}": of_translations["confidence"][of]["ece"] for of in ("words", "clips")}
    if keys.robustness and "wer" in scores:
        if calibrated:
            still = no_signing.no_signing(no_signing.TEST, NO_SIGNING, extractor.fps, keys.seed)
            encodings = encode_clips(vqvae, extractor, still)
            answers = [answer._asdict() for answer in translate(encodings, what="no signing")]
            certain = [[word["confidence"] for word in words] for words in _words(lslm, encodings, answers)]
            rates = no_signing.sure_of_nothing([answer["text"] for answer in answers], certain)
            of_translations["confidence"]["no_signing"] = rates
            scores["no_signing_sure"] = rates["sure"]

        def under(condition: str) -> list[str]:
            rate, joints = extractor.fps, enumerate(dataset.joints)
            there = (robust.changed(clip, condition, rate, keys.seed, index) for index, clip in joints)
            encodings = encode_clips(vqvae, extractor, [clip_features(extractor, clip) for clip in there])
            return [translation.text for translation in translate(encodings, what=condition)]

        clean = [row["prediction"] for row in rows]
        of_translations["robustness"] = robust.robustness(dataset.texts, clean, under, SAMPLES, keys.seed)
    scores |= tokenizer_metrics(vqvae, extractor, dataset, features, clips, keys.data, embedding)
    scores["parameters_m"] = parameters / 1e6
    notes = []
    if keys.robustness and "robustness" not in of_translations:
        notes.append("robustness was not tested: it takes a model that translates, and references with words")
    elif keys.robustness and len(clips) < FEWEST:
        notes.append(
            f"robustness is of {counted(len(clips), 'clip')}: an interval over fewer than {FEWEST} means nothing"
        )
    if embedding is not None and len(clips) < FEWEST_FOR_FID:
        notes.append(
            f"the FID is of {len(clips)} clips: fewer than {FEWEST_FOR_FID} overestimate it; compare it with that of "
            "the same clips in the same embedding alone"
        )
    results = {
        "metrics": {name: round(value, 4) for name, value in scores.items()},
        **of_translations,
        "notes": notes,
        "model": keys.model,
        **({"model_revision": model_commit} if model_commit else {}),
        "data": keys.data,
        **({"data_revision": revision} if (revision := data_revision(keys.data, keys.split)) else {}),
        "split": keys.split,
        "command": command,
        "seed": keys.seed,
        "seconds": round(time.time() - started, 1),
        "versions": versions("torch", "transformers", "python"),
        "machine": machine(counted(torch.get_num_threads(), "thread"), vqvae.device.type),
        "signatures": {name: text for name, text in (signatures() | SIGNATURES).items() if name in scores},
    }
    if embedding is not None:
        results["fid_embedding"] = embedding.description(keys.fid)
    if rows:
        with open(folder / "predictions.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if "confidence" in results:
        confidence.draw(results["confidence"], folder / "reliability.png")
    if "robustness" in results:
        robust.draw(results["robustness"], scores["wer"], folder / "robustness.png")
    if rows and keys.report_clips > 0:
        chosen = np.sort(np.random.default_rng(keys.seed).permutation(len(rows))[: keys.report_clips])
        clips = [extractor.to_joints(features[index]) for index in chosen]
        page = report_html(results, [rows[index] for index in chosen], clips, extractor.fps)
        (folder / "report.html").write_text(page, encoding="utf-8")
    # last: who finds it finds the others
    save_results(folder, results)
    return results


def _words(lslm, clips: list[MotionEncoding], rows: Sequence[dict]) -> list[list[dict]]:
    """For each clip the words of its answer, a row with `tokens` and `probabilities`, as `lslm.confidence` has them."""
    return [
        lslm.confidence(row["tokens"], row["probabilities"], lslm.model.vqvae.oddity(clip).item())[0]
        for clip, row in zip(clips, rows, strict=True)
    ]


def _calibration(keys, lslm, extractor, dataset, clips, rows, translate) -> dict:
    """`config.calibration`, fitted to the clips as they are, to each under one of the conditions of robustness.py in
    turn, and to a third as many of people who do not sign: a model is the more often wrong, and should know it."""
    names = list(robust.CONDITIONS)
    joints = [
        robust.changed(clip, names[index % len(names)], extractor.fps, keys.seed, index)
        for index, clip in enumerate(dataset.joints)
    ]
    joints += no_signing.no_signing(no_signing.CALIBRATION, -(-len(joints) // 3), extractor.fps, keys.seed)
    more = encode_clips(lslm.model.vqvae, extractor, joints)
    rows = [*rows, *(answer._asdict() for answer in translate(more, what="calibrating"))]
    texts = [row.get("prediction", row.get("text")) for row in rows]
    references = [*dataset.texts, *dataset.texts, *[""] * (len(more) - len(clips))]
    return confidence.fit_calibration(
        [[chance for _, chance in words_of(row["tokens"], row["probabilities"])] for row in rows],
        [lslm.model.vqvae.oddity(clip).item() for clip in [*clips, *more]],
        [confidence.right_words(*pair) for pair in zip(references, texts, strict=True)],
    )


def _parameters(model: torch.nn.Module) -> int:
    """Numbers that training found, with those of codebooks that follow an average (buffers, to torch)."""
    buffers = [buffer for name, buffer in model.named_buffers() if name.endswith("codebook.weight")]
    return sum(tensor.numel() for tensor in [*model.parameters(), *buffers])


def translation_metrics(
    translate: Callable,
    prompt: str,
    dataset: MotionText,
    clips: list[MotionEncoding],
    templates: list[str],
    zeroed: dict[int, MotionEncoding] | None,
    seed: int,
) -> tuple[dict[str, float], dict, list[dict]]:
    """Scores of the translations of `clips`; `intervals` and `motion` of results.json; and a line of predictions.jsonl
    for each clip.

    Args:
        translate: [`translate_clips`] but for its last arguments: (clips, what=..., prompts=...).
        prompt: the user message that `translate` asks with by itself.
        templates: ask again with one of these for each clip.
        zeroed: no motion, for each length of `clips` in codes; None: whether the motion is read is not tested.
    """
    columns = dataset.rows.column_names
    names = list(dataset.rows["name"]) if "name" in columns else None
    translations = translate(clips)
    predictions = [translation.text for translation in translations]
    ids = dataset.rows["id"] if "id" in columns else range(len(predictions))
    rows = [
        {
            "id": name,
            "reference": reference,
            "prediction": translation.text,
            "prompt": prompt,
            "tokens": translation.tokens,
            "probabilities": [round(probability, 6) for probability in translation.probabilities],
        }
        for name, reference, translation in zip(ids, dataset.texts, translations, strict=True)
    ]
    scores = text_metrics(dataset.texts, predictions, names)
    intervals = _intervals(dataset.texts, predictions, seed, names)
    right = np.array([text == reference for text, reference in zip(predictions, dataset.texts, strict=True)])
    if right.any() and not right.all():
        scores["confidence_auc"] = area_under_curve([math.prod(t.probabilities) for t in translations], right)
    seen_before = dataset.rows["seen_combination"] if "seen_combination" in columns else ()
    if unseen := [i for i, seen in enumerate(seen_before) if not seen]:
        texts = [[texts[i] for i in unseen] for texts in (dataset.texts, predictions)]
        scores["unseen_combinations"] = len(unseen)
        apart = text_metrics(*texts, definitions=["wer"])  # none where the references have no words
        scores |= {"wer_unseen_combinations": apart["wer"]} if "wer" in apart else {}
        bounds = _intervals(*texts, seed).items()
        intervals |= {f"{name}_unseen_combinations": interval for name, interval in bounds}
    signers = _signer_scores(dataset, predictions, seed)
    if templates:
        draws = (np.random.default_rng((seed, index)) for index in range(len(clips)))
        prompts = [templates[draw.integers(len(templates))] for draw in draws]
        again = [translation.text for translation in translate(clips, what="unseen templates", prompts=prompts)]
        unseen_scores = text_metrics(dataset.texts, again)
        scores |= {f"{name}_unseen_templates": unseen_scores[name] for name in UNSEEN_SCORES if name in unseen_scores}
        bounds = _intervals(dataset.texts, again, seed).items()
        intervals |= {f"{name}_unseen_templates": interval for name, interval in bounds}
        for row, question, prediction in zip(rows, prompts, again, strict=True):
            row |= {"prompt_unseen_templates": question, "prediction_unseen_templates": prediction}
    motion = NOT_TESTED
    if zeroed is not None:
        lengths = [int(clip.lengths) for clip in clips]
        silent = dict(zip(zeroed, translate([*zeroed.values()], what="zeroed"), strict=True))
        controls = {"zeroed": [silent[length].text for length in lengths]}
        if len(clips) > 1:
            controls["shuffled"] = [predictions[i] for i in other_clips(lengths, seed)]
        for name, texts in controls.items():
            values = text_metrics(dataset.texts, texts, definitions=["wer"])
            scores |= {f"wer_{name}": values["wer"]} if "wer" in values else {}
        for row, prediction in zip(rows, controls["zeroed"], strict=True):
            row["prediction_zeroed"] = prediction
        motion = motion_verdict(dataset.texts, predictions, controls.get("shuffled", []), controls["zeroed"], seed)
    intervals = {name: interval for name, interval in intervals.items() if name in scores}
    told = {"intervals": intervals, "motion": motion} | ({"signers": signers} if signers else {})
    return scores, told, rows


def _signer_scores(dataset: MotionText, predictions: list[str], seed: int) -> dict[str, dict]:
    """`clips`, `wer` and its 95 % `interval` for each signer, of data that names them: one person's clips say nothing
    of another's."""
    of_signer: dict[str, list[int]] = {}
    for index, signer in enumerate(dataset.rows["signer"] if "signer" in dataset.rows.column_names else ()):
        of_signer.setdefault(str(signer or ""), []).append(index)
    scores = {}
    for signer, indices in sorted(of_signer.items()):
        texts = [[texts[index] for index in indices] for texts in (dataset.texts, predictions)]
        values = text_metrics(*texts, definitions=["wer"])
        if signer and "wer" in values:
            scores[signer] = {"clips": len(indices), "wer": round(values["wer"], 4)}
            if interval := _intervals(*texts, seed).get("wer"):
                scores[signer]["interval"] = interval
    return scores


def _intervals(references, predictions, seed, names=None) -> dict[str, list[float]]:
    """95 % intervals of all text scores; none of fewer clips, or names, than an interval can speak for."""
    if len(references) < FEWEST:
        return {}
    if names is not None and sum(map(bool, names)) < FEWEST:
        names = None
    bounds = confidence_intervals(references, predictions, samples=SAMPLES, seed=seed, names=names)
    return {name: [round(low, 4), round(high, 4)] for name, (low, high) in bounds.items()}


def area_under_curve(confidences: Sequence[float], right: np.ndarray) -> float:
    """How often a right translation is surer than a wrong one, in percent; 50 is a coin. The area under the ROC curve,
    by ranks (Hanley and McNeil, 1982); ties count half.

    Args:
        confidences: of each translation. right: (N,) bool; some are right and some are not.
    """
    sure = np.asarray(confidences)
    yes, no = sure[right][:, None], sure[~right]
    return 100.0 * float(((yes > no) + 0.5 * (yes == no)).mean())


def translate_clips(
    lslm,
    processor,
    clips: list[MotionEncoding],
    batch_size=16,
    num_beams=None,
    what="translating",
    prompts=None,
    **generate_kwargs,
) -> list[Translation]:
    """Encodings of clips -> their translations, batched by length, with a progress bar.

    Args:
        prompts: a user message with `<motion>` for each clip; None: the processor's own for all.
    """
    prompts = [processor.prompt] * len(clips) if prompts is None else prompts
    translations = [None] * len(clips)
    lengths = [int(clip.lengths) for clip in clips]
    by_length = sorted(range(len(clips)), key=lambda i: -lengths[i])
    options = generate_kwargs | ({} if num_beams is None else {"num_beams": num_beams})
    ends = np.ravel(lslm.generation_config.eos_token_id).tolist()
    with tqdm(total=len(clips), desc=what, unit="clip", delay=1, leave=None) as bar:
        for start in range(0, len(clips), batch_size):
            indices = by_length[start : start + batch_size]
            encoding = MotionEncoding.join([clips[i] for i in indices])
            batch = processor([prompts[i] for i in indices], motion_codes=encoding)
            answers, chances = lslm.generate_with_probabilities(**batch.to(lslm.device), **options)
            for i, answer, probabilities in zip(indices, answers.tolist(), chances.tolist(), strict=True):
                translations[i] = spell_out(processor.tokenizer, answer, probabilities, ends)
            bar.update(len(indices))
    return translations


def tokenizer_metrics(
    vqvae,
    extractor,
    dataset: MotionText,
    features: list[np.ndarray],
    clips: list[MotionEncoding],
    data: str,
    embedding: MotionEmbedding | None = None,
) -> dict[str, float]:
    """What the sign tokenizer keeps of the motion: errors in mm, code usage, the FID in `embedding`, and (when the data
    set names its signs and has a training split) how many signs a nearest neighbour still recognises after decoding."""
    rebuilt, codes = [], []
    for frames, clip in zip(tqdm(features, desc="reconstructing", unit="clip"), clips, strict=True):
        codes.append(vqvae.codebook.rows(clip.codes[0]).numpy())
        rebuilt.append(vqvae.decode(clip.codes)[0, : len(frames)].cpu().numpy())
    originals, decoded = ([extractor.to_joints(clip) for clip in clips] for clips in (features, rebuilt))
    scores = motion_metrics.motion_errors(originals, decoded, extractor.fps)
    scores |= motion_metrics.code_usage(np.concatenate(codes), len(vqvae.codebook.weight))
    if embedding is not None:
        mean, std = (0.0, 1.0) if extractor.mean is None else (np.asarray(extractor.mean), np.asarray(extractor.std))
        before, after = (embedding.embed_motion([clip * std + mean for clip in clips]) for clips in (features, rebuilt))
        scores["fid"] = motion_metrics.frechet_distance(before, after)
        scores["fid_clips"] = len(features)
    try:
        train = MotionText(data, "train", extractor.fps, max_seconds=extractor.max_seconds)
    except FileNotFoundError:
        return scores
    known, labels = _signs(train, lambda index: extractor.to_joints(clip_features(extractor, train.joints[index])))
    for name, clips in (("decoded", decoded), ("original", originals)):
        query, truth = _signs(dataset, clips.__getitem__)
        if labels and truth:
            scores[f"sign_recognition_{name}"] = motion_metrics.nearest_neighbour_accuracy(known, labels, query, truth)
    return scores


def _signs(dataset: MotionText, joints_of: Callable[[int], np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Descriptors and labels of the signs of a data set that names them, each take once.

    Args:
        joints_of: index of a clip -> (T, 52, 3) joints; asked for clips with a take that no clip before them had.
    """
    seen, descriptors, labels = set(), [], []
    for index, row in enumerate(dataset.rows if "signs" in dataset.rows.column_names else ()):
        new = [sign for sign in row["signs"] or () if sign["take"] not in seen]
        joints = joints_of(index) if new else None
        for sign in new:
            start, end = (round(sign[key] * dataset.fps / row["fps"]) for key in ("start", "end"))
            cut = joints[start:end]
            if sign["take"] not in seen and len(cut) > 1:
                seen.add(sign["take"])
                descriptors.append(motion_metrics.sign_descriptor(cut))
                labels.append(sign["label"])
    return np.array(descriptors), labels
