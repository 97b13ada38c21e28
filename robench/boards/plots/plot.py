"""Plot: what a figure shows and how it is drawn; Records: what it is made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from robench.boards.collect import Found

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn.

    data: all that is plotted; its digest is stored in the files. draw: makes the figure, in our
    style. remarks: what was left out, or must be known beside the picture; one sentence each.
    """

    data: msgspec.Struct
    draw: "Callable[[], Figure]"
    remarks: tuple[str, ...] = ()


class Pixels(Protocol):
    """Images of one record before and after the attack; records themselves hold none."""

    @property
    def clean(self) -> "NDArray[np.float32]":
        """(N, H, W, C) in [0, 1]."""
        ...

    @property
    def adversarial(self) -> "NDArray[np.float32]":
        """(N, H, W, C): what the verdicts are of, the clean image where a candidate was refused."""
        ...

    @property
    def refused(self) -> tuple[bool, ...]:
        """Whether the judge refused the candidate, image by image."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per label."""
        ...


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records that a figure may use, and which of them are wanted; None: whatever there is.

    defenses: names on the records, or a board's labels.
    pixels: loads the images of these ids of a record; only a gallery asks. None: cannot be loaded.
    """

    found: tuple[Found, ...]
    dataset: str | None = None
    norm: str | None = None
    n: int | None = None
    defenses: tuple[str, ...] = ()
    pixels: Callable[[Found, Sequence[int]], Pixels] | None = None
