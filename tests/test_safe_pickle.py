"""Pickles and torch.save files: what real ones come back as, what is refused, and that nothing ever runs."""

import functools
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lslm.processing.readers import safe_pickle
from lslm.processing.readers.safe_pickle import load_pickle, load_torch_archive

TREE = {
    "smplx": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "fps": np.float64(29.97),
    "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "every second": np.arange(10, dtype=np.int16)[::2],
    "empty": np.zeros((0, 52, 3), np.float16),
    "no dimension": np.array(3.0),
    "big endian": np.arange(3, dtype=">f4"),
    "text": np.array(["left", "h\u00e4nd"]).astype(">U4"),
    "bytes": np.array([b"a\xff", b"b"]),
    "mask": np.array([True, False]),
    "numpy text": [np.str_("neutral"), np.bytes_(b"male"), np.bool_(True), np.str_("")],
    "list": [1, -1, 2**40, -(2**63), 0.5, float("inf"), True, False, None, "", "h\u00e4nd \u4e2d", b"", b"a\xff"],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, [4, {}])),
    "ordered": OrderedDict(b=1, a=np.arange(2)),
    7: "frame",
}


def save_zip(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def save_stream(value):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def load_zip(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return load_torch_archive(archive)


WAYS = {
    "zip": (save_zip, load_zip),
    "stream": (save_stream, load_pickle),
    **{f"pickle {p}": (functools.partial(pickle.dumps, protocol=p), load_pickle) for p in range(6)},
}


def assert_same(got, expected):
    """The tree of `load_pickle` against what was pickled; torch's tensors against what numpy makes of them."""
    if isinstance(expected, torch.Tensor):
        expected = (expected.float() if expected.dtype == torch.bfloat16 else expected).detach().numpy()
    if isinstance(expected, np.ndarray | np.generic):
        assert type(got) is type(expected) and got.shape == expected.shape
        assert got.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got, expected)
        assert not isinstance(got, np.ndarray) or (got.flags.writeable and got.flags.owndata)
    elif isinstance(expected, dict):
        assert type(got) is dict and list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(got) is type(expected) and len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert type(got) is type(expected) and got == expected


def refusal(data, load=load_pickle):
    with pytest.raises(ValueError) as caught:
        load(data)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 400, message
    return message


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith("pickle")])
def test_a_tree_comes_back_as_it_was(way):
    save, load = WAYS[way]
    assert_same(load(save(TREE) + b"what follows"), TREE)
    for code in "b B h H i I l L e f d S3 U3 >i2 >u8 >f2 >f8".split():
        array = np.arange(6).reshape(3, 2).astype(code)
        assert_same(load(save([array, array[1, 1], array.T])), [array, array[1, 1], array.T])


@pytest.mark.parametrize("way", WAYS)
def test_tensors_and_arrays(way, monkeypatch):
    save, load = WAYS[way]
    base = torch.arange(24.0).reshape(2, 3, 4)
    dtypes = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()
    tree = {
        **{name: torch.tensor([0, 1, 100], dtype=getattr(torch, name)) for name in dtypes},
        "views": [base.permute(2, 0, 1), base[1, :, 1::2], base[0], base, torch.arange(10.0).expand(4, 10)],
        "small": [torch.tensor(5), torch.zeros(0, 3), torch.ones(2, requires_grad=True)],
        "numpy": [np.arange(3), np.array([True, False]), np.float64(24.0)],
        "gender": "neutral",
    }
    assert_same(load(save(tree)), tree)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    assert_same(load(save(tree)), tree)


# dumps of OrderedDict: the first by cPickle, protocol 2, the second by pickle, protocol 0; Python 2.7, numpy 1.16
PYTHON_2 = [
    b"\x80\x02ccollections\nOrderedDict\nq\x01]q\x02(]q\x03(U\x05posesq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08U\x02f4K\x00K\x01\x87Rq\t(K"
    b"\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00"
    b"@@\x00\x00\x80@\x00\x00\xa0@tbe]q\n(U\x03fpsq\x0bcnumpy.core.multiarray\nscalar\nq\x0ch\x08U\x02f8K\x00K\x01\x87R"
    b"q\r(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08\xb8\x1e\x85\xebQ\xf8=@\x86Rq\x0ee]q\x0f(U\x06ge"
    b"nderq\x10U\x04maleq\x11e]q\x12(U\x01n\x8a\x01\x05e]q\x13(X\x05\x00\x00\x00t\xc3\xa9xtq\x14X\x03\x00\x00\x00\xe2"
    b"\x82\xace]q\x15(U\x02okq\x16\x88e]q\x17(U\x05validq\x18h\x05h\x06K\x00\x85U\x01b\x87Rq\x19(K\x01K\x02\x85h\x08U"
    b"\x02b1K\x00K\x01\x87Rq\x1a(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x00tbe]q\x1b(U"
    b"\x01k]q\x1c(K\x01K\x02\x85q\x1deee\x85Rq\x1e.",
    b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'poses'\np3\nacnumpy.core.multiarray\n_reconstruct\np4\n(cnumpy\n"
    b"ndarray\np5\n(I0\ntp6\nS'b'\np7\ntp8\nRp9\n(I1\n(I2\nI3\ntp10\ncnumpy\ndtype\np11\n(S'f4'\np12\nI0\nI1\ntp13\nRp1"
    b"4\n(I3\nS'<'\np15\nNNNI-1\nI-1\nI0\ntp16\nbI00\nS'\\x00\\x00\\x00\\x00\\x00\\x00\\x80?\\x00\\x00\\x00@\\x00\\x00@@"
    b"\\x00\\x00\\x80@\\x00\\x00\\xa0@'\np17\ntp18\nbaa(lp19\nS'fps'\np20\nacnumpy.core.multiarray\nscalar\np21\n(g11\n("
    b"S'f8'\np22\nI0\nI1\ntp23\nRp24\n(I3\nS'<'\np25\nNNNI-1\nI-1\nI0\ntp26\nbS'\\xb8\\x1e\\x85\\xebQ\\xf8=@'\np27\ntp28"
    b"\nRp29\naa(lp30\nS'gender'\np31\naS'male'\np32\naa(lp33\nS'n'\np34\naL5L\naa(lp35\nVt\xe9xt\np36\naV\\u20ac\np37"
    b"\naa(lp38\nS'ok'\np39\naI01\naa(lp40\nS'valid'\np41\nag4\n(g5\n(I0\ntp42\ng7\ntp43\nRp44\n(I1\n(I2\ntp45\ng11\n(S"
    b"'b1'\np46\nI0\nI1\ntp47\nRp48\n(I3\nS'|'\np49\nNNNI-1\nI-1\nI0\ntp50\nbI00\nS'\\x01\\x00'\np51\ntp52\nbaa(lp53\n"
    b"S'k'\np54\na(lp55\nI1\na(I2\ntp56\naaatp57\nRp58\n.",
]


@pytest.mark.parametrize("data", PYTHON_2, ids=["binary", "text"])
def test_pickles_of_python_2(data):
    expected = {
        "poses": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fps": np.float64(29.97),
        "gender": "male",
        "n": 5,
        "t\u00e9xt": "\u20ac",
        "ok": True,
        "valid": np.array([True, False]),
        "k": [1, (2,)],
    }
    assert_same(load_pickle(data), expected)


def test_names_of_numpy_1_and_2():
    data = pickle.dumps(TREE["smplx"], 2)
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert (old in data) != (new in data)
    assert_same(load_pickle(data.replace(old, new) if old in data else data.replace(new, old)), TREE["smplx"])


def test_bytes_of_a_bool_are_0_or_1():
    """numpy counts the ones of a mask by adding bytes: with a 255 it writes beyond what it allocated."""
    data = pickle.dumps(np.array([True, False, True]), 3)
    assert load_pickle(data.replace(b"\x01\x00\x01", b"\xff\x00\x02")).view(np.uint8).tolist() == [1, 0, 1]


# --- code -------------------------------------------------------------------------------------------------------------


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __call__(self):
        raise NotImplementedError

    def __reduce__(self):
        return self.parts


class Stateful:
    def __setstate__(self, state):
        open(state["path"], "w").close()


def with_state(path):
    value = Stateful()
    value.path = path
    return value


# Each would create the file `path`, if it were unpickled, and is refused for the name beside it.
CODE = {
    "system": (lambda path: Call(os.system, f"touch {path}"), r"(posix|nt)\.system"),
    "eval": (lambda path: Call(eval, f"open({path!r}, 'w')"), r"asks for (builtins\.|__builtin__\.)?eval"),
    "popen": (lambda path: Call(subprocess.Popen, ["touch", path]), r"(subprocess|commands)\.Popen"),
    "getattr": (
        lambda path: Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {path}"),
        r"asks for (builtins\.|__builtin__\.)?getattr",
    ),
    "numpy.memmap": (lambda path: Call(np.memmap, path, "u1", "w+", 0, (1,)), r"numpy\.memmap"),
    "ndarray.tofile": (
        lambda path: Call(np.ndarray.tofile, np.zeros(1), path),
        r"asks for (builtins\.|__builtin__\.)?getattr",
    ),
    "torch.save": (lambda path: Call(torch.save, 1, path), r"torch\.serialization\.save"),
    "setstate": (with_state, r"test_safe_pickle\.Stateful|copy_?reg\._reconstructor"),
    "within a tensor": (
        lambda path: Call(torch.storage._load_from_bytes, save_stream(Call(os.system, f"touch {path}"))),
        r"(posix|nt)\.system",
    ),
    "in an array": (lambda path: np.array([Call(os.system, f"touch {path}")]), r"(posix|nt)\.system|dtype O8"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CODE)
def test_code_is_refused_by_name_and_not_run(case, way, tmp_path):
    (make, name), (save, load) = CODE[case], WAYS[way]
    path = tmp_path / "proof"
    data = save({"joints": np.zeros(3), "value": make(str(path))})
    message = refusal(data, load)
    assert re.search(name, message) and "export" in message and not path.exists()
    if way.startswith("pickle"):
        value = pickle.loads(data)["value"]  # the real thing shows that the test could fail
        if isinstance(value, subprocess.Popen):
            value.wait()
        assert path.exists()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(name, *arguments):
    module, _, name = name.rpartition(".")
    return b"c%s\n%s\n(" % (module.encode(), name.encode()) + b"".join(arguments) + b"tR"


F4 = call("numpy.dtype", text("f4")) + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
HUGE = b"\x8a\x06" + (2**40).to_bytes(6, "little")


def array_program(shape, raw=b"C\x00", dtype=F4):
    return b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


REFUSED = {
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "asks for numpy.ndarray.dump"),
    "dotted name that is known": (b"\x80\x04\x8c\x05torch\x8c\x19_utils._rebuild_tensor_v2\x93.", "asks for torch._u"),
    "unknown module": (b"cthis\ns\n.", "asks for this.s"),
    "INST": (b"(S'touch proof'\nios\nsystem\n.", "asks for os.system"),
    "unprintable name": (
        b"\x80\x04" + text("evil\n\x1b[2J") + text("name" * 1000) + b"\x93.",
        r"evil\\n\\x1b\[2J.name",
    ),
    "objects": (array_program(b"K\x01\x85", b"]Na", call("numpy.dtype", text("O8"))), "dtype O8"),
    "structure": (array_program(b")", dtype=call("numpy.dtype", text("f4,O"))), "dtype f4,O"),
    "objects in bytes": (array_program(b"K\x01\x85", b"]Na"), "damaged"),
    "numpy's dtype": (array_program(b")", b"C\x04aaaa", text("f4")), "damaged"),
    "state of a dtype": (array_program(b")", b"C\x04aaaa", F4[:-1] + b"(K\x03" + text("<O") + b"tb"), "damaged"),
    "too few bytes": (array_program(b"K\x03\x85", b"C\x0b" + bytes(11)), "buffer is too small"),
    "two negative lengths": (array_program(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x04aaaa"), "negative"),
    "huge and empty": (array_program(HUGE + b"K\x00\x86"), "more than 16 MB"),
    "product of 2**64": (array_program(b"(" + (b"\x8a\x05" + (2**32).to_bytes(5, "little")) * 2 + b"t"), "damaged"),
    "no state": (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "damaged"),
    "a bare class": (b"cnumpy\nndarray\n.", "a bare type"),
    "a set": (pickle.dumps({1}), "a bare set|asks for"),
    "attribute of a class": (b"cnumpy\ndtype\nN}S'dtype'\nI1\ns\x86b.", "damaged"),
    "attribute of OrderedDict": (b"ccollections\nOrderedDict\nN}S'items'\nI1\ns\x86b.", "damaged"),
    "code of a function": (b"cnumpy.core.multiarray\nscalar\nN}S'__code__'\nI1\ns\x86b.", "damaged"),
    "list in itself": (b"]q\x00h\x00a.", "recursion"),
    "shared lists": (
        b"]q\x00" + b"".join(b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(40)) + b".",
        "more than 16 MB",
    ),
    "huge bytes": (b"\x8e" + struct.pack("<Q", 2**62) + b".", "damaged"),
    "complex": (save_stream(torch.zeros(2, dtype=torch.complex64)), "a bare Tensor"),
    "not a pickle": (b"hello", "damaged"),
    "empty": (b"", "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_real_file_holds(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 2**24)
    data, reason = REFUSED[case]
    assert re.search(reason, refusal(data))
    assert not list(tmp_path.iterdir()) and "this" not in sys.modules
    assert_same(load_pickle(pickle.dumps(TREE)), TREE)  # whatever the file set did not stay


# --- size and damage --------------------------------------------------------------------------------------------------


def test_the_size_is_limited(monkeypatch):
    arrays = [np.zeros(1000) for _ in range(10)]
    for save, load in WAYS.values():
        data = save(arrays)
        monkeypatch.setattr(safe_pickle, "MAX_BYTES", 900_000)
        assert len(load(data)) == 10
        monkeypatch.setattr(safe_pickle, "MAX_BYTES", 80_000)
        assert "unpacks to more than" in refusal(data, load)


SMALL = {"a": torch.arange(3.0), "b": np.arange(2), "c": [1, "x", 2.5, None]}
FILES = [
    *(pickle.dumps(TREE, protocol) for protocol in (0, 2, 4, 5)),
    *PYTHON_2,
    pickle.dumps(SMALL),
    save_stream(SMALL),
]


def test_every_beginning_of_a_pickle_is_refused():
    for data in FILES[-3:]:
        for length in [*range(0, len(data), 7), len(data) - 1]:
            refusal(data[:length])
    for name_cut in "data.pkl", "data/0":
        with zipfile.ZipFile(io.BytesIO(save_zip(SMALL))) as whole, zipfile.ZipFile(file := io.BytesIO(), "w") as cut:
            for name in whole.namelist():
                cut.writestr(name, whole.read(name)[: 7 if name.endswith(name_cut) else None])
        assert "damaged" in refusal(file.getvalue(), load_zip)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(FILES), st.lists(st.tuples(st.integers(0), st.binary(max_size=3), st.integers(0, 9)), min_size=1)
)
def test_damaged_pickles_are_read_or_refused_in_one_line(data, changes):
    for place, inserted, removed in changes:
        place %= len(data)
        data = data[:place] + inserted + data[place + removed :] or b"."
    try:
        load_pickle(data)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
