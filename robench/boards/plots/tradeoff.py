"""Clean against robust accuracy: who gives up what, and what W-Robust makes of it."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from robench.boards import words
from robench.boards.placing import Point, pareto_front
from robench.boards.plots.choice import finished, left_out, one_board, one_column, titled
from robench.boards.plots.plot import Plot, Records
from robench.boards.plots.published import Published, published_beside
from robench.boards.rank import Cell, Line
from robench.core.statistics import Estimate, wilson
from robench.figures.labels import PointLabel, Segment, label_points
from robench.figures.style import COLOURS, GREY, INK, blank, mark, wrapped

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = 9  # at most so many lines of equal W-Robust


class Measured(msgspec.Struct, frozen=True):
    """A defense with its two accuracies, fractions of 1."""

    name: str
    clean: Estimate
    robust: Estimate

    @property
    def point(self) -> Point:
        """(clean, robust)."""
        return self.clean.value, self.robust.value


class Tradeoff(msgspec.Struct, frozen=True, kw_only=True):
    """What the figure shows."""

    board: str
    attack: str
    n: int
    pi_adv: float
    measured: tuple[Measured, ...]
    front: tuple[str, ...]
    """Names of the measured rows that no other one dominates, by falling clean accuracy."""
    published: Published | None


def tradeoff(
    records: Records,
    *,
    attack: str | None = None,
    eps: float | None = None,
    pi_adv: float = 0.5,
    source: str | None = None,
) -> Plot:
    """One mark per defense on one board. source: a name of SOURCES, whose rows stand beside.

    Raises: InputError when the records do not say which board and column, and for a source without
    rows of that attack.
    """
    board = one_board(records, eps, pi_adv)
    column = one_column(board, attack)
    lines = finished(board, column)
    measured = tuple(_measured(line, line.cells[column]) for line in lines)
    published = None if source is None else published_beside(board, column, source)
    data = Tradeoff(
        board=words.title(board),
        attack=words.plain(column),
        n=board.ground.n,
        pi_adv=pi_adv,
        measured=measured,
        front=tuple(pareto_front([(row.name, row.point) for row in measured])),
        published=published,
    )
    remarks = left_out(board, lines, column) + (published.remarks if published else ())
    return Plot(data, partial(_draw, data), remarks)


def _measured(line: Line, cell: Cell) -> Measured:
    row = cell.row
    assert row.clean_accuracy is not None and row.robust_accuracy is not None, "a finished record"
    clean, robust = (
        wilson(round(share * row.n), row.n) for share in (row.clean_accuracy, row.robust_accuracy)
    )
    return Measured(titled(line), clean, robust)


def _draw(data: Tradeoff) -> "Figure":
    figure = blank(6.3, 4.9 if data.published else 4.4)
    axes = figure.add_subplot()
    axes.set_title(f"{data.board}, {data.attack}", pad=14).set_parse_math(False)
    axes.set_xlabel("clean accuracy (%)")
    axes.set_ylabel("robust accuracy (%)")
    for place, row in enumerate(data.measured):
        _mark(axes, row, place)
    handles = list(_published(axes, data.published)) if data.published else []
    for front, dashes in zip(_fronts(data), ("solid", "dashed"), strict=False):
        _front(axes, front, dashes)
    _limits(axes)
    _equal_w_robust(axes, data.pi_adv)
    figure.legend(
        handles=[*_handles(data), *handles], loc="outside lower left", ncols=2, handlelength=2.2
    )
    _label(axes, data)
    return figure


def _mark(axes: "Axes", row: Measured, place: int) -> None:
    clean, robust = (Estimate(*(100 * x for x in e)) for e in (row.clean, row.robust))
    axes.errorbar(
        [clean.value],
        [robust.value],
        xerr=[[clean.value - clean.low], [clean.high - clean.value]],
        yerr=[[robust.value - robust.low], [robust.high - robust.value]],
        fmt=mark(place),
        color=COLOURS[place % len(COLOURS)],
        markersize=6,
        elinewidth=0.8,
        zorder=4,
        label=row.name,
    )


def _published(axes: "Axes", published: Published) -> "Iterator[Artist]":
    """Hollow marks, one shape per architecture while there are few; yields the legend's lines."""
    from matplotlib.lines import Line2D

    for place, (title, rows) in enumerate(published.groups()):
        look: dict[str, Any] = {
            "marker": mark(place),
            "mfc": "none",
            "mec": INK,
            "ls": "none",
            "ms": 4.5,
        }
        x, y = ([100 * row.point[i] for row in rows] for i in (0, 1))
        axes.plot(x, y, mew=0.8, zorder=3, **look)
        yield Line2D([], [], label=title, **look)
    yield Line2D([], [], color=GREY, ls="dashed", lw=0.9, label="Pareto front of the published")


def _front(axes: "Axes", points: Sequence[Point], dashes: str) -> None:
    """Steps through the front: what lies below and left of them is dominated."""
    x, y = ([100 * point[i] for point in sorted(points)] for i in (0, 1))
    axes.step(x, y, where="pre", color=GREY, linestyle=dashes, linewidth=0.9, zorder=2)


def _handles(data: Tradeoff) -> "Iterator[Artist]":
    from matplotlib.lines import Line2D

    yield Line2D(
        [],
        [],
        marker="o",
        color=INK,
        lw=0.8,
        ms=5,
        label=f"measured, {data.n:,} images, 95 % intervals",
    )
    yield Line2D([], [], color=GREY, lw=0.9, label="Pareto front of the measured")
    weights = f"{1 - data.pi_adv:g} clean + {data.pi_adv:g} robust"
    yield Line2D([], [], color="#b3b3b3", lw=0.6, ls="dotted", label=f"W-Robust = {weights}")


def _limits(axes: "Axes") -> None:
    """Room for the names, within what an accuracy can be."""
    for get, put in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = get()
        room = max(0.12 * (high - low), 1.5)
        put(max(low - room, -2.0), min(high + room, 102.0))


def _equal_w_robust(axes: "Axes", pi_adv: float) -> None:
    """Dotted lines of equal W-Robust, each with its figure at the right, else where it begins."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    low, high = ((1 - pi_adv) * x + pi_adv * y for x, y in ((left, bottom), (right, top)))
    step = next(s for s in (1, 2, 5, 10, 20) if (high - low) / s <= _LINES)
    for level in range(math.ceil(low / step) * step, math.floor(high) + 1, step):
        ends = _crossing(level, pi_adv, (left, right), (bottom, top))
        if len(ends) < 2:  # it touches a corner
            continue
        axes.plot(*zip(*ends, strict=True), color="#b3b3b3", lw=0.6, ls="dotted", zorder=1)
        leaves = max(ends)[0] == right
        axes.annotate(
            f"{level}",
            max(ends) if leaves else min(ends),
            (3, 0) if leaves else (3, 1),
            textcoords="offset points",
            color=GREY,
            fontsize=7,
            va="center" if leaves else "bottom",
        )


def _crossing(level: float, pi_adv: float, xs: Point, ys: Point) -> list[Point]:
    """The ends of the line pi_nat x + pi_adv y = level inside a rectangle, by rising x."""
    pi_nat = 1 - pi_adv
    ends = set()
    if pi_adv > 0:
        ends |= {(x, (level - pi_nat * x) / pi_adv) for x in xs}
    if pi_nat > 0:
        ends |= {((level - pi_adv * y) / pi_nat, y) for y in ys}
    inside = {(x, y) for x, y in ends if xs[0] <= x <= xs[1] and ys[0] <= y <= ys[1]}
    return sorted(inside)


def _label(axes: "Axes", data: Tradeoff) -> None:
    """Every measured name; of the published ones those that find room, the front's first."""
    labels = [
        PointLabel(wrapped(row.name, 30), _percent(row.point), COLOURS[place % len(COLOURS)])
        for place, row in enumerate(data.measured)
    ]
    if published := data.published:
        order = dict.fromkeys([*published.front, *range(len(published.rows))])
        labels += [
            PointLabel(row.name, _percent(row.point), INK, small=True)
            for row in (published.rows[place] for place in order)
        ]
    label_points(axes, labels, list(_obstacles(data)))


def _obstacles(data: Tradeoff) -> Iterator[Segment]:
    """What a name would be hard to read on: intervals, and the steps of the fronts."""
    for row in data.measured:
        (clean, low, high), (robust, bottom, top) = row.clean, row.robust
        yield _percent((low, robust)), _percent((high, robust))
        yield _percent((clean, bottom)), _percent((clean, top))
    for front in _fronts(data):
        for left, right in pairwise(sorted(front)):
            corner = left[0], right[1]
            yield _percent(left), _percent(corner)
            yield _percent(corner), _percent(right)


def _fronts(data: Tradeoff) -> Iterator[list[Point]]:
    yield [row.point for row in data.measured if row.name in data.front]
    if published := data.published:
        yield [published.rows[place].point for place in published.front]


def _percent(point: Point) -> Point:
    return 100 * point[0], 100 * point[1]
