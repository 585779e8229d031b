"""Translate motion files through an engine that serves this folder.

    python client.py clip.npz --url http://127.0.0.1:8000/v1

The sign tokenizer runs here, on CPU: a clip becomes words like <motion_17>, which any server with an OpenAI-compatible
API takes as text. Needs transformers, torch and numpy; nothing else is to be installed.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModel

FOLDER = Path(__file__).parent


class MotionWords:
    """The sign tokenizer of an exported folder: motion to the words of its language model."""

    def __init__(self, folder: str | Path = FOLDER):
        place = Path(folder) / "sign_tokenizer"
        self.extractor = AutoFeatureExtractor.from_pretrained(place, trust_remote_code=True)
        self.vqvae = AutoModel.from_pretrained(place, trust_remote_code=True)
        self.prompt = (place / "prompt.txt").read_text(encoding="utf-8")

    def message(self, motion, prompt: str | None = None, fps: float | None = None) -> str:
        """What the user says to the language model.

        Args:
            motion: a clip: a file, or joints (T, 52, 3) in metres.
            prompt: a request with <motion> where the clip belongs; None: the one of the training.
            fps: frame rate of joints.
        """
        codes = self.vqvae.encode(**self.extractor(motion, fps=fps)).codes
        words = "".join(f"<motion_{code}>" for code in codes.flatten().tolist())
        return (prompt or self.prompt).replace("<motion>", f"<motion_start>{words}<motion_end>")


def translate(url: str, message: str, model: str) -> str:
    """Ask the server; -> English."""
    request = {"model": model, "messages": [{"role": "user", "content": message}], "temperature": 0, "max_tokens": 96}
    post = urllib.request.Request(
        url.rstrip("/") + "/chat/completions", json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(post) as answer:
        return json.load(answer)["choices"][0]["message"]["content"].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion file")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="of the server (http://127.0.0.1:8000/v1)")
    parser.add_argument("--model", default=str(FOLDER), help="what the server calls the model (this folder)")
    parser.add_argument("--prompt", default=None, help="what to ask; contains <motion>")
    parser.add_argument("--fps", type=float, default=None, help="frame rate, for files that do not store one")
    args = parser.parse_args()
    words, code = MotionWords(), 0
    for file in args.files:
        try:
            print(f"{file}: {translate(args.url, words.message(file, args.prompt, args.fps), args.model)}", flush=True)
        except (ValueError, OSError) as error:
            print(f"client: {file}: {error}", file=sys.stderr)
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main())
