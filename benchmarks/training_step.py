"""What a training step of the demo's stages 2 and 3 costs on a CPU, and what makes it cheaper.

    python benchmarks/training_step.py OUT [--rounds 3] [--steps 4]

The shipped checkpoint, a batch of 16 real utterances, forward, backward and AdamW on projector and adapter, in
bfloat16. Compared are the attention (torch's fused one, eager) and the allocator: glibc gives the large buffers of a
step back to the system and asks for them again in the next, unless it is told to keep them. Each variant runs in a
process of its own, in turn, round after round: what else the machine does hits all of them. Writes OUT/results.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**35), "MALLOC_TOP_PAD_": str(2**28)}
VARIANTS = {
    "fused attention": ("sdpa", {}),
    "eager attention": ("eager", {}),
    "eager attention, memory kept": ("eager", KEEP),
}
BATCH = 16


def step_seconds(attention: str, steps: int) -> float:
    """Median seconds of a training step, in this process."""
    import torch

    from lslm import LslmForConditionalGeneration, SignMotionProcessor
    from lslm.training.dataset.collators import TranslationCollator
    from lslm.training.dataset.motion_text import MotionText
    from lslm.training.stages.translation import TranslationArguments, set_trainable

    options = {"attn_implementation": attention, "merge_lora": False}
    model = LslmForConditionalGeneration.from_pretrained(CAFE / "checkpoint", **options).train()
    processor = SignMotionProcessor.from_pretrained(CAFE / "checkpoint")
    set_trainable(model, ["projector", "language_model"], TranslationArguments(output_dir="unused"))
    clips = MotionText(str(CAFE), "test", processor.feature_extractor.fps, limit=BATCH)
    batch = TranslationCollator(processor, [processor.prompt])([clips[index] for index in range(BATCH)])
    codes = model.model.vqvae.encode(batch.pop("input_features"), batch.pop("input_features_mask")).codes
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, seconds = torch.optim.AdamW(trained, 1e-5), []
    for _ in range(steps + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch, motion_codes=codes).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])  # the first one is slower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        print(step_seconds(VARIANTS[args.variant][0], args.steps))
        return
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(args.rounds):
        for name, (_, environment) in VARIANTS.items():
            command = [sys.executable, __file__, str(args.out), "--variant", name, "--steps", str(args.steps)]
            done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
            seconds[name].append(float(done.stdout.split()[-1]))
            print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
    from lslm.training.provenance import record_of_script, save_results

    results = {
        "metrics": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
        "rounds": seconds,
        **record_of_script(f"{os.cpu_count()} cores"),
    }
    save_results(args.out, results)
    print(json.dumps(results["metrics"], indent=2))


if __name__ == "__main__":
    main()
