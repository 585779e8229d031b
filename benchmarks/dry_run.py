"""What training on Llama-3.2-3B and Qwen2.5-3B takes by the dry run, and how far a dry run is from a real one.

    python benchmarks/dry_run.py OUT [--measure]

Of the 3B models there are the published sizes, and no weights: their stages run dry, on a table of 31,128 clips with
lengths and texts that are drawn here (seed 0): 5.4 s and 17 words on average, as How2Sign has, at most 30 s. The
tokenizer is SmolLM2's, since theirs are not at hand. With --measure instead, the demo's instruction tuning runs on this
machine for two steps, with fused attention, and the most memory of the second step is compared with what its dry run
says. Either writes its part of OUT/results.json.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAFE = ROOT / "examples" / "asl_cafe"
SIZES = {
    "llama3.2-3b": {
        "model_type": "llama",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
    },
    "qwen2.5-3b": {
        "model_type": "qwen2",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
}
SCHEMES = {
    "projector": [],
    "projector, bfloat16": ["--dtype", "bfloat16"],
    "projector and LoRA, bfloat16": ["--dtype", "bfloat16", "--lora_r", "16"],
    "language model": ["--activation_checkpointing", "true"],
}
TRAINED = {"projector": "projector", "language model": "language_model"}
MEASURED = {"float32": [], "bfloat16": ["--dtype", "bfloat16"]}
# or else glibc keeps what a step has freed, and what a process takes says little of what it needs
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
CHILD = """
import re, sys
from pathlib import Path
import transformers.trainer
import lslm.training.stages.instruct as stage
kib = lambda what: int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

class OfAStep(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
        self.begin = kib("VmRSS")

    def on_step_end(self, args, state, control, **kwargs):
        self.step = kib("VmHWM")

transformers.trainer.DEFAULT_CALLBACKS.append(OfAStep)
stage.LslmForConditionalGeneration.set_attn_implementation = lambda *args: None  # as on a GPU
before, init = kib("VmHWM"), transformers.Trainer.__init__
def keep(self, *args, **kwargs):
    init(self, *args, **kwargs)
    globals()["trainer"] = self
transformers.Trainer.__init__ = keep
stage.main(sys.argv[1:])
second = next(c for c in trainer.callback_handler.callbacks if isinstance(c, OfAStep))
print("KiB", before, second.begin, second.step)
"""


def prepare(folder: Path) -> None:
    """FOLDER/data, FOLDER/tokenizer, FOLDER/llama3.2-3b and FOLDER/qwen2.5-3b, none with motion or weights."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lslm.modeling_lslm import SignMotionVQVAEConfig
    from lslm.processing import SignMotionFeatureExtractor

    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(0, 0.6, 31128), None, 6)
    seconds = np.clip(5.4 * seconds / seconds.mean(), 0.5, 30)
    vocabulary = [word for word in (CAFE / "words.txt").read_text().split() if word.isalpha()]
    texts = [" ".join(rng.choice(vocabulary, max(round(length * 17 / 5.4), 1))) for length in seconds]
    frames = np.round(seconds * 24).astype(int)
    columns = {"text": texts, "fps": [24.0] * len(texts), "num_frames": frames}
    columns["joints_mm"] = pa.nulls(len(texts), pa.list_(pa.list_(pa.list_(pa.int16()))))
    (folder / "data").mkdir()
    pq.write_table(pa.table(columns), folder / "data" / "train.parquet")
    SignMotionVQVAEConfig().save_pretrained(folder / "tokenizer")
    SignMotionFeatureExtractor().save_pretrained(folder / "tokenizer")
    for name, sizes in SIZES.items():
        (folder / name).mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(CAFE / "checkpoint" / file, folder / name)
        (folder / name / "config.json").write_text(json.dumps(sizes | {"tie_word_embeddings": True}))


def run_dry(command: str, argv: list[str]) -> dict:
    """What the dry run of a stage predicts."""
    import importlib

    from lslm.training.stages import dry_run

    predicted, report = {}, dry_run.report

    def keep(args, needs):
        predicted.update(asdict(needs))
        predicted["checkpoint"] = needs.checkpoint
        predicted["memory"] = {count: needs.memory(count) for count in dry_run.PROCESSES}
        predicted["memory_fsdp"] = {count: needs.memory_fsdp(count) for count in dry_run.PROCESSES}
        return report(args, needs)

    dry_run.report = keep
    try:
        importlib.import_module(f"lslm.training.stages.{command}").main([*argv, "--dry_run", "true"])
    finally:
        dry_run.report = report
    return predicted


def measure(folder: Path) -> dict:
    """Two steps of the demo's instruction tuning, in a process of its own: bytes that were said and that were taken."""
    rows = {}
    for name, flags in MEASURED.items():
        out = folder / f"measured-{name}"
        argv = ["--config", str(ROOT / "training/recipes/smollm2-135m/3_instruct.yaml"), "--data", str(CAFE)]
        argv += ["--model", str(CAFE / "checkpoint"), "--output_dir", str(out), "--max_steps", "2", "--limit", "64"]
        argv += ["--dataloader_num_workers", "0", *flags]
        with contextlib.redirect_stdout(io.StringIO()):
            needs = run_dry("instruct", argv)
        child = [sys.executable, "-c", CHILD, *argv]
        done = subprocess.run(
            child, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | GIVEN_BACK, cwd=folder
        )
        sizes = re.search(r"KiB (\d+) (\d+) (\d+)", done.stdout).groups()
        before, begin, step = (int(size) * 1024 for size in sizes)
        rows[name] = {
            "said": {
                "step": needs["step"],
                "memory": needs["memory"][1],
                "model": needs["model"],
                "optimizer": needs["optimizer"],
            },
            "taken": {
                "step": step - begin,
                "memory": step - before,
                "model": (out / "model.safetensors").stat().st_size,
                "optimizer": (out / "checkpoint-2" / "optimizer.pt").stat().st_size,
            },
        }
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--measure", action="store_true", help="train the demo for two steps, and compare")
    args = parser.parse_args()
    from lslm.training.provenance import record_of_script, save_results

    path = args.out / "results.json"
    results: dict = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        recipes = ROOT / "training" / "recipes"
        shared = ["--data", str(folder / "data"), "--output_dir", str(folder / "out")]
        if args.measure:
            results["measured"] = measure(folder)
            save_results(args.out, results | record_of_script(f"{os.cpu_count()} cores"))
            return
        results["stages"] = {}
        argv = ["--config", str(recipes / "llama3.2-3b" / "1_tokenizer.yaml"), *shared]
        results["tokenizer"] = run_dry("tokenizer", argv)
        for backbone in SIZES:
            argv = ["--config", str(recipes / backbone / "2_align.yaml"), *shared]
            argv += ["--backbone", str(folder / backbone), "--tokenizer", str(folder / "tokenizer")]
            for scheme, flags in SCHEMES.items():
                trained = [part for name, part in TRAINED.items() if name in scheme]
                trained += ["language_model"] if "LoRA" in scheme else []
                print(f"\n{backbone}, {scheme}", flush=True)
                needs = run_dry("align", [*argv, "--trainable", *trained, *flags])
                results["stages"][f"{backbone}, {scheme}"] = needs
    save_results(args.out, results | record_of_script(f"{os.cpu_count()} cores"))


if __name__ == "__main__":
    main()
