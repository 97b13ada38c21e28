"""Columns: an attack with its parameters and stop rule, and the shortest label that tells it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from robench.core.names import parse_call
from robench.core.record import Record
from robench.core.threat import format_eps


@dataclass(frozen=True, order=True)
class Column:
    """One column of a board. parameters: canonical JSON, so that equal means equal."""

    attack: str
    parameters: str
    stop: str

    def values(self) -> dict[str, str]:
        """Parameters and stop rule as they are typed: `steps` -> `20`, `step_size` -> `2/255`."""
        fields = msgspec.json.decode(self.parameters, type=dict[str, Any])
        return {**{key: typed(value) for key, value in fields.items()}, "stop": self.stop}


def typed(value: Any) -> str:
    """A parameter as the command line takes it."""
    if isinstance(value, float):
        return format_eps(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def call(attack: str, parameters: Mapping[str, Any]) -> str:
    """`pgd_sat[step_size=2/255,steps=20]`: what to type to get the attack with these parameters.

    A parameter without a value cannot be typed; it is the attack's own choice.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    inside = ",".join(f"{key}={typed(value)}" for key, value in sorted(given.items()))
    return f"{attack}[{inside}]" if inside else attack


def column_of(record: Record) -> Column:
    """The column in which a record stands."""
    parameters = msgspec.json.encode(record.attack.parameters, order="deterministic")
    return Column(record.attack.name, parameters.decode(), record.stop)


def label_columns(columns: Iterable[Column]) -> dict[Column, str]:
    """The attack's name, followed in brackets by what tells it from others of that name."""
    labels = {}
    for name, group in groupby(sorted(set(columns)), key=lambda column: column.attack):
        variants = {column: column.values() for column in group}
        keys = sorted({key for values in variants.values() for key in values})
        telling = [k for k in keys if len({values.get(k) for values in variants.values()}) > 1]
        for column, values in variants.items():
            inside = ",".join(f"{key}={values.get(key, '')}" for key in telling)
            labels[column] = f"{name}[{inside}]" if inside else name
    return labels


def matching(text: str, labels: Mapping[Column, str]) -> list[str]:
    """Labels of the columns that `text` (a label, or name[key=value,...]) fits, sorted."""
    if text in labels.values():
        return [text]
    name, wanted = parse_call(text)
    fitting = (
        label
        for column, label in labels.items()
        if column.attack == name and wanted.items() <= column.values().items()
    )
    return sorted(fitting)
