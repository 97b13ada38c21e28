"""The style of every figure: sizes, colours that colour-blind readers tell apart, blank figures."""

from contextlib import AbstractContextManager
from textwrap import fill
from typing import TYPE_CHECKING, Literal

from robench.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Dashes = Literal["solid", "dashed", "dotted"]

# Okabe and Ito's colours, without yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
INK = "#4d4d4d"
_DASHES: tuple[Dashes, ...] = ("solid", "dashed", "dotted")
_MARKS = "os^DvPX"
_SIZE = 8.5
LINE = _SIZE * 1.3 / 72
"""Height of a line of text in inches."""
_STYLE = {
    "font.size": _SIZE,
    "axes.titlesize": _SIZE,
    "axes.titlelocation": "left",
    "axes.labelsize": _SIZE,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 3,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text: it can be searched and edited
    "svg.hashsalt": "robench",
    "pdf.fonttype": 42,
}


def styled() -> AbstractContextManager[None]:
    """Our style on top of matplotlib's own, whatever the user's matplotlibrc says.

    Raises: InputError without matplotlib.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise InputError(
            f"matplotlib cannot be imported ({error}): pip install 'robench[plot]'"
        ) from error
    return style.context(["default", _STYLE])


def blank(width: float, height: float) -> "Figure":
    """Inches. Not by pyplot, which would keep it, and choose a backend for the whole process."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def look(place: int) -> tuple[str, Dashes]:
    """Colour and dashes of the line of that number, alike for no two of the first 21."""
    return COLOURS[place % len(COLOURS)], _DASHES[place // len(COLOURS) % len(_DASHES)]


def mark(place: int) -> str:
    """The marker of that number: shapes tell apart what colours alone would not."""
    return _MARKS[place % len(_MARKS)]


def wrapped(name: str, width: int) -> str:
    """On several lines if it is longer than `width`; brackets get lines of their own."""
    parts = [name] if len(name) <= width else name.replace(" (", "\n(", 1).split("\n")
    return "\n".join(fill(part, width, break_on_hyphens=False) for part in parts)
