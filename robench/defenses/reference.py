"""From a reference to a Defense: the grammar that every command shares."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.defenses import DEFENSES
from robench.defenses.defense import Defense, foreign
from robench.defenses.schemes import SCHEMES
from robench.defenses.schemes.module import from_module
from robench.defenses.settings import Entry, Settings, Shape, configured, given
from robench.models.weights import SUFFIXES


def load_defense(
    ref: str | nn.Module,
    *,
    arch: str | None = None,
    width: int | None = None,
    num_classes: int | None = None,
    normalize: str | None = None,
    dataset: str | None = None,
    input_shape: Shape = (3, 32, 32),
) -> Defense:
    """The defense that `ref` names, in evaluation mode, float32, on the device where it was made.

    ref: a name (of `robench.toml` in the current folder, then of the table), a checkpoint file,
    `scheme:text`, or a network, which is used as it is. The options go before what `robench.toml`,
    the checkpoint's metadata and its shapes say. input_shape: of one image; foreign networks are
    tried on it where the number of classes is not given.

    Raises: InputError for a reference that names nothing, or something that cannot be used.
    """
    settings = given(
        arch=arch, width=width, classes=num_classes, normalize=normalize, dataset=dataset
    )
    if isinstance(ref, str):
        return replace(_resolve(ref.strip(), settings, input_shape, ()), ref=ref.strip())
    return from_module(ref, settings, input_shape, f"the given {type(ref).__name__}")


def _resolve(ref: str, settings: Settings, input_shape: Shape, path: tuple[str, ...]) -> Defense:
    """path: the names that led here."""
    entries = configured(Path.cwd())
    if ref in path:
        raise InputError(f"defense {ref!r} refers to itself: {' -> '.join([*path, ref])}")
    if ref in entries:
        return _follow(ref, entries[ref], settings, input_shape, path)
    scheme, colon, text = ref.partition(":")
    if colon and scheme in SCHEMES.names():
        return _load(scheme, text, settings, input_shape)
    if ref in DEFENSES.names():
        return _registered(ref, settings, input_shape, path)
    if _is_file(ref):
        return _load("file", ref, settings, input_shape)
    raise InputError(_unknown(ref, list(entries)))


def _follow(
    name: str, entry: Entry, settings: Settings, input_shape: Shape, path: tuple[str, ...]
) -> Defense:
    defense = _resolve(entry.ref.strip(), settings.over(entry), input_shape, (*path, name))
    return replace(defense, name=name)


def _registered(
    name: str, settings: Settings, input_shape: Shape, path: tuple[str, ...]
) -> Defense:
    """A line's target gives an Entry, or (easier for other packages) the network itself."""
    with foreign(name):
        what = DEFENSES.load(name)()
    if isinstance(what, Entry):
        return _follow(name, what, settings, input_shape, path)
    return replace(from_module(what, settings, input_shape, name), name=name, ref=name)


def _load(scheme: str, text: str, settings: Settings, input_shape: Shape) -> Defense:
    defense: Defense = SCHEMES.load(scheme)(text, settings, input_shape)
    return defense


def _is_file(ref: str) -> bool:
    """An existing path, or a name that can only be meant as one."""
    try:
        return bool(ref) and (ref.endswith(SUFFIXES) or Path(ref).expanduser().exists())
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown home
        return False


def _unknown(ref: str, names: list[str]) -> str:
    scheme, colon, _ = ref.partition(":")
    if colon and "/" not in scheme and "\\" not in scheme:
        return f"unknown scheme {scheme!r} in {ref!r}: expected {', '.join(SCHEMES.names())}"
    if "/" in ref or "\\" in ref:
        return f"{ref} does not exist: expected a checkpoint file"
    hint = did_you_mean(ref, [*names, *DEFENSES.names()]) or ":"
    return (
        f"unknown defense {ref!r}{hint} expected a name (robench list defenses), "
        "a checkpoint file, or python:package.module:function"
    )
