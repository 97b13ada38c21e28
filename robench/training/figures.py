"""Training curves of one or several runs: total loss, both teachers' relative losses and entropies.

Source: Zhao et al. 2023 (B-MTARD), Figures 4, 5 and 6. Added: under the relative losses the weights
and under the entropies the temperatures, because a temperature alone lowers its teacher's loss
(training-methods.md 14).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robench.core.errors import InputError
from robench.figures.labels import label_ends
from robench.figures.saving import check_format, rendered, write_all
from robench.figures.style import COLOURS, GREY, LINE, Dashes, blank, look, styled, wrapped
from robench.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Run = tuple[str, History]
"""The name that the figures show, and what to draw."""

_ACROSS = 4  # panels side by side
_LOG_FROM = 30  # ratio of the largest to the smallest loss from which the axis is logarithmic


@dataclass(frozen=True)
class _Pair:
    """What there is once per teacher: its axis, and the columns of the clean and the robust one."""

    label: str
    columns: tuple[str, str]
    low: float | None = None
    high: float | None = None


_TEACHERS: tuple[tuple[str, str, Dashes], ...] = (
    ("clean teacher, on clean images", COLOURS[0], "solid"),
    ("robust teacher, on adversarial images", COLOURS[1], "dashed"),
)
_PAIRS = {
    "relative-losses": (
        _Pair("relative loss\n(1 = first step)", ("relative_nat", "relative_adv"), low=0),
        _Pair("loss weight", ("w_nat", "w_adv"), low=0, high=1),
    ),
    "entropies": (
        _Pair("teacher's entropy (nats)", ("entropy_nat", "entropy_adv"), low=0),
        _Pair("temperature", ("tau_nat", "tau_adv")),
    ),
}


@dataclass(frozen=True)
class Drawn:
    """The files written, and a sentence for every run or figure that had to be left out."""

    paths: list[Path]
    left_out: list[str]


def draw(
    histories: Sequence[Run], folder: Path, prefix: str = "", formats: Sequence[str] = ("png",)
) -> Drawn:
    """Write total-loss, relative-losses and entropies, as far as the runs have their columns.

    The files are `folder/<prefix><figure>.<format>`, the same bytes for the same histories, and
    none is written before all are drawn.
    Raises: InputError for an unknown format, without matplotlib, and when there is nothing to draw;
    RunError when a file cannot be written.
    """
    for format_ in formats:
        check_format(format_)
    figures, left_out = build(histories)
    files: dict[Path, bytes] = {}
    for name, figure in figures.items():
        for format_, content in rendered(figure, formats, _plotted(name, histories)).items():
            files[folder / f"{prefix}{name}.{format_}"] = content
    write_all(files)
    return Drawn(list(files), left_out)


def _plotted(figure: str, histories: Sequence[Run]) -> object:
    """What the figure is drawn from, for its digest."""
    pairs = _PAIRS.get(figure, ())
    columns = [column for pair in pairs for column in pair.columns] or ["loss"]
    return [
        figure,
        [(name, history.epochs, _columns(history, columns)) for name, history in histories],
    ]


def _columns(history: History, names: Sequence[str]) -> dict[str, list[float]]:
    return {name: history.numbers(name) for name in names if name in history.columns}


def build(histories: Sequence[Run]) -> "tuple[dict[str, Figure], list[str]]":
    """The figures by name, and what is not in them.

    Raises: InputError without matplotlib, and when there is nothing to draw.
    """
    figures: dict[str, Figure] = {}
    left_out: list[str] = []
    with styled():
        for name, columns in _needed().items():
            runs = [run for run in histories if _has(run[1], columns)]
            left_out += _left_out(name, columns, histories, runs)
            if runs:
                figures[name] = _total_loss(runs) if name not in _PAIRS else _panels(name, runs)
    if not figures:
        raise InputError(f"nothing to draw: {'; '.join(left_out) or 'no runs are given'}")
    return figures, left_out


def _needed() -> dict[str, tuple[str, ...]]:
    return {"total-loss": ("loss",)} | {name: pair[0].columns for name, pair in _PAIRS.items()}


def _has(history: History, columns: Sequence[str]) -> bool:
    return all(
        name in history.columns and any(map(math.isfinite, history.numbers(name)))
        for name in columns
    )


def _left_out(
    figure: str, columns: Sequence[str], histories: Sequence[Run], runs: Sequence[Run]
) -> list[str]:
    wanted = f"no numbers in {' and '.join(columns)}"
    if not runs:
        return [f"no figure {figure}: {wanted}"]
    return [f"{run[0]} is not in {figure}: {wanted}" for run in histories if run not in runs]


def _total_loss(runs: Sequence[Run]) -> "Figure":
    names = [wrapped(name, 28) for name, _ in runs]
    lines = sum(name.count("\n") + 1 for name in names)
    height = max(3.0, 0.8 + 1.1 * lines * LINE)
    figure = blank(5.6, height)
    axes = figure.add_subplot()
    losses = [list(filter(math.isfinite, history.numbers("loss"))) for _, history in runs]
    lowest, highest = min(map(min, losses)), max(map(max, losses))
    logarithmic = lowest > 0 and highest > _LOG_FROM * lowest
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set_ylabel("total loss (log scale)" if logarithmic else "total loss")
    _epoch_axis(axes)
    for place, (_, history) in enumerate(runs):
        _line(axes, history, "loss", *look(place))
    label_ends(axes, names, [values[-1] for values in losses], height - 0.6)
    return figure


def _panels(name: str, runs: Sequence[Run]) -> "Figure":
    """A panel per run on common axes: the quantity, and below it what moves it where recorded."""
    upper, lower = _PAIRS[name]
    pairs = [upper, lower] if any(_has(history, lower.columns) for _, history in runs) else [upper]
    across = min(len(runs), _ACROSS)
    down = math.ceil(len(runs) / _ACROSS)
    figure = blank(1.0 + 1.9 * max(across, 2), 0.4 + (1.2 + 1.1 * len(pairs)) * down)
    grid = figure.add_gridspec(down * len(pairs), across, height_ratios=[2, 1][: len(pairs)] * down)
    shared: dict[int, Axes] = {}
    for place, (run, history) in enumerate(runs):
        row, column = divmod(place, _ACROSS)
        for part, pair in enumerate(pairs):
            cell = grid[row * len(pairs) + part, column]
            axes = figure.add_subplot(cell, sharex=shared.get(0), sharey=shared.get(part))
            shared.setdefault(part, axes)
            _panel(axes, history, pair, leftmost=column == 0, lowest=pair is pairs[-1])
            if part == 0:
                axes.set_title(wrapped(run, 26)).set_parse_math(False)
    for part, pair in enumerate(pairs):
        shared[part].set_ylim(pair.low, pair.high)
    _legend(figure, ncols=2 if across > 2 else 1)
    return figure


def _panel(axes: "Axes", history: History, pair: _Pair, *, leftmost: bool, lowest: bool) -> None:
    if _has(history, pair.columns):
        for column, (_, colour, dashes) in zip(pair.columns, _TEACHERS, strict=True):
            _line(axes, history, column, colour, dashes)
    else:
        axes.text(0.5, 0.5, "not recorded", color=GREY, ha="center", transform=axes.transAxes)
    _epoch_axis(axes)
    if leftmost:
        axes.set_ylabel(pair.label)
    if not lowest:
        axes.set_xlabel("")
    axes.tick_params(labelleft=leftmost, labelbottom=lowest)


def _legend(figure: "Figure", ncols: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, linestyle=d, label=text) for text, c, d in _TEACHERS]
    figure.legend(handles=handles, loc="outside upper left", ncols=ncols, handlelength=2.4)


def _epoch_axis(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))


def _line(axes: "Axes", history: History, column: str, colour: str, dashes: Dashes) -> None:
    # A line through one epoch, or through one between gaps, would not be seen.
    marker = "o" if len(history.rows) < 10 else ""
    values = history.numbers(column)
    axes.plot(history.epochs, values, color=colour, linestyle=dashes, marker=marker, label=column)
