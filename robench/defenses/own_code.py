"""What code is the user's own, and whether it is what stands on disk."""

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


def is_own_file(file: str | None) -> bool:
    """Whether a file is neither Python's, nor an installed package's, nor robench's.

    Code without a file was typed in, or made by code of the user's. None: a built-in module.
    """
    if file is None or file.startswith("<frozen"):
        return False
    if file.startswith("<"):
        return True
    path = Path(file).absolute()
    return not (set(_INSTALLED) & set(path.parts) or any(map(path.is_relative_to, _PLACES)))


def is_own_code(code: types.CodeType) -> bool:
    """Whether compiled code is the user's own."""
    return is_own_file(code.co_filename)


def is_own_class(kind: type) -> bool:
    """Whether a class is the user's own: by the file of its module."""
    module = sys.modules.get(kind.__module__)
    if module is None:
        return True  # made by code of the user's under a name of its own
    if kind.__module__ == "__main__":
        return True
    return is_own_file(getattr(module, "__file__", None))


def qualified(thing: Any) -> str:
    """`package.module.Class.name`."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


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


def is_as_written(code: types.CodeType) -> bool:
    """Whether the file that loaded code comes from still holds it; True where there is none."""
    file = code.co_filename
    linecache.checkcache(file)
    text = "".join(linecache.getlines(file))
    return not text or compiled(code) in _compiled_in(text, file)


@functools.lru_cache(maxsize=16)
def _compiled_in(text: str, file: str) -> frozenset[str]:
    try:
        whole = compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return frozenset()
    found, waiting = set(), [whole]
    while waiting:
        code = waiting.pop()
        found.add(compiled(code))
        waiting += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return frozenset(found)
