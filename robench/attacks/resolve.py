"""From `pgd_sat[steps=50]` to an attack with its parameters set, and back to what a record says."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from robench.attacks import ADAPTERS, ATTACKS
from robench.core.errors import InputError
from robench.core.names import did_you_mean, parse_call, split_list
from robench.core.protocols import Attack
from robench.core.record import AttackInfo
from robench.core.threat import parse_number


@dataclass(frozen=True)
class NamedAttack:
    """An attack under the name that tables and records give it."""

    name: str
    attack: Attack

    @property
    def info(self) -> AttackInfo:
        """Name and every parameter, defaults included."""
        return AttackInfo(name=self.name, parameters=parameters_of(self.attack))


def parameters_of(attack: Attack) -> dict[str, Any]:
    """The fields of the attack as plain values; of an adapter, the arguments that it passes on."""
    keywords = getattr(attack, "keywords", None)
    if keywords is not None:
        return dict(keywords)
    return dict(dataclasses.asdict(attack))  # type: ignore[call-overload]


def resolve_attacks(text: str) -> list[NamedAttack]:
    """The attacks of a comma list; groups expand, and a later entry overrides an earlier one.

    Raises: InputError for unknown names or parameters, with the nearest ones.
    """
    chosen: dict[str, NamedAttack] = {}
    for item in split_list(text):
        name, arguments = parse_call(item)
        members = ATTACKS.group(name)
        if members and arguments:
            raise InputError(f"{name!r} is a group of attacks and takes no [parameters]")
        for member in members or [name]:
            chosen[member] = resolve_attack(member, arguments)
    if not chosen:
        raise InputError("no attack given: see robench list attacks")
    return list(chosen.values())


def resolve_attack(name: str, arguments: dict[str, str]) -> NamedAttack:
    """One attack by its table name or `adapter:Class`, with text arguments set."""
    scheme, colon, rest = name.partition(":")
    if colon:
        return NamedAttack(name, ADAPTERS.load(scheme)(rest, arguments))
    attack = ATTACKS.load(name)
    return NamedAttack(name, with_arguments(name, attack, arguments))


def with_arguments(name: str, attack: Any, arguments: dict[str, str]) -> Attack:
    """The attack with its fields set from text: types follow the fields, floats read 2/255."""
    arguments = dict(arguments)
    preset = _preset(name, attack, arguments.pop("preset", None))
    hints = get_type_hints(type(attack))
    known = [field.name for field in dataclasses.fields(attack)]
    values: dict[str, Any] = dict(preset)
    for key, text in arguments.items():
        if key not in known:
            hint = did_you_mean(key, known)
            takes = ", ".join(known) or "none"
            raise InputError(f"{name} has no parameter {key!r}{hint}: it takes {takes}")
        values[key] = _read(name, key, text, hints[key])
    replaced: Attack = dataclasses.replace(attack, **values)
    check_counts(name, replaced)
    return replaced


def _preset(name: str, attack: Any, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    if preset not in attack.presets:
        has = ", ".join(attack.presets) or "none"
        raise InputError(f"{name} has no preset {preset!r}: it has {has}")
    return dict(attack.presets[preset])


def _read(name: str, key: str, text: str, kind: Any) -> Any:
    try:
        if kind is float:
            return parse_number(text)
        if get_origin(kind) is Literal and text not in get_args(kind):
            hint = did_you_mean(text, get_args(kind))
            raise InputError(f"unknown value{hint}: expected {', '.join(get_args(kind))}")
        return msgspec.convert(text, kind, strict=False)
    except (msgspec.ValidationError, InputError) as error:
        raise InputError(f"{name}[{key}={text}]: {error}") from None


def check_counts(name: str, attack: Any) -> None:
    """Refuse step sizes and counts that no search can use."""
    for key, value in dataclasses.asdict(attack).items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and value <= 0:
            raise InputError(f"{name}[{key}={value}]: expected a number above 0")
