"""Keep a tiny checkpoint as today's code publishes it, so that tomorrow's tests see whether it still works.

    python tests/published/freeze.py 2026-11-23

writes 2026-11-23.zip beside this file; to be run at each release. The checkpoint goes the way of every other: three
commands train it, `lslm publish` puts it on a Hub (on loopback), and from there it comes back. In the zip:

    checkpoint/      all that is on the Hub: weights, processor, the code of both, card, example.npz
    expected.json    what it says of example.npz in a process without our package, and with which versions
"""

import inspect
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import lslm_cli
import numpy as np
from hub_server import HubServer, run_client
from safetensors.torch import load_file, save_file
from test_remote_code import stranger
from training_fixtures import FPS, TOY_ALIGN, TOY_VQVAE, recipe, write_backbone, write_data

from lslm.training.dataset.motion_text import MotionText
from lslm.training.provenance import versions

# The format of the demo's checkpoint, as small as it goes: a zip stays in the repository for ever.
TOKENIZER = {"convention": "signing", "partwise": "true", "num_quantizers": 2, "linear_path": "true"}
TOKENIZER |= {"hidden_size": 4, "code_dim": 4, "quantizer": "ema", "codebook_warmup": 0.5, "augment": "false"}
ALIGN = {"motion_input": "latents", "codes_per_embedding": 2, "trainable": ["projector", "language_model"]}
ALIGN |= {"limit": 4, "augment": "false", "learning_rate": 6e-3}
REPO = "lslm/frozen"


def answer(pipe, clip: str) -> dict:
    """What a pipeline makes of a clip: the text, the code of every codebook at each step, a few logits of words."""
    result = pipe(clip, details=True)[0]
    logits = pipe.model(**pipe.processor(motion=clip)).logits[0, -1, -90::10]
    return {"text": result["translation_text"], "motion_codes": result["motion_codes"], "logits": logits.tolist()}


def answer_of_travelling_code(folder: Path, cwd: Path) -> dict:
    """The [`answer`] of a checkpoint in a fresh process that has transformers and the code in FOLDER, but not our
    package. Fails as an assertion with what that process printed."""
    code = f"""
import json
from transformers import pipeline
{inspect.getsource(answer)}
pipe = pipeline("sign-translation", model={str(folder)!r}, trust_remote_code=True)
print("RESULT", json.dumps(answer(pipe, {str(folder / "example.npz")!r})))
"""
    # the transformers of this process, wherever it comes from
    printed = stranger(code, cwd, PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    return json.loads(printed.rpartition("RESULT ")[2])


def train(folder: Path) -> tuple[Path, Path]:
    """A checkpoint that has learnt what four clips mean; -> its folder, and the file of one of these clips."""
    data, llm = write_data(folder / "set"), write_backbone(folder / "llm", width=16)
    flags = TOY_VQVAE | TOKENIZER | {"data": data, "max_steps": 40, "output_dir": folder / "tokenizer"}
    lslm(["tokenizer", *recipe(**flags)])
    flags = TOY_ALIGN | ALIGN | {"data": data, "tokenizer": folder / "tokenizer", "backbone": llm, "max_steps": 150}
    lslm(["align", *recipe(**flags | {"output_dir": folder / "model"})])
    weights = load_file(folder / "model" / "model.safetensors")
    # half of each number's bytes are zeros then, and a zip is that much smaller
    rounded = {name: weight.bfloat16().to(weight.dtype) for name, weight in weights.items()}
    save_file(rounded, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    clip = folder / "clip.npz"
    np.savez_compressed(clip, joints=MotionText(str(data), "train", FPS).joints[0].astype(np.float32), fps=FPS)
    return folder / "model", clip


def lslm(argv: list) -> None:
    if lslm_cli.main([str(word) for word in argv]):
        raise SystemExit(2)  # it has said why


def freeze(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        model, clip = train(scratch)
        with HubServer(scratch / "hub") as hub:
            options = ["--clip", clip, "--base-model", "HuggingFaceTB/SmolLM2-135M-Instruct"]
            run_client(hub, [sys.executable, "-m", "lslm_cli", "publish", model, REPO, *options])
            download = "from huggingface_hub import snapshot_download\n"
            run_client(hub, f"{download}snapshot_download({REPO!r}, local_dir={str(scratch / 'checkpoint')!r})")
        expected = answer_of_travelling_code(scratch / "checkpoint", scratch)
        expected["made_with"] = versions("transformers", "torch")
        (scratch / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.write(scratch / "expected.json", "expected.json")
            for path in sorted((scratch / "checkpoint").rglob("*")):
                name = path.relative_to(scratch)
                if path.is_file() and ".cache" not in name.parts:  # the client's notes on its download
                    archive.write(path, name)
    print(f"{target}: {target.stat().st_size:,} bytes; it says {expected['text']!r}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/published/freeze.py DATE")
    freeze(Path(__file__).with_name(f"{sys.argv[1]}.zip"))
