"""`.npy` and `.npz` from anybody: sizes are read from the headers before any data, nothing is unpickled."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

MAX_FRAMES = 72_000  # 20 minutes at 60 frames per second: bounds memory when a file claims a huge frame rate
MAX_BYTES = 2**29  # of arrays in one file, unpacked; reading takes up to three times as much
MAX_HEADER = 10_000  # bytes that describe one array; numpy refuses longer ones too, but reads them first


class NpzFile(Mapping):
    """The arrays of an open `.npz`, each read when it is asked for.

    Raises:
        ValueError: by the constructor, what unpacks to more than `MAX_BYTES`; by `[]`, what is no array of plain data.
    """

    def __init__(self, archive: zipfile.ZipFile):
        # zipfile reads no more of an entry than the directory promises, so that this is enough against a zip bomb
        unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_BYTES:
            limit = f"the limit is {MAX_BYTES >> 20} MB"
            raise ValueError(f"the .npz unpacks to {unpacked >> 20} MB, {limit}; cut the clip")
        # zipfile unpacks the other methods without a bound on what one read may yield
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist()):
            raise ValueError("the .npz is compressed as numpy does not write it; save it with np.savez_compressed")
        self._archive = archive
        self._names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

    def __getitem__(self, key: str) -> np.ndarray:
        info = self._archive.getinfo(f"{key}.npy")  # KeyError where there is none
        with self._archive.open(info) as file:
            return read_array(file, info.file_size, f"`{key}`")

    def __contains__(self, key: object) -> bool:
        return key in self._names  # a Mapping would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """One `.npy` stream of `size` bytes: numbers, or strings of fixed length.

    Raises:
        ValueError: `name` and what is wrong with it. A header may promise anything: it is checked before data is read.
    """
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{name} has .npy version {version}, expected 1.0 to 3.0; save it again with a current numpy")
    start = file.tell()
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > MAX_HEADER:
        raise ValueError(f"{name} has a header of {length} bytes, the limit is {MAX_HEADER}; export the file again")
    file.seek(start)
    # Version 3 differs from 2 only in utf-8 names of structured fields, and those are refused below.
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "biufSU":
        hint = " (only unpickling could read objects)" if dtype.hasobject else ""
        raise ValueError(f"{name} has dtype {dtype}, expected real numbers{hint}; save it as float32")
    if any(length < 0 for length in shape):
        raise ValueError(f"{name} has the impossible shape {shape}; export the file again")
    clip = shape[1:] if len(shape) > 2 and shape[0] == 1 else shape  # a batch of one
    if clip and clip[0] > MAX_FRAMES:
        raise ValueError(f"{name} has {clip[0]} frames, the limit is {MAX_FRAMES}; cut the file into utterances")
    # 2000 numbers a frame covers every layout known here; more means another kind of array.
    if math.prod(clip[1:]) > 2000 or len(clip) > 4:
        raise ValueError(f"{name} has shape {shape}, expected (frames, joints, coordinates); it is no motion array")
    promised = math.prod(shape) * dtype.itemsize
    if promised > MAX_BYTES:
        raise ValueError(f"{name} has shape {shape}, more than {MAX_BYTES >> 20} MB; cut the file into utterances")
    if promised > size:
        raise ValueError(f"truncated file: {name} promises {promised} bytes of {size}; copy it again")
    if file.tell() + promised < size:
        raise ValueError(f"{size - file.tell() - promised} bytes behind {name}, of another one? save each in its file")
    file.seek(0)
    return npy_format.read_array(file, allow_pickle=False)


def numbers(mapping: Mapping, key: str) -> np.ndarray:
    """`mapping[key]` as an array of real numbers.

    Raises:
        ValueError: it is something else, or of another kind (text, bool, complex, objects).
    """
    array = np.asarray(mapping[key])
    if array.dtype.kind not in "iuf":
        raise ValueError(f"`{key}` has dtype {array.dtype}, expected real numbers; save it as float32")
    return array


def one_clip(array: np.ndarray, axes: int) -> np.ndarray:
    """`array` without the axis of a batch of one, if it has that beside the `axes` of a clip."""
    return array[0] if array.ndim == axes + 1 and len(array) == 1 else array


def one_number(mapping: Mapping, key: str) -> float | None:
    """`mapping[key]`, in whatever shape it is; None where there is none. Raises ValueError if it is something else."""
    if (value := mapping.get(key)) is None:
        return None
    value = numbers({key: value}, key)
    if value.size != 1:
        raise ValueError(f"`{key}` has shape {value.shape}, expected one number")
    return float(value.reshape(()))
