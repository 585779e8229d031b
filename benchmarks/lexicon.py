"""A stranger's alphabet: names spelled with the ASL letters of spoken-to-signed-translation's fingerspelling lexicon.

    git clone https://github.com/sign-language-processing/spoken-to-signed-translation
    python benchmarks/lexicon.py spoken-to-signed-translation runs/lexicon

One signer who is in no training data, their own body, MediaPipe's landmarks in `.pose` files, one take of about a
second for each letter. Names that no training text of ASL Cafe has are spelled with them, alone ("Emma.") or after the
letter I, which is the sign as well ("I am Emma."), and translated as by `lslm evaluate`. Writes OUT/results.json, and
with --scores a sentence into the results.json of an evaluation of the model, which its card then has above all scores.
"""

import argparse
import csv
import json
from pathlib import Path

import lslm_cli
import numpy as np
import torch
from datasets import Array3D, Dataset, Features, Value
from sign_reading import CAFE

import lslm
from lslm.processing.feature_extraction_lslm import resample
from lslm.training.dataset.motion_text import load_split
from lslm.training.dataset.takes import facing_the_camera, joined
from lslm.training.provenance import record_of_script, save_results

LEXICON = Path("spoken_to_signed", "assets", "fingerspelling_lexicon")
LANGUAGE = "ase"  # American Sign Language
SCORES = ("wer", "names_exact_match", "names_character_error_rate")
COUNT, FPS = 100, 20.0


def letters(folder: Path) -> dict[str, np.ndarray]:
    """Letter -> (T, 52, 3) metres at FPS, facing the camera."""
    takes = {}
    with open(folder / "index.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["signed_language"] == LANGUAGE:
                motion = lslm.load_motion(folder / row["path"])
                takes[row["words"].lower()] = resample(facing_the_camera(motion.joints), motion.fps, FPS)
    return takes


def utterances(takes: dict[str, np.ndarray]) -> list[dict]:
    names = {name for split in ("validation", "test", "small_talk") for name in load_split(str(CAFE), split)["name"]}
    names = sorted(name for name in names - {None} if set(name.lower()) <= set(takes))
    rows = []
    for index, number in enumerate(np.random.default_rng(0).permutation(len(names))[:COUNT]):
        name = names[number]
        signs = name.lower() if index % 2 else "i" + name.lower()
        joints = joined([takes[sign] for sign in signs], FPS)
        text = f"{name}." if index % 2 else f"I am {name}."
        rows.append({"id": f"{index:03d}", "text": text, "name": name, "fps": FPS, "joints": joints})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT", help="of spoken-to-signed-translation")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", default=str(CAFE / "checkpoint"))
    parser.add_argument("--scores", type=Path, metavar="FILE", help="results.json of an evaluation of the model")
    args = parser.parse_args()
    rows = utterances(letters(args.checkout / LEXICON))
    types = {name: Value("string") for name in ("id", "text", "name")} | {"fps": Value("float32")}
    features = Features(types | {"joints": Array3D((None, 52, 3), "float32")})
    args.out.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(args.out / "lexicon.parquet")
    scored = args.out / "scores"
    command = "evaluate --split lexicon --controls false --report-clips 0".split()
    if code := lslm_cli.main([*command, "--data", str(args.out), "--model", args.model, "--output", str(scored)]):
        raise SystemExit(code)
    results = json.loads((scored / "results.json").read_text(encoding="utf-8"))
    found = {part: {name: results[part][name] for name in SCORES} for part in ("metrics", "intervals")}
    found["metrics"]["ece_words"] = results["metrics"]["ece_words"]
    details = f"{torch.get_num_threads()} threads", "cpu"
    whole, wrong = (found["metrics"][name] for name in SCORES[1:])
    spelled = f"Of {len(rows)} names spelled with letters of somebody whom training never saw"
    sentence = f"{spelled} {whole:.0f} % are completely right, and {wrong:.0f} % of the letters are wrong."
    save_results(args.out, found | {"utterances": len(rows), "sentence": sentence} | record_of_script(*details))
    if args.scores:
        scores = json.loads(args.scores.read_text(encoding="utf-8"))
        args.scores.write_text(json.dumps(scores | {"strangers": sentence}, indent=2) + "\n", encoding="utf-8")
    for name in SCORES:
        print(f"{name}: {found['metrics'][name]:.1f}")


if __name__ == "__main__":
    main()
