"""Plot: what a figure shows and how it is drawn; Records: what it is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from robench.boards.collect import Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn.

    data: all that is plotted; its digest is stored in the files. draw: makes the figure, in our
    style. remarks: what was left out, or must be known beside the picture; one sentence each.
    """

    data: msgspec.Struct
    draw: "Callable[[], Figure]"
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records that a figure may use, and which of them are wanted; None: whatever there is.

    places: the folders and files that they were read from, where audits are looked for too.
    defenses: names on the records, or a board's labels.
    """

    found: tuple[Found, ...]
    places: tuple[Path, ...] = ()
    dataset: str | None = None
    norm: str | None = None
    n: int | None = None
    defenses: tuple[str, ...] = ()
