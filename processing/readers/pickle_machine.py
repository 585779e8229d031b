"""The stack machine of pickle, without its power to call functions: it builds data, and refuses the rest by name.

A pickle is a program, and `pickle.load` lets it call any function of any module. `PickleMachine` has only the
instructions that data need. The names that it lets a pickle call are those of a table that it is given; what they
mean is up to the table. Nothing is ever imported or looked up.

Work and memory stay in proportion to the file: the machine written in Python, unlike the one in C, never allocates what
a length or a memo index merely promises; and whatever a short program could multiply is charged to a `Budget`.

Sources: Lib/pickle.py and Lib/pickletools.py of CPython; PEP 307, 3154 and 574.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

OBJECT_BYTES = 256  # charged for an instruction; what one takes at most (a mark)
PROBE_BYTES = 16  # charged for a step through a dictionary whose integer keys all collide
MAX_NUMBER = 64  # characters of a number written as text (protocols 0 and 1)
ADVICE = "export the file as .npz"

# EXT*, OBJ, NEWOBJ*, PERSID, sets and out-of-band buffers are missing: no data here need them. LONG4 is for integers
# beyond 2040 bits. APPEND and SETITEM find nothing on the stack that they can change but lists and `PickleDict`.
_INHERITED = (
    "PROTO NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 EMPTY_LIST LIST MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE APPEND APPENDS "
    "SETITEM SETITEMS GLOBAL STACK_GLOBAL"
).split()
_DEFINED_BELOW = "FRAME BYTEARRAY8 EMPTY_DICT DICT INST REDUCE BUILD BINPERSID".split()


class Refused(ValueError):
    """A message for the user: one line, and complete."""


def damaged(reason: str) -> Refused:
    return Refused(f"damaged pickle ({reason}); copy or export it again")


@contextmanager
def only_value_errors() -> Iterator[None]:
    """Damaged bytes raise a dozen types in pickle, zipfile, zlib, codecs and numpy. Callers are promised one."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise damaged(printable(f"{type(error).__name__}: {error}".rstrip(": "))) from error


def printable(text: str) -> str:
    """What a file calls something, fit for a terminal: one short line of ASCII."""
    return ascii(text[:120])[1:-1][:120]


def describe(value: Any) -> str:
    return printable(value.text) if type(value) is Name else type(value).__name__.lstrip("_")


class Budget:
    """Bytes that a file may unpack to, all steps together."""

    def __init__(self, limit: int):
        self.limit = self.left = limit

    def spend(self, amount: int) -> None:
        """Raises: ValueError, when nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise Refused(f"unpacks to more than {self.limit / 2**20:.4g} MB; cut the file into utterances")


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names, as "module.name"."""

    text: str


class Placeholder:
    """What a constructor may return besides plain data. BUILD hands it the state that the pickle holds for it."""

    def set_state(self, state: Any) -> None:
        raise damaged(f"a state for {describe(self)}")


class PickleDict(dict):
    """A dictionary of the file, while it is filled."""

    __slots__ = ("budget",)

    def __init__(self, budget: Budget, pairs: Iterable[tuple[Any, Any]] = ()):
        self.budget = budget
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in (str, bytes, int):  # the hash of a tuple of shared tuples takes for ever
            raise Refused(f"a dictionary key of type {describe(key)}, expected str, bytes or int; {ADVICE}")
        if type(key) is int:  # the hashes of str and bytes are salted, those of integers can be made to collide
            self.budget.spend(PROBE_BYTES * len(self))
        super().__setitem__(key, value)


class _Memo(PickleDict):
    """What the pickle remembers, by number. Consecutive numbers, from 0 or 1 on, cannot collide."""

    def __setitem__(self, index: int, value: Any) -> None:
        store = dict.__setitem__ if index <= len(self) + 1 else PickleDict.__setitem__
        store(self, index, value)


class PickleMachine(pickle._Unpickler):
    """Reads the pickles of `data`, one after the other.

    Args:
        data: the file.
        constructors: "module.name" -> function of (machine, *arguments) that the pickle may call, or None for a name
            that it may only mention.
        budget: charged for each instruction.
    """

    def __init__(self, data: bytes, constructors: dict[str, Callable[..., Any] | None], budget: Budget):
        self.data, self.file = data, io.BytesIO(data)
        super().__init__(self.file, encoding="latin-1")  # numpy's raw bytes are `str` in Python 2
        self.constructors = constructors
        self.budget = budget
        self.made: dict[int, tuple[Any, Any]] = {}  # by id, which stays taken as long as its object is kept here

    def load(self, find_persistent: Callable[[Any], Any] | None = None) -> Any:
        """The next pickle. Its persistent ids, if it may hold any, are handed to `find_persistent`.

        Returns:
            A tree of `PickleDict`, list, tuple, str, bytes, numbers, bool, None, `Name` and what the constructors made.
            It may be a graph, and as deep as the file is long.

        Raises:
            ValueError, and whatever damaged bytes raise: call it within `only_value_errors`.
        """
        self.find_persistent = find_persistent
        self.memo, self.metastack, self.stack = _Memo(self.budget), [], []
        self.append = self.stack.append
        while True:
            self.code = self.read(1)[0]
            if self.code == pickle.STOP[0]:
                return self.stack.pop()
            if self.code not in self.dispatch:
                raise Refused(
                    f"instruction {bytes([self.code])!r} at byte {self.file.tell() - 1} is in no pickle of plain data; "
                    f"nothing was run. The file is damaged, or holds classes or sets: {ADVICE}"
                )
            self.budget.spend(OBJECT_BYTES)
            self.dispatch[self.code](self)

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        if len(content) < size:
            raise damaged(f"it ends after {len(self.data)} bytes, too early")
        return content

    def readline(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise damaged(f"it ends after {len(self.data)} bytes, too early")
        if self.code in b"ILFgp" and len(line) > MAX_NUMBER:  # INT, LONG, FLOAT, GET, PUT
            raise damaged(f"a number of {len(line)} characters")
        return line

    def take(self, size: int) -> memoryview:
        """Raw bytes between two pickles, not copied."""
        start = self.file.tell()
        if not 0 <= size <= len(self.data) - start:
            raise damaged(f"a tensor promises {size} bytes of {len(self.data)}")
        self.file.seek(start + size)
        return memoryview(self.data)[start : start + size]

    def once(self, make: Callable[[Any], Any], source: Any) -> Any:
        """`make(source)`, but the same for the same object: a short pickle can name a large one many times."""
        if id(source) not in self.made:
            self.made[id(source)] = source, make(source)
        return self.made[id(source)][1]

    def find_class(self, module: str, name: str) -> Name:
        text = f"{module}.{name}"
        if text not in self.constructors:
            raise Refused(
                f"the pickle asks for {printable(text)}, which is code, not data; nothing was run. "
                "Export the file as .npz"
            )
        return Name(text)

    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _INHERITED}

    def load_frame(self) -> None:
        self.read(8)  # frames only announce how much to read ahead

    def load_bytearray8(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_empty_dict(self) -> None:
        self.append(PickleDict(self.budget))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(PickleDict(self.budget, zip(items[::2], items[1::2], strict=True)))

    def load_inst(self) -> None:
        self.load_global()
        raise damaged("an object made by INST")

    def load_reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        construct = self.constructors.get(name.text) if type(name) is Name else None
        if construct is None or type(arguments) is not tuple:
            raise damaged(f"a call of {describe(name)}")
        self.append(construct(self, *arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Placeholder):
            target.set_state(state)
        elif type(target) is not PickleDict:  # the attributes of an OrderedDict (a state_dict has some) are left out
            raise damaged(f"a state for {describe(target)}")

    def load_binpersid(self) -> None:
        if self.find_persistent is None:
            raise damaged("a persistent id outside a file of torch.save")
        self.append(self.find_persistent(self.stack.pop()))


PickleMachine.dispatch |= {
    getattr(pickle, name)[0]: getattr(PickleMachine, f"load_{name.lower()}") for name in _DEFINED_BELOW
}
