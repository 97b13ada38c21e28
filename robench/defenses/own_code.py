"""What code is the user's own, where it is written, and whether that is what was loaded."""

import functools
import hashlib
import linecache
import site
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

_ROBENCH = str(Path(__file__).parents[1])
_PLACES = (
    *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    site.getusersitepackages(),
    _ROBENCH,
)
_INSTALLED = ("site-packages", "dist-packages")
_GENERATED = ("<attrs generated", "<eval_with_key>")
"""Code that libraries write: attrs from the fields of a class, torch.fx from a graph."""


@functools.cache
def is_own_file(file: str | None) -> bool:
    """Whether a file is neither Python's, nor an installed package's, nor robench's.

    Code without a file was typed in, or made by code of the user's. None: a built-in module.
    """
    if file is None or file.startswith(("<frozen", *_GENERATED)):
        return False
    if file.startswith("<"):
        return True
    path = Path(file).absolute()
    return not (set(_INSTALLED) & set(path.parts) or any(map(path.is_relative_to, _PLACES)))


def is_own_code(code: types.CodeType) -> bool:
    """Whether compiled code is the user's own."""
    return is_own_file(code.co_filename)


def is_own_module(module: types.ModuleType) -> bool:
    """Whether a module is the user's own: by its file, or the folders of a package without one."""
    file = getattr(module, "__file__", None)
    if file is not None:
        return is_own_file(file)
    return any(map(is_own_file, getattr(module, "__path__", ())))


def is_own_class(kind: type) -> bool:
    """Whether a class is the user's own: by the file of its module."""
    module = sys.modules.get(kind.__module__)
    if module is None:
        return True  # made by code of the user's under a name of its own
    return kind.__module__ == "__main__" or is_own_module(module)


def qualified(thing: Any) -> str:
    """`package.module.Class.name`."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def known_as(module: str) -> str:
    """The name under which a module is imported, also where it is the program that runs."""
    main = sys.modules.get("__main__")
    if module != "__main__" or main is None:
        return module
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec is not None else Path(file).stem if file else module


def name_of(thing: Any) -> str:
    """`package.module.Class.name`, the same whether the module is imported or run."""
    if isinstance(thing, types.FunctionType):  # decorators give functions the names of others
        module = str(thing.__globals__.get("__name__"))
        return f"{known_as(module)}.{thing.__code__.co_qualname}"
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{known_as(str(kind.__module__))}.{kind.__qualname__}"


def compiled(code: types.CodeType) -> str:
    """Hex SHA-256 of what code does: its instructions, names and constants, not its lines."""
    sha = hashlib.sha256(code.co_code)
    for part in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        sha.update(repr(part).encode())
    for constant in code.co_consts:
        sha.update(_constant(constant).encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def _constant(value: object) -> str:
    if isinstance(value, types.CodeType):
        return compiled(value)
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def has_source(code: types.CodeType) -> bool:
    """Whether the file that code was loaded from is there to be read."""
    return bool(_text(code.co_filename))


def source_of(code: types.CodeType) -> str | None:
    """The lines of a definition where they stand in its file now; None where they do not.

    By what the code does, not by its line numbers: the file may have been edited since. Of a lambda
    its own part of the line as well: a line may hold several.
    """
    text = _text(code.co_filename)
    found = _definitions(text, code.co_filename).get(compiled(code), [])
    if not found:
        return None
    there = min(found, key=lambda one: abs(one.co_firstlineno - code.co_firstlineno))
    lines = text.splitlines(keepends=True)
    last = max(line for one in codes(there) for *_, line in one.co_lines() if line is not None)
    source = "".join(lines[there.co_firstlineno - 1 : last])
    return source if there.co_name != "<lambda>" else f"{source}\n{_own_part(there, lines)}"


def _own_part(code: types.CodeType, lines: list[str]) -> str:
    """The body of a lambda: from the first to the last place that its instructions name."""
    begins: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    for line, end_line, start, end in code.co_positions():
        if line is None or end_line is None or start is None or end is None:
            continue
        if (line, start) != (end_line, end):
            begins.append((line, start))
            ends.append((end_line, end))
    if not begins:
        return ""
    (line, start), (end_line, end) = min(begins), max(ends)
    rows = [row.encode() for row in lines[line - 1 : end_line]]  # columns are counted in bytes
    rows[-1] = rows[-1][:end]
    rows[0] = rows[0][start:]
    return b"".join(rows).decode(errors="replace")


def codes(code: types.CodeType) -> list[types.CodeType]:
    """The code and those of all functions within it."""
    found, waiting = [], [code]
    while waiting:
        found.append(waiting.pop())
        waiting += [one for one in found[-1].co_consts if isinstance(one, types.CodeType)]
    return found


def _text(file: str) -> str:
    linecache.checkcache(file)
    return "".join(linecache.getlines(file))


@functools.lru_cache(maxsize=256)
def _definitions(text: str, file: str) -> dict[str, list[types.CodeType]]:
    """Every piece of code of a file, by what it does."""
    try:
        whole = compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, list[types.CodeType]] = {}
    for code in codes(whole):
        found.setdefault(compiled(code), []).append(code)
    return found
