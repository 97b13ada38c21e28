"""`robench.toml` beside the user's work: names for defenses, and where records go."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from robench.core.errors import InputError
from robench.core.folders import records_folder

FILE = "robench.toml"
TEMPLATE = """\
# What `robench` reads when it is started in this folder. Lines without their # take effect.

# Names for defenses: --defense mine.
# [defenses.mine]
# ref = "runs/mine.pt"           # checkpoint, python:module:function, robustbench:ID, ...
# dataset = "cifar10"            # --dataset, if it is not given
# arch = "resnet18"              # these three where the checkpoint does not tell
# width = 32
# normalize = "cifar10"          # none, cifar10, cifar100, imagenet or MEAN/STD

# Where records go, and are read from.
# [eval]
# out = "records"
"""
"""What `robench init` writes."""


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


def records_place(folder: Path) -> Path:
    """Where records go to and come from unless told otherwise.

    That is what `robench.toml` in `folder` says, else the user's own folder.
    Raises: InputError naming the key that cannot be.
    """
    try:
        defaults = msgspec.convert(section(folder, "eval"), EvalDefaults)
    except msgspec.ValidationError as error:
        raise InputError(f"{FILE}: {error} (in [eval])") from error
    return records_folder() if defaults.out is None else folder / defaults.out
