"""What the codes of a clip cost on a CPU, and whether they are those of float64.

    python benchmarks/codes.py OUT [--motiongpt DIR] [--clips 1000] [--rounds 15]

Two sign tokenizers: the shipped one, and MotionGPT's network with random weights, whose codes are latents of random
clips. Compared are float64 throughout, what `encode` does (float32, and float64 in doubt), float32 throughout, and with
`--motiongpt`, a checkout of github.com/OpenMotionLab/MotionGPT, its own encoder with its own layers. All in turn, in
one process and on one thread, round after round; peak memory in a process of its own for each. Then the codes of the
test and the validation split and of `--clips` random clips in batches are counted that differ from those of float64.
Writes OUT/results.json.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

CAFE = Path(__file__).parents[1] / "examples" / "asl_cafe"
SHAPES = {"1 x 200": (1, 200), "32 x 64": (32, 64)}
SHIPPED, NETWORK = "shipped", "MotionGPT's network"


def sign_tokenizer(name: str):
    from lslm import LslmForConditionalGeneration, SignMotionVQVAE, SignMotionVQVAEConfig

    if name == SHIPPED:
        return LslmForConditionalGeneration.from_pretrained(CAFE / "checkpoint").model.vqvae.eval()
    torch.manual_seed(0)
    vqvae = SignMotionVQVAE(SignMotionVQVAEConfig()).eval()
    latents = vqvae.latents(torch.randn(64, 64, 623), dtype=torch.float32)[0].flatten(0, 1)
    with torch.no_grad():
        vqvae.codebook.weight.copy_(latents[torch.randperm(len(latents))[: vqvae.config.codebook_size]])
    return vqvae


def motiongpt(folder: Path, weight: torch.Tensor):
    """Its VQ-VAE from a checkout, of which nothing else is imported, with the codes of ours."""
    for name in ("mGPT", "mGPT.archs", "mGPT.archs.tools"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    torch.manual_seed(0)
    network = importlib.import_module("mGPT.archs.mgpt_vq").VQVae(623, code_num=len(weight), down_t=2).eval()
    network.quantizer.codebook = weight.detach().clone()
    return network


def ways(vqvae, folder: Path | None) -> dict:
    """What is compared: features -> codes."""
    found = {
        "float64": lambda features: vqvae.codebook(vqvae.latents(features)[0]),
        "now": lambda features: vqvae.encode(features).codes,
        "float32": lambda features: vqvae.encode(features, dtype=torch.float32).codes,
    }
    if folder is not None:
        network = motiongpt(folder, vqvae.codebook.weight)
        found["MotionGPT"] = lambda features: network.encode(features)[0]
    return found


def seconds(vqvae, folder: Path | None, shape: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Of each way in turn, on other clips in each round."""
    compared = ways(vqvae, folder)
    spent: dict[str, list[float]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        features = torch.randn(*shape, 623, generator=torch.Generator().manual_seed(number))
        names = list(compared)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # none always follows the same one
            started = time.process_time()
            compared[name](features)
            spent[name].append(time.process_time() - started)
    return {name: values[1:] for name, values in spent.items()}  # the first one is slower


def differing(vqvae, batches) -> dict[str, float]:
    """How many of the codes of batches (features, mask) differ from those of float64, and how many were in doubt; how
    many are others in float32 alone; the largest error of a latent, as a share of what is allowed."""
    counts: dict[str, float] = {
        "clips": 0,
        "codes": 0,
        "in doubt": 0,
        "clips in doubt": 0,
        "differ": 0,
        "differ in float32": 0,
    }
    counts["error / allowed"] = 0.0
    decide = vqvae._decide
    from lslm.modeling_lslm.rounding_lslm import tolerance

    def count(codes, doubt, *inputs):
        counts["in doubt"] += int(doubt.sum())
        counts["clips in doubt"] += int(doubt.any(-1).sum())
        decide(codes, doubt, *inputs)

    vqvae._decide = count
    for features, mask in batches:
        encoding = vqvae.encode(features, mask)
        codes, parts = encoding.codes, vqvae.config.num_parts
        latents, lengths = vqvae.latents(features, mask)
        inside = torch.arange(codes.shape[1]) < lengths[:, None]
        counts["clips"] += len(features)
        counts["codes"] += int(lengths.sum())
        expected = vqvae.codebook(latents)
        counts["differ"] += int(((codes != expected).any(-1) & inside).sum())
        counts["differ in float32"] += int(((vqvae.codebook(encoding.latents) != expected).any(-1) & inside).sum())
        errors = (encoding.latents - latents).unflatten(-1, (parts, -1)).norm(dim=-1)
        share = (errors / tolerance(encoding.latents, parts)).max()
        counts["error / allowed"] = round(max(counts["error / allowed"], float(share)), 3)
    vqvae._decide = decide
    return counts


def split(name: str):
    from lslm import SignMotionProcessor
    from lslm.training.dataset.motion_text import load_split, read_joints

    extractor = SignMotionProcessor.from_pretrained(CAFE / "checkpoint").feature_extractor
    rows = load_split(str(CAFE), name).with_format("numpy")
    for start in range(0, len(rows), 8):
        some = rows.select(range(start, min(start + 8, len(rows))))
        clips = [{"joints": read_joints(row), "fps": float(row["fps"])} for row in some]
        batch = extractor.pad([extractor(clip["joints"], fps=clip["fps"])["input_features"][0] for clip in clips])
        yield torch.as_tensor(np.asarray(batch["input_features"])), torch.as_tensor(batch["input_features_mask"])


def random_clips(count: int):
    """Of 5 to 200 frames and of all sizes, smooth and not, eight in a batch."""
    generator = torch.Generator().manual_seed(7)
    for start in range(0, count, 8):
        number = min(8, count - start)
        lengths = torch.randint(5, 201, (number,), generator=generator)
        features = torch.randn(number, int(lengths.max()), 623, generator=generator)
        if start % 16:
            features = features.cumsum(1) / 4
        features *= 2.0 ** torch.randint(-3, 4, (number, 1, 1), generator=generator)
        yield features, (torch.arange(features.shape[1]) < lengths[:, None]).long()


def kilobytes(name: str) -> int:
    """A line of /proc/self/status (Linux)."""
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--motiongpt", type=Path, metavar="DIR", help="a checkout of MotionGPT")
    parser.add_argument("--clips", type=int, default=1000, help="random clips for each sign tokenizer")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.way:
        way, features = ways(sign_tokenizer(NETWORK), args.motiongpt)[args.way], torch.randn(32, 64, 623)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = kilobytes("VmRSS")
        with torch.no_grad():
            way(features)
        print((kilobytes("VmHWM") - before) // 1024)
        return
    timed, ratios, memory, counts = {}, {}, {}, {}
    for name in (SHIPPED, NETWORK):
        vqvae = sign_tokenizer(name)
        folder = args.motiongpt if name == NETWORK else None
        for shape, size in SHAPES.items():
            with torch.no_grad():
                spent = seconds(vqvae, folder, size, args.rounds)
            timed[f"{name}, {shape}"] = {way: round(1e3 * statistics.median(times), 2) for way, times in spent.items()}
            ratios[f"{name}, {shape}"] = {
                way: round(statistics.median(a / b for a, b in zip(times, spent["now"], strict=True)), 2)
                for way, times in spent.items()
            }
            print(name, shape, timed[f"{name}, {shape}"], ratios[f"{name}, {shape}"], flush=True)
        batches = {"random clips": random_clips(args.clips)}
        if name == SHIPPED:
            batches |= {"test": split("test"), "validation": split("validation")}
        for what, some in batches.items():
            counts[f"{name}, {what}"] = differing(vqvae, some)
            print(name, what, counts[f"{name}, {what}"], flush=True)
    for way in ("float64", "now", "float32", *(["MotionGPT"] if args.motiongpt else [])):
        command = [sys.executable, __file__, str(args.out), "--way", way]
        command += ["--motiongpt", str(args.motiongpt)] if args.motiongpt else []
        memory[way] = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])
    print("MiB more at the peak, 32 x 64:", memory, flush=True)
    from lslm.training.provenance import record_of_script, save_results

    results = {
        "metrics": {"milliseconds": timed, "times the time of now": ratios, "peak MiB": memory, "codes": counts},
        **record_of_script(f"{os.cpu_count()} cores, one thread"),
    }
    save_results(args.out, results)
    print(json.dumps(results["metrics"], indent=2))


if __name__ == "__main__":
    main()
