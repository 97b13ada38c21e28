"""CIFAR's python batches, read without the pickle machine.

The official files were pickled by numpy on Python 2 (protocol 2). Their opcodes are walked with
`pickletools`, which executes nothing, and the few they use act on the stack below. Names such as
`numpy.core.multiarray._reconstruct` become tokens of ours, never numpy's callables. So a batch can
build dicts, lists, tuples, bytes, text, ints and uint8 or int64 arrays, and all else is refused.
pickle.Unpickler with a strict `find_class` would not do: a four-byte memo index makes it
allocate and clear up to 32 GB.
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robench.core.errors import InputError

_DTYPES: dict[str, type[np.generic]] = {"u1": np.uint8, "i8": np.int64}
_LATIN = ("latin1", b"latin1")


class _Token(Enum):
    RECONSTRUCT = "_reconstruct"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"


_GLOBALS = {
    "numpy.core.multiarray _reconstruct": _Token.RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _Token.RECONSTRUCT,
    "numpy ndarray": _Token.NDARRAY,
    "numpy dtype": _Token.DTYPE,
    "_codecs encode": _Token.ENCODE,
}


@dataclass(eq=False)
class _Dtype:
    code: str


@dataclass(eq=False)
class _Array:
    """An array between REDUCE, which makes it empty, and BUILD, which gives it its bytes."""

    values: NDArray[Any] | None = None


def read_batch(content: bytes, name: str) -> dict[Any, Any]:
    """The dict that a python batch holds, Python 2 strings as bytes; its arrays are read-only.

    name: for errors. Raises: InputError for a pickle that needs anything but plain data.
    """
    machine = _Machine(spare=len(content))
    try:
        with warnings.catch_warnings():
            # Of an escape that no string has: damage, which Python only warns of.
            warnings.simplefilter("error", DeprecationWarning)
            batch = machine.run(content)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, Warning) as error:
        raise InputError(f"{name} is not a CIFAR python batch: {_line(error)}") from error
    if not isinstance(batch, dict):
        raise InputError(f"{name} is not a CIFAR python batch: expected a dict in it")
    return {
        key: value.values if isinstance(value, _Array) else value for key, value in batch.items()
    }


def _line(error: Exception) -> str:
    # Messages may quote what the file holds, megabytes of it and line breaks included.
    return " ".join(str(error)[:100].split())


class _Machine:
    """The stack, the memo and the marks of the pickle format; nothing here calls what it is given.

    spare: bytes that ENCODE may still make; without a bound, a small file could copy one text
    often enough to fill the memory.
    """

    def __init__(self, spare: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.spare = spare

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self.stack.pop()
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise ValueError(f"opcode {opcode.name} is refused")
            action(self, argument)
        raise ValueError("it has no end")

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def top(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise ValueError("its stack runs empty")
        items, self.stack[-count:] = tuple(self.stack[-count:]), []
        return items

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError("items are set on what is no dict")
        # Plain keys only: hashing a tuple nested a million deep would overflow the C stack.
        if not all(isinstance(key, bytes | str | int) for key in items[::2]):
            raise TypeError("a key is neither text nor a number")
        target.update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("items are appended to what is no list")
        target.extend(items)

    def find_global(self, name: str) -> None:
        if name not in _GLOBALS:
            raise ValueError(f"it asks for {name.replace(' ', '.')!r}, which is refused")
        self.stack.append(_GLOBALS[name])

    def reduce(self) -> None:
        function, arguments = self.top(2)
        match function, arguments:
            case _Token.RECONSTRUCT, (_Token.NDARRAY, (0,), b"b" | "b"):
                self.stack.append(_Array())
            case _Token.DTYPE, (bytes() | str() as code, 0, 1):
                self.stack.append(_Dtype(_text(code)))
            case _Token.ENCODE, (str() as text, encoding) if encoding in _LATIN:
                self.spare -= len(text)
                if self.spare < 0:
                    raise ValueError("it repeats itself beyond the size of the file")
                self.stack.append(text.encode("latin-1"))
            case _:
                raise ValueError("it calls what no batch calls")

    def build(self) -> None:
        target, state = self.top(2)
        match target, state:
            case _Dtype(), (3, order, None, None, None, -1, -1, 0):
                if _text(order) not in "|<" or target.code not in _DTYPES:
                    raise ValueError("it holds arrays that are neither uint8 nor int64")
            case _Array(values=None), (1, tuple(shape), _Dtype() as dtype, False, bytes(raw)):
                target.values = _array(shape, dtype, raw)
            case _:
                raise ValueError("it sets the state of what no batch has")
        self.stack.append(target)


def _text(value: bytes | str) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _array(shape: tuple[Any, ...], dtype: _Dtype, raw: bytes) -> NDArray[Any]:
    if dtype.code not in _DTYPES:
        raise ValueError("it holds arrays that are neither uint8 nor int64")
    if not all(type(size) is int and 0 <= size < 1 << 31 for size in shape):
        raise ValueError("it holds an array of an unexpected shape")
    kind = np.dtype(_DTYPES[dtype.code]).newbyteorder("<")
    # A view of the bytes: a shape that they do not fill is a ValueError, nothing is allocated.
    return np.frombuffer(raw, dtype=kind).reshape(shape)


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _push_bytes(machine: _Machine, value: str) -> None:
    machine.stack.append(value.encode("latin-1"))  # pickletools decodes Python 2 strings so


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"), _push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _push_bytes),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: _push(machine, machine.top(1)),
    "TUPLE2": lambda machine, _: _push(machine, machine.top(2)),
    "TUPLE3": lambda machine, _: _push(machine, machine.top(3)),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.top(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append(list(machine.top(1))),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, place: _push(machine, machine.memo[place])
    ),
    "GLOBAL": lambda machine, name: machine.find_global(name),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
