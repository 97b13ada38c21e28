"""Robust accuracy against the queries that a black-box attack was given, from one run of it."""

from collections import Counter
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec

from robench.boards import words
from robench.boards.plots.choice import finished, left_out, one_board, one_column, titled
from robench.boards.plots.plot import Plot, Records
from robench.boards.rank import Line
from robench.core.errors import InputError
from robench.core.record import Verdicts
from robench.core.statistics import Estimate, wilson
from robench.figures.style import blank, look, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One defense under one attack.

    robust[i]: accuracy, a fraction of 1, once an image was asked queries[i] times. The last entry
    is where the attack ended; between entries nothing changes.
    """

    defense: str
    attack: str
    queries: tuple[int, ...]
    robust: tuple[Estimate, ...]


class Queries(msgspec.Struct, frozen=True, kw_only=True):
    """What the figure shows."""

    board: str
    curves: tuple[Curve, ...]


def queries(records: Records, *, attack: str | None = None, eps: float | None = None) -> Plot:
    """A falling line per defense and attack: images that so many queries each have not broken.

    attack: only this one.
    Raises: InputError when the records do not say which board, or count no queries.
    """
    board = one_board(records, eps)
    counting = [c for c in board.columns if any(_counts(line, c) for line in board.lines)]
    if not counting:
        raise InputError(
            f"no record on {words.title(board)} counts queries: "
            "robench eval --attacks square,rays,gradient_estimation writes such"
        )
    columns = counting if attack is None else [one_column(board, attack, counting)]
    lines = {column: finished(board, column) for column in columns}
    data = Queries(
        board=words.title(board),
        curves=tuple(_curve(line, column) for column in columns for line in lines[column]),
    )
    remarks = (remark for column in columns for remark in left_out(board, lines[column], column))
    return Plot(data, partial(_draw, data), tuple(remarks))


def _counts(line: Line, column: str) -> bool:
    cell = line.cells.get(column)
    return cell is not None and len(cell.records) == 1 and cell.row.queries is not None


def _curve(line: Line, column: str) -> Curve:
    verdicts = line.cells[column].records[0].verdicts
    steps = survivors_after(verdicts)
    return Curve(
        defense=titled(line),
        attack=words.plain(column),
        queries=tuple(asked for asked, _ in steps),
        robust=tuple(wilson(left, len(verdicts)) for _, left in steps),
    )


def survivors_after(verdicts: Verdicts) -> list[tuple[int, int]]:
    """(queries, images not broken by so many each) at every fall, from the clean-correct at 0.

    The last entry stands at the most queries that any image was asked.
    """
    correct = verdicts.clean_correct
    asked = [0 if q is None else q for q in verdicts.queries]
    broken = [c and not s for c, s in zip(correct, verdicts.survived, strict=True)]
    falls = Counter(compress(asked, broken))
    left = sum(correct)
    steps = [(0, left)]
    for count in sorted({*falls, max(asked, default=0)} - {0}):
        left -= falls[count]
        steps.append((count, left))
    return steps


def _draw(data: Queries) -> "Figure":
    figure = blank(5.2, 3.4)
    axes = figure.add_subplot()
    defenses, attacks = ({getattr(c, of) for c in data.curves} for of in ("defense", "attack"))
    shared = [next(iter(names)) for names in (defenses, attacks) if len(names) == 1]
    axes.set_title(wrapped(", ".join([data.board, *shared]), 80)).set_parse_math(False)
    for place, curve in enumerate(data.curves):
        colour, dashes = look(place)
        names = [name for name in (curve.defense, curve.attack) if name not in shared]
        value, low, high = ([100 * e[bound] for e in curve.robust] for bound in range(3))
        steps: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "label": ", ".join(names) or "_hidden",
        }
        axes.step(curve.queries, value, where="post", **steps)
        axes.fill_between(
            curve.queries, low, high, step="post", color=colour, alpha=0.15, linewidth=0
        )
    axes.set_xscale("symlog", linthresh=1)  # so that 0, the clean accuracy, has its place
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("queries an image")
    axes.set_ylabel("robust accuracy (%)")
    if len(data.curves) > 1:
        for text in axes.legend().get_texts():
            text.set_parse_math(False)
    return figure
