"""The shipped checkpoint on several releases of transformers: text, logits, and the library's own model beside ours.

    python benchmarks/releases.py .venv-oldest/bin/python .venv/bin/python .venv-newest/bin/python

Each interpreter translates the example clips, greedily and with beams, in a process of its own; the first is what the
others are compared with. "Library" is the backbone alone, as transformers loads it, on the same prompts. Written to
benchmarks/releases.json, printed as a table.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

CAFE = Path(__file__).parent.parent / "examples" / "asl_cafe"


def record(out: Path) -> None:
    """What the transformers at hand makes of the clips, to a file."""
    from transformers import AutoConfig, pipeline

    from lslm.modeling_lslm import load_backbone

    pipe = pipeline("sign-translation", model=str(CAFE / "checkpoint"))
    backbone = AutoConfig.from_pretrained(CAFE / "checkpoint").backbone  # a model that has merged its adapter has none
    library = load_backbone(backbone, dtype=torch.float32).eval()
    words = library.config.vocab_size
    texts, logits, library_logits = [], [], []
    with torch.no_grad():
        for clip in sorted(CAFE.glob("clips/*.npz")):
            inputs = pipe.processor(motion=str(clip))
            logits.append(pipe.model(**inputs).logits)
            library_logits.append(library(inputs["input_ids"] % words).logits)
            texts += [pipe(str(clip), num_beams=beams)[0]["translation_text"] for beams in (1, 3)]
    releases = {package: version(package) for package in ("transformers", "torch")}
    torch.save(releases | {"texts": texts, "logits": logits, "library": library_logits}, out)


def largest_difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters of environments with lslm")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record:
        return record(args.record)
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for python in args.pythons:
            out = Path(scratch) / "run.pt"
            command = [python, __file__, python, "--record", str(out)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            runs.append(torch.load(out))
    first = runs[0]
    rows = [
        {
            "transformers": run["transformers"],
            "torch": run["torch"],
            "same text": run["texts"] == first["texts"],
            "logits": largest_difference(run["logits"], first["logits"]),
            "library": largest_difference(run["library"], first["library"]),
        }
        for run in runs
    ]
    result = {"rows": rows, "translations": len(first["texts"]), "threads": torch.get_num_threads()}
    result |= {"command": " ".join(["python", "benchmarks/releases.py", *sys.argv[1:]]), "machine": platform.machine()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'transformers':14}{'torch':14}{'same text':12}{'logits':>12}{'library':>12}")
    for row in rows:
        print("{:14}{:14}{!s:12}{:12.1e}{:12.1e}".format(*row.values()))


if __name__ == "__main__":
    sys.exit(main())
