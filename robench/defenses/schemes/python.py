"""`python:package.module:function`: the only reference that executes code of others."""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.defenses.defense import Defense, foreign
from robench.defenses.schemes.module import from_module
from robench.defenses.settings import Settings, Shape


def load(text: str, settings: Settings, input_shape: Shape) -> Defense:
    """What the function returns, which must be an nn.Module; the current folder is importable.

    Raises: InputError for a name that is not there, and for whatever the code raises.
    """
    what = f"python:{text}"
    factory = _find(text, what)
    with foreign(what):
        network = factory()
    defense = from_module(network, settings, input_shape, what, factory)
    return replace(defense, name=text.replace(":", "."), scheme="python", ref=what)


def _find(text: str, what: str) -> Callable[..., object]:
    module_name, colon, attribute = text.partition(":")
    if not colon or not module_name or not attribute:
        raise InputError(f"cannot read {what!r}: expected python:package.module:function")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # stays: foreign networks import when they are called, too
    with foreign(f"{what}: importing {module_name}"):
        found: object = import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, dir(found))
            raise InputError(f"{what}: {module_name} has no {part!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{what} is no function but {type(found).__name__}")
    return found
