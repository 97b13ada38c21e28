"""The names that compiled code uses: of globals, attributes and modules."""

import ast
import dis
import functools
import sys
import textwrap
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from robench.defenses.own_code import codes, is_own_class, is_own_file, source_of

_MAKES_UP_NAMES = {"eval", "exec", "globals", "locals", "vars", "__import__", "import_module"}
_MAKES_UP_ATTRIBUTES = {"attrgetter", "methodcaller"}


def names_in(code: types.CodeType) -> set[str]:
    """Globals and attributes that the code names; with getattr, the names that it spells out."""
    names = {name for one in codes(code) for name in one.co_names}
    if "getattr" in names:
        names |= {text for one in codes(code) for text in one.co_consts if isinstance(text, str)}
    return names


def globals_in(code: types.CodeType) -> set[str]:
    """Names that are looked up in the module, not on an object."""
    return _arguments(code, "LOAD_GLOBAL", "LOAD_NAME")


def imported_in(code: types.CodeType) -> set[str]:
    """Modules that the code imports itself, as it names them."""
    return _arguments(code, "IMPORT_NAME")


def makes_up_names(code: types.CodeType) -> bool:
    """Whether names are made while the code runs, so that they cannot be followed."""
    names, used = names_in(code), globals_in(code)
    if used & _MAKES_UP_NAMES or names & {*_MAKES_UP_ATTRIBUTES, "import_module"}:
        return True
    return "getattr" in used and not _spells_out(code)


def _spells_out(code: types.CodeType) -> bool:
    """Whether every getattr of the code is called with a name that stands there."""
    try:
        tree = ast.parse(textwrap.dedent(source_of(code) or "("))
    except SyntaxError:
        return False
    named = [node for node in ast.walk(tree) if _is_getattr(node)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    plain = [
        call
        for call in calls
        if _is_getattr(call.func) and len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
    ]
    return len(plain) == len(named)


def _is_getattr(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "getattr"


def _arguments(code: types.CodeType, *operations: str) -> set[str]:
    return {
        str(step.argval)
        for one in codes(code)
        for step in dis.get_instructions(one)
        if step.opname in operations
    }


def module_named(name: str, package: str) -> tuple[types.ModuleType | None, Path | None]:
    """The module that code of a package imports by that name, and where it is not loaded the file
    of the user's that it is. Nothing is imported."""
    parents = package.split(".") if package else []
    for depth in range(len(parents), -1, -1):  # how far up a relative import goes is not known
        full = ".".join([*parents[:depth], *([name] if name else [])])
        if full in sys.modules:
            return sys.modules[full], None
    for depth in range(len(parents), -1, -1):
        file = _file_of([*parents[:depth], *name.split(".")])
        if file is not None:
            return None, file
    return None, None


def _file_of(parts: list[str]) -> Path | None:
    """The file of the user's that holds a module which is not loaded."""
    try:
        spec: ModuleSpec | None = find_spec(parts[0])  # of a top-level name: imports nothing
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if len(parts) == 1:
        found = [Path(spec.origin)] if spec.has_location and spec.origin else []
    else:
        folders = [Path(folder, *parts[1:-1]) for folder in spec.submodule_search_locations or ()]
        tails = Path(f"{parts[-1]}.py"), Path(parts[-1], "__init__.py")
        found = [folder / tail for folder in folders for tail in tails]
    return next((file for file in found if file.is_file() and is_own_file(str(file))), None)


def functions_of(thing: Any) -> list[types.FunctionType]:
    """The plain functions of something in the body of a class."""
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    parts = [thing.fget, thing.fset] if isinstance(thing, property) else [thing]
    parts += [thing.func] if isinstance(thing, functools.cached_property) else []
    return [part for part in parts if isinstance(part, types.FunctionType)]


def literals_in(text: str) -> set[str]:
    """Names to which the body of a class gives a value that its source says in full."""
    try:
        (body,) = ast.parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError):
        return set()
    return {
        name.id
        for line in getattr(body, "body", [])
        if isinstance(line, ast.Assign | ast.AnnAssign) and _is_literal(line.value)
        for name in (line.targets if isinstance(line, ast.Assign) else [line.target])
        if isinstance(name, ast.Name)
    }


def _is_literal(node: ast.expr | None) -> bool:
    try:
        ast.literal_eval(node or "")
    except (ValueError, SyntaxError):
        return False
    return True


@functools.cache
def stored_by(kind: type, own: bool) -> frozenset[str]:
    """Attributes that methods of a class and its bases set: of the user's own, or a library's.

    Those of nn.Module itself are left out: what it sets is known by name.
    """
    functions = [
        function
        for base in kind.__mro__
        if base is not nn.Module and is_own_class(base) is own
        for thing in vars(base).values()
        for function in functions_of(thing)
    ]
    return frozenset(
        name for function in functions for name in _arguments(function.__code__, "STORE_ATTR")
    )
