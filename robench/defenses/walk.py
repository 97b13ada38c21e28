"""The walk through code of the user's: networks, classes, functions, and the names they use."""

import dataclasses
import inspect
import types
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robench.defenses.own_code import (
    compiled,
    has_source,
    is_own_class,
    is_own_code,
    is_own_file,
    is_own_module,
    known_as,
    name_of,
    source_of,
)
from robench.defenses.used_names import (
    functions_of,
    globals_in,
    imported_in,
    literals_in,
    makes_up_names,
    module_named,
    names_in,
    stored_by,
)
from robench.defenses.values import Values, digest

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_CALLED = ("forward", "__call__", "_call_impl")
_MODULE_KEYS = frozenset({*vars(nn.Module()), "_compiled_call_impl"})
_GRAPHS = torch.jit.ScriptModule | torch.fx.GraphModule
"""They carry their code with them."""


class Walk(Values):
    """One walk; every object is visited once, under the first place where it is found.

    sources: names and texts of definitions. loaded: names of the user's modules that code names.
    """

    def __init__(self, network: nn.Module, also: nn.Module | None) -> None:
        super().__init__()
        self.sources: set[tuple[str, str]] = set()
        self.loaded: set[str] = set()
        for one in (network, *([also] if also is not None else [])):
            self.modules |= {id(module): name for name, module in one.named_modules()}
        self._waiting: deque[tuple[types.FunctionType, str]] = deque()
        self._texts: list[str] = []
        """Sources that count already, whole classes among them."""
        self._names: set[str] = set()
        self._module_classes: dict[type, None] = {}
        self._globals: set[tuple[str, str]] = set()
        self._members: set[tuple[type, str]] = set()
        self._literals: set[tuple[type, str]] = set()
        """Class attributes that count by the source of their class."""

    def go_on(self) -> None:
        """Until nothing is left to visit. A queue: chains of calls may be longer than the stack."""
        while self._waiting:
            self._visit(*self._waiting.popleft())

    # Networks

    def network(self, network: nn.Module, place: str) -> None:
        """The code of every module, and the attributes of those of the user's own classes."""
        modules = [(path, module) for path, module in network.named_modules()]
        for kind in dict.fromkeys(type(module) for _, module in modules):
            for base in kind.__mro__:
                if is_own_class(base):
                    self._known(base, in_text=issubclass(base, nn.Module) and place == "network")
        for path, module in modules:
            if self.is_new(module):
                self._module(module, f"{place}.{path}" if path else place)

    def foreign_network(self, network: nn.Module, place: str) -> None:
        """As `network`; its classes are not in the fingerprint's text yet."""
        self.network(network, place)

    def factory(self, factory: object) -> None:
        """What made the network; its own source is in the fingerprint's text."""
        self._texts += _class_text(factory)
        self.follow(factory, "factory")

    def _module(self, module: nn.Module, place: str) -> None:
        kind: Any = type(module)
        if isinstance(module, _GRAPHS):
            code = getattr(module, "code", "")  # a script module without a forward has none
            self.values[f"{place} code"] = digest(str(code))
        for base in kind.__mro__:
            for name, thing in list(vars(base).items()):
                if name in _CALLED and any(is_own_code(f.__code__) for f in functions_of(thing)):
                    self._member(base, name)
        for hooks in _HOOKS:
            for number, hook in enumerate(vars(module).get(hooks, {}).values()):
                self.search(hook, f"{place}.{hooks}[{number}]")
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            if is_own_class(type(tensor)):
                self.kind(type(tensor))
        by_library = stored_by(kind, own=False) - stored_by(kind, own=True)
        for name, value in sorted(vars(module).items()):
            if name in _MODULE_KEYS or name in by_library:
                continue
            if is_own_class(kind):
                self.value(value, f"{place}.{name}")
            else:
                self.search(value, f"{place}.{name}")

    # Classes

    def _known(self, kind: type, in_text: bool) -> None:
        """A class whose methods are reached by name."""
        if kind in self._module_classes:
            return
        self._module_classes[kind] = None
        self._write(kind, in_text)
        special = {name for name in vars(kind) if _is_special(name)} - {"__init__", "__new__"}
        for name in sorted((self._names | special) & vars(kind).keys()):
            self._member(kind, name)

    def kind(self, kind: type) -> None:
        """A class of the user's and its bases, with all that it defines.

        Of a network's class what makes and calls it; its other methods are reached by name.
        """
        if not is_own_class(kind) or not self.is_new(kind):
            return
        for base in kind.__mro__[1:]:
            self.kind(base)
        if issubclass(kind, nn.Module):
            self._known(kind, in_text=False)
            names = {"__init__", "__new__", *_CALLED} & vars(kind).keys()
        else:
            self._write(kind, in_text=False)
            names = set(vars(kind))
        for name in sorted(names):
            self._member(kind, name)

    def _write(self, kind: type, in_text: bool) -> None:
        texts = _class_text(kind)
        self._texts += texts
        self._literals |= {(kind, name) for text in texts for name in literals_in(text)}
        if not in_text:
            self.sources |= {(name_of(kind), text) for text in texts}

    def _member(self, kind: type, name: str) -> None:
        if (kind, name) in self._members or (kind, name) in self._literals:
            return
        self._members.add((kind, name))
        thing = vars(kind)[name]
        if isinstance(thing, staticmethod | classmethod):
            thing = thing.__func__
        place = f"{name_of(kind)}.{name}"
        if functions := functions_of(thing):
            for function in functions:
                if not _is_generated(kind, function):
                    self.function(function, place)
        elif is_own_class(type(thing)) or not _is_of_the_language(name, thing):
            self.value(thing, place)

    # Functions

    def function(self, function: types.FunctionType, place: str) -> None:
        """A function, when its turn comes."""
        if self.is_new(function):
            self._waiting.append((function, place))

    def _visit(self, function: types.FunctionType, place: str) -> None:
        cells = _cells(function)
        if not is_own_code(function.__code__):
            for name, value in cells.items():
                self.search(value, f"{place}.{name}")  # what a library's decorator was put around
            return
        self._source(function)
        for name, value in cells.items():
            self.value(value, f"{place}.{name}")
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for number, value in enumerate(defaults):
            self.value(value, f"{place} default {number}")
        self._follow_names(function)

    def _source(self, function: types.FunctionType) -> None:
        code, name = function.__code__, name_of(function)
        source = source_of(code)
        if source is None:
            self.sources.add((f"{name} as loaded", compiled(code)))
            if has_source(code):
                self.say(f"source of {name} on disk is not the code that was loaded")
            else:
                outer = f"{function.__module__}.{code.co_qualname.split('.')[0]}"
                self.say(f"source of {outer} not to be had: it counts by its compiled code")
        elif not any(source in text for text in self._texts):
            self.sources.add((name, source))

    def _follow_names(self, function: types.FunctionType) -> None:
        code, space = function.__code__, function.__globals__
        names, used = names_in(code), globals_in(code)
        module = known_as(str(space.get("__name__")))
        self.loaded.add(module)
        for name in sorted(used & space.keys()):
            self._global(space[name], module, name)
        modules = [space[name] for name in used & space.keys()]
        self._imports(function, names)
        for one in modules:
            if isinstance(one, types.ModuleType):
                self._of_module(one, names)
        if makes_up_names(code):
            why = f"{name_of(function)} makes up names while it runs"
            own = [one for one in modules if isinstance(one, types.ModuleType)]
            files = {code.co_filename, *(str(getattr(one, "__file__", "")) for one in own)}
            for file in sorted(filter(is_own_file, filter(None, files))):
                self._file(Path(file), why)
            names |= {name for kind in self._module_classes for name in vars(kind)}
        self._named(names)

    def _named(self, names: set[str]) -> None:
        """Names that code asks of some object: methods of the network's classes among them."""
        for name in sorted(names - self._names):
            self._names.add(name)
            for kind in list(self._module_classes):
                if name in vars(kind) and name not in ("__init__", "__new__"):
                    self._member(kind, name)

    def _global(self, value: Any, module: str, name: str) -> None:
        if isinstance(value, types.ModuleType) or (module, name) in self._globals:
            return
        self._globals.add((module, name))
        # Code that is called by its own name is known by its source, or by that name.
        plain = getattr(value, "__name__", None) == name
        if not (plain and self.follow(value, f"{module}.{name}")):
            self.value(value, f"{module}.{name}")

    def _of_module(
        self, module: types.ModuleType, names: set[str], above: tuple[object, ...] = ()
    ) -> None:
        """Those things of a module of the user's that the code names."""
        if not is_own_module(module) or module in above:
            return
        self.loaded.add(known_as(module.__name__))
        for name in sorted(names & vars(module).keys()):
            value = vars(module)[name]
            self._global(value, known_as(module.__name__), name)
            if isinstance(value, types.ModuleType):
                self._of_module(value, names, (*above, module))

    def _imports(self, function: types.FunctionType, names: set[str]) -> None:
        """Modules that the function imports itself."""
        package = str(function.__globals__.get("__package__") or "")
        for name in sorted(imported_in(function.__code__)):
            module, file = module_named(name, package)
            if module is not None:
                self._of_module(module, names)
            elif file is not None:
                self._file(file, f"{name_of(function)} imports {name} only when it runs")

    def _file(self, file: Path, why: str) -> None:
        if not file.is_file():
            self.say(f"{why}: what they lead to does not count")
            return
        self.sources.add((f"file {file.name}", file.read_text(errors="replace")))
        self.say(f"{why}: the whole of {file.name} counts")


def _class_text(thing: Any) -> list[str]:
    try:
        return [inspect.getsource(thing)]
    except (OSError, TypeError):
        return []


def _is_special(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")  # _member_map_ of an enum, too


def _is_of_the_language(name: str, thing: object) -> bool:
    """Whether a member of a class is neither code nor data of the user's, but came with it."""
    return _is_special(name) or name == "_backward_cls" or inspect.isdatadescriptor(thing)


def _is_generated(kind: type, function: types.FunctionType) -> bool:
    """Whether a library wrote a method from the fields of its class, whose source counts."""
    by_fields = dataclasses.is_dataclass(kind) or issubclass(kind, tuple)
    return by_fields and function.__code__.co_filename == "<string>"


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """What a closure holds, by name; a cell that is not filled yet is left out."""
    return dict(_filled(function))


def _filled(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            if name != "__class__":  # that of super()
                yield name, cell.cell_contents
        except ValueError:
            continue
