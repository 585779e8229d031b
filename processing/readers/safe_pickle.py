"""Pickles and torch.save files -> plain Python and numpy, without running anything they ask for.

The unpickler of the standard library asks `find_class` for whatever a pickle names. Here it gets functions of this file
for the few names that arrays and tensors are written with; any other is refused, by name. numpy's own functions for
pickles are not among them: `dtype.__setstate__` believes what it is told, and numpy then writes beyond its memory.

What comes back is a tree of dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays and numpy scalars.
Tensors become arrays, whatever device they were saved on; bfloat16 becomes float32. Arrays are writable, in the byte
order of this machine, and own their memory. `str` of Python 2 is decoded as latin-1.

No file runs code. What one made on purpose can still do is in docs/formats.md. Sources: `ndarray.__reduce__` and
`__reduce_ex__` of numpy 1.13 to 2.4; torch/_utils.py.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..array_files import MAX_BYTES

_ADVICE = "export the file as .npz"
_OBJECT_BYTES = 256  # charged for whatever stands in a tree, beside its data
_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save before torch 1.6 began a file
# boolean, signed, unsigned, float; bytes and text of a fixed width. No objects, no structures, no times.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")


def load_pickle(data: bytes) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3, or a torch.save file that is no zip (before torch 1.6).

    Args:
        data: the whole file. What follows the first pickle is ignored, as `pickle.load` does.

    Returns:
        The tree described above.

    Raises:
        ValueError: the file asks for code, is damaged, or unpacks to more than `MAX_BYTES`. One line; nothing was run.
    """
    with _only_value_errors():
        _check_size(len(data))
        is_torch = data.startswith(_TORCH_MAGIC)
        return _to_plain(_load_torch(io.BytesIO(data)) if is_torch else _Unpickler(data).load())


def load_torch_archive(archive: zipfile.ZipFile) -> Any:
    """Read a torch.save zip. Returns and raises what `load_pickle` does."""
    with _only_value_errors():
        _check_size(sum(info.file_size for info in archive.infolist()))
        archive.fp.seek(0)
        return _to_plain(_load_torch(archive.fp))


class _Refused(ValueError):
    """A message for the user: one line, and complete."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin-1")

    def find_class(self, module: str, name: str) -> Any:
        if "." in name or f"{module}.{name}" not in _NAMES:
            raise _refused(f"{module}.{name}")
        return _NAMES[f"{module}.{name}"]


def _load_torch(file: Any) -> Any:
    """`torch.load` without code: it knows tensors itself, arrays from us."""
    try:
        with torch.serialization.safe_globals([*((what, name) for name, what in _NAMES.items()), _Array, _Dtype]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if name := re.search(r"GLOBAL (\S+)", str(error)):
            raise _refused(name[1]) from error
        # before the reason stands the advice to load the file with its code, after it an address
        raise ValueError(str(error).rpartition("error:")[2].strip().partition("\n")[0]) from error


def _refused(name: str) -> _Refused:
    return _Refused(f"the pickle asks for {_printable(name)}, which is code, not data; nothing was run: {_ADVICE}")


def _printable(text: str) -> str:
    """What a file calls something, fit for a terminal: one short line of ASCII."""
    return ascii(text[:120])[1:-1][:120]


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise _Refused(f"unpacks to more than {MAX_BYTES >> 20} MB; cut the file into utterances")


@contextmanager
def _only_value_errors() -> Iterator[None]:
    """Damaged bytes raise a dozen types in pickle, torch and numpy. Callers are promised one."""
    try:
        yield
    except _Refused:
        raise
    except Exception as error:
        reason = _printable(f"{type(error).__name__}: {error}".rstrip(": "))
        raise ValueError(f"damaged pickle ({reason}); copy or export it again") from error


class _Dtype:
    def __init__(self, code: str, *_: Any):
        if not _DTYPE.fullmatch(code):
            raise _Refused(
                f"an array of dtype {_printable(code)}, expected numbers or text of a fixed width; {_ADVICE}"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the others describe structures


class _Array:
    """What `ndarray` is before its state comes."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, raw = state
        self.array = _to_array(raw, dtype, shape, "F" if is_fortran else "C")


def _to_array(raw: Any, dtype: _Dtype, shape: Any, order: str, axes: Any = None) -> np.ndarray:
    """As protocol 5 describes arrays: "K" is the order "C" and how to transpose what is there."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    array = np.ndarray(shape, dtype.dtype, raw, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


# A pickle may also set attributes on what it gets: functions of ours, so that it cannot harm those of others.
_NAMES = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": str.encode,  # how protocols 0 to 2 write bytes
    **dict.fromkeys(["builtins.bytes", "__builtin__.bytes"], lambda: b""),
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "torch._utils._rebuild_tensor_v2": lambda *arguments: torch._utils._rebuild_tensor_v2(*arguments),
    "torch.storage._load_from_bytes": lambda data: _load_torch(io.BytesIO(data)),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES |= {
        f"{_core}.multiarray._reconstruct": lambda *_: _Array(),
        f"{_core}.multiarray.scalar": lambda dtype, raw: _to_array(raw, dtype, (), "C")[()],
        f"{_core}.numeric._frombuffer": _to_array,
    }


def _bytes_of(shape: tuple[int, ...], item_bytes: int) -> int:
    """An empty array of shape (2**40, 0) counts like a full one: somebody will walk over it."""
    return max(item_bytes, 1) * math.prod(max(length, 1) for length in shape)


def _to_plain(root: Any) -> Any:
    """Replace what stands for arrays. What the file has once and shares is charged each time: readers will copy it."""
    spent = 0

    def spend(size: int) -> None:
        nonlocal spent
        spent += size
        _check_size(spent)

    def convert(node: Any) -> Any:
        spend(_OBJECT_BYTES + (len(node) if isinstance(node, str | bytes) else 0))
        node = node.array if isinstance(node, _Array) else node
        if node is None or isinstance(node, bool | float | int | str | bytes | np.generic):
            return node
        if isinstance(node, dict):
            return {convert(key): convert(value) for key, value in dict.items(node)}
        if isinstance(node, list | tuple):
            return (list if isinstance(node, list) else tuple)(convert(value) for value in node)
        if isinstance(node, torch.Tensor) and not node.is_complex():
            spend(_bytes_of(node.shape, node.element_size()))
            return (node.float() if node.dtype == torch.bfloat16 else node).detach().numpy().copy()
        if isinstance(node, np.ndarray):
            spend(_bytes_of(node.shape, node.itemsize))
            if node.dtype.kind == "b":  # numpy counts on bytes of 0 and 1 when a mask selects elements
                return np.asarray(node.view(np.uint8) != 0)
            return node.astype(node.dtype.newbyteorder("="))
        raise _Refused(f"a bare {type(node).__name__} among the data, expected arrays and numbers; {_ADVICE}")

    return convert(root)
