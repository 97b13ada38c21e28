"""The figures of a report, as SVG; one that the records do not allow is a sentence instead."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from robench.boards import words
from robench.boards.plots import FIGURES
from robench.boards.plots.plot import Plot, Records
from robench.boards.rank import Board, Line
from robench.core.errors import InputError


@dataclass(frozen=True)
class Picture:
    """name: of the figure, `tradeoff`. caption: plain text. svg: a whole file."""

    name: str
    caption: str
    svg: bytes


def pictures(records: Records, board: Board, line: Line) -> Iterator[Picture | str]:
    """Every figure of a board: with all of its defenses, or of the one defense of the report."""
    ground = board.ground
    here = replace(records, dataset=ground.dataset, norm=ground.norm, n=ground.n)
    alone = replace(here, defenses=(line.label,))
    for name in FIGURES.names():
        yield _picture(name, alone if name in FIGURES.group("one-defense") else here, ground.eps)


def _picture(name: str, records: Records, eps: float) -> Picture | str:
    try:
        made: Callable[..., Plot] = FIGURES.load(name)
        options = {"eps": eps} if "eps" in inspect.signature(made).parameters else {}
        plot = made(records, **options)
        svg = _svg(plot)
    except InputError as error:
        return words.plain(f"No figure {name}: {error}.")
    remarks = " ".join(f"{remark}." for remark in plot.remarks)
    return Picture(name, words.plain(f"{FIGURES.help(name)}. {remarks}".strip()), svg)


def _svg(plot: Plot) -> bytes:
    from robench.figures.saving import rendered
    from robench.figures.style import styled

    with styled():
        figure = plot.draw()
    return rendered(figure, ["svg"], plot.data)["svg"]
