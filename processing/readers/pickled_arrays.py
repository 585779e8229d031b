"""Pickles and files of torch.save that hold named arrays."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .safe_pickle import load_pickle, load_torch_archive


def read_pickle(path: Path, container: str) -> dict:
    """The named arrays of a pickle, or of what torch.save has written; no code of it is run.

    Raises:
        ValueError: it holds something else, or asks for code.
    """
    if container == "torch":
        with zipfile.ZipFile(path) as archive:
            content = load_torch_archive(archive)
    else:
        content = load_pickle(path.read_bytes())
    if not isinstance(content, Mapping):
        array = isinstance(content, np.ndarray)
        kind = f"an array of shape {content.shape}" if array else f"a {type(content).__name__}"
        raise ValueError(f"the pickle holds {kind}, expected a dict of named arrays")
    return {str(key): value for key, value in content.items()}
