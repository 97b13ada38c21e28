"""`robench.toml` beside the user's work: names for defenses, and where records go."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from robench.core.errors import InputError

FILE = "robench.toml"


class EvalDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[eval]`."""

    out: str | None = None
    """Folder of the records, relative to the file."""


def section(folder: Path, name: str) -> dict[str, Any]:
    """A section of `robench.toml` in `folder`; empty where there is none.

    Raises: InputError when the file cannot be read, is no TOML, or the section is no table.
    """
    path = folder / FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get(name, {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{FILE} is no TOML file: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {FILE}: {error.strerror}") from error
    if not isinstance(found, dict):
        raise InputError(f"{FILE}: {name} is no table: write [{name}] and its keys below")
    return found


def records_default(folder: Path) -> Path | None:
    """Where `robench.toml` in `folder` wants records, or None.

    Raises: InputError naming the key that cannot be.
    """
    try:
        defaults = msgspec.convert(section(folder, "eval"), EvalDefaults)
    except msgspec.ValidationError as error:
        raise InputError(f"{FILE}: {error} (in [eval])") from error
    return None if defaults.out is None else folder / defaults.out
