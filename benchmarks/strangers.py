"""Leave one signer out: what is read of somebody whose signing was kept from training, and which lever brings it.

    python benchmarks/strangers.py runs/strangers

For each person, `recombine.py --without PERSON`, and a fresh projector that learns to spell what is signed (the
recipes' `ctc_steps`; no language model, so that a row takes minutes) from the latents of the shipped sign tokenizer,
which saw the motion of whom it was trained on, but no text. Then what it reads in single signs and in names that this
person signs. Rows with a file in OUT are not run again. Writes OUT/results.json.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from sign_reading import CAFE, error_rate, fresh_projector, read

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.training.ablate import cell, summary
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText
from lslm.training.dataset.spelling import rare_words, signs
from lslm.training.provenance import record_of_script, save_results
from lslm.training.stages.projector_start import SignReader, as_codes, train_reader, vocabulary, word_embeddings

sys.path.insert(0, str(CAFE))
import recombine

PEOPLE = (recombine.FOURTH, recombine.FIRST_THREE, "tamtridung", "dmohazab")
VARIED = {"camera_tilt": 8, "depth_scale": 0.3, "hand_turn": 15, "tremor": 4, "tempo": 1.6}
SYNTHETIC = 0.4  # of the spelled words
ROWS = {  # lever: share of synthetic signers, how clips vary, left hands are read as right ones
    "left hands read as right ones": (SYNTHETIC, VARIED, True),
    "without synthetic signers": (0.0, VARIED, True),
    "without variation of camera, hands and tempo": (SYNTHETIC, {}, True),
    "half of the clips mirrored instead": (SYNTHETIC, VARIED | {"mirror": 0.5}, False),
}
CLIPS, VARIATIONS, STEPS = 4000, 2, 1500
METRICS = {
    "letters": "letters on their own right, %",
    "words": "words on their own right, %",
    "names_character_error": "letters of names wrong, %",
}


def data_of(person: str, synthetic: float, out: Path) -> Path:
    folder = out / f"without-{person}-{synthetic:g}"
    if not (folder / "train_recombined.parquet").is_file():
        arguments = ["--more", "--without", person, "--synthetic", f"{synthetic:g}", "--count", f"{CLIPS}"]
        if recombine.main([*arguments, "--out", str(folder)]):
            raise SystemExit(2)
    return folder


def run(person: str, row: str, seed: int, model, processor, out: Path) -> dict:
    """The scores of one person and lever."""
    torch.manual_seed(seed)
    synthetic, varied, right_handed = ROWS[row]
    folder, extractor = str(data_of(person, synthetic, out)), processor.feature_extractor
    extractor.right_handed = right_handed
    train = MotionText(folder, "train_recombined", extractor.fps, augment=True, seed=seed, **varied)
    test = MotionText(folder, "test", extractor.fps)
    latents: list[torch.Tensor] = []
    for data, epochs in ((train, VARIATIONS), (test, 1)):
        for epoch in range(epochs):
            clips = [data[epoch, index]["joints"] for index in range(len(data))]
            latents += [clip.latents[0] for clip in encode_clips(model.model.vqvae, extractor, clips, torch.float32)]
    known, asked = latents[: -len(test)], latents[-len(test) :]
    targets, sign_names = vocabulary(train.texts * VARIATIONS)
    words = word_embeddings(model, processor, sign_names)
    reader = SignReader(fresh_projector(model, known, words), words, bf16=True)
    train_reader(reader, *as_codes([clip.numpy() for clip in known]), targets, STEPS, seed)
    rare = rare_words(train.texts)
    single: dict[str, list[bool]] = {"letters": [], "words": []}
    for clip, text, gloss in zip(asked, test.texts, test.rows["gloss"], strict=True):
        if len(gloss.split()) == 1 and len(gloss.removeprefix("fs-")) == 1 or gloss in ("HELLO", "NO", "THANK-YOU"):
            expected = signs(text, rare | {text[0].lower()})
            single["letters" if gloss.startswith("fs-") else "words"].append(read(reader, sign_names, clip) == expected)
    scores = {name: 100 * float(np.mean(right)) for name, right in single.items() if right}
    named = [index for index, name in enumerate(test.rows["name"]) if name]
    if named:
        test.keep(named)
        vectors = [asked[index] for index in named]
        scores["names_character_error"] = error_rate(reader, sign_names, rare, vectors, test, letters=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--people", nargs="+", default=PEOPLE, choices=PEOPLE)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    model = LslmForConditionalGeneration.from_pretrained(CAFE / "checkpoint")
    processor = SignMotionProcessor.from_pretrained(CAFE / "checkpoint")
    args.out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[str, list[dict]]] = {}
    for seed in args.seeds:
        for person in args.people:
            for number, row in enumerate(ROWS):
                if row not in args.rows:
                    continue
                path = args.out / f"{person}-{number}-{seed}.json"
                if not path.is_file():
                    path.write_text(json.dumps(run(person, row, seed, model, processor, args.out)), encoding="utf-8")
                scores = json.loads(path.read_text(encoding="utf-8"))
                runs.setdefault(row, {}).setdefault(person, []).append(scores)
                print(f"without {person}, {row}, seed {seed}: {scores}", flush=True)
    table = {
        row: {person: summary(scores, METRICS) for person, scores in people.items()} for row, people in runs.items()
    }
    results = {"metrics": table, "names": METRICS, "runs": runs, "clips": CLIPS, "steps": STEPS}
    save_results(args.out, results | record_of_script(f"{torch.get_num_threads()} threads", "cpu"))
    for row, people in table.items():
        for person, scores in people.items():
            cells = [f"{METRICS[metric]}: {cell(score)}" for metric, score in scores.items()]
            print(row, person, *cells, sep="; ")


if __name__ == "__main__":
    main()
