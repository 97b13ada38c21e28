"""What the code of a foreign network reaches beyond its own classes: definitions and values.

A fingerprint must differ when the function does. A network is more than its weights and the source
of its classes: a helper that `forward` calls, the `backward` of an autograd function, a constant of
the module, what a closure holds, an attribute. `reached` walks from the roots (each module's
`forward` and hooks, the factory) through the names that compiled code uses, and keeps for
everything of the user's own

- the *source* of a definition, each by itself: an edit elsewhere in its file changes nothing;
- the *value* of whatever is data, under the place where it was found.

Installed libraries and robench are not entered: they count by name. Methods and attributes are
found by name alone, whatever object they are asked of, which may reach more than is used. Names
that code makes up while it runs cannot be followed: there the whole file counts, and that is said.
"""

import argparse
import ast
import dis
import functools
import hashlib
import inspect
import sys
import textwrap
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robench.defenses.own_code import (
    compiled,
    is_as_written,
    is_own_class,
    is_own_code,
    is_own_file,
    qualified,
)
from robench.defenses.state import state_digest, tensor_digest

_PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice, PurePath, Enum)
_TORCH_PLAIN = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_MODULE_KEYS = frozenset(vars(nn.Module()))
_MAKES_UP_NAMES = {"eval", "exec", "globals", "locals", "__import__", "import_module"}
_DEPTH = 12
"""Of values within values: more is no setting but data that refers to itself."""


@dataclass
class Reached:
    """sources: text by qualified name. values: digest by place. remarks: what is to be said.

    attributes: the places that are attributes of the network's own modules.
    """

    sources: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)


def reached(network: nn.Module, factory: object = None, also: nn.Module | None = None) -> Reached:
    """Everything of the user's own that `network`, made by `factory`, reaches; nothing is run.

    also: what `network` is a copy of: code may hold on to it.
    """
    walk = _Walk(network)
    if also is not None:
        walk.modules |= {id(module) for module in also.modules()}
    walk.network(network, "network")
    if factory is not None:
        walk.value(factory, "factory", written=True)
    return walk.found


def moved_by_a_pass(before: Reached, after: Reached) -> set[str]:
    """Places of `before` whose value a pass changed; they say nothing of what the network is."""
    both = {place for place in before.values if before.values[place] != after.values.get(place)}
    new = after.attributes - before.attributes
    return both | new


def further_text(before: Reached, after: Reached, moved: set[str]) -> str:
    """What the fingerprint's text is continued with; empty where nothing further is reached.

    Sources as they are after a pass, when all that is imported late is there; values as they were
    before it.
    """
    values = {**after.values, **before.values}
    lines = [f"{name}\n{text}" for name, text in sorted(after.sources.items())]
    lines += [f"{place} = {value}" for place, value in sorted(values.items()) if place not in moved]
    return "\n".join(lines)


class _Walk:
    """One walk; every object is visited once, under the first place where it is found."""

    def __init__(self, network: nn.Module) -> None:
        self.found = Reached()
        self.modules = {id(module) for module in network.modules()}
        self.module_classes = [
            base
            for kind in dict.fromkeys(type(module) for module in network.modules())
            for base in kind.__mro__
            if is_own_class(base)
        ]
        self.written = {base for base in self.module_classes if issubclass(base, nn.Module)}
        """Classes whose source stands in the fingerprint's text already."""
        self.seen: dict[int, object] = {}
        self.names_seen: set[tuple[str, str]] = set()

    def is_new(self, thing: object) -> bool:
        new = id(thing) not in self.seen
        self.seen[id(thing)] = thing  # kept alive: an id may be given twice otherwise
        return new

    # Networks

    def network(self, network: nn.Module, place: str) -> None:
        """The code of every module, and the attributes of those of the user's own classes."""
        for path, module in network.named_modules():
            if not self.is_new(module):
                continue
            where = f"{place}.{path}" if path else place
            self._scripted(module, where)
            for name in ("forward", "__call__"):
                self._method(type(module), name)
            for hooks in _HOOKS:
                for number, hook in enumerate(vars(module).get(hooks, {}).values()):
                    self.value(hook, f"{where}.{hooks}[{number}]")
            for name, value in self._attributes(module):
                self.found.attributes.add(f"{where}.{name}")
                self.value(value, f"{where}.{name}")

    def _attributes(self, module: nn.Module) -> Iterator[tuple[str, Any]]:
        own = is_own_class(type(module))
        kind: Any = type(module)
        by_library = _stored(kind, own=False) - _stored(kind, own=True)
        for name, value in sorted(vars(module).items()):
            if name in _MODULE_KEYS or name in by_library:
                continue
            if own or isinstance(value, types.FunctionType | types.MethodType | functools.partial):
                yield name, value

    def _scripted(self, module: nn.Module, where: str) -> None:
        """TorchScript and traced graphs carry their code with them."""
        if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
            code = getattr(module, "code", "")  # a script module without a forward has none
            self.found.values[f"{where} code"] = _digest(str(code))

    def _foreign_network(self, network: nn.Module, place: str) -> None:
        """A network that is no part of the defense's modules, but used by its code."""
        self.found.values[place] = state_digest(network)
        for kind in dict.fromkeys(type(module) for module in network.modules()):
            self._class(kind)
        self.network(network, place)

    # Code

    def _method(self, kind: type, name: str) -> None:
        """The method of that name of a class and of its bases, as far as they are the user's."""
        for base in kind.__mro__:
            if name in vars(base) and is_own_class(base):
                self._member(base, name)

    def _member(self, kind: type, name: str) -> None:
        thing = vars(kind)[name]
        for function in _functions_of(thing):
            self._function(function, written=kind in self.written)

    def _class(self, kind: type) -> None:
        if not is_own_class(kind) or not self.is_new(kind):
            return
        for base in kind.__mro__[1:]:
            self._class(base)
        if issubclass(kind, nn.Module):
            self._write(kind)
            for name in ("__init__", "forward", "__call__"):
                if name in vars(kind):
                    self._member(kind, name)
            return
        self._write(kind)
        for name in sorted(vars(kind)):
            self._member(kind, name)

    def _write(self, kind: type) -> None:
        if kind not in self.written:
            self.written.add(kind)
            functions = [f for thing in vars(kind).values() for f in _functions_of(thing)]
            self._source(kind, [f.__code__ for f in functions if f.__module__ == kind.__module__])

    def _source(self, thing: Any, codes: list[types.CodeType]) -> None:
        name = qualified(thing)
        try:
            text = inspect.getsource(thing)
        except (OSError, TypeError):
            text = "".join(map(compiled, codes))
            if not all(code.co_filename == "<string>" for code in codes):  # made by a library
                self._say(f"source of {name} not to be had: it counts by its compiled code")
        self.found.sources[name] = text

    def _check_source(self, function: types.FunctionType) -> None:
        code = function.__code__
        if not is_as_written(code):
            self.found.sources[f"{qualified(function)} as loaded"] = compiled(code)
            self._say(f"source of {qualified(function)} on disk is not the code that was loaded")

    def _function(self, function: types.FunctionType, written: bool = False) -> None:
        if not self.is_new(function):
            return
        self.value(getattr(function, "__wrapped__", None), "", code_only=True)
        name = qualified(function)
        cells = _cells(function)
        if not is_own_code(function.__code__):
            for value in cells.values():  # what a library's decorator was put around
                self.value(value, "", code_only=True)
            return
        if not written:
            self._source(function, [function.__code__])
        self._check_source(function)
        for cell, value in cells.items():
            self.value(value, f"{name}.{cell}")
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for number, value in enumerate(defaults):
            self.value(value, f"{name} default {number}")
        self._names(function)

    def _names(self, function: types.FunctionType) -> None:
        names, space = _names_in(function.__code__), function.__globals__
        used, module = _globals_in(function.__code__), str(space.get("__name__"))
        for name in sorted(names):
            if name in used and name in space and (module, name) not in self.names_seen:
                self.names_seen.add((module, name))
                self.value(space[name], f"{module}.{name}")
            for kind in self.module_classes:
                if name in vars(kind):
                    self._member(kind, name)
        for name in sorted(used & space.keys()):
            if isinstance(space[name], types.ModuleType):
                self._module(space[name], names)
        self._imports(function, names)
        self._made_up_names(function, used | (names & {"import_module"}))

    def _module(self, module: types.ModuleType, names: set[str]) -> None:
        """Those things of a module of the user's that the code names."""
        if not is_own_file(getattr(module, "__file__", None)):
            return
        for name in sorted(names & vars(module).keys()):
            if (module.__name__, name) not in self.names_seen:
                self.names_seen.add((module.__name__, name))
                value = vars(module)[name]
                self.value(value, f"{module.__name__}.{name}")
                if isinstance(value, types.ModuleType):
                    self._module(value, names)

    def _imports(self, function: types.FunctionType, names: set[str]) -> None:
        """Modules that the function imports itself."""
        package = str(function.__globals__.get("__package__") or "")
        for name in _imported_in(function.__code__):
            module, file = _loaded(name, package)
            if module is not None:
                self._module(module, names)
            elif file is not None:
                self._file(file, f"{qualified(function)} imports {name} only when it runs")

    def _made_up_names(self, function: types.FunctionType, names: set[str]) -> None:
        """Names that cannot be followed. names: of globals, and functions that make names up."""
        if names & _MAKES_UP_NAMES or ("getattr" in names and not _plain_getattr(function)):
            file = Path(function.__code__.co_filename)
            self._file(file, f"{qualified(function)} makes up names while it runs")

    def _file(self, file: Path, why: str) -> None:
        if not file.is_file():
            self._say(f"{why}: what they lead to does not count")
            return
        self.found.sources[f"file {file.name}"] = file.read_text(errors="replace")
        self._say(f"{why}: the whole of {file.name} counts")

    def _say(self, remark: str) -> None:
        self.found.remarks[remark] = None

    # Values

    def value(
        self,
        value: Any,
        place: str,
        *,
        depth: int = 0,
        code_only: bool = False,
        written: bool = False,
    ) -> None:
        """Whatever was found at a place: code is followed, data is digested.

        code_only: what is no code is left out. written: its source is in the text already.
        """
        if isinstance(value, types.FunctionType):
            self._function(value, written)
        elif isinstance(value, type):
            if written:
                self.written.add(value)
            self._class(value)
        elif isinstance(value, types.MethodType):
            self.value(value.__func__, place, written=written)
            self.value(value.__self__, f"{place}.__self__", depth=depth + 1)
        elif isinstance(value, torch.jit.ScriptFunction):
            self.found.sources[place] = str(value.code)
        elif depth > _DEPTH or id(value) in self.modules:
            return
        elif callable(value) and hasattr(value, "__wrapped__"):
            self.value(value.__wrapped__, place, depth=depth + 1)
        elif isinstance(value, functools.partial):
            for name in ("func", "args", "keywords"):
                self.value(getattr(value, name), f"{place}.{name}", depth=depth + 1)
        elif code_only:
            return
        elif isinstance(value, _PLAIN + _TORCH_PLAIN):
            self.found.values[place] = _digest(repr(value))
        elif isinstance(value, Tensor):
            self.found.values[place] = tensor_digest(value)
        elif isinstance(value, np.ndarray | np.generic):
            self.found.values[place] = _array_digest(value)
        elif self.is_new(value):
            self._compound(value, place, depth + 1)

    def _compound(self, value: Any, place: str, depth: int) -> None:
        if isinstance(value, nn.Module):
            self._foreign_network(value, place)
        elif isinstance(value, Mapping):
            self.found.values[place] = f"{type(value).__name__} of {len(value)}"
            for key, one in value.items():
                self.value(one, f"{place}[{_short(key)}]", depth=depth)
        elif isinstance(value, set | frozenset):
            self.found.values[place] = _digest(repr(sorted(map(repr, value))))
        elif isinstance(value, list | tuple | deque):
            self.found.values[place] = f"{type(value).__name__} of {len(value)}"
            for number, one in enumerate(value):
                self.value(one, f"{place}[{number}]", depth=depth)
        elif not isinstance(value, types.ModuleType):
            self._object(value, place, depth)

    def _object(self, value: Any, place: str, depth: int) -> None:
        """An object of the user's by its class and what it holds.

        Of a library's objects only bare namespaces are data; others hold what their library needs,
        and may have been put around code of the user's.
        """
        held = dict(getattr(value, "__dict__", {}))
        if not (is_own_class(type(value)) or isinstance(value, _NAMESPACES)):
            for one in held.values():
                self.value(one, "", depth=depth, code_only=True)
            return
        self._class(type(value))
        slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
        held |= {name: getattr(value, name) for name in slots if hasattr(value, name)}
        self.found.values[place] = qualified(type(value))
        for name, one in sorted(held.items()):
            self.value(one, f"{place}.{name}", depth=depth)


def _functions_of(thing: Any) -> list[types.FunctionType]:
    """The plain functions of something in the body of a class."""
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    if isinstance(thing, property):
        parts: list[Any] = [thing.fget, thing.fset]
    elif isinstance(thing, functools.cached_property):
        parts = [thing.func]
    else:
        parts = [thing]
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """What a closure holds, by name; a cell that is not filled yet is left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names_in(code: types.CodeType) -> set[str]:
    """Globals and attributes that the code names; with getattr, the names that it spells out."""
    names = {name for one in _codes(code) for name in one.co_names}
    if "getattr" in names:
        names |= {text for one in _codes(code) for text in one.co_consts if isinstance(text, str)}
    return names


def _globals_in(code: types.CodeType) -> set[str]:
    """Names that are looked up in the module, not on an object."""
    return _arguments(code, "LOAD_GLOBAL", "LOAD_NAME")


def _imported_in(code: types.CodeType) -> set[str]:
    return _arguments(code, "IMPORT_NAME")


def _arguments(code: types.CodeType, *operations: str) -> set[str]:
    return {
        str(step.argval)
        for one in _codes(code)
        for step in dis.get_instructions(one)
        if step.opname in operations
    }


def _loaded(name: str, package: str) -> tuple[types.ModuleType | None, Path | None]:
    """The module of that name, and where it is not loaded the file of the user's that it is."""
    for full in (f"{package}.{name}".rstrip("."), name):
        if full in sys.modules:
            return sys.modules[full], None
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None, None
    origin = spec.origin if spec is not None and spec.has_location else None
    return None, Path(origin) if origin is not None and is_own_file(origin) else None


def _plain_getattr(function: types.FunctionType) -> bool:
    """Whether every getattr of the function spells its name out."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return all(
        len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "getattr"
    )


@functools.cache
def _stored(kind: type, own: bool) -> frozenset[str]:
    """Attributes that the methods of a class and its bases set: the user's own, or a library's."""
    functions = [
        function
        for base in kind.__mro__
        if is_own_class(base) is own
        for thing in vars(base).values()
        for function in _functions_of(thing)
    ]
    return frozenset(
        name for function in functions for name in _arguments(function.__code__, "STORE_ATTR")
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _array_digest(array: Any) -> str:
    array = np.asarray(array)
    if array.dtype.hasobject:
        return _digest(repr(array.tolist()))
    return _digest(f"{array.dtype.str} {array.shape} {array.tobytes().hex()}")


def _short(key: object) -> str:
    return repr(key) if isinstance(key, str | int | float | bool) else type(key).__name__
