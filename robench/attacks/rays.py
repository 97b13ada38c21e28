"""RayS: bisection along rays of sign vectors; it sees predicted classes, never a logit."""

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from robench.core.protocols import Draws, LabelsView, Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.projections import distance, per_row
from robench.numerics.rows import going_on

LONGEST_RAY = 2.0**16
"""sqrt(d), in L2 units, up to which `compat` finishes every bisection: images of 2^32 values."""


@dataclass(frozen=True)
class RayS:
    """The shortest way to another class along a sign vector, which is turned block by block.

    queries: that an image can cost; tolerance: L2 width at which a bisection ends; stop_at_eps: an
    image is done with its first verified hit within eps, otherwise all queries go into a shorter
    way; compat: the authors' accounting, which looks at the budget between rays only and never
    stops at eps. Ways longer than eps are no candidates, so this measures no distances.
    Source: Chen and Gu 2020, algorithms 1 to 3, and their batched code. Deliberate differences,
    unless `compat`: the budget is never exceeded, a bisection that it cuts short keeps its shortest
    hit, and stop_at_eps.
    """

    queries: int = 100
    tolerance: float = 1e-3
    stop_at_eps: bool = True
    compat: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}
    on_defense: ClassVar[bool] = True

    @property
    def most_queries(self) -> int:
        """Queries that an image can cost under either accounting."""
        if not self.compat:
            return self.queries
        # The last query of the budget may still begin a ray, which is then bisected to its end.
        return self.queries + max(math.ceil(math.log2(LONGEST_RAY / self.tolerance)), 1)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", self.most_queries, 0, self.run, sees="labels")]

    def run(
        self,
        view: LabelsView,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        """Each image's nearest hit (B, C, H, W); itself where that is farther than eps.

        The judge would refuse a farther one, and a refusal is counted as a fault. Every turn asks
        one query of each open image, wherever its own search stands; nothing is drawn.
        """
        candidates, rows = images.clone(), torch.arange(len(ids), device=ids.device)
        search, asked = _Rays.of(images), ids
        for query in range(1, self.most_queries + 1):
            x = search.points()
            predictions = view.predictions(x, asked)
            wrong, done = predictions != labels[rows], None
            if self.stop_at_eps and not self.compat:
                near = wrong & search.within(x, threat.eps)
                # To name the label is no belief: what is farther is not judged.
                done = view.offer(asked, x, torch.where(near, predictions, labels[rows]))
            search.learn(wrong, self.tolerance)
            if query >= self.queries:
                over = ~search.bisecting | (query == self.most_queries)
                done = over if done is None else done | over
            kept = going_on(done)
            if kept is not None:
                # Of those that go on as well: they are written again.
                candidates[rows] = search.candidates(threat.eps)
                search, rows, asked = search.at(kept), rows[kept], asked[kept]
                if not len(rows):
                    break
        return candidates


rays = RayS()


@dataclass
class _Rays:
    """Where the search of each of A open images stands.

    A ray is `signs` turned on one block. It is tested at `radius`, the least so far: there
    low = high = radius. A hit makes it worth bisecting, and low < high until that is over.
    """

    images: Tensor
    """(A, C, H, W)."""
    signs: Tensor
    """(A, d) of -1 and +1: the direction of the nearest hit."""
    radius: Tensor
    """(A,) L2 length of the way to it before clipping; infinite before the first hit."""
    low: Tensor
    high: Tensor
    """(A,) L2: no hit at `low`, one at `high`."""
    start: Tensor
    size: Tensor
    """(A,) int64: first place and length of the block."""

    @classmethod
    def of(cls, images: Tensor) -> "_Rays":
        """Before the first query: one block, which is all of the image."""
        radius = torch.full_like(images[:, 0, 0, 0], torch.inf)
        start = torch.zeros_like(radius, dtype=torch.int64)
        size = torch.full_like(start, images[0].numel())
        return cls(images, torch.ones_like(images).flatten(1), radius, radius, radius, start, size)

    def at(self, keep: Tensor) -> "_Rays":
        """Some of the images: (O,) positions."""
        return _Rays(*(getattr(self, field.name)[keep] for field in fields(self)))

    @property
    def bisecting(self) -> Tensor:
        """(A,) bool: between the hit of a ray and the end of its bisection."""
        return self.low < self.high

    @property
    def _sqrt_d(self) -> Tensor:
        """() on the CPU, which no GPU waits for: L2 length of a sign vector.

        It is the way after which, but for rounding, pixels are 0 or 1.
        """
        return torch.tensor(self.signs.shape[1], dtype=self.radius.dtype).sqrt()

    def points(self) -> Tensor:
        """(A, C, H, W) what to ask next: the ray at its test radius or between low and high."""
        return self._points(self._turned(), (self.low + self.high) / 2)

    def _turned(self) -> Tensor:
        """(A, d) the signs, with the block turned."""
        place = torch.arange(self.signs.shape[1], device=self.signs.device)
        start = self.start[:, None]
        block = (place >= start) & (place < start + self.size[:, None])
        return torch.where(block, -self.signs, self.signs)

    def _points(self, signs: Tensor, radius: Tensor) -> Tensor:
        step = radius * (1 / self._sqrt_d)  # the authors' order of rounding; infinite is fine
        return (self.images + (signs * step[:, None]).view(self.images.shape)).clamp(0, 1)

    def within(self, x: Tensor, eps: float) -> Tensor:
        """(A,) bool: whether x (A, C, H, W) is in the linf ball."""
        return distance(x - self.images, "linf") <= eps

    def learn(self, wrong: Tensor, tolerance: float) -> None:
        """Take in whether the points that were asked about are hits (A,)."""
        asked, bisecting = (self.low + self.high) / 2, self.bisecting
        # A hit of a test is where a bisection begins: from 0, or it would never reach below.
        self.low = torch.where(wrong, torch.where(bisecting, self.low, 0.0), asked)
        self.high = torch.where(wrong, asked.minimum(self._sqrt_d), self.high)
        narrow = self.high - self.low <= tolerance
        self._finish(torch.where(bisecting, narrow, ~wrong))

    def _finish(self, over: Tensor) -> None:
        """Keep the rays that are `over` (A,) where they are shorter; on to the next block there."""
        shorter = over & (self.high < self.radius)
        self.signs = torch.where(shorter[:, None], self._turned(), self.signs)
        self.radius = torch.where(shorter, self.high, self.radius)
        self.low = torch.where(over, self.radius, self.low)
        self.high = torch.where(over, self.radius, self.high)
        self._next_block(over)

    def _next_block(self, over: Tensor) -> None:
        """After the last block of a level its first one of half the size, rounded up."""
        start = torch.where(over, self.start + self.size, self.start)
        last = start >= self.signs.shape[1]
        self.start = torch.where(last, 0, start)
        self.size = torch.where(last, (self.size + 1) // 2, self.size)

    def candidates(self, eps: float) -> Tensor:
        """(A, C, H, W) the nearest hits within eps, elsewhere the images, if it ended here."""
        ended = replace(self)
        ended._finish(torch.ones_like(self.bisecting))
        x = self._points(ended.signs, ended.radius)
        # Nothing is known of the point at an infinite radius: no query hit anything.
        found = ended.radius.isfinite() & self.within(x, eps)
        return torch.where(per_row(found, x), x, self.images)
