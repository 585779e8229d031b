"""Pickles and torch.save files -> plain Python and numpy, without running anything they ask for.

The few names that arrays and tensors are written with mean constructors of this file, which check everything they are
given; any other name is refused, by name. Neither numpy's functions for pickles nor torch are called.

What comes back is a tree of dict (OrderedDict, too), list, tuple, str, bytes, int, float, bool, None, numpy arrays and
numpy scalars. Tensors become arrays, whatever device they were saved on; bfloat16 becomes float32. Arrays are writable,
in the byte order of this machine, and own their memory. `str` of Python 2 is decoded as latin-1.

Sources: `ndarray.__reduce__` and `__reduce_ex__` of numpy 1.13 to 2.4; torch/serialization.py and torch/_utils.py.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pickle_machine import (
    ADVICE,
    OBJECT_BYTES,
    Budget,
    Name,
    PickleDict,
    PickleMachine,
    Placeholder,
    Refused,
    damaged,
    describe,
    only_value_errors,
    printable,
)

MAX_BYTES = 2**30  # that one file may unpack to, as `Budget` counts
MAX_DEPTH = 50  # of containers in containers
MAX_DIMENSIONS = 16

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # a pickle of this number starts every torch.save file that is no zip
TORCH_PROTOCOL = 1001
BIG_ENDIAN = "the tensors are big-endian, expected little-endian; save them again on an ordinary machine"

# boolean, signed, unsigned, float; bytes and text of a fixed width. No objects, no structures, no times.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")
_TENSOR_TYPES = "Bool b1, Byte u1, Char i1, Short <i2, Int <i4, Long <i8, Half <f2, Float <f4, Double <f8, BFloat16 <u2"
_STORAGES = {  # "torch.FloatStorage": "<f4". A bfloat16 is the upper half of a float32.
    f"{module}.{pair.split()[0]}Storage": pair.split()[1]
    for module in ("torch", "torch.cuda")
    for pair in _TENSOR_TYPES.split(", ")
}


def load_pickle(data: bytes) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3, or a torch.save file that is no zip (before torch 1.6).

    Args:
        data: the whole file. What follows the first pickle is ignored, as `pickle.load` does.

    Returns:
        The tree described above.

    Raises:
        ValueError: the file asks for code, is damaged, or unpacks to too much. One line; nothing was run.
    """
    with only_value_errors():
        machine = PickleMachine(data, _CONSTRUCTORS, Budget(MAX_BYTES))
        root = machine.load()
        if type(root) is int and root == TORCH_MAGIC:
            root = _read_torch_stream(machine)
        return _to_plain(root, machine.budget)


def load_torch_archive(archive: zipfile.ZipFile, limit: int = MAX_BYTES) -> Any:
    """Read a torch.save zip: one `*/data.pkl`, and the raw bytes of its storages in `*/data/<key>`.

    Args:
        archive: the opened file.
        limit: bytes that all members together may take, and again what is made of them.

    Returns:
        The tree described above.

    Raises:
        ValueError: as `load_pickle`.
    """
    with only_value_errors():
        members = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in archive.infolist()) > limit:
            raise Refused(f"the archive unpacks to more than {limit / 2**20:.4g} MB; cut the file into utterances")
        # zipfile unpacks the other methods without a bound on what one read may yield
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members.values()):
            raise Refused(f"the archive is compressed in a way that torch does not write; {ADVICE}")
        roots = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise Refused(f"{len(roots)} `*/data.pkl` in the archive, expected one, as torch.save writes; {ADVICE}")
        folder = roots[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise Refused(BIG_ENDIAN)
        storages: dict[str, _Storage] = {}

        def find_storage(persistent_id: Any) -> _Storage:
            dtype, key = _storage_of(persistent_id)
            if key not in storages:
                storages[key] = _Storage(dtype, archive.read(f"{folder}data/{key}"))
            return storages[key]

        machine = PickleMachine(archive.read(roots[0]), _CONSTRUCTORS, Budget(limit))
        return _to_plain(machine.load(find_storage), machine.budget)


# --- files of torch.save ----------------------------------------------------------------------------------------------


def _storage_of(persistent_id: Any) -> tuple[str, str]:
    """Type and key of ("storage", type, key, device, length[, view]). A view, of very old files, is refused."""
    match persistent_id:
        case ("storage", Name(text=dtype), str(key), str(), int()) if dtype in _STORAGES:
            return dtype, key
        case ("storage", Name(text=dtype), str(key), str(), int(), None) if dtype in _STORAGES:
            return dtype, key
    raise damaged("a persistent id that is no storage of torch")


def _read_torch_stream(machine: PickleMachine) -> Any:
    """What follows the magic number: protocol, machine, the object, the keys of its storages, and their raw bytes."""
    if machine.load() != TORCH_PROTOCOL:
        raise damaged("an unknown protocol of torch.save")
    system = machine.load()
    if type(system) is not PickleDict or system.get("little_endian") is not True:
        raise Refused(BIG_ENDIAN)
    storages: dict[str, _Storage] = {}

    def find_storage(persistent_id: Any) -> _Storage:
        dtype, key = _storage_of(persistent_id)
        return storages.setdefault(key, _Storage(dtype))

    root = machine.load(find_storage)
    keys = machine.load()
    if type(keys) is not list or any(type(key) is not str or key not in storages for key in keys):
        raise damaged("an impossible list of storages")
    for key in keys:
        count = int.from_bytes(machine.read(8), "little", signed=True)
        storages[key].data = machine.take(count * storages[key].dtype.itemsize)
    return root


def _load_from_bytes(machine: PickleMachine, data: Any) -> Any:
    """A tensor within a plain pickle: its storage is a whole torch.save file, as bytes."""

    def read(data: bytes) -> Any:
        inner = PickleMachine(data, _CONSTRUCTORS, machine.budget)
        if inner.load() != TORCH_MAGIC:
            raise damaged("the data of a tensor in an unknown format")
        return _read_torch_stream(inner)

    return machine.once(read, _make_bytes(machine, data) if type(data) is str else data)


# --- what the names mean: placeholders; arrays are made of them once all of the file is read --------------------------


class _Dtype(Placeholder):
    def __init__(self, code: Any):
        if type(code) is not str or not _DTYPE.fullmatch(code):
            found = printable(code) if type(code) is str else describe(code)
            raise Refused(f"an array of dtype {found}, expected plain numbers or text of a fixed width; {ADVICE}")
        self.code, self.order = code, "="

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):  # no parts, no fields
                self.order = order
            case _:
                raise damaged("a dtype in an unknown layout")

    def to_dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


@dataclass(eq=False)
class _Array(Placeholder):
    raw: Any = None
    dtype: Any = None
    shape: Any = ()
    order: Any = "C"
    axes: Any = None
    is_scalar: bool = False

    def set_state(self, state: Any) -> None:
        match state:
            case (1, shape, dtype, int() as fortran, raw):
                self.shape, self.dtype, self.raw, self.order = shape, dtype, raw, "F" if fortran else "C"
            case _:
                raise damaged("an array in an unknown layout")

    def to_numpy(self, budget: Budget) -> Any:
        if type(self.dtype) is not _Dtype or type(self.raw) not in (bytes, str):
            raise damaged("an array without data")
        dtype = self.dtype.to_dtype()
        _check_shape(self.shape, dtype.itemsize, budget)
        if len(self.raw) != math.prod(self.shape) * dtype.itemsize:
            raise damaged(f"an array of shape {tuple(self.shape)} and dtype {dtype} has {len(self.raw)} bytes")
        raw = self.raw.encode("latin-1") if type(self.raw) is str else self.raw
        if dtype.kind == "U":  # numpy would only find out when an element is looked at
            raw.decode("utf-32-be" if dtype.byteorder == ">" else "utf-32-le", "surrogatepass")
        array = np.ndarray(self.shape, dtype, raw, order=self.order)
        array = _own(array if self.axes is None else array.transpose(self.axes))
        return array[()] if self.is_scalar else array


@dataclass(eq=False)
class _Storage(Placeholder):
    name: str
    data: bytes | memoryview | None = None

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_STORAGES[self.name])


@dataclass(eq=False)
class _Tensor(Placeholder):
    storage: Any
    offset: Any  # all three in elements
    size: Any
    stride: Any

    def to_numpy(self, budget: Budget) -> np.ndarray:
        if type(self.storage) is not _Storage or self.storage.data is None:
            raise damaged("a tensor without data")
        data, dtype = self.storage.data, self.storage.dtype
        _check_shape(self.size, dtype.itemsize, budget)
        if not _are_counts(self.stride) or not _are_counts([self.offset]) or len(self.stride) != len(self.size):
            raise damaged("a tensor with impossible strides")
        last = self.offset + sum((length - 1) * step for length, step in zip(self.size, self.stride, strict=True))
        if 0 in self.size:
            array = np.zeros(self.size, dtype)
        elif last < len(data) // dtype.itemsize:  # numpy checks it, too, but its sums may overflow
            strides = [step * dtype.itemsize for step in self.stride]
            array = np.ndarray(self.size, dtype, data, self.offset * dtype.itemsize, strides)
        else:
            raise damaged(f"a tensor reaches beyond its storage of {len(data)} bytes")
        if self.storage.name.endswith("BFloat16Storage"):
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return _own(array)


def _are_counts(numbers: Any) -> bool:
    is_short = type(numbers) in (tuple, list) and len(numbers) <= MAX_DIMENSIONS
    return is_short and all(type(number) is int and number >= 0 for number in numbers)


def _check_shape(shape: Any, itemsize: int, budget: Budget) -> None:
    if not _are_counts(shape):
        raise damaged("an array of an impossible shape")
    # an empty array of shape (2**40, 0) is charged like a full one: somebody will walk over it
    budget.spend(math.prod(max(length, 1) for length in shape) * max(itemsize, 1))


def _own(array: np.ndarray) -> np.ndarray:
    """A writable copy in native byte order."""
    if array.dtype.kind == "b":  # numpy counts on bytes of 0 and 1 when a mask selects elements
        return np.asarray(array.view(np.uint8) != 0)
    return array.astype(array.dtype.newbyteorder("="))


def _make_bytes(machine: PickleMachine, text: Any, encoding: Any = "latin1") -> bytes:
    """How protocols 0 to 2 write bytes: text, to be encoded."""
    if type(text) is not str or encoding != "latin1":
        raise damaged("bytes in an unknown encoding")
    return machine.once(lambda text: text.encode("latin-1"), text)


def _make_dict(machine: PickleMachine, pairs: Any = ()) -> PickleDict:
    """OrderedDict. Python 2 hands over its items, as lists of two."""

    def make(pairs: Any) -> PickleDict:
        if type(pairs) is not list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise damaged("an OrderedDict without pairs")
        return PickleDict(machine.budget, pairs)

    return machine.once(make, pairs) if pairs else PickleDict(machine.budget)


def _make_array(machine: PickleMachine, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    """Protocol 5. `axes` come with the order "K": how to transpose the array of `shape`."""
    return _Array(raw, dtype, shape, "C" if order == "K" else order, axes)


def _make_tensor(machine: PickleMachine, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


_CONSTRUCTORS: dict[str, Callable[..., Any] | None] = {
    **dict.fromkeys(_STORAGES),
    "numpy.ndarray": None,
    "copyreg._reconstructor": None,  # protocols 0 and 1 name it before the class, which is the name to report
    "copy_reg._reconstructor": None,
    "numpy.dtype": lambda machine, code, *flags: _Dtype(code),
    "builtins.bytes": lambda machine: b"",
    "__builtin__.bytes": lambda machine: b"",
    "_codecs.encode": _make_bytes,
    "collections.OrderedDict": _make_dict,
    "torch.storage._load_from_bytes": _load_from_bytes,
    "torch.Size": lambda machine, size=(): size,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": lambda machine, tensor, *_: tensor,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _CONSTRUCTORS |= {
        f"{_core}.multiarray._reconstruct": lambda machine, *_: _Array(),
        f"{_core}.multiarray.scalar": lambda machine, dtype, raw: _Array(raw, dtype, is_scalar=True),
        f"{_core}.numeric._frombuffer": _make_array,
    }

# --- placeholders -> arrays -------------------------------------------------------------------------------------------


def _to_plain(root: Any, budget: Budget) -> Any:
    """Replace the placeholders. What the file shares is converted once, but charged each time: readers will copy it."""
    done: dict[int, tuple[Any, int] | None] = {}  # by id, which stays taken as long as `root` lives; None: not yet done

    def convert(node: Any, depth: int) -> Any:
        kind = type(node)
        if node is None or kind in (bool, float, int, str, bytes):
            if kind is int and not -(2**63) <= node < 2**64:
                raise Refused(f"an integer of {node.bit_length()} bits, expected 64 at most; {ADVICE}")
            budget.spend(OBJECT_BYTES + (len(node) if kind in (str, bytes) else 0))
            return node
        if id(node) in done:
            if done[id(node)] is None:
                raise Refused(f"a {kind.__name__} contains itself; {ADVICE}")
            plain, cost = done[id(node)]
            budget.spend(cost)
            return plain
        if depth > MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} deep; {ADVICE}")
        done[id(node)], before = None, budget.left
        budget.spend(OBJECT_BYTES)
        if kind is PickleDict:
            plain = {key: convert(value, depth + 1) for key, value in node.items()}
        elif kind in (list, tuple):
            plain = kind([convert(value, depth + 1) for value in node])
        elif kind in (_Array, _Tensor):
            plain = node.to_numpy(budget)
        else:
            raise Refused(f"a bare {describe(node)} among the data, expected arrays and numbers; {ADVICE}")
        done[id(node)] = plain, before - budget.left
        return plain

    return convert(root, 0)
