"""What may be said of a run: the keys of a recipe and one method's parameters, and their types."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.threat import parse_number
from robench.training import METHODS
from robench.training.layers import NAMED, Layer
from robench.training.method import Method
from robench.training.recipe import Recipe, Teacher


@dataclass(frozen=True)
class Vocabulary:
    """name: of the method. method: as the table has it."""

    name: str
    method: Method

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The types of what a recipe may set: neither state, nor what the name decides."""
        assert dataclasses.is_dataclass(self.method)
        hints = get_type_hints(type(self.method))
        names = [f.name for f in dataclasses.fields(self.method) if f.init]
        return {name: hints[name] for name in names if name not in self.method.fixed}

    @cached_property
    def keys(self) -> dict[str, Any]:
        """The types of all values, by dotted path."""
        own = {path: kind for path, kind in _values_of(Recipe).items() if path not in NAMED}
        del own["teachers"], own["parameters"]
        for role in self.method.roles:
            own |= _values_of(Teacher, f"teachers.{role}.")
        return own | {f"parameters.{name}": kind for name, kind in self.parameters.items()}

    @cached_property
    def tables(self) -> set[str]:
        """The dotted paths of what holds other keys."""
        parts = [path.split(".") for path in self.keys]
        inner = {".".join(p[:depth]) for p in parts for depth in range(1, len(p))}
        return inner | {"teachers", "parameters"}

    def check(self, layer: Layer) -> None:
        """Raises: InputError for a key that this method's recipes do not have."""
        for path in self._said(layer.table):
            if path not in self.keys:
                raise InputError(f"{layer.where}: {self._refusal(path)}")

    def _said(self, table: Mapping[str, Any], above: str = "") -> Iterator[str]:
        """The dotted paths of the values in a table."""
        for key, value in table.items():
            path = above + key
            is_table = isinstance(value, dict) and path not in self.keys
            if is_table and (value or path in self.tables):
                yield from self._said(value, f"{path}.")
            else:
                yield path

    def _refusal(self, path: str) -> str:
        section, _, name = path.partition(".")
        if path in self.tables:
            return f"{path} is a table: set a key in it, as {self._example(path)}"
        if section == "teachers":
            takes = " and ".join(self.method.roles) or "none"
            return f"{self.name} takes no teacher {name.partition('.')[0]!r}: it takes {takes}"
        if section == "parameters" and name in self.method.fixed:
            others = " and ".join(self._told_apart_by(name)) or "other methods"
            return f"{name} is what tells {self.name} from {others}: choose the method by its name"
        if section == "parameters":
            hint = did_you_mean(name, self.parameters) or ":"
            takes = ", ".join(self.parameters) or "none"
            return f"{self.name} has no parameter {name!r}{hint} it takes {takes}"
        return f"a recipe has no key {path!r}{self._nearest(path)}"

    def _example(self, table: str) -> str:
        inside = [path for path in self.keys if path.startswith(f"{table}.")]
        return inside[0] if inside else f"{table}.KEY"

    def _nearest(self, path: str) -> str:
        """The key of that name in another table, or else the nearest names."""
        name = path.rpartition(".")[2]
        same = [known for known in self.keys if known.rpartition(".")[2] == name]
        if same:
            return f": did you mean {' or '.join(map(repr, same))}?"
        return did_you_mean(path, [*self.keys, *self.tables]) or f": it has {', '.join(self.keys)}"

    def _told_apart_by(self, name: str) -> list[str]:
        """The methods of the same kind that differ in the field."""
        own = getattr(self.method, name)
        others = {other: METHODS.load(other) for other in METHODS.lines}
        alike = {n: m for n, m in others.items() if type(m) is type(self.method)}
        return [n for n, m in alike.items() if getattr(m, name) != own]

    def only_taken(self, layer: Layer) -> Layer:
        """What a layer for all methods says to this one: its own teachers and parameters."""
        known = {"teachers": self.method.roles, "parameters": tuple(self.parameters)}
        table = dict(layer.table)
        for part in known.keys() & table.keys():
            table[part] = {k: v for k, v in table[part].items() if k in known[part]}
        return Layer(layer.where, table)

    def read(self, parameters: Mapping[str, Any], layers: Sequence[Layer]) -> dict[str, Any]:
        """The parameters in their fields' types; floats read 8/255, too.

        layers: where they were said. Raises: InputError for a value of another type.
        """
        return {
            name: self._read(f"parameters.{name}", value, layers)
            for name, value in parameters.items()
        }

    def _read(self, path: str, value: object, layers: Sequence[Layer]) -> object:
        kind = self.keys[path]
        try:
            if kind is float and isinstance(value, str):
                value = parse_number(value)
            value = msgspec.convert(value, kind)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError("expected a finite number")
        except (msgspec.ValidationError, InputError) as error:
            raise self._wrong(path, str(error), layers) from error
        return value

    def recipe(self, table: Mapping[str, Any], layers: Sequence[Layer]) -> Recipe:
        """The table as a recipe. Raises: InputError saying which layer is wrong, and where."""
        try:
            return msgspec.convert(table, Recipe)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$")
            raise self._wrong(place.strip("`."), message, layers) from error

    def _wrong(self, path: str, message: str, layers: Sequence[Layer]) -> InputError:
        plain = path.partition("[")[0]
        where = next((layer.where for layer in reversed(layers) if _has(layer, plain)), "recipe")
        kind = self.keys.get(plain)
        if get_origin(kind) is Literal and message.startswith("Invalid enum value"):
            known = [str(choice) for choice in get_args(kind)]
            hint = did_you_mean(message.partition("'")[2].rstrip("'"), known) or ":"
            message = f"{message}{hint} expected {', '.join(known)}".replace(
                "Invalid enum", "unknown"
            )
        return InputError(f"{where}: {message} (at {path})")


def _values_of(kind: type, above: str = "") -> dict[str, Any]:
    """The types of a struct's values by dotted path; structs inside are opened."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        is_struct = isinstance(hint, type) and issubclass(hint, msgspec.Struct)
        found |= _values_of(hint, f"{above}{name}.") if is_struct else {above + name: hint}
    return found


def _has(layer: Layer, path: str) -> bool:
    table: Any = layer.table
    for key in path.split("."):
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
