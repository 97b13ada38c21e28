"""From a reference to a Defense: the grammar that every command shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.references import exists, names_checkpoint, split_weights
from robench.core.threat import Norm
from robench.defenses import DEFENSES
from robench.defenses.defense import Defense, foreign
from robench.defenses.schemes import SCHEMES
from robench.defenses.schemes.module import from_module
from robench.defenses.settings import Entry, Settings, Shape, configured, given
from robench.defenses.trained import find, is_name, passed_over, survey


def load_defense(
    ref: str | nn.Module,
    *,
    arch: str | None = None,
    width: int | None = None,
    num_classes: int | None = None,
    normalize: str | None = None,
    dataset: str | None = None,
    norm: Norm | None = None,
    input_shape: Shape = (3, 32, 32),
) -> Defense:
    """The defense that `ref` names, in evaluation mode, float32, on the device where it was made.

    ref: a name (of `robench.toml` in the current folder, then of the table), a checkpoint file with
    or without `#` and one of its sets of weights, `scheme:text`, a training method with or without
    `[dataset=...,student=...,width=...]`, or a network, which is used as it is. The options go
    before what `robench.toml`, the checkpoint's metadata and its shapes say; of a method's
    checkpoints, and of RobustBench's networks of one id, they say which one is meant.
    input_shape: of one image; foreign networks are tried on it where the number of classes is not
    given.

    Raises: InputError for a reference that names nothing, or something that cannot be used.
    """
    settings = given(
        arch=arch,
        width=width,
        classes=num_classes,
        normalize=normalize,
        dataset=dataset,
        norm=norm,
    )
    if isinstance(ref, str):
        found = _resolve(ref.strip(), settings, input_shape, ())
        # A short form is written out: without these options it may mean several.
        return found if _of_robustbench(ref) else replace(found, ref=ref.strip())
    return from_module(ref, settings, input_shape, f"the given {type(ref).__name__}")


def load_for(
    dataset: str | None, ref: str | nn.Module, norm: Norm | None = None, **options: Any
) -> Defense:
    """The defense that is to be used on a data set (its base name; None: not known yet).

    The data set says which of a method's checkpoints is meant, and with the norm which of
    RobustBench's networks of one id. Others say themselves what they were trained for; where a file
    does not, the data set stands in: some families normalise inside, by data set. options: of
    `load_defense`, but `dataset`. Raises: as `load_defense`.
    """
    if _of_robustbench(ref):
        return load_defense(ref, dataset=dataset, norm=norm, **options)
    found = load_defense(ref, dataset=dataset if names_method(ref) else None, **options)
    if dataset is not None and found.dataset is None and found.scheme == "file":
        return load_defense(ref, dataset=dataset, **options)
    return found


def names_method(ref: str | nn.Module) -> bool:
    """Whether trained checkpoints answer to `ref`: then `dataset=` says which one is meant."""
    return (
        isinstance(ref, str)
        and is_name(ref.strip())
        and ref.strip() not in [*configured(Path.cwd()), *DEFENSES.names()]
        and not _is_file(ref.strip())
    )


def _of_robustbench(ref: str | nn.Module) -> bool:
    return isinstance(ref, str) and ref.strip().startswith("robustbench:")


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
    trained = _trained(ref, settings, input_shape)
    if trained is not None:
        return trained
    if _is_folder(ref):  # asked last: a folder for a method's results does not hide the method
        return _load("file", ref, settings, input_shape)  # says what it is
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


def _trained(ref: str, settings: Settings, input_shape: Shape) -> Defense | None:
    """What the method's checkpoint holds; the note says which file that was."""
    found = find(ref, settings)
    if found is None:
        return None
    chosen, damaged = found
    # The options chose it: of what it was trained for, its metadata tell.
    settings = msgspec.structs.replace(settings, dataset=None)
    defense = _load("file", str(chosen.path), settings, input_shape)
    sha256 = (defense.source or {}).get("sha256", "")[:12]
    parts = (chosen.shown, f"run {chosen.run}" if chosen.run else "", f"sha256 {sha256}")
    note = f"{chosen.method}: {', '.join(filter(None, parts))}"
    notes = tuple(filter(None, (*defense.notes, note, damaged)))
    return replace(defense, name=chosen.method, ref=ref, notes=notes)


def _load(scheme: str, text: str, settings: Settings, input_shape: Shape) -> Defense:
    defense: Defense = SCHEMES.load(scheme)(text, settings, input_shape)
    return defense


def _is_file(ref: str) -> bool:
    """An existing path that is no folder, or a name that can only be meant as a file."""
    path, _ = split_weights(ref)
    return names_checkpoint(ref) or (exists(path) and not _is_folder(ref))


def _is_folder(ref: str) -> bool:
    path, _ = split_weights(ref)
    return exists(path) and Path(path).expanduser().is_dir()


def _unknown(ref: str, names: list[str]) -> str:
    scheme, colon, _ = ref.partition(":")
    if colon and "/" not in scheme and "\\" not in scheme:
        return f"unknown scheme {scheme!r} in {ref!r}: expected {', '.join(SCHEMES.names())}"
    if "/" in ref or "\\" in ref:
        return f"{ref} does not exist: expected a checkpoint file"
    name, known = ref.partition("[")[0].strip(), [*names, *DEFENSES.names()]
    if name in known:
        return f"defense {name!r} takes no arguments: expected {name}, not {ref}"
    methods, damaged = survey()
    hint = did_you_mean(name, [*known, *methods]) or ":"
    return (
        f"unknown defense {ref!r}{hint} expected a name (robench list defenses), a method that was "
        "trained (robench list methods; robench train METHOD), a checkpoint file, or "
        f"python:package.module:function{passed_over(damaged, '; ')}"
    )
