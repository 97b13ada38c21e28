"""Where a measured figure would stand among published ones: ranks as ranges, and the Pareto front.

All functions take fractions of 1; a measured figure is known within its bounds only.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

Point = tuple[float, float]
Front = Literal["on", "off", "open"]


class Figure(msgspec.Struct, frozen=True):
    """A measured figure, or its difference from a published one, and its 95 % bounds."""

    value: float
    low: float
    high: float

    def minus(self, published: float | None) -> "Figure | None":
        """Ours minus a published figure; the bounds are those of ours."""
        if published is None:
            return None
        return Figure(self.value - published, self.low - published, self.high - published)


class RankRange(msgspec.Struct, frozen=True):
    """Ranks that a figure could have, `of` so many with itself counted in; 1 is the highest."""

    best: int
    worst: int
    of: int


def rank_range(ours: Figure, others: Sequence[Point]) -> RankRange:
    """The ranks that our bounds leave open. others: (low, high) of each published figure.

    Equal figures share a rank, as on the boards.
    """
    above = sum(_above(low, ours.high) for low, _ in others)
    not_below = sum(_above(high, ours.low) for _, high in others)
    return RankRange(1 + above, 1 + not_below, 1 + len(others))


def _above(first: float, second: float) -> bool:
    return round(first - second, 12) > 0  # 0.4903 in two ways of counting is still a tie


def dominates(first: Point, second: Point) -> bool:
    """Whether `first` is nowhere worse than `second`, and somewhere better. (clean, robust)."""
    no_worse = not any(_above(b, a) for a, b in zip(first, second, strict=True))
    return no_worse and any(_above(a, b) for a, b in zip(first, second, strict=True))


def pareto_front(points: Sequence[tuple[str, Point]]) -> list[str]:
    """The names of the points that no other point dominates, by falling clean accuracy."""
    front = [
        (name, point)
        for name, point in points
        if not any(dominates(other, point) for _, other in points)
    ]
    return [name for name, _ in sorted(front, key=lambda item: (-item[1][0], -item[1][1]))]


def front_state(clean: Figure, robust: Figure, others: Sequence[Point]) -> Front:
    """Whether we are on the front of (clean, robust): `open` where our bounds allow both."""
    worst, best = (clean.low, robust.low), (clean.high, robust.high)
    if not any(dominates(other, worst) for other in others):
        return "on"
    return "off" if any(dominates(other, best) for other in others) else "open"
