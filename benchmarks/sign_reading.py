"""Would the projector read more in something else than codes? Judged without the language model, in minutes.

    python examples/asl_cafe/recombine.py --count 2000 --out runs/levers/data
    python benchmarks/sign_reading.py OUT

The shipped sign tokenizer, and a fresh projector that learns to spell what is signed (the recipes' `ctc_steps`) from

    codes          the vectors of the codebooks
    latents        what the encoder says, before it is rounded to the codebooks
    contrastive    latents of an encoder that first learns further to bring a clip near its own sentence and away from
                   those of 31 others (CLIP's loss; a clip is the mean of its motion embeddings, a sentence that of its
                   words)

and what each then reads in test clips and in spelled words that training never had. Writes OUT/results.json.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import trange

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.modeling_lslm import MotionEncoding
from lslm.modeling_lslm.modeling_lslm import LslmProjector
from lslm.modeling_lslm.modeling_sign_motion import length_mask
from lslm.training.ablate import cell, summary
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText
from lslm.training.dataset.spelling import rare_words, signs
from lslm.training.evaluation.sign_translation_metrics.text_metrics import align
from lslm.training.provenance import record_of_script, save_results
from lslm.training.stages.projector_start import SignReader, as_codes, train_reader, vocabulary, word_embeddings

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
BATCH = 32
STEPS = 600  # of the projector
CONTRASTIVE_STEPS, CONTRASTIVE_LEARNING_RATE = 400, 3e-4  # of the encoder, where it learns further
SEEDS = (0, 1, 2)
METRICS = {
    "sign_error": "signs and letters wrong, test, %",
    "spelling_character_error": "letters wrong, words never seen, %",
    "minutes": "minutes",
}


def latents_of(clips: list[MotionEncoding]) -> list[torch.Tensor]:
    """(L, D) of each clip."""
    return [clip.latents[0] for clip in clips]


def learn_contrastively(encoder, projector, features, targets, words, seed: int) -> None:
    """Train `encoder` (and `projector`, which makes its latents comparable with words)."""
    generator = torch.Generator().manual_seed(seed)
    sharpness = nn.Parameter(torch.tensor(np.log(1 / 0.07)))
    trained = [*encoder.parameters(), *projector.parameters(), sharpness]
    optimizer = torch.optim.AdamW(trained, CONTRASTIVE_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONTRASTIVE_STEPS)
    words = F.normalize(words, dim=-1)
    sentences = F.normalize(torch.stack([words[target - 1].mean(0) for target in targets]), dim=-1)
    with trange(CONTRASTIVE_STEPS, desc="contrastive", unit="step") as bar:
        for step in bar:
            pick = torch.randint(len(features), (BATCH,), generator=generator).tolist()
            clips = [torch.from_numpy(features[index]) for index in pick]
            lengths = torch.tensor([len(clip) for clip in clips])
            latents, lengths = encoder(pad_sequence(clips, batch_first=True), lengths)
            motion = projector(latents)
            mask = length_mask(-(-lengths // projector.stack), motion.shape[1])[..., None]
            directions = F.normalize((motion * mask).sum(1), dim=-1)
            scores = sharpness.exp() * directions @ sentences[pick].T
            loss = (F.cross_entropy(scores, torch.arange(BATCH)) + F.cross_entropy(scores.T, torch.arange(BATCH))) / 2
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}")


@torch.no_grad()
def read(reader: SignReader, sign_names: list[str], vectors: torch.Tensor) -> list[str]:
    """The likeliest signs of a clip of (L, D) vectors: repetitions and blanks are one and none, as CTC has it."""
    best = reader(vectors[None])[0].argmax(-1).tolist()
    return [sign_names[now - 1] for before, now in zip([0, *best], best, strict=False) if now and now != before]


def error_rate(
    reader: SignReader, sign_names, rare, vectors: list[torch.Tensor], data: MotionText, letters: bool
) -> float:
    """Percent of the signs of `data` (of the names' letters, if `letters`) left out, put in or taken for others."""
    errors = total = 0
    for clip, text, name in zip(vectors, data.texts, data.rows["name"], strict=True):
        predicted, expected = read(reader, sign_names, clip), signs(text, rare | {(name or "").lower()})
        if letters:
            predicted, expected = (
                [sign for sign in spelled if not sign.startswith(" ")] for spelled in (predicted, expected)
            )
        errors += sum(theirs != ours for theirs, ours in align(expected, predicted))
        total += len(expected)
    return 100 * errors / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--limit", type=int, help="so many clips of each split")
    args = parser.parse_args()
    model = LslmForConditionalGeneration.from_pretrained(CAFE / "checkpoint")
    processor = SignMotionProcessor.from_pretrained(CAFE / "checkpoint")
    vqvae, extractor = model.model.vqvae, processor.feature_extractor
    splits = {
        "train": MotionText("runs/levers/data", "train", extractor.fps, augment=True, limit=args.limit),
        "test": MotionText(str(CAFE), "test", extractor.fps, limit=args.limit),
        "spelling": MotionText(str(CAFE), "spelling", extractor.fps, limit=args.limit),
    }
    features = {
        split: [
            extractor.normalize(extractor.to_features(data[index]["joints"])) for index in trange(len(data), desc=split)
        ]
        for split, data in splits.items()
    }
    texts = splits["train"].texts
    targets, sign_names = vocabulary(texts)
    rare = rare_words(texts)
    words = word_embeddings(model, processor, sign_names)
    encodings = {split: encode_clips(vqvae, extractor, clips, torch.float32) for split, clips in features.items()}
    latents = {split: latents_of(clips) for split, clips in encodings.items()}
    rounded = {split: [vqvae.embed(clip.codes)[0].detach() for clip in clips] for split, clips in encodings.items()}
    runs: dict[str, list[dict]] = {"codes": [], "latents": [], "contrastive": []}
    for seed in SEEDS:
        for variant, scores in runs.items():
            torch.manual_seed(seed)
            started = time.monotonic()
            vectors = rounded if variant == "codes" else latents
            if variant == "contrastive":
                other = copy.deepcopy(vqvae)
                encoder, helper = other.encoder.requires_grad_(True), fresh_projector(model, latents["train"], words)
                learn_contrastively(encoder, helper, features["train"], targets, words, seed)
                vectors = {
                    split: latents_of(encode_clips(other, extractor, clips, torch.float32))
                    for split, clips in features.items()
                }
            reader = SignReader(fresh_projector(model, vectors["train"], words), words, bf16=True)
            train_reader(reader, *as_codes([clip.numpy() for clip in vectors["train"]]), targets, STEPS, seed)
            minutes = (time.monotonic() - started) / 60
            errors = (
                error_rate(reader, sign_names, rare, vectors[split], splits[split], split == "spelling")
                for split in ("test", "spelling")
            )
            scores.append(dict(zip(METRICS, (*errors, minutes), strict=True)))
            print(variant, seed, scores[-1], flush=True)
    table = {variant: summary(scores, METRICS) for variant, scores in runs.items()}
    results = {
        "metrics": {variant: {name: scores[name][:2] for name in METRICS} for variant, scores in table.items()},
        "names": METRICS,
        "runs": runs,
        **record_of_script(f"{torch.get_num_threads()} threads", "cpu"),
    }
    save_results(args.out, results)
    for variant, scores in table.items():
        print(variant, *(f"{name}: {cell(scores[metric])}" for metric, name in METRICS.items()), sep="; ")


def fresh_projector(model: LslmForConditionalGeneration, vectors: list[torch.Tensor], words: torch.Tensor):
    """A projector as `from_backbone` makes it."""
    projector = LslmProjector(model.config)
    projector.start(torch.cat(vectors[:256]), words.std().item())
    return projector


if __name__ == "__main__":
    main()
