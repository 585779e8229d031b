"""Pickles and torch.save files: what real ones come back as, what is refused, and that nothing ever runs."""

import functools
import io
import os
import pickle
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch

from lslm.processing.readers import safe_pickle
from lslm.processing.readers.safe_pickle import read_pickle

ARRAY = np.arange(6.0, dtype=np.float32).reshape(2, 3)
BASE = torch.arange(24.0).reshape(2, 3, 4)
VALUES = [ARRAY.T, ARRAY[:, ::2], np.zeros((0, 52, 3)), np.array(3.0), np.float64(29.97), np.bool_(True)]
VALUES += [[1, -1, 2**40, True, None, {7: "h\u00e4nd \u4e2d"}], ((), (0.5,))]
VALUES += [ARRAY.astype(code) for code in "? b B h H i I l L e f d".split()]
TENSORS = [BASE.permute(2, 0, 1), BASE[1, :, 1::2], torch.arange(9.0).expand(4, 9), torch.ones(2, requires_grad=True)]
TENSORS += [BASE.to(getattr(torch, name)) for name in "bool uint8 int8 int16 int32 int64 float16 float64".split()]
OTHERS = [(ARRAY.astype(code), ARRAY.astype(code[1:])) for code in (">i2", ">u8", ">f2", ">f8")]
OTHERS += [(BASE.bfloat16(), BASE.numpy()), (OrderedDict(b=1, a=ARRAY), {"b": 1, "a": ARRAY})]
# what is saved, and what is read
SAVED = [*((value, value) for value in VALUES), *((tensor, tensor.detach().numpy()) for tensor in TENSORS), *OTHERS]
# what torch.load does not read
PICKLED = [-(2**63), float("inf"), "", b"", b"a\xff", np.str_("neutral"), np.str_(""), np.bytes_(b"male")]
PICKLED += [np.array(["left", "h\u00e4nd"]), np.array([b"a\xff", b"b"]), np.arange(24).reshape(2, 3, 4).swapaxes(0, 1)]


def torch_save(value, zipped):
    torch.save(value, file := io.BytesIO(), _use_new_zipfile_serialization=zipped)
    return file.getvalue()


PICKLES = {f"protocol {p}": functools.partial(pickle.dumps, protocol=p) for p in range(6)}
WAYS = PICKLES | {f"torch {way}": functools.partial(torch_save, zipped=way == "zip") for way in ("zip", "stream")}
# an OrderedDict by cPickle, protocol 2; Python 2.7, numpy 1.16
PYTHON_2 = (
    b"\x80\x02ccollections\nOrderedDict\nq\x01]q\x02(]q\x03(U\x05posesq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08U\x02f4K\x00K\x01\x87Rq\t(K"
    b"\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00"
    b"@@\x00\x00\x80@\x00\x00\xa0@tbe]q\n(U\x03fpsq\x0bcnumpy.core.multiarray\nscalar\nq\x0ch\x08U\x02f8K\x00K\x01\x87R"
    b"q\r(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08\xb8\x1e\x85\xebQ\xf8=@\x86Rq\x0ee]q\x0f(U\x06ge"
    b"nderq\x10U\x04maleq\x11ee\x85Rq\x1e."
)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_saved_comes_back(way, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    pairs = SAVED + [(value, value) for value in PICKLED if way in PICKLES]
    data = WAYS[way]({"values": [saved for saved, _ in pairs]})
    read = read_pickle(data + b"what follows" * (way in PICKLES))["values"]
    assert repr(read) == repr([expected for _, expected in pairs])
    assert all(value.flags.writeable and value.flags.owndata for value in read if isinstance(value, np.ndarray))


def test_a_pickle_of_python_2():
    assert repr(read_pickle(PYTHON_2)) == repr({"poses": ARRAY, "fps": np.float64(29.97), "gender": "male"})


@pytest.mark.parametrize("mask", [np.array([True, False, True]), torch.tensor([True, False, True])])
def test_bytes_of_a_bool_are_0_or_1(mask):
    """numpy counts the ones of a mask by adding bytes: with a 255 it writes beyond what it allocated."""
    data = pickle.dumps({"mask": mask}, 3).replace(b"\x01\x00\x01", b"\xff\x00\x02")
    assert read_pickle(data)["mask"].view(np.uint8).tolist() == [1, 0, 1]


class Touch:
    """Unpickling it creates a file."""

    def __reduce__(self):
        return os.system, ("touch proof",)


class Within:
    def __reduce__(self):
        return torch.storage._load_from_bytes, (torch_save(Touch(), zipped=False),)


def array_program(shape, raw=b"C\x00", code=b"f4"):
    dtype = b"cnumpy\ndtype\n(S'%s'\ntR(K\x03S'<'\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" % code
    return b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


SHARED_LISTS = b"]q\x00" + b"".join(b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(40)) + b"."
# What is saved in every way, or a program that no real file holds; and what is said.
ATTACKS = {
    "a function": (Touch(), r"asks for (posix|nt)\.system"),
    "within a tensor": (Within(), r"asks for (posix|nt)\.system"),
    "within an array": (np.array([Touch()]), r"(posix|nt)\.system"),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "asks for numpy.ndarray.dump"),
    "module that is not imported": (b"cthis\ns\n.", "asks for this.s"),
    "INST": (b"(S'touch proof'\nios\nsystem\n.", "asks for os.system"),
    "unprintable name": (b"\x80\x04\x8c\x04e\x1b[2\x8c\xc8" + b"n" * 200 + b"\x93.", r"asks for e\\x1b\[2.nn"),
    "objects in two axes": (array_program(b"K\x01K\x01\x86", b"]Na", b"O8"), "array of Python objects"),
    "objects in a buffer": (array_program(b"K\x01\x85", b"C\x08aaaaaaaa", b"O8"), "array of Python objects"),
    "structure": (array_program(b")", code=b"f4,O"), "dtype f4,O"),
    "objects in bytes": (array_program(b"K\x01\x85", b"]Na"), "damaged"),
    "text for a dtype": (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01)S'f4'\n\x89C\x04aaaatb.", "damaged"),
    "too few bytes": (array_program(b"K\x03\x85", b"C\x0b" + bytes(11)), "buffer is too small"),
    "two negative lengths": (array_program(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x04aaaa"), "negative"),
    "huge and empty": (array_program(b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"K\x00\x86"), "more than 16 MB"),
    "product of 2**64": (array_program(b"(" + (b"\x8a\x05" + (2**32).to_bytes(5, "little")) * 2 + b"t"), "damaged"),
    "no state": (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "damaged"),
    "a bare class": (b"cnumpy\nndarray\n.", "a bare type"),
    "a set": (pickle.dumps({1}), "a bare set|asks for"),
    "attribute of a class": (b"cnumpy\ndtype\nN}S'dtype'\nI1\ns\x86b.", "damaged"),
    "attribute of OrderedDict": (b"ccollections\nOrderedDict\nN}S'items'\nI1\ns\x86b.", "damaged"),
    "code of a function": (b"cnumpy.core.multiarray\nscalar\nN}S'__code__'\nI1\ns\x86b.", "damaged"),
    "defaults": (b"cnumpy.core.numeric\n_frombuffer\nN}S'__defaults__'\n(I1\nts\x86b.", "a bare function"),
    "list in itself": (b"]q\x00h\x00a.", "recursion"),
    "shared lists": (SHARED_LISTS, "more than 16 MB"),
    "huge bytes": (b"\x8e" + (2**62).to_bytes(8, "little") + b".", "damaged"),
    "no dict": (pickle.dumps([ARRAY]), r"holds a list, expected an array or a dict"),
    "joblib's arrays without end": (
        b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}S'dtype'\ncnumpy\ndtype\n(S'O8'\ntRsb" * 100_000,
        "recursion|damaged",
    ),
    "a joblib array of nothing": (b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.", "damaged"),
    "not a pickle": (b"hello", "damaged"),
    "empty": (b"", "damaged"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_and_nothing_is_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 2**24)
    attack, reason = ATTACKS[name]
    programs = [attack] if isinstance(attack, bytes) else [save({"a": attack}) for save in WAYS.values()]
    for data in programs:
        with pytest.raises(ValueError, match=reason) as caught:
            read_pickle(data)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
        assert not list(tmp_path.iterdir()) and "this" not in sys.modules
        assert repr(read_pickle(pickle.dumps({"a": ARRAY}))) == repr({"a": ARRAY})  # whatever the file set did not stay
    if not isinstance(attack, bytes):  # the real thing shows that the test could fail
        pickle.loads(programs[0])
        assert os.path.exists("proof")
