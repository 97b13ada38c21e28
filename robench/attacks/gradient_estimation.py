"""Gradient estimation: signed steps along a gradient that is measured with queries alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.core.protocols import Draws, LogitsView, Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.losses import margin_of
from robench.numerics.projections import feasible_box, per_row
from robench.numerics.rows import going_on

PAIRS = 50
"""Pairs of probes that share one `probe` of the draws: part of what a draw is, so it never
changes."""
VALUES_AT_ONCE = 2**23
"""Values of the directions in memory at a time (PAIRS of one image where that is more)."""
QUERIES_PER_STAGE = 1000
"""Probes of an image in a stage of several steps, at most."""

Values = Callable[[Tensor, Tensor], Tensor]


def estimate(
    values: Values,
    x: Tensor,
    ids: Tensor,
    draws: Draws,
    *,
    queries: int,
    sigma: float,
    step: int = 0,
) -> Tensor:
    """Gradient (B, C, H, W) at x of a function f that can only be asked, `queries` times a row.

    1 / (2 sigma q) sum_k (f(x + sigma u_k) - f(x - sigma u_k)) u_k, with q = queries / 2 vectors of
    signs u_k, other ones for each row: unbiased for f up to the second order. The expected cosine
    to the gradient is about sqrt(q / (q + d - 1)), d = C H W. A difference that is not finite adds
    nothing.
    values: (points (R, C, H, W), rows (R,) int64) -> f (R,), rows being those of x that the points
    are near; points may be outside [0, 1].
    Source: Spall 1992 (SPSA), averaged as in Tramer et al. 2020, "On adaptive attacks to
    adversarial example defenses", k-WTA. Deliberate differences from the latter: signs instead of
    normal numbers, which are equal on every device; and the factor, which is the gradient's.
    """
    assert queries >= 2 and queries % 2 == 0, "probes come in pairs"
    total, pairs = torch.zeros_like(x), queries // 2
    places = torch.arange(len(x), device=x.device)
    together = max(1, VALUES_AT_ONCE // (PAIRS * x.shape[1:].numel()))
    for part in (slice(first, first + together) for first in range(0, len(x), together)):
        for number in range(-(-pairs // PAIRS)):
            shape = (min(PAIRS, pairs - number * PAIRS), *x.shape[1:])
            u = draws.signs(ids[part], shape, purpose="probe", step=step, probe=number).to(x)
            _add_slopes(total[part], u, _slopes(values, x[part], places[part], u, sigma))
    return total / pairs


def _slopes(values: Values, x: Tensor, places: Tensor, u: Tensor, sigma: float) -> Tensor:
    """(b, n) central differences at x (b, ...) along the directions u (b, n, ...)."""
    points = torch.stack([x[:, None] + sigma * u, x[:, None] - sigma * u])
    rows = places[:, None].expand(2, *u.shape[:2])
    above, below = values(points.flatten(0, 2), rows.flatten()).reshape(rows.shape).to(x)
    slopes = (above - below) / (2 * sigma)
    return torch.where(slopes.isfinite(), slopes, 0.0)


def _add_slopes(total: Tensor, u: Tensor, slopes: Tensor) -> None:
    # One pair after the other: sum(dim=1) may round in another order at another batch size.
    for k in range(u.shape[1]):
        total += per_row(slopes[:, k], total) * u[:, k]


def phases(schedule: str) -> list[tuple[int, int]]:
    """[(20, 100), (20, 1000)] of "20x100+20x1000": steps, and the probes of each of them.

    Raises: InputError for anything else than that, with even numbers of probes.
    """
    found = [re.fullmatch(r"\s*(\d+)x(\d+)\s*", phase) for phase in schedule.split("+")]
    numbers = [(int(match[1]), int(match[2])) if match else (0, 0) for match in found]
    if any(steps < 1 or queries < 2 or queries % 2 for steps, queries in numbers):
        raise InputError(
            f"schedule {schedule!r}: expected steps x probes of each step, an even number; phases "
            "are joined by +, as in 20x100+20x1000"
        )
    return numbers


@dataclass(frozen=True)
class GradientEstimation:
    """Signed descent of the margin z_y - max_{j != y} z_j from the image; the last iterate.

    schedule: "20x100+20x1000" is 20 steps of 100 probes, then 20 of 1000; each step asks once more
    to see what its iterate is. step_size, and sigma, how far probes are in each coordinate, are in
    pixel units.
    Source: Tramer et al. 2020, k-WTA, released code; `full` is its schedule. Deliberate difference:
    iterates are projected to the ball and the box at once, so no step is spent outside.
    """

    schedule: str = "20x100+20x1000"
    step_size: float = 0.01
    sigma: float = 8 / 255

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "lite": {"schedule": "20x100"},
        "mid": {"schedule": "20x100+20x1000"},
        "full": {"schedule": "20x100+20x1000+60x20000"},
    }
    # In bfloat16 the differences between probes would be rounding.
    on_defense: ClassVar[bool] = True

    def __post_init__(self) -> None:
        phases(self.schedule)

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in phases(self.schedule))

    def travel(self, threat: ThreatModel) -> tuple[float, float]:
        """How far the iterates can move, and how far they may have to, in pixel units."""
        return self.steps * self.step_size, threat.eps

    def stages(self, component: str, classes: int) -> list[Stage]:
        """Steps of one phase together, as many as QUERIES_PER_STAGE allows, else one."""
        stages: list[Stage] = []
        begun = 0
        for steps, queries in phases(self.schedule):
            most = max(1, QUERIES_PER_STAGE // queries)
            for first in range(begun, begun + steps, most):
                end = min(first + most, begun + steps)
                stages.append(self._stage(component, first, end, queries))
            begun += steps
        return stages

    def _stage(self, component: str, first: int, end: int, queries: int) -> Stage:
        """Steps first, ..., end - 1, counted from 0."""
        run = partial(self.run, first=first, end=end, queries=queries)
        label = f"steps {first + 1}-{end}"
        return Stage(component, label, (end - first) * (queries + 1), 0, run, sees="logits")

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
        queries: int,
    ) -> Tensor | None:
        """The iterates (B, C, H, W) after the last step, else None: the view keeps them."""
        low, high = feasible_box(images, threat)
        rows = torch.arange(len(ids), device=ids.device)
        x = view.recall("gradient_estimation_point", ids) if first else images
        for step in range(first, end):
            gradient = estimate(
                _margins(view, labels[rows], ids[rows]),
                x,
                ids[rows],
                draws,
                queries=queries,
                sigma=self.sigma,
                step=step,
            )
            x = (x - self.step_size * gradient.sign()).clamp(low[rows], high[rows])
            kept = going_on(view.offer(ids[rows], x, view.logits(x, ids[rows])))
            if kept is not None:
                rows, x = rows[kept], x[kept]
                if not len(rows):
                    break
        if end < self.steps:
            view.keep("gradient_estimation_point", ids[rows], x)
            return None
        candidates = images.clone()
        candidates[rows] = x
        return candidates


def _margins(view: LogitsView, labels: Tensor, ids: Tensor) -> Values:
    return lambda points, rows: margin_of(view.logits(points, ids[rows]), labels[rows])


gradient_estimation = GradientEstimation()
