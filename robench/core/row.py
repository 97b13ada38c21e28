"""Row: what a record says, in the words of `eval --json` and of the boards."""

from collections.abc import Sequence
from typing import Any

import msgspec

from robench.core.errors import InputError
from robench.core.flags import LEVELS
from robench.core.record import (
    Component,
    Flag,
    Record,
    Status,
    Stop,
    Verdicts,
    query_use,
)
from robench.core.statistics import w_robust, wilson, worst_class

WORST_CASE = "worst_case"


class Row(msgspec.Struct, kw_only=True):
    """One line of a W-Robust table; accuracies are fractions of 1, null where not measured."""

    defense: str
    label: str | None = None
    """What must be said of the defense's training: "small-scale, 5-step"."""
    dataset: str
    attack: str
    parameters: dict[str, Any] = {}
    status: Status
    reason: str | None = None
    n: int = 0
    norm: str
    eps: float
    stop: Stop | None = None
    precision: str | None = None
    seed: int | None = None
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    w_robust: float | None = None
    robust_interval_95: tuple[float, float] | None = None
    w_robust_interval_95: tuple[float, float] | None = None
    worst_class: int | None = None
    """The label of which the smallest share survives; of the judged images."""
    worst_class_robust_accuracy: float | None = None
    worst_class_n: int | None = None
    """Images of that label."""
    flags: tuple[Flag, ...] = ()
    seconds: float = 0.0
    forward_passes: int = 0
    backward_passes: int = 0
    queries: int | None = None
    queries_mean: float | None = None
    """Of the attacked images, for black-box attacks; then the median and the most of them."""
    queries_median: float | None = None
    queries_most: int | None = None
    components: list[Component] = []
    """What each part of the attack broke and took, in their order."""
    record: str | None = None
    """Path of the record file, null for rows that come from no single file."""


def row_of(record: Record, pi_adv: float = 0.5, path: str | None = None) -> Row:
    """The row of one record. pi_adv: weight of robust accuracy in W-Robust, in [0, 1]."""
    row = Row(
        defense=record.defense.name,
        label=record.defense.label,
        dataset=record.images.dataset,
        attack=record.attack.name,
        parameters=record.attack.parameters,
        status=record.status,
        reason=record.reason,
        norm=record.threat.norm,
        eps=record.threat.eps,
        stop=record.stop,
        precision=record.precision,
        seed=record.seed,
        flags=record.flags,
        seconds=record.cost.seconds,
        components=record.components,
        record=path,
    )
    _fill_figures(row, record.verdicts, record.verdicts.survived, pi_adv)
    use = query_use(record.verdicts)
    if use is not None:
        row.queries_mean, row.queries_median, row.queries_most = use.mean, use.median, use.most
    return row


def _fill_figures(row: Row, verdicts: Verdicts, survived: Sequence[bool], pi_adv: float) -> None:
    if not 0 <= pi_adv <= 1:
        raise InputError(f"--pi-adv must lie in [0, 1], not {pi_adv}")
    row.n = len(verdicts)
    row.forward_passes += sum(verdicts.forward_passes)
    row.backward_passes += sum(verdicts.backward_passes)
    charged = [q for q in verdicts.queries if q is not None]
    row.queries = sum(charged) if charged else None
    if not row.n:
        return
    clean, robust = wilson(sum(verdicts.clean_correct), row.n), wilson(sum(survived), row.n)
    weighted = w_robust(verdicts.clean_correct, survived, pi_adv)
    row.clean_accuracy, row.robust_accuracy, row.w_robust = clean[0], robust[0], weighted[0]
    row.robust_interval_95 = (robust.low, robust.high)
    row.w_robust_interval_95 = (weighted.low, weighted.high)
    worst = worst_class(verdicts.label, survived)
    row.worst_class, row.worst_class_robust_accuracy, row.worst_class_n = worst


def worst_case(
    records: Sequence[Record], pi_adv: float = 0.5, parameter: str | None = None
) -> Row | None:
    """The union of several attacks' verdicts on the same images and threat, or None.

    An image survives when it survives every finished attack. Only finished records of one defense,
    image set and threat are united; fewer than two give None. parameter: members are named by this
    parameter of their attack instead of by the attack.
    """
    done = [record for record in records if record.status == "done"]
    grounds = {(r.defense.fingerprint, r.images.digest, r.threat) for r in done}
    images = {frozenset(r.verdicts.id) for r in done}
    if len(done) < 2 or len(grounds) != 1 or len(images) != 1:
        return None
    first, union = done[0], survivors(done)
    survived = [union[image] for image in first.verdicts.id]
    members = [r.attack.parameters[parameter] if parameter else r.attack.name for r in done]
    row = Row(
        defense=first.defense.name,
        label=first.defense.label,
        dataset=first.images.dataset,
        attack=WORST_CASE,
        parameters={"members": members},
        status="done",
        norm=first.threat.norm,
        eps=first.threat.eps,
        flags=_united_flags(members, [record.flags for record in done]),
        seconds=sum(record.cost.seconds for record in done),
    )
    _fill_figures(row, first.verdicts, survived, pi_adv)
    row.forward_passes = sum(sum(r.verdicts.forward_passes) for r in done)
    row.backward_passes = sum(sum(r.verdicts.backward_passes) for r in done)
    charged = [q for r in done for q in r.verdicts.queries if q is not None]
    row.queries = sum(charged) if charged else None
    return row


def _united_flags(members: Sequence[str], raised: Sequence[tuple[Flag, ...]]) -> tuple[Flag, ...]:
    """Each flag of the members once, at its highest level, the worst member's message first."""
    by_name: dict[str, list[tuple[Flag, str]]] = {}
    for member, flags in zip(members, raised, strict=True):
        for flag in flags:
            by_name.setdefault(flag.name, []).append((flag, member))
    return tuple(_united(found) for found in by_name.values())


def _united(found: list[tuple[Flag, str]]) -> Flag:
    found = sorted(found, key=lambda pair: -LEVELS.index(pair[0].level))
    said: dict[str, list[str]] = {}
    for flag, member in found:
        said.setdefault(flag.message, []).append(member)
    message = "; ".join(f"{', '.join(dict.fromkeys(who))}: {text}" for text, who in said.items())
    worst = found[0][0]
    return Flag(name=worst.name, level=worst.level, message=message, value=worst.value)


def survivors(records: Sequence[Record]) -> dict[int, bool]:
    """Image id -> whether it survived every one of `records`, whatever their order of images."""
    union = dict.fromkeys(records[0].verdicts.id, True)
    for record in records:
        for image, survived in zip(record.verdicts.id, record.verdicts.survived, strict=True):
            union[image] = union[image] and survived
    return union
