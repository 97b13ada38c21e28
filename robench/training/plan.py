"""From a method's name, a preset and options to one complete recipe, its text, and the method."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from robench.core.errors import InputError
from robench.core.names import did_you_mean, method_name
from robench.core.references import portable
from robench.models import ARCHITECTURES
from robench.models.normalize import parse_normalization
from robench.training import METHODS, layers
from robench.training.layers import DEFAULT_PRESET, DEFAULT_ROLE, Layer
from robench.training.method import Method
from robench.training.recipe import Recipe
from robench.training.vocabulary import Vocabulary


def resolve_recipe(
    method: str,
    dataset: str,
    *,
    preset: str = DEFAULT_PRESET,
    role: str = DEFAULT_ROLE,
    student: str | None = None,
    width: int | None = None,
    file: Path | None = None,
    changes: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seed: int | None = None,
    precision: str | None = None,
) -> Recipe:
    """The recipe that all this amounts to, with every value and every parameter said.

    Later wins: the package's recipes (for all, by preset, by method, by both, by student), the
    user's file, options, `changes` ("optimizer.lr=0.2"). role: "student", or "teacher" for what
    others distil. teachers: "clean=REF".
    Raises: InputError for unknown names, values that cannot be, and settings that contradict.
    """
    method = method_name(method)
    words = Vocabulary(method, METHODS.load(method))
    named = {"method": method, "dataset": dataset, "preset": preset, "role": role}
    said: list[Layer] = []
    if file is not None:
        written, named = layers.from_file(file, named)
        said.append(written)
    said += layers.options(student=student, width=width, seed=seed, precision=precision)
    said += [*layers.teachers(teachers), *layers.changes(changes)]
    for layer in said:
        words.check(layer)
    return _complete(words, named, [*_packaged(words, named, said), *said])


def build_method(recipe: Recipe) -> Method:
    """The recipe's method with its parameters set, in the state in which training begins.

    Raises: InputError for a parameter or a value that the method does not take.
    """
    words = Vocabulary(recipe.method, METHODS.load(recipe.method))
    said = Layer("recipe", {"parameters": recipe.parameters})
    words.check(said)
    values = words.read(recipe.parameters, [said])
    assert dataclasses.is_dataclass(words.method)
    try:
        return dataclasses.replace(words.method, **values)
    except InputError as error:
        raise InputError(f"parameters of {recipe.method}: {error}") from error


def _packaged(words: Vocabulary, named: Mapping[str, str], said: Sequence[Layer]) -> list[Layer]:
    """The package's layers; those of the student last, for the user may have said which it is."""
    method, preset = named["method"], named["preset"]
    files = layers.shipped(named["dataset"])
    known = files.presets(method)
    if preset not in known:
        hint = did_you_mean(str(preset), known) or ":"
        raise InputError(f"unknown preset {preset!r}{hint} {method} has {', '.join(known)}")
    found = [words.only_taken(layer) for layer in [*files.at(), *files.at("presets", preset)]]
    found += [*files.at("methods", method), *files.at("methods", method, "presets", preset)]
    if named["role"] != DEFAULT_ROLE:
        found += _of_role(files, named)
    arch = str(layers.merged([*found, *said])["student"]["arch"])
    found += [words.only_taken(layer) for layer in files.at("students", arch)]
    found += files.at("methods", method, "students", arch)
    for layer in found:
        words.check(layer)
    return found


def _of_role(files: layers.Shipped, named: Mapping[str, str]) -> list[Layer]:
    method, preset, role = named["method"], named["preset"], named["role"]
    found = files.at(*layers.role_path(method, preset, role))
    if not found:
        able = " or ".join(files.with_role("teacher", preset)) or "no method"
        raise InputError(
            f"no recipe for {method} as {role} on {named['dataset']}, preset {preset}: expected "
            f"--role student, or --role teacher with {able}"
        )
    return found


def _complete(words: Vocabulary, named: Mapping[str, str], found: Sequence[Layer]) -> Recipe:
    table = layers.merged(found)
    _require_teachers(words, named["dataset"], table.get("teachers", {}))
    defaults = {name: getattr(words.method, name) for name in words.parameters}
    parameters = {**defaults, **words.read(table.get("parameters", {}), found)}
    recipe = words.recipe({**table, **named, "parameters": parameters}, found)
    ARCHITECTURES.load(recipe.student.arch)
    parse_normalization(recipe.student.normalize)
    build_method(recipe)
    label = recipe.label.replace("{steps}", str(recipe.inner.steps))
    return msgspec.structs.replace(recipe, label=label)


def _require_teachers(words: Vocabulary, dataset: str, given: Mapping[str, object]) -> None:
    for role in words.method.roles:
        teacher = given.get(role)
        if not isinstance(teacher, dict) or "ref" not in teacher:
            raise InputError(
                f"{words.name} on {dataset} needs a {role} teacher: "
                f"give one as --teacher {role}=REF"
            )


def portable_recipe(recipe: Recipe) -> Recipe:
    """The recipe as others may read it: no teacher by an absolute path of this machine."""
    teachers = {
        role: msgspec.structs.replace(teacher, ref=portable(teacher.ref))
        for role, teacher in recipe.teachers.items()
    }
    return msgspec.structs.replace(recipe, teachers=teachers)


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML, every value written out; it reads back to the same recipe."""
    return "\n".join(_toml_lines(msgspec.to_builtins(recipe), "")) + "\n"


def _toml_lines(table: dict[str, Any], path: str) -> list[str]:
    """Values first: in TOML what follows the head of a table belongs to that table."""
    values = {k: v for k, v in table.items() if v is not None and not isinstance(v, dict)}
    lines = [f"{_toml_key(key)} = {toml_value(value)}" for key, value in values.items()]
    for key, inner in table.items():
        if isinstance(inner, dict):
            place = path + _toml_key(key)
            below = _toml_lines(inner, f"{place}.")
            lines += ["", f"[{place}]", *below] if below and below[0] else below
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else toml_value(key)


def toml_value(value: object) -> str:
    """A string, number, truth value or list as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML wants this one character escaped, too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    assert isinstance(value, int | float), f"{value!r} has no form in TOML"
    return repr(value)


def read_recipe(path: Path) -> Recipe:
    """A recipe as `recipe_toml` wrote it. Raises: InputError for a file that holds none."""
    try:
        return msgspec.convert(layers.read_toml(path), Recipe)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is no whole recipe: {error}") from error


def differences(old: Recipe, new: Recipe) -> list[str]:
    """What differs, one line a key: "optimizer.lr: 0.1 before, 0.2 now"."""
    before, now = (flat(msgspec.to_builtins(recipe)) for recipe in (old, new))
    return [
        f"{path}: {_shown(before.get(path))} before, {_shown(now.get(path))} now"
        for path in dict.fromkeys([*before, *now])
        if before.get(path) != now.get(path)
    ]


def _shown(value: object) -> str:
    return "none" if value is None else toml_value(value)


def flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted path."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return found
