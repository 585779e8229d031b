"""Pickles and torch.save files -> plain Python and numpy, without running anything they ask for.

The unpickler of the standard library asks `find_class` for whatever a pickle names. Here it gets functions of this file
for the few names that arrays and tensors are written with; any other is refused, by name. numpy's own functions for
pickles are not among them: `dtype.__setstate__` believes what it is told, and numpy then writes beyond its memory.

No file runs code. What one made on purpose can still do is in docs/formats.md. Sources: `ndarray.__reduce__` and
`__reduce_ex__` of numpy 1.13 to 2.4; torch/_utils.py.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy_format

from ..array_files import MAX_BYTES

_ADVICE = "export the file as .npz"
_OBJECT_BYTES = 256  # charged for whatever stands in a tree, beside its data
_TORCH_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)  # how torch.save before torch 1.6 began a file
# boolean, signed, unsigned, float; bytes and text of a fixed width; objects, never of bytes. No structures, no times.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?")


def read_pickle(data: bytes) -> dict[str, Any] | np.ndarray:
    """What a pickle of protocol 0 to 5, of Python 2 or 3, of joblib, of `np.save`, or a torch.save file holds.

    Args:
        data: the whole file; `motion.open_file` has checked what a zip unpacks to.

    Returns:
        an array, or a dict: a tree of dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays and numpy
        scalars. Tensors become arrays, whatever device they were saved on; bfloat16 becomes float32. Arrays of Python
        objects become lists. Arrays are writable, in the byte order of this machine, and own their memory. `str` of
        Python 2 is decoded as latin-1.

    Raises:
        ValueError: the file asks for code, is damaged, unpacks to more than `MAX_BYTES`, or holds neither. One line;
            nothing was run.
    """
    if data.startswith(npy_format.MAGIC_PREFIX):  # an array of objects is pickled behind its header
        data = data[10 + int.from_bytes(data[8:10], "little") :]
    try:
        is_torch = data.startswith((b"PK", _TORCH_MAGIC))
        content = _to_plain(_load_torch(data) if is_torch else _Unpickler(io.BytesIO(data)).load())
    except _Refused:
        raise
    except Exception as error:  # damaged bytes raise a dozen types in pickle, torch and numpy
        if name := re.search(r"GLOBAL (\S+)", str(error)):  # of ours and of torch
            asked = f"the pickle asks for {_printable(name[1])}, which is code, not data"
            raise ValueError(f"{asked}; nothing was run: {_ADVICE}") from error
        # torch puts before the reason the advice to load the file with its code, and after it an address
        reason = str(error).rpartition("error:")[2].strip().partition("\n")[0]
        reason = _printable(f"{type(error).__name__}: {reason}".rstrip(": "))
        raise ValueError(f"damaged pickle ({reason}); copy or export it again") from error
    if isinstance(content, np.ndarray):
        return content
    if not isinstance(content, dict):
        raise ValueError(f"the pickle holds a {type(content).__name__}, expected an array or a dict of named arrays")
    return {str(key): value for key, value in content.items()}


class _Refused(ValueError):
    """A message for the user: one line, and complete."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin-1")
        self._joblib = type("_JoblibArrayOfFile", (_JoblibArray,), {"file": file})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._joblib
        if f"{module}.{name}" not in _NAMES:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return _NAMES[f"{module}.{name}"]


def _load_torch(data: bytes) -> Any:
    """`torch.load` without code: it knows tensors itself, arrays from us."""
    with torch.serialization.safe_globals([*((what, name) for name, what in _NAMES.items()), _Array, _Dtype]):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _printable(text: str) -> str:
    """What a file calls something, fit for a terminal: one short line of ASCII."""
    return ascii(text[:120])[1:-1][:120]


class _Dtype:
    def __init__(self, code: str, *_: Any):
        if not _DTYPE.fullmatch(code):
            code = _printable(code)
            raise _Refused(f"an array of dtype {code}, expected numbers or text of a fixed width; {_ADVICE}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the others describe structures


class _Array:
    """What `ndarray` is before its state comes. Of Python objects: the object, or a list of them."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, raw = state
        if isinstance(raw, list) and dtype.dtype.hasobject and len(shape) < 2:
            self.array = raw if shape else raw[0]
        else:
            self.array = _to_array(raw, dtype, shape, "F" if is_fortran else "C")


class _JoblibArray(_Array):
    """What `joblib.dump` writes for an array: its shape here, its numbers in the file behind it."""

    file: io.BytesIO

    def __setstate__(self, state: Any) -> None:
        if state["dtype"].dtype.hasobject:
            self.array = _Unpickler(self.file).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:  # since joblib 1.2
            self.file.read(self.file.read(1)[0])
        size = math.prod(state["shape"]) * state["dtype"].dtype.itemsize
        raw = self.file.read(size) if size >= 0 else b""
        self.array = _to_array(raw, state["dtype"], state["shape"], state["order"])


def _to_array(raw: Any, dtype: _Dtype, shape: Any, order: str, *axes: Any) -> np.ndarray:
    """As protocol 5 describes arrays: "K" is the order "C" and how to transpose what is there."""
    # no argument has a default: a pickle may set `__defaults__` of this function, and that would outlive it
    if dtype.dtype.hasobject:
        raise _Refused(f"an array of Python objects, expected numbers or text of a fixed width; {_ADVICE}")
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    array = np.ndarray(shape, dtype.dtype, raw, order="F" if order == "F" else "C")
    return array.transpose(*axes) if any(axes) else array


# A pickle may also set attributes on what it gets: functions of ours, so that it cannot harm those of others.
_NAMES = {
    "collections.OrderedDict": OrderedDict,
    **dict.fromkeys(["collections.defaultdict", "builtins.dict", "__builtin__.dict"], lambda *_: {}),
    "_codecs.encode": str.encode,  # how protocols 0 to 2 write bytes
    **dict.fromkeys(["builtins.bytes", "__builtin__.bytes"], lambda: b""),
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "torch._utils._rebuild_tensor_v2": lambda *arguments: torch._utils._rebuild_tensor_v2(*arguments),
    "torch.storage._load_from_bytes": lambda data: _load_torch(data),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES |= {
        f"{_core}.multiarray._reconstruct": lambda *_: _Array(),
        f"{_core}.multiarray.scalar": lambda dtype, raw: _to_array(raw, dtype, (), "C")[()],
        f"{_core}.numeric._frombuffer": _to_array,
    }


def _to_plain(root: Any) -> Any:
    """Replace what stands for arrays. What the file has once and shares is charged each time: readers will copy it."""
    spent = 0

    def spend(size: int) -> None:
        nonlocal spent
        spent += size
        if spent > MAX_BYTES:
            raise _Refused(f"unpacks to more than {MAX_BYTES >> 20} MB; cut the file into utterances")

    def convert(node: Any) -> Any:
        spend(_OBJECT_BYTES + (len(node) if isinstance(node, str | bytes) else 0))
        if isinstance(node, _Array):
            return convert(node.array)
        if isinstance(node, torch.Tensor | np.ndarray):
            # an empty array of shape (2**40, 0) counts like a full one: somebody will walk over it
            spend(node.itemsize * math.prod(max(length, 1) for length in node.shape))
        if isinstance(node, torch.Tensor):
            node = (node.float() if node.dtype == torch.bfloat16 else node).detach().numpy()
        if isinstance(node, np.ndarray):
            # numpy counts on bytes of 0 and 1 when a mask selects elements
            return (node.view(np.uint8) if node.dtype.kind == "b" else node).astype(node.dtype.newbyteorder("="))
        if isinstance(node, dict):
            return {convert(key): convert(value) for key, value in dict.items(node)}
        if isinstance(node, list | tuple):
            return (list if isinstance(node, list) else tuple)(convert(value) for value in node)
        if node is None or isinstance(node, bool | float | int | str | bytes | np.generic):
            return node
        raise _Refused(f"a bare {type(node).__name__} among the data, expected arrays and numbers; {_ADVICE}")

    return convert(root)
