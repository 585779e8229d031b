"""What beams and a length penalty change, with the shipped checkpoint.

    python benchmarks/decoding.py OUT [--limit N]

Greedy decoding, 2 and 4 beams, and 4 beams whose scores are divided by (the answer's length)^penalty with a penalty of
0 (short answers win) and 2 (long ones do) instead of transformers' 1: on the test split, and on spelled words that
training never had. One checkpoint, so the intervals are over utterances, by paired bootstrap. Writes OUT/results.json.
"""

import argparse
import time
from pathlib import Path

import torch

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.training.dataset.encodings import encode_clips
from lslm.training.dataset.motion_text import MotionText
from lslm.training.evaluation.evaluate import translate_clips
from lslm.training.evaluation.sign_translation_metrics import text_metrics
from lslm.training.evaluation.sign_translation_metrics.significance import compare
from lslm.training.provenance import record_of_script, save_results

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
WAYS = {  # beams, length penalty
    "greedy": (1, 1.0),
    "2 beams": (2, 1.0),
    "4 beams": (4, 1.0),
    "4 beams, length penalty 0": (4, 0.0),
    "4 beams, length penalty 2": (4, 2.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--limit", type=int, help="so many clips of each split")
    args = parser.parse_args()
    processor = SignMotionProcessor.from_pretrained(CAFE / "checkpoint")
    model = LslmForConditionalGeneration.from_pretrained(CAFE / "checkpoint").eval()
    extractor = processor.feature_extractor
    splits = {name: MotionText(str(CAFE), name, extractor.fps, limit=args.limit) for name in ("test", "spelling")}
    encodings = {name: encode_clips(model.model.vqvae, extractor, data.joints) for name, data in splits.items()}
    rows: dict[str, dict] = {}
    greedy: list[str] = []
    for way, (beams, penalty) in WAYS.items():
        model.generation_config.length_penalty = penalty if beams > 1 else None
        texts, seconds = {}, {}
        for split, clips in encodings.items():
            started = time.monotonic()
            answers = translate_clips(model, processor, clips, num_beams=beams, what=f"{way}, {split}")
            texts[split], seconds[split] = [answer.text for answer in answers], time.monotonic() - started
        scores, spelled = (
            text_metrics(data.texts, texts[split], list(data.rows["name"])) for split, data in splits.items()
        )
        greedy = greedy or texts["test"]
        against = compare(splits["test"].texts, texts["test"], greedy, ["wer"])["wer"]
        rows[way] = {
            "wer": scores["wer"],
            "against_greedy": [against[key] for key in ("difference", "low", "high")],
            "insertions": scores["insertions"],
            "deletions": scores["deletions"],
            "names_character_error_rate": scores["names_character_error_rate"],
            "spelling_character_error_rate": spelled["names_character_error_rate"],
            "seconds_per_clip": seconds["test"] / len(texts["test"]),
        }
        print(way, rows[way], flush=True)
    results = {
        "rows": rows,
        "utterances": {name: len(data) for name, data in splits.items()},
        **record_of_script(f"{torch.get_num_threads()} threads", "cpu"),
    }
    save_results(args.out, results)


if __name__ == "__main__":
    main()
