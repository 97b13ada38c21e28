"""Names beside what they name: at the ends of lines and beside points, without overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robench.figures.style import GREY, LINE, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox


def label_ends(axes: "Axes", names: Sequence[str], ends: Sequence[float], height: float) -> None:
    """Each name beside the end of its line, in its colour, moved as far as overlaps demand.

    height: of the axes, in inches.
    """
    axes.get_ylim()  # fits the limits to the lines, which reading transLimits does not
    place = axes.transScale + axes.transLimits
    wanted = [float(place.transform((1.0, end))[1]) for end in ends]
    sizes = [(name.count("\n") + 1.15) * LINE / height for name in names]
    for number, y in enumerate(spread(wanted, sizes)):
        text = axes.text(
            1.02, y, names[number], color=look(number)[0], va="center", transform=axes.transAxes
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


Point = tuple[float, float]
Segment = tuple[Point, Point]


_SMALL = 7  # size of a small name, in points
_NEAR = 10  # offset from which a name needs a line to its point
_OFFSETS: tuple[Point, ...] = tuple(
    (distance * x, distance * y)
    for distance in (6, 12, 18, 26, 36, 48)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
)
"""Where a name may stand, in points from its point, in the order of preference."""
_PIVOT = {1: 0.0, 0: 0.5, -1: 1.0}
"""Where along its width or height a name is held, by the side of the point that it stands on."""


@dataclass(frozen=True)
class PointLabel:
    """A name for a point, in data coordinates. small: left away where it finds no room."""

    text: str
    point: Point
    colour: str
    small: bool = False


def label_points(
    axes: "Axes", labels: Sequence[PointLabel], obstacles: Sequence[Segment] = ()
) -> None:
    """Each name beside its point, the first ones nearest; far ones get a thin line to it.

    obstacles: level or upright lines that no name may cross, in data coordinates. Lays the figure
    out once, so everything else must be drawn before.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes of no figure"
    figure.draw_without_rendering()
    taken = [_around(axes, label.point, label.point, 4) for label in labels]
    taken += [_around(axes, start, end, 0.5) for start, end in obstacles]
    for label in labels:
        boxes = _candidates(axes, label)
        costs = [_overlap(box, taken, axes.bbox) for box in boxes]
        best = costs.index(min(costs))
        if costs[best] == 0 or not label.small:
            taken.append(boxes[best])
            _write(axes, label, _OFFSETS[best])


def _around(axes: "Axes", start: Point, end: Point, points: float) -> "Bbox":
    """The box around a segment, in pixels, wider by so many points on every side."""
    from matplotlib.transforms import Bbox

    # Bbox.null and union: the ends may come in any order, and a box must not be inside out.
    box = Bbox.null()
    box.update_from_data_xy(axes.transData.transform([start, end]), ignore=True)
    return box.padded(points * axes.figure.dpi / 72)


def _candidates(axes: "Axes", label: PointLabel) -> "list[Bbox]":
    """The name's box at each of the offsets, in pixels."""
    from matplotlib.transforms import Bbox

    text = axes.text(0, 0, label.text, fontsize=_SMALL if label.small else None, parse_math=False)
    size = text.get_window_extent()  # once: laying text out is what takes time
    text.remove()
    x, y = (float(value) for value in axes.transData.transform(label.point))
    points = axes.figure.dpi / 72
    return [
        Bbox.from_bounds(
            x + dx * points - size.width * _PIVOT[_sign(dx)],
            y + dy * points - size.height * _PIVOT[_sign(dy)],
            size.width,
            size.height,
        )
        for dx, dy in _OFFSETS
    ]


def _write(axes: "Axes", label: PointLabel, offset: Point) -> None:
    x, y = map(_sign, offset)
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
    # patchA: else the line would begin well outside of the name.
    line |= {"relpos": (_PIVOT[x], _PIVOT[y]), "patchA": None}
    text = axes.annotate(
        label.text,
        label.point,
        offset,
        textcoords="offset points",
        color=label.colour,
        fontsize=_SMALL if label.small else None,
        ha=("center", "left", "right")[x],
        va=("center", "bottom", "top")[y],
        arrowprops=line if max(map(abs, offset)) > _NEAR else None,
        zorder=5,
        parse_math=False,
    )
    text.set_in_layout(False)


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def _overlap(box: "Bbox", taken: "Sequence[Bbox]", frame: "Bbox") -> int:
    """Square pixels that a box shares with others or has outside the frame."""
    outside = float(box.width * box.height) - _shared(box, frame)
    return round(sum(_shared(box, other) for other in taken) + outside)


def _shared(box: "Bbox", other: "Bbox") -> float:
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
