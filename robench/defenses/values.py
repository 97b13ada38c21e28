"""Values that a network's code uses, digested under the place where each was found."""

import argparse
import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.defenses.own_code import is_own_class, is_own_code, name_of
from robench.defenses.state import state_digest, tensor_digest, without_addresses

_PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice, PurePath, Enum)
_TORCH_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_DEPTH = 12
"""Of values within values."""
_SEARCHED = 4
"""Depth to which objects of libraries are searched for code of the user's."""


class Values:
    """Digests of data by place; code among it is handed on to `function` and `kind`.

    modules: the path of every module of the network, by id.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.remarks: dict[str, None] = {}
        self.modules: dict[int, str] = {}
        self._seen: dict[int, tuple[object, str]] = {}

    def function(self, function: types.FunctionType, place: str) -> None:
        """Follow a function that was found at a place."""
        raise NotImplementedError

    def kind(self, kind: type) -> None:
        """Follow a class."""
        raise NotImplementedError

    def foreign_network(self, network: nn.Module, place: str) -> None:
        """Follow the code of a network that is no part of the defense's own modules."""
        raise NotImplementedError

    def say(self, remark: str) -> None:
        """Keep what a reader should know."""
        self.remarks[remark] = None

    def is_new(self, thing: object, place: str = "") -> bool:
        """Whether something is met for the first time."""
        new = id(thing) not in self._seen
        if new:
            self._seen[id(thing)] = thing, place  # kept alive: an id may be given twice otherwise
        return new

    def value(self, value: Any, place: str, depth: int = 0) -> None:
        """Digest whatever stands at a place, and follow the code in it."""
        if id(value) in self.modules:
            self.values[place] = f"module {self.modules[id(value)]}"
        elif self.follow(value, place, depth):
            self.values[place] = _called(value)
        elif isinstance(value, _PLAIN + _TORCH_PLAIN):
            self.values[place] = digest(repr(value))
        elif isinstance(value, Tensor):
            self.values[place] = tensor_digest(value)
        elif isinstance(value, np.ndarray | np.generic):
            self.values[place] = _array_digest(value)
        elif depth > _DEPTH:
            self.say(f"{place} is nested too deeply to count")
        elif self.is_new(value, place):
            self._compound(value, place, depth + 1)
        else:
            self.values[place] = f"as {self._seen[id(value)][1]}"
        if id(value) not in self.modules and is_own_class(type(value)):
            self.kind(type(value))

    def follow(self, value: Any, place: str, depth: int = 0) -> bool:
        """Follow a value that is code; False where it is data."""
        if isinstance(value, types.FunctionType):
            self.function(value, place)
        elif isinstance(value, type):
            self.kind(value)
        elif isinstance(value, types.MethodType):
            self.value(value.__func__, f"{place}.__func__", depth + 1)
            self.value(value.__self__, f"{place}.__self__", depth + 1)
        elif isinstance(value, types.BuiltinFunctionType):
            self.search(value.__self__, f"{place}.__self__", depth + 1)
        elif isinstance(value, functools.partial):
            for name in ("func", "args", "keywords"):
                self.value(getattr(value, name), f"{place}.{name}", depth + 1)
        elif isinstance(value, torch.jit.ScriptFunction):
            self.values[f"{place} code"] = digest(str(value.code))
        elif _is_wrapper(value):
            self.value(value.__wrapped__, f"{place}.__wrapped__", depth + 1)
        else:
            return False
        return True

    def search(self, value: Any, place: str, depth: int = 0) -> None:
        """Follow code and objects of the user's within something of a library's, and no more."""
        if depth > _SEARCHED or isinstance(value, _PLAIN) or id(value) in self.modules:
            return
        if _is_of_the_user(value):
            self.value(value, place, depth)
        elif isinstance(value, types.FunctionType):  # may be a decorator of a library's
            self.function(value, place)
        elif isinstance(value, type | types.ModuleType | Tensor | np.ndarray | nn.Module):
            return
        elif self.is_new(value, place):
            for name, one in _held(value):
                self.search(one, f"{place}{name}", depth + 1)

    def _compound(self, value: Any, place: str, depth: int) -> None:
        kind = type(value)
        if isinstance(value, nn.Module):
            text = without_addresses(repr(value))  # strides, paddings: no part of the state
            self.values[place] = digest(f"{text} {state_digest(value)}")
            self.foreign_network(value, place)
        elif isinstance(value, set | frozenset):
            texts = sorted(without_addresses(repr(one)) for one in value)
            self.values[place] = digest(repr(texts))
            for one in value:
                self.search(one, f"{place}{{}}")
        elif isinstance(value, dict | types.MappingProxyType | list | tuple | deque) or (
            isinstance(value, Mapping) and not is_own_class(kind)
        ):
            held = list(_items(value))
            self.values[place] = f"{kind.__name__} of {[name for name, _ in held]}"
            if is_own_class(kind):
                held += _attributes(value)
            for name, one in held:
                self.value(one, f"{place}{name}", depth)
        elif is_own_class(kind) or isinstance(value, _NAMESPACES):
            self.values[place] = name_of(kind)
            for name, one in _attributes(value):
                self.value(one, f"{place}{name}", depth)
        elif not isinstance(value, types.ModuleType):
            # A library's object holds what its library needs; it counts by the name of its class.
            self.values[place] = kind.__name__
            for name, one in _attributes(value):
                self.search(one, f"{place}{name}")


def digest(text: str) -> str:
    """Hex SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_of_the_user(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return is_own_code(value.__code__)
    if isinstance(value, types.MethodType):
        return _is_of_the_user(value.__func__) or _is_of_the_user(value.__self__)
    if isinstance(value, functools.partial):
        return any(map(_is_of_the_user, (value.func, *value.args, *value.keywords.values())))
    if isinstance(value, torch.jit.ScriptFunction):
        return True
    if _is_wrapper(value):
        return _is_of_the_user(value.__wrapped__)
    return is_own_class(value if isinstance(value, type) else type(value))


def _is_wrapper(value: Any) -> bool:
    """Whether it is an object of a library's around a function, such as lru_cache makes."""
    around = callable(value) and "__wrapped__" in getattr(value, "__dict__", {})
    return around and not is_own_class(type(value))


def _called(value: Any) -> str:
    """The name of what was found to be code."""
    if isinstance(value, types.MethodType):
        return "method"
    if isinstance(value, functools.partial):
        return "partial"
    return without_addresses(name_of(value))


def _held(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple | deque):
        return _items(value)
    return _attributes(value)


def _items(value: Any) -> list[tuple[str, Any]]:
    """The members of a container, each after its number or key."""
    if isinstance(value, Mapping | types.MappingProxyType):
        return [(f"[{_key(key)}]", one) for key, one in list(value.items())]
    return [(f"[{number}]", one) for number, one in enumerate(value)]


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(map(_key, key))})"
    if isinstance(key, _CODE):
        return name_of(key)
    return repr(key) if isinstance(key, _PLAIN + _TORCH_PLAIN) else type(key).__name__


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """What an object holds by name; nothing of it is run."""
    held = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            member = vars(base).get(name)
            if isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                held[name] = getattr(value, name)
    return [(f".{name}", one) for name, one in sorted(held.items())]


def _array_digest(array: Any) -> str:
    array = np.asarray(array)
    if array.dtype.hasobject:
        return digest(without_addresses(repr(array.tolist())))
    content = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()
