"""Robust accuracy of every defense under every attack, at a glance."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from robench.boards import words
from robench.boards.pairs import CLEAN
from robench.boards.plots.choice import one_board, titled
from robench.boards.plots.plot import Plot, Records
from robench.boards.rank import Line
from robench.core.statistics import Estimate, wilson
from robench.figures.style import GREY, blank, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK = 0.8  # from this accuracy on, the colour takes white letters


class Square(msgspec.Struct, frozen=True):
    """One cell. accuracy: fractions of 1; None where `words` says why there is none."""

    accuracy: Estimate | None
    words: str
    """`52.3`, with `!` or `!!` behind a figure that is flagged; `not run`, `partial`, `-`."""


class Heatmap(msgspec.Struct, frozen=True, kw_only=True):
    """What the figure shows: `squares[defense][attack]`, the first attack being none: `clean`."""

    board: str
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    squares: tuple[tuple[Square, ...], ...]


def heatmap(records: Records, *, eps: float | None = None) -> Plot:
    """A row per defense in the board's order, a column per attack, clean accuracy first.

    Raises: InputError when the records do not say which board.
    """
    board = one_board(records, eps)
    columns = [CLEAN, *board.columns]
    data = Heatmap(
        board=words.title(board),
        defenses=tuple(map(titled, board.lines)),
        attacks=tuple(map(words.plain, columns)),
        squares=tuple(tuple(_square(line, c) for c in columns) for line in board.lines),
    )
    flags = tuple(f"{flag}." for flag in words.board_flags(board) if not flag.startswith("info"))
    return Plot(data, partial(_draw, data), (*words.unfinished(board), *flags))


def _square(line: Line, column: str) -> Square:
    cell = line.cell(column)
    if cell is None:
        return Square(None, "-")
    row = cell.row
    share = row.clean_accuracy if column == CLEAN else row.robust_accuracy
    if row.status != "done" or share is None:
        return Square(None, words.status(row))
    mark = "" if column == CLEAN else words.mark(row)
    return Square(wilson(round(share * row.n), row.n), f"{100 * share:.1f}{mark}")


def _draw(data: Heatmap) -> "Figure":
    down, across = len(data.defenses), len(data.attacks)
    figure = blank(2.1 + 0.75 * max(across, 3), 1.6 + 0.44 * down)
    axes = figure.add_subplot()
    shares = [[s.accuracy.value if s.accuracy else float("nan") for s in r] for r in data.squares]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    axes.set_facecolor("#f5f5f5")
    for i, squares in enumerate(data.squares):
        for j, square in enumerate(squares):
            _write(axes, square, i, j)
    _frame(axes, data)
    title = f"{data.board}\naccuracy in %, 95 % intervals"
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium").set_parse_math(False)
    return figure


def _write(axes: "Axes", square: Square, i: int, j: int) -> None:
    if square.accuracy is None:
        axes.text(j, i, square.words, color=GREY, ha="center", va="center")
        return
    value, low, high = square.accuracy
    colour = "white" if value >= _DARK else "black"
    axes.text(j, i - 0.16, square.words, color=colour, ha="center", va="center")
    bounds = words.bounds((low, high))
    axes.text(j, i + 0.24, bounds, color=colour, ha="center", va="center", fontsize=6)


def _frame(axes: "Axes", data: Heatmap) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(data.attacks)), map(_label, data.attacks), rotation=30, ha="right")
    axes.set_yticks(range(len(data.defenses)), [wrapped(name, 26) for name in data.defenses])
    axes.tick_params(length=0)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    axes.set_xticks([j - 0.5 for j in range(1, len(data.attacks))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(data.defenses))], minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor", color="white", linewidth=1.5)
    axes.axvline(0.5, color="white", linewidth=5)  # clean accuracy is no attack's


def _label(attack: str) -> str:
    return wrapped(attack.replace("[", "\n[", 1), 24)
