"""From the names of class folders to labels: what the order of the classes is, and why."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from robench.core.errors import InputError
from robench.core.names import did_you_mean, shown
from robench.data.class_names import (
    CIFAR10_ALIASES,
    CIFAR10_CLASSES,
    CIFAR100_ALIASES,
    CIFAR100_CLASSES,
)

_KNOWN: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "cifar10": (CIFAR10_CLASSES, CIFAR10_ALIASES),
    "cifar100": (CIFAR100_CLASSES, CIFAR100_ALIASES),
}
_MOST_NAMED = 5  # how many classes a note names
_WNID = re.compile(r"n[0-9]{8}")
_NUMBER = re.compile(r"([0-9]+)")
_NUMBER_FIRST = re.compile(r"([0-9]+)[^0-9A-Za-z].*", re.DOTALL)


@dataclass(frozen=True)
class LabelOrder:
    """The classes of an image folder in the order of the labels.

    class_names: one per label. label_of: the label of every class folder. note: one line that says
    how the order was understood.
    """

    class_names: tuple[str, ...]
    label_of: Mapping[str, int]
    note: str


def listed_order(folders: Sequence[str], names: Sequence[str], source: str) -> LabelOrder:
    """The order of a class list. names: its classes. source: what the list is called.

    Raises: InputError for a folder that the list does not have.
    """
    # File systems write accents in two ways, text editors in one.
    place = {_composed(name): label for label, name in enumerate(names)}
    if missing := [folder for folder in folders if _composed(folder) not in place]:
        name = shown(missing[0])
        more = f" (nor are {len(missing) - 1} others)" if len(missing) > 1 else ""
        hint = did_you_mean(name, names) or f": it has {_some(map(shown, names))}"
        raise InputError(
            f"class folder {name!r} is not in {shown(source)}{more}, which must name every class "
            f"folder, one a line, in the order of the labels{hint}"
        )
    label_of = {folder: place[_composed(folder)] for folder in folders}
    absent = len(names) - len(set(label_of.values()))
    without = f": {absent} of its {len(names)} classes have no folder here" if absent else ""
    return LabelOrder(tuple(names), label_of, f"class order of {shown(source)}{without}")


def understood_order(folders: Sequence[str]) -> LabelOrder:
    """What the names themselves say: a known data set's order, else numbers, else sorted names.

    folders: the sorted names of the class folders.
    """
    return _known(folders) or _wordnet(folders) or _numbered(folders) or _by_name(folders)


def _known(folders: Sequence[str]) -> LabelOrder | None:
    """The order of a data set whose classes these are, one to one."""
    for dataset, (classes, aliases) in _KNOWN.items():
        spelled = {
            _folded(form): name
            for name in classes
            for known in (name, *aliases.get(name, ()))
            for form in (known, _plural(known))
        }
        class_of = {folder: spelled.get(_folded(folder)) for folder in folders}
        if len(folders) != len(classes) or set(class_of.values()) != set(classes):
            continue
        ordered = sorted(folders, key=lambda folder: classes.index(class_of[folder] or ""))
        pairs = zip(ordered, classes, strict=True)
        others = [f"{shown(own)} = {name}" for own, name in pairs if _folded(own) != _folded(name)]
        note = f"class order of {dataset}" + (f": {_some(others)}" if others else "")
        return _in_order(ordered, note)
    return None


def _wordnet(folders: Sequence[str]) -> LabelOrder | None:
    if not all(map(_WNID.fullmatch, folders)):
        return None
    note = f"labels follow the sorted WordNet ids, as Tiny-ImageNet's do: {_some(folders)}"
    return _in_order(folders, note)


def _numbered(folders: Sequence[str]) -> LabelOrder | None:
    numbers = _only_difference(folders) or _leading(folders)
    if numbers is None or len(set(numbers)) < len(folders):
        return None
    ordered = [folder for _, folder in sorted(zip(numbers, folders, strict=True))]
    as_text = "" if ordered == list(folders) else f", not as text ({_some(map(shown, folders), 3)})"
    labels = (f"{shown(folder)} = label {label}" for label, folder in enumerate(ordered))
    return _in_order(ordered, f"class folders in numeric order{as_text}: {_some(labels)}")


def _only_difference(folders: Sequence[str]) -> list[int] | None:
    """The number in which the names differ, where they differ in nothing else."""
    parts = [_NUMBER.split(folder.casefold()) for folder in folders]
    if len({len(part) for part in parts}) > 1:
        return None
    columns = enumerate(zip(*parts, strict=True))
    differing = [place for place, values in columns if len(set(values)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:  # text stands at even places, numbers at odd
        return None
    return [int(part[differing[0]]) for part in parts]


def _leading(folders: Sequence[str]) -> list[int] | None:
    """The numbers that the names begin with, where all do: `0_airplane`, `10-truck`."""
    found = [_NUMBER_FIRST.fullmatch(folder) for folder in folders]
    return [int(match[1]) for match in found if match] if all(found) else None


def _by_name(folders: Sequence[str]) -> LabelOrder:
    named = _some(map(shown, folders))
    return _in_order(folders, f"labels follow the sorted folder names: {named}")


def _in_order(ordered: Sequence[str], note: str) -> LabelOrder:
    return LabelOrder(tuple(ordered), {folder: label for label, folder in enumerate(ordered)}, note)


def _folded(name: str) -> str:
    """The name without what does not count: case, spaces, `_` and `-`."""
    return re.sub(r"[\s_-]+", "", _composed(name)).casefold()


def _plural(name: str) -> str:
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _some(names: Iterable[str], most: int = _MOST_NAMED) -> str:
    every = list(names)
    return ", ".join(every[:most] + (["..."] if len(every) > most else []))
