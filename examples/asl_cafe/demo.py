"""`make demo`: translate held-out signing with the shipped checkpoint, and show its scores."""

import json
import time
import warnings
from pathlib import Path

HERE = Path(__file__).parent
CLIPS = 24


def main():
    started = time.time()
    print("Loading the shipped checkpoint (the first time, the language model is unpacked) ...", flush=True)
    from tqdm import tqdm
    from transformers import pipeline
    from transformers.utils import logging

    import lslm  # noqa: F401  (registers the pipeline)
    from lslm.training.dataset.motion_text import load_split
    from lslm.training.evaluation.sign_translation_metrics import text_metrics

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="repaired NaN")
    pipe = pipeline("sign-translation", model=str(HERE / "checkpoint"))
    test = load_split(str(HERE), "test")
    rows = test.select(range(0, len(test), len(test) // CLIPS)).select(range(CLIPS)).with_format("numpy")
    ready = time.time()
    clips = ({"joints_mm": row["joints_mm"], "fps": float(row["fps"])} for row in rows)
    bar = tqdm(pipe(clips, batch_size=8), total=CLIPS, desc="translating", unit="clip")
    translations = [result[0]["translation_text"] for result in bar]
    done = time.time()
    references, names = [str(t) for t in rows["text"]], [None if n is None else str(n) for n in rows["name"]]

    width = max(len(text) for text in references) + 2
    print(f"\n{'clip':<11}{'reference':<{width}}translation")
    for row, reference, translation in zip(rows, references, translations, strict=True):
        mark = " " if reference == translation else "*"
        print(f"{row['id']!s:<10}{mark}{reference:<{width}}{translation}")
    print("(* differs from the reference)\n")

    recorded = json.loads((HERE / "scores" / "results.json").read_text(encoding="utf-8"))
    live = text_metrics(references, translations, names)
    print(f"{'':<28}{f'these {CLIPS} clips':>16}{'recorded, all ' + str(recorded['metrics']['utterances']):>20}")
    for key, label in (
        ("wer", "WER % (lower is better)"),
        ("wer_without_names", "WER % without names"),
        ("names_exact_match", "fingerspelled names right %"),
        ("bleu4", "BLEU-4"),
        ("chrf", "chrF"),
        ("rouge_l", "ROUGE-L"),
        ("exact_match", "sentences exact %"),
        ("wer_shuffled", "WER %, clips shuffled"),
        ("wer_zeroed", "WER %, motion zeroed"),
    ):
        now = f"{live[key]:16.1f}" if key in live else f"{'':16}"
        print(f"{label:<28}{now}{recorded['metrics'][key]:20.1f}")
    print(f"\n{CLIPS} clips in {done - ready:.1f} s, after {ready - started:.1f} s of loading.")
    print("The whole test split: .venv/bin/lslm evaluate --data examples/asl_cafe --split test --output runs/scores")
    print("A clip of your own:   .venv/bin/lslm translate examples/asl_cafe/clips/*.npz")


if __name__ == "__main__":
    main()
