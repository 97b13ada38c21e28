"""Which published rows stand beside a record, which stay apart, and what forbids a rank.

Beside a record stand the rows of its data set, attack, norm, eps and network. Architecture alone
does not make them comparable: parameter counts must be equal too, else "other size".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from robench.boards.placing import Figure
from robench.boards.published import names
from robench.boards.published.entry import Entry
from robench.core.record import DefenseInfo, Record, format_ids
from robench.core.threat import format_eps


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A published row beside ours. Fractions of 1, null where nothing is printed."""

    name: str
    where: tuple[str, ...]
    """The tables that print it; nothing for a leaderboard."""
    architecture: str
    parameters: int | None
    """Null where the published name does not decide them."""
    clean: float | None
    robust: float | None
    w_robust: float | None
    """As printed."""
    w_robust_recomputed: float | None
    """Mean of the two accuracies as printed."""
    best_known: float | None
    """Lowest known robust accuracy under whatever attack; RobustBench only."""
    clean_difference: Figure | None
    """Ours minus published, as the other two."""
    robust_difference: Figure | None
    w_robust_difference: Figure | None
    unranked: str | None
    """What about this row forbids a rank; null for a row that may have a part in ours."""
    remarks: tuple[str, ...]


class Apart(msgspec.Struct, frozen=True):
    """Published rows of the data set and attack that do not stand beside ours."""

    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """What was measured, with the bounds within which it is known of the whole test set."""

    clean: Figure
    robust: Figure
    w_robust: Figure


def dataset_of(record: Record) -> str:
    """The data set whose test images were judged: cifar10 for cifar10-sample."""
    return names.PREFIXES.get(record.images.dataset, record.images.dataset)


def join(
    record: Record, ours: Figures, entries: Iterable[Entry]
) -> tuple[list[Beside], tuple[Apart, ...]]:
    """The rows beside the record, and the names of those that stay apart by their reason.

    Rows that may be ranked come first, each group by falling robust accuracy.
    """
    beside: list[Beside] = []
    apart: dict[str, list[str]] = {}
    for entry in _of_same_attack(record, entries):
        reason = _why_apart(record, entry)
        if reason is None:
            beside.append(_beside(entry, record.defense, ours))
        else:
            apart.setdefault(reason, []).append(entry.name)
    beside.sort(key=_order)
    return beside, tuple(Apart(reason, tuple(rows)) for reason, rows in apart.items())


def _order(row: Beside) -> tuple[bool, bool, float, str]:
    return row.unranked is not None, row.robust is None, -(row.robust or 0.0), row.name


def _of_same_attack(record: Record, entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        setting = names.ATTACKS[entry.attack]
        same_attack = setting is not None and setting.attack == record.attack.name
        if same_attack and entry.dataset == dataset_of(record):
            yield entry


def _why_apart(record: Record, entry: Entry) -> str | None:
    threat, defense = record.threat, record.defense
    if (entry.norm, entry.eps) != (threat.norm, threat.eps):
        return f"{entry.norm} eps {format_eps(entry.eps)}"
    if is_same_network(defense, entry):
        return None
    if defense.architecture in names.ARCHITECTURES:
        same = names.ARCHITECTURES[defense.architecture] == entry.architecture
    else:  # code of others may call itself anything: its size must tell
        same = entry.parameters == defense.parameters
    return None if same else "other architecture"


def is_same_network(defense: DefenseInfo, entry: Entry) -> bool:
    """Whether the defense was loaded from RobustBench under the entry's id.

    Then it is the published network, whatever its name tells of its architecture and size.
    """
    board = f"{entry.dataset}/{'Linf' if entry.norm == 'linf' else 'L2'}"
    return defense.architecture == f"robustbench:{board}/{entry.name}"


def _beside(entry: Entry, defense: DefenseInfo, ours: Figures) -> Beside:
    return Beside(
        name=entry.name,
        where=entry.where,
        architecture=entry.architecture,
        parameters=entry.parameters,
        clean=entry.clean,
        robust=entry.robust,
        w_robust=entry.w_robust,
        w_robust_recomputed=entry.w_robust_recomputed,
        best_known=entry.best_known,
        clean_difference=ours.clean.minus(entry.clean),
        robust_difference=ours.robust.minus(entry.robust),
        w_robust_difference=ours.w_robust.minus(entry.w_robust),
        unranked=_other_size(entry, defense) or entry.unranked,
        remarks=entry.remarks,
    )


def _other_size(entry: Entry, defense: DefenseInfo) -> str | None:
    if is_same_network(defense, entry) or entry.parameters == defense.parameters:
        return None
    if entry.parameters is None:
        return "size unknown"
    return f"other size: {entry.parameters:,} parameters"


def refusals(record: Record) -> Iterator[str]:
    """What about the record forbids a rank among any published rows."""
    for setting in names.ATTACKS.values():
        if setting is None or setting.attack != record.attack.name:
            continue
        if setting.unknown:
            yield f"{setting.attack} cannot be repeated as published: {setting.unknown}"
        elif departures := setting.departures(record.stop, record.attack.parameters):
            yield f"{setting.attack} differs from the published one: {', '.join(departures)}"
    if not is_prefix(record):
        yield "its images are not the first of the official test set"


def is_prefix(record: Record) -> bool:
    """Whether the judged images are the beginning of the official test set."""
    ids = sorted(record.verdicts.id)
    return format_ids(ids) == format_ids(range(len(ids)))
