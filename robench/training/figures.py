"""Training curves of one or several runs: total loss, both teachers' relative losses and entropies.

Source: Zhao et al. 2023 (B-MTARD), Figures 4, 5 and 6. Added: under the relative losses the weights
and under the entropies the temperatures, because a temperature alone lowers its teacher's loss
(training-methods.md 14).
"""

import io
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.core.names import did_you_mean
from robench.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Run = tuple[str, History]
"""The name that the figures show, and what to draw."""
_Dashes = Literal["solid", "dashed", "dotted"]

# Without dates and versions the same history gives the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FORMATS = tuple(_METADATA)

# Okabe and Ito's colours, told apart by colour-blind readers; without yellow, too pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: tuple[_Dashes, ...] = ("solid", "dashed", "dotted")
_GREY = "#8a8a8a"
_STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#4d4d4d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 3,
    "xtick.color": "#4d4d4d",
    "ytick.color": "#4d4d4d",
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text: it can be searched and edited
    "svg.hashsalt": "robench",
    "pdf.fonttype": 42,
}
_LINE = 8.5 * 1.3 / 72  # height of a line of text in inches
_ACROSS = 4  # panels side by side
_LOG_FROM = 30  # ratio of the largest to the smallest loss from which the axis is logarithmic


@dataclass(frozen=True)
class _Pair:
    """What there is once per teacher: its axis, and the columns of the clean and the robust one."""

    label: str
    columns: tuple[str, str]
    low: float | None = None
    high: float | None = None


_TEACHERS: tuple[tuple[str, str, _Dashes], ...] = (
    ("clean teacher, on clean images", _COLOURS[0], "solid"),
    ("robust teacher, on adversarial images", _COLOURS[1], "dashed"),
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
        if format_ not in FORMATS:
            hint = did_you_mean(format_, FORMATS) or f": there are {', '.join(FORMATS)}"
            raise InputError(f"unknown figure format {format_!r}{hint}")
    figures, left_out = build(histories)
    files: dict[Path, bytes] = {}
    for name, figure in figures.items():
        for format_, content in _rendered(figure, formats).items():
            files[folder / f"{prefix}{name}.{format_}"] = content
    for path, content in files.items():
        atomic_write(path, content)
    return Drawn(list(files), left_out)


def build(histories: Sequence[Run]) -> "tuple[dict[str, Figure], list[str]]":
    """The figures by name, and what is not in them.

    Raises: InputError without matplotlib, and when there is nothing to draw.
    """
    figures: dict[str, Figure] = {}
    left_out: list[str] = []
    with _style():
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


def _style() -> AbstractContextManager[None]:
    """Our style on top of matplotlib's own, whatever the user's matplotlibrc says."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise InputError(
            f"matplotlib cannot be imported ({error}): pip install 'robench[plot]'"
        ) from error
    return style.context(["default", _STYLE])


def _rendered(figure: "Figure", formats: Iterable[str]) -> dict[str, bytes]:
    contents = {format_: io.BytesIO() for format_ in formats}
    with _style():
        # Laid out once: every format written would move the layout of the next a little.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for format_, content in contents.items():
            figure.savefig(content, format=format_, metadata=_METADATA[format_])
    return {format_: content.getvalue() for format_, content in contents.items()}


def _figure(width: float, height: float) -> "Figure":
    """Inches. Not by pyplot, which would keep it, and choose a backend for the whole process."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _total_loss(runs: Sequence[Run]) -> "Figure":
    names = [_wrapped(name, 28) for name, _ in runs]
    lines = sum(name.count("\n") + 1 for name in names)
    height = max(3.0, 0.8 + 1.1 * lines * _LINE)
    figure = _figure(5.6, height)
    axes = figure.add_subplot()
    losses = [list(filter(math.isfinite, history.numbers("loss"))) for _, history in runs]
    lowest, highest = min(map(min, losses)), max(map(max, losses))
    logarithmic = lowest > 0 and highest > _LOG_FROM * lowest
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set_ylabel("total loss (log scale)" if logarithmic else "total loss")
    _epoch_axis(axes)
    for place, (_, history) in enumerate(runs):
        _line(axes, history, "loss", *_look(place))
    _label_ends(axes, names, [values[-1] for values in losses], height - 0.6)
    return figure


def _wrapped(name: str, width: int) -> str:
    """On several lines if it is longer than `width`; brackets get lines of their own."""
    parts = [name] if len(name) <= width else name.replace(" (", "\n(", 1).split("\n")
    return "\n".join(fill(part, width, break_on_hyphens=False) for part in parts)


def _look(place: int) -> tuple[str, _Dashes]:
    return _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]


def _label_ends(axes: "Axes", names: Sequence[str], ends: Sequence[float], height: float) -> None:
    """Each name beside the end of its line, in its colour, moved as far as overlaps demand.

    height: of the axes, in inches.
    """
    axes.get_ylim()  # fits the limits to the lines, which reading transLimits does not
    place = axes.transScale + axes.transLimits
    wanted = [float(place.transform((1.0, end))[1]) for end in ends]
    sizes = [(name.count("\n") + 1.15) * _LINE / height for name in names]
    for number, y in enumerate(spread(wanted, sizes)):
        text = axes.text(
            1.02, y, names[number], color=_look(number)[0], va="center", transform=axes.transAxes
        )
        text.set_parse_math(False)  # a run may be called $x$


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Centres of labels of these sizes: near `wanted`, in its order, not overlapping.

    In fractions of the axes. Labels that would touch become a block, which stands where the sum of
    its squared displacements is smallest, within [0, 1].
    """
    blocks: list[list[int]] = []
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        block = [i]
        while blocks and _rims(blocks[-1], wanted, sizes)[1] > _rims(block, wanted, sizes)[0]:
            block = blocks.pop() + block
        blocks.append(block)
    places = list(wanted)
    for block in blocks:
        low, _ = _rims(block, wanted, sizes)
        for i in block:
            places[i] = low + sizes[i] / 2
            low += sizes[i]
    return places


def _rims(block: list[int], wanted: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    height = displaced = 0.0
    for i in block:
        displaced += wanted[i] - (height + sizes[i] / 2)
        height += sizes[i]
    low = max(0.0, min(displaced / len(block), 1.0 - height))
    return low, low + height


def _panels(name: str, runs: Sequence[Run]) -> "Figure":
    """A panel per run on common axes: the quantity, and below it what moves it where recorded."""
    upper, lower = _PAIRS[name]
    pairs = [upper, lower] if any(_has(history, lower.columns) for _, history in runs) else [upper]
    across = min(len(runs), _ACROSS)
    down = math.ceil(len(runs) / _ACROSS)
    figure = _figure(1.0 + 1.9 * max(across, 2), 0.4 + (1.2 + 1.1 * len(pairs)) * down)
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
                axes.set_title(_wrapped(run, 26)).set_parse_math(False)
    for part, pair in enumerate(pairs):
        shared[part].set_ylim(pair.low, pair.high)
    _legend(figure, ncols=2 if across > 2 else 1)
    return figure


def _panel(axes: "Axes", history: History, pair: _Pair, *, leftmost: bool, lowest: bool) -> None:
    if _has(history, pair.columns):
        for column, (_, colour, dashes) in zip(pair.columns, _TEACHERS, strict=True):
            _line(axes, history, column, colour, dashes)
    else:
        axes.text(0.5, 0.5, "not recorded", color=_GREY, ha="center", transform=axes.transAxes)
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


def _line(axes: "Axes", history: History, column: str, colour: str, dashes: _Dashes) -> None:
    # A line through one epoch, or through one between gaps, would not be seen.
    marker = "o" if len(history.rows) < 10 else ""
    values = history.numbers(column)
    axes.plot(history.epochs, values, color=colour, linestyle=dashes, marker=marker, label=column)
