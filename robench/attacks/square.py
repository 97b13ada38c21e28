"""Square: random search with square windows; it sees logits, never a gradient."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.core.protocols import Draws, LogitsView, Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.losses import margin_of
from robench.numerics.projections import L2_SHRINK, feasible_box, per_row, row_l2
from robench.numerics.rows import going_on

SEGMENT = 500
"""Proposals that share one `step` of the draws: part of what a draw is, so it never changes."""
REDRAWS = 2
"""Further windows that a linf proposal may try while it changes nothing."""
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def window_share(proposal: int, p_init: float) -> float:
    """Share of the image that a window covers (p): half as much after each of `_HALVINGS`."""
    return p_init / 2.0 ** bisect_left(_HALVINGS, proposal)


@dataclass(frozen=True)
class Square:
    """Windows of random place and sign, kept where they lower the margin z_y - max_{j != y} z_j.

    queries: passes that an image can cost, the start included; p_init: share of the image that the
    first windows cover; rescale: squeeze the schedule of 10,000 proposals into `queries`; compat:
    AutoAttack's windows and schedule, for cross-checks.
    Source: Andriushchenko et al. 2020, algorithms 1 to 3. Deliberate differences from AutoAttack:
    each image has its own draws, so that no verdict depends on the batch; and, unless `compat`,
    windows reach the last row and column, a linf proposal that changes nothing is drawn again, and
    a rescaled schedule counts the start.
    """

    queries: int = 5001
    p_init: float = 0.8
    rescale: bool = False
    compat: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}
    per_stage: ClassVar[int] = SEGMENT
    """Proposals of a stage; divides SEGMENT."""

    def stages(self, component: str, classes: int) -> list[Stage]:
        proposals = self.queries - 1
        # max: a single query is the start alone, and still a stage.
        firsts = range(0, max(proposals, 1), self.per_stage)
        ends = [min(first + self.per_stage, proposals) for first in firsts]
        return [self._stage(component, first, end) for first, end in zip(firsts, ends, strict=True)]

    def _stage(self, component: str, first: int, end: int) -> Stage:
        """Proposals first, ..., end - 1, counted from 0; the first stage begins with the start."""
        asked = first + 1 if first else 0
        label = f"queries {asked + 1}-{end + 1}"
        run = partial(self.run, first=first, end=end)
        return Stage(component, label, end + 1 - asked, 0, run, sees="logits")

    def side(self, proposal: int, height: int, width: int, norm: Norm) -> int:
        """Pixels along the window of a proposal (from 0); l2: odd, at least 3, where that fits."""
        if self.rescale:
            proposal = proposal * 10_000 // (self.queries - self.compat)
        area = window_share(proposal, self.p_init) * height * width
        side = max(round(math.sqrt(area)), 1)
        if norm == "l2":
            side = max(side, 3) // 2 * 2 + 1
        return min(side, height, width)

    def run(
        self,
        view: LogitsView,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        first: int,
        end: int,
    ) -> Tensor | None:
        """The points of smallest margin (B, C, H, W) once the last proposal is through, else None.

        Between stages the view keeps each image's point, as the moves pack it, and its margin.
        """
        moves = self._moves(images, ids, threat, draws, first, end)
        rows = torch.arange(len(ids), device=ids.device)
        if first == 0:
            x, best = moves.start(), torch.full(ids.shape, torch.inf, device=ids.device)
        else:
            x = moves.unpack(view.recall("square_point", ids))
            best = view.recall("square_margin", ids)
        near, side, corners = view.near(x, ids, None), None, ids.new_zeros(len(ids), 2)
        asked = ids  # the same tensor as long as no image leaves: it is counted once
        for turn in range(-1 if first == 0 else 0, end - first):
            z = x
            if turn >= 0:
                if moves.side(turn) != side:
                    side = moves.side(turn)
                    near = view.near(x, asked, side)
                z, corners = moves.propose(x, rows, turn)
            logits = near.logits(z, asked, corners)
            margin = margin_of(logits, labels[rows])
            # Below 0 nothing stops: only the judge settles an image, and a hit that it did not
            # confirm becomes one that it does by going lower still. NaN is never lower.
            lower = margin < best
            near.keep(lower)
            x, best = torch.where(per_row(lower, x), z, x), torch.where(lower, margin, best)
            kept = going_on(view.offer(asked, z, logits))
            if kept is not None:
                rows, asked, x, best = rows[kept], asked[kept], x[kept], best[kept]
                if not len(rows):
                    break
        if end < self.queries - 1:
            view.keep("square_point", asked, moves.pack(x, rows))
            view.keep("square_margin", asked, best)
            return None
        candidates = images.clone()
        candidates[rows] = x
        return candidates

    def _moves(
        self, images: Tensor, ids: Tensor, threat: ThreatModel, draws: Draws, first: int, end: int
    ) -> "_Moves":
        height, width = images.shape[2:]
        # max: even a start alone needs a window, since nothing can be drawn nought times.
        proposals = range(first, max(end, 1))
        sides = [self.side(k, height, width, threat.norm) for k in proposals]
        windows = _Windows(sides, ids, draws, *divmod(first, SEGMENT), covering=not self.compat)
        if threat.norm == "l2":
            return _L2Moves(images, threat, windows)
        return _LinfMoves(images, threat, windows, tries=1 if self.compat else 1 + REDRAWS)


@dataclass(frozen=True)
class Square100(Square):
    """Square as a black-box benchmark: so few queries, all of them to the defense itself.

    Rescaled as in the paper and its code; `rescale=false` begins the schedule of 10,000 proposals.
    """

    queries: int = 100
    rescale: bool = True

    on_defense: ClassVar[bool] = True


# AutoAttack's 5000 queries are proposals: it asks for its start on top of them.
square_5000 = Square(queries=5001)
square = Square100()


@dataclass(frozen=True)
class _Windows:
    """What the proposals of one stage draw, in a few calls: one a proposal would cost more than it.

    sides: of the n windows; segment, position: of the first proposal among all; covering: whether
    windows reach the last row and column.
    """

    sides: list[int]
    ids: Tensor
    draws: Draws
    segment: int
    position: int
    covering: bool

    def __post_init__(self) -> None:
        assert self.position + len(self.sides) <= SEGMENT, "per_stage divides SEGMENT"

    def corners(self, each: int, height: int, width: int) -> Tensor:
        """(B, n, each, 2) int64: the top row and the left column of `each` windows a proposal."""
        beyond = 1 if self.covering else 0
        room = [[max(size - side + beyond, 1) for size in (height, width)] for side in self.sides]
        shape = (self.position + len(self.sides), each, 2)
        unit = self.draws.uniform(self.ids, shape, 0.0, 1.0, purpose="window", step=self.segment)
        # float32 keeps unit * room below room: unit has 24 bits and is at most 1 - 2^-24.
        return (unit[:, self.position :] * unit.new_tensor(room).reshape(-1, 1, 2)).long()

    def signs(self, *shape: int, purpose: str = "sign") -> Tensor:
        """(B, n, *shape) of -1 and +1."""
        full = (self.position + len(self.sides), *shape)
        signs = self.draws.signs(self.ids, full, purpose=purpose, step=self.segment)
        return signs[:, self.position :]


def _cells(corners: Tensor, side: int, channels: int, width: int) -> Tensor:
    """(B, C, side^2) flat places in an image (C, H W) of the windows at corners (B, 2)."""
    along = torch.arange(side, device=corners.device)
    rows, columns = corners[:, :1] + along, corners[:, 1:] + along
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return places[:, None].expand(-1, channels, -1)


class _Moves(Protocol):
    """The moves of one stage, between points (A, C, H, W) in the ball and the box."""

    def start(self) -> Tensor:
        """The points of all images before the first proposal."""
        ...

    def side(self, turn: int) -> int | None:
        """Pixels along the one window that proposal `turn` changes; None where that is not so."""
        ...

    def propose(self, x: Tensor, rows: Tensor, turn: int) -> tuple[Tensor, Tensor]:
        """Where proposal `turn` leads the images at `rows` (A,) from x; its windows (A, 2)."""
        ...

    def pack(self, x: Tensor, rows: Tensor) -> Tensor:
        """What to keep of the points of the images at `rows` (A,)."""
        ...

    def unpack(self, kept: Tensor) -> Tensor:
        """The points of all images, bit for bit."""
        ...


class _LinfMoves:
    """Every coordinate is at the upper or the lower bound of the feasible box: a bit to keep.

    Source: algorithm 2.
    """

    def __init__(self, images: Tensor, threat: ThreatModel, windows: _Windows, tries: int) -> None:
        self._windows, self._tries = windows, tries
        self._low, self._high = feasible_box(images, threat)
        channels, height, width = images.shape[1:]
        self._corners = windows.corners(tries, height, width)
        self._upper = windows.signs(tries, channels, 1) > 0

    def start(self) -> Tensor:
        """Vertical stripes."""
        channels, _, width = self._low.shape[1:]
        draws, ids = self._windows.draws, self._windows.ids
        return self.unpack(draws.signs(ids, (channels, 1, width), purpose="start") > 0)

    def side(self, turn: int) -> int | None:
        return self._windows.sides[turn]

    def propose(self, x: Tensor, rows: Tensor, turn: int) -> tuple[Tensor, Tensor]:
        """One bound a channel all over a window; the next try's where that changes nothing."""
        points, low, high = (t.flatten(2) for t in (x, self._low[rows], self._high[rows]))
        corners, upper = self._corners[rows, turn], self._upper[rows, turn]
        side, (channels, _, width) = self._windows.sides[turn], x.shape[1:]

        def fill(corner: Tensor, to_upper: Tensor) -> tuple[Tensor, Tensor]:
            cells = _cells(corner, side, channels, width)
            return cells, torch.where(to_upper, high.gather(2, cells), low.gather(2, cells))

        corner, bound = corners[:, 0], upper[:, 0]
        cells, filled = fill(corner, bound)
        for number in range(1, self._tries):
            # All rows try again, and no row is waited for: asking which need it stalls a GPU.
            same = (points.gather(2, cells) == filled).flatten(1).all(dim=1)
            corner = torch.where(per_row(same, corner), corners[:, number], corner)
            bound = torch.where(per_row(same, bound), upper[:, number], bound)
            cells, filled = fill(corner, bound)
        return points.scatter(2, cells, filled).view_as(x), corner

    def pack(self, x: Tensor, rows: Tensor) -> Tensor:
        return x == self._high[rows]

    def unpack(self, kept: Tensor) -> Tensor:
        return torch.where(kept, self._high, self._low)


class _L2Moves:
    """All of the budget is spent on bumps, and moved from window to window.

    Source: algorithm 3.
    """

    def __init__(self, images: Tensor, threat: ThreatModel, windows: _Windows) -> None:
        self._images, self._eps, self._windows = images, threat.eps, windows
        channels, height, width = images.shape[1:]
        self._corners = windows.corners(2, height, width)
        self._signs = windows.signs(channels)
        self._upright = windows.signs(1, 1, purpose="direction") > 0
        self._bumps = {side: bump(side).to(images) for side in set(windows.sides)}

    def start(self) -> Tensor:
        """Bumps side by side, a fifth of the image each."""
        images = self._images
        channels, height, width = images.shape[1:]
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        draws, ids = self._windows.draws, self._windows.ids
        # One more channel than the image has: it tells how a tile's bump lies.
        signs = draws.signs(ids, (channels + 1, down, 1, across, 1), purpose="start").to(images)
        one = bump(side).to(images)[:, None, :]
        lying = torch.where(signs[:, -1:] > 0, one, one.transpose(0, 2))
        tiles = (signs[:, :-1] * lying).reshape(-1, channels, down * side, across * side)
        top, left = (height - down * side) // 2, (width - across * side) // 2
        bottom, right = height - down * side - top, width - across * side - left
        delta = F.pad(tiles, (left, right, top, bottom))
        return self._on_sphere(delta, images)

    def side(self, turn: int) -> int | None:
        """None: the whole image is scaled to the sphere after each move."""
        return None

    def propose(self, x: Tensor, rows: Tensor, turn: int) -> tuple[Tensor, Tensor]:
        """Empty a second window; what it held and what is left of eps^2 goes to the first.

        v = sign eta + delta_1 / |delta_1| in window 1, with a norm a channel of
        sqrt((eps^2 - |delta|^2)^+ / C + |delta in either window|^2).
        """
        images, side = self._images[rows], self._windows.sides[turn]
        channels, _, width = images.shape[1:]
        delta = (x - images).flatten(2)
        unused = (self._eps**2 - row_l2(delta) ** 2).clamp(min=0) / channels
        first, second = (
            _cells(self._corners[rows, turn, k], side, channels, width) for k in (0, 1)
        )
        old = delta.gather(2, first)
        rest = delta.scatter(2, first, 0.0)
        held = _channel_l2(old) ** 2 + _channel_l2(rest.gather(2, second)) ** 2
        eta = self._bumps[side]
        eta = torch.where(self._upright[rows, turn], eta.flatten(), eta.T.flatten())
        new = self._signs[rows, turn, :, None] * eta + old / _channel_l2(old).clamp(min=1e-12)
        length = (per_row(unused, held) + held).sqrt() / _channel_l2(new).clamp(min=1e-12)
        moved = rest.scatter(2, second, 0.0).scatter(2, first, (new * length).to(delta.dtype))
        return self._on_sphere(moved.view_as(x), images), self._corners[rows, turn, 0]

    def _on_sphere(self, delta: Tensor, images: Tensor) -> Tensor:
        """images + delta at the length eps, clipped to [0, 1]."""
        factor = self._eps * L2_SHRINK / row_l2(delta).clamp(min=1e-12)
        return (images + delta * per_row(factor.to(delta.dtype), delta)).clamp(0, 1)

    def pack(self, x: Tensor, rows: Tensor) -> Tensor:
        return x

    def unpack(self, kept: Tensor) -> Tensor:
        return kept


def _channel_l2(delta: Tensor) -> Tensor:
    """(B, C, 1) float64 l2 norms of the channels of (B, C, n)."""
    return row_l2(delta.flatten(0, 1)).reshape(*delta.shape[:2], 1)


def bump(side: int) -> Tensor:
    """(side, side) float64 of norm 1: a pyramid over its upper half, one upside down below (eta).

    Source: equations 2 and 3.
    """
    eta = torch.cat([_pyramid(side // 2, side), -_pyramid(side - side // 2, side)])
    return eta / torch.linalg.vector_norm(eta)  # type: ignore[no-any-return]


def _pyramid(height: int, width: int) -> Tensor:
    """(height, width) float64 of norm 1: rings about the centre, the k-th sum_{i >= k} 1 / i^2."""
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    ring = torch.maximum(rows.abs()[:, None], columns.abs())
    steps = torch.arange(max(height, width) // 2 + 1, 0, -1).double() ** -2
    field = steps.cumsum(0).flip(0)[ring]
    return field / torch.linalg.vector_norm(field)  # type: ignore[no-any-return]
