"""The layers of a recipe: the package's TOML files, the user's own, and options; later ones win."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robench.core.errors import InputError
from robench.core.names import method_name

NAMED = ("method", "dataset", "preset", "role")
"""What a run is named by: no settings."""
DEFAULT_PRESET, DEFAULT_ROLE = "paper", "student"
_DEFAULTS = {"preset": DEFAULT_PRESET, "role": DEFAULT_ROLE}
_COMMON = "common"
_FOLDER = Path(__file__).parent / "recipes"
_SECTIONS = ("presets", "methods", "students", "roles")
_STALE = {"ref": ("clean", "robust"), "arch": ("width",)}
"""What was said of one teacher, or of one architecture, does not hold for the next."""


@dataclass(frozen=True)
class Layer:
    """Part of a recipe, and where it was said: `recipes/cifar10.toml`, `--set epochs=10`."""

    where: str
    table: dict[str, Any]


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """All layers as one table: tables merge key by key, anything else replaces."""
    table: dict[str, Any] = {}
    for layer in layers:
        table = _over(table, layer.table)
    return table


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    renamed = [name for name in _STALE if name in top and top[name] != base.get(name)]
    stale = {key for name in renamed for key in _STALE[name]}
    result = {key: value for key, value in base.items() if key not in stale}
    for key, value in top.items():
        below = result.get(key)
        is_table = isinstance(value, dict) and isinstance(below, dict)
        result[key] = _over(result[key], value) if is_table else value
    return result


@dataclass(frozen=True)
class Shipped:
    """The package's recipes for a data set: the common file, then its own where it has one."""

    files: Sequence[Layer]

    def at(self, *path: str) -> list[Layer]:
        """What each file says at a section, without the sections inside."""
        return [
            Layer(file.where, {k: v for k, v in section.items() if k not in _SECTIONS})
            for file in self.files
            if (section := _inside(file.table, path))
        ]

    def presets(self, method: str) -> list[str]:
        """The presets that a method may be trained by."""
        places = [("presets",), ("methods", method, "presets")]
        found = [name for place in places for f in self.files for name in _inside(f.table, place)]
        return list(dict.fromkeys([DEFAULT_PRESET, *found]))

    def with_role(self, role: str, preset: str) -> list[str]:
        """The methods that have a recipe for networks of this role."""
        methods = [name for file in self.files for name in _inside(file.table, ("methods",))]
        unique = dict.fromkeys(methods)
        return [name for name in unique if self.at(*role_path(name, preset, role))]


def role_path(method: str, preset: str, role: str) -> tuple[str, ...]:
    """Where a recipe says what a network of this role has of its own."""
    return ("methods", method, "presets", preset, "roles", role)


def shipped(dataset: str) -> Shipped:
    """The package's recipes for a data set."""
    # A data set may be a path: it is looked up among ours, never joined to theirs.
    known = {path.stem: path for path in _FOLDER.glob("*.toml")}
    names = [_COMMON, dataset] if dataset in known and dataset != _COMMON else [_COMMON]
    return Shipped([Layer(f"recipes/{name}.toml", read_toml(known[name])) for name in names])


def _inside(table: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for key in path:
        table = table.get(key, {})
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """The file's table. Raises: InputError when it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML file: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def from_file(path: Path, named: Mapping[str, str]) -> tuple[Layer, dict[str, str]]:
    """A user's recipe, whole or partial, and what it is of: the file's words, or else the given.

    named: method, dataset, preset and role as given beside the file.
    Raises: InputError when it is a recipe of something else.
    """
    table = read_toml(path)
    found = {key: table.pop(key, named[key]) for key in NAMED}
    found["method"] = method_name(str(found["method"]))
    for key in NAMED:
        given_by_default = named[key] == _DEFAULTS.get(key)
        if found[key] != named[key] and not given_by_default:
            raise InputError(
                f"{path} is a recipe of {key} {found[key]!r}, not {named[key]!r}: "
                f"give the same {key}, or take it out of the file"
            )
    return Layer(str(path), table), found


def options(**values: object) -> list[Layer]:
    """One layer for each option that is not None: `student`, `width`, or a key of a recipe."""
    places = {"student": "student.arch", "width": "student.width"}
    return [
        Layer(f"--{name} {value}", _nested(places.get(name, name), value))
        for name, value in values.items()
        if value is not None
    ]


def teachers(texts: Sequence[str]) -> list[Layer]:
    """`clean=REF` as layers. Raises: InputError for other text, or a role that is given twice."""
    layers: dict[str, Layer] = {}
    for text in texts:
        role, _, ref = (part.strip() for part in text.partition("="))
        if not role or not ref:
            raise InputError(f"--teacher {text}: expected ROLE=REF, as clean=natural-resnet18")
        if role in layers:
            raise InputError(f"--teacher {text}: the {role} teacher is given twice")
        layers[role] = Layer(f"--teacher {text}", {"teachers": {role: {"ref": ref}}})
    return list(layers.values())


def changes(texts: Sequence[str]) -> list[Layer]:
    """`optimizer.lr=0.2` as layers; a value is TOML, or else the text itself (`8/255`).

    Raises: InputError for text without a key and a value, and for what names the run.
    """
    # A new teacher or architecture goes first: it would undo what is said of it in the same breath.
    return [_change(text) for text in sorted(texts, key=lambda text: not _renames(text))]


def _renames(text: str) -> bool:
    return text.partition("=")[0].strip().rpartition(".")[2] in _STALE


def _change(text: str) -> Layer:
    where = f"--set {text}"
    path, _, value = (part.strip() for part in text.partition("="))
    if not value or not all(path.split(".")):
        raise InputError(f"{where}: expected KEY=VALUE, as optimizer.lr=0.2")
    if path in NAMED:
        raise InputError(f"{where}: {path} names the run and is no setting: give it by itself")
    return Layer(where, _nested(path, _value(value)))


def _nested(path: str, value: object) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _value(text: str) -> object:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = document["value"]
    plain = len(document) == 1 and isinstance(value, bool | int | float | str | list | dict)
    return value if plain else text
