"""Robust accuracy against eps: where it does not fall to nothing, the attack is too weak."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from robench.boards import words
from robench.boards.audits import Audit, SweepPoint, audited
from robench.boards.columns import Column, label_columns
from robench.boards.plots.choice import one_label, titled, wanted
from robench.boards.plots.plot import Plot, Records
from robench.boards.rank import Board, Line, build_boards
from robench.core.errors import InputError
from robench.core.record import Record
from robench.core.statistics import Estimate, wilson
from robench.core.threat import format_eps, parse_number
from robench.figures.style import blank, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUDIT = "audit"
"""What `--attack` says to mean the sweep that `robench audit` made."""
_SWEEP = "G7"


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One defense. robust[i]: accuracy, a fraction of 1, at eps[i]; the clean one at eps 0."""

    name: str
    n: int
    eps: tuple[float, ...]
    robust: tuple[Estimate, ...]


class Epsilon(msgspec.Struct, frozen=True, kw_only=True):
    """What the figure shows."""

    images: str
    """`cifar10, linf`, and how many images where all curves are of the same."""
    norm: str
    attack: str
    curves: tuple[Curve, ...]


@dataclass
class _Sweep:
    """The finished records of one defense in one column, by eps."""

    names: list[str] = field(default_factory=list)
    records: dict[float, Record] = field(default_factory=dict)


def epsilon(records: Records, *, attack: str | None = None) -> Plot:
    """A line per defense through its records at several eps: same attack, same images.

    attack: "audit" takes the sweeps of the audits that lie beside the records.
    Raises: InputError when there is no sweep, or several that must be chosen from.
    """
    boards = _same_images(build_boards(wanted(records)))
    swept = _swept(boards)
    labels = label_columns(swept)
    sources = {labels[column]: tuple(_curves(swept[column].values())) for column in swept}
    if audits := tuple(_audits(boards)):
        sources[AUDIT] = audits
    if not sources:
        raise InputError(
            "no attack has records at two eps on the same images, and no audit lies beside them: "
            "robench eval --eps 4/255 adds one, robench audit makes a sweep"
        )
    chosen = one_label(attack, list(sources), {label: c for c, label in labels.items()})
    ground, curves = boards[0].ground, sources[chosen]
    n = f", {ground.n} images ({ground.digest[:8]})" if chosen != AUDIT else ""
    data = Epsilon(
        images=words.plain(f"{ground.dataset}, {ground.norm}{n}"),
        norm=ground.norm,
        attack="PGD of the audit" if chosen == AUDIT else words.plain(chosen),
        curves=curves,
    )
    return Plot(data, partial(_draw, data), tuple(_rises(curves)))


def _same_images(boards: Sequence[Board]) -> Sequence[Board]:
    """The boards, which differ in eps alone."""
    titles = {
        (board.ground.dataset, board.ground.norm, board.ground.digest): words.title(board)
        for board in boards
    }
    if len(titles) > 1:
        raise InputError(
            "a figure is of one image set and norm, and the records have several: "
            f"{'; '.join(titles.values())}: "
            "choose one with --dataset, --norm, --n or --records"
        )
    return boards


def _swept(boards: Iterable[Board]) -> dict[Column, dict[str, _Sweep]]:
    """Sweeps by column and by fingerprint: those over two eps or more."""
    found: dict[Column, dict[str, _Sweep]] = {}
    for board in boards:
        for line in board.lines:
            for label, column in board.meanings.items():
                cell = line.cells.get(label)
                if cell is not None and cell.row.status == "done":
                    sweeps = found.setdefault(column, {})
                    sweep = sweeps.setdefault(line.defense.fingerprint, _Sweep())
                    sweep.names.append(titled(line))
                    sweep.records[board.ground.eps] = cell.records[0]
    several = {
        column: {key: sweep for key, sweep in sweeps.items() if len(sweep.records) > 1}
        for column, sweeps in found.items()
    }
    return {column: sweeps for column, sweeps in several.items() if sweeps}


def _curves(sweeps: Iterable[_Sweep]) -> Iterator[Curve]:
    for sweep in sweeps:
        verdicts = [sweep.records[eps].verdicts for eps in sorted(sweep.records)]
        clean = wilson(sum(verdicts[0].clean_correct), len(verdicts[0]))
        robust = (wilson(sum(v.survived), len(v)) for v in verdicts)
        yield Curve(
            name=max(sweep.names, key=len),  # where a board needs the fingerprint, all do
            n=len(verdicts[0]),
            eps=(0.0, *sorted(sweep.records)),
            robust=(clean, *robust),
        )


def _audits(boards: Iterable[Board]) -> list[Curve]:
    """The sweeps in the audits beside the records, one per defense."""
    found: dict[str, Curve] = {}
    for line in (line for board in boards for line in board.lines):
        audit = audited(line).audit
        for finding in audit.findings if audit else ():
            if audit and finding.id == _SWEEP and finding.details.curve:
                found[line.defense.fingerprint] = _audit_curve(line, audit, finding.details.curve)
    return list(found.values())


def _audit_curve(line: Line, audit: Audit, points: Sequence[SweepPoint]) -> Curve:
    """Its shares are of the images that were attacked: the clean-correct ones."""
    survived = (round(point.robust_share * audit.clean_correct) for point in points)
    return Curve(
        name=f"{titled(line)}, {audit.n} images",
        n=audit.n,
        eps=(0.0, *(parse_number(point.eps or "") for point in points)),
        robust=tuple(wilson(k, audit.n) for k in (audit.clean_correct, *survived)),
    )


def _rises(curves: Iterable[Curve]) -> Iterator[str]:
    """A sentence for each curve that rises: what survives a ball survives every smaller one."""
    for curve in curves:
        values = [estimate.value for estimate in curve.robust]
        for (low, a), (high, b) in pairwise(zip(curve.eps, values, strict=True)):
            if b > a:
                yield (
                    f"{curve.name}: robust accuracy rises from {100 * a:.1f} % at eps "
                    f"{format_eps(low)} to {100 * b:.1f} % at {format_eps(high)}: the attack is "
                    "too weak, robench audit says why"
                )


def _draw(data: Epsilon) -> "Figure":
    figure = blank(5.2, 3.4)
    axes = figure.add_subplot()
    axes.set_title(f"{data.images}, {data.attack}").set_parse_math(False)
    scale = 255 if data.norm == "linf" else 1
    for place, curve in enumerate(data.curves):
        colour, dashes = look(place)
        x = [scale * eps for eps in curve.eps]
        value, low, high = ([100 * e[bound] for e in curve.robust] for bound in range(3))
        axes.plot(x, value, color=colour, linestyle=dashes, marker="o", label=curve.name)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("eps (1/255)" if data.norm == "linf" else "eps")
    axes.set_ylabel("robust accuracy (%)")
    for text in axes.legend().get_texts():
        text.set_parse_math(False)
    return figure
