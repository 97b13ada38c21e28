"""Auto-PGD's loop: ascent with momentum, and a step size that adapts row by row."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robench.core.threat import ThreatModel
from robench.numerics.projections import feasible_box, per_row, project, row_l2
from robench.numerics.rows import going_on

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]
"""(x (A, ...), rows (A,)) -> (values (A,) to maximise, gradient (A, ...), (A,) bool of rows that
need no further step, or None for "none"); rows index the starting batch."""

MOMENTUM = 0.75


def checkpoints(steps: int) -> list[int]:
    """After how many steps the step sizes are reviewed.

    The first interval is 22 % of all steps; each is 3 % shorter than the last, down to 6 %.
    Source: Croce & Hein 2020, section 3.
    """
    interval, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    marks, done = [], interval
    while done <= steps:
        marks.append(done)
        interval = max(interval - shorter, least)
        done += interval
    return marks


def steepest(gradient: Tensor, threat: ThreatModel) -> Tensor:
    """Direction of steepest ascent: the sign (linf) or the unit vector (l2); 0 where undefined."""
    if threat.norm == "linf":
        return gradient.sign()
    # The bound makes 0 of 0/0. A NaN would stay in x for good: sign() makes 0 of it as well.
    length = row_l2(gradient).clamp(min=1e-30).to(gradient.dtype)
    return torch.nan_to_num(gradient / per_row(length, gradient), nan=0.0)


@dataclass
class Ascent:
    """The rows (A,) that are still searched, with all that APGD adapts to each of them."""

    rows: Tensor
    """Places in the starting batch."""
    images: Tensor
    low: Tensor
    high: Tensor
    x: Tensor
    previous: Tensor
    """The point before x, which the momentum carries on from."""
    gradient: Tensor
    value: Tensor
    """Loss of the latest step, float64."""
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step_size: Tensor
    improvements: Tensor
    """Steps since the last checkpoint that raised the loss."""
    checked_value: Tensor
    """Best loss at the last checkpoint."""
    halved: Tensor
    """Whether the last checkpoint halved the step size."""

    @classmethod
    def at(cls, start: Tensor, images: Tensor, threat: ThreatModel) -> "Ascent":
        """Before the start is evaluated. start, images: (A, ...) of one dtype."""
        low, high = feasible_box(images, threat)
        rows = torch.arange(len(start), device=start.device)
        none = torch.full(rows.shape, -torch.inf, dtype=torch.float64, device=start.device)
        return cls(
            rows=rows,
            images=images,
            low=low,
            high=high,
            x=start,
            previous=start,
            gradient=torch.zeros_like(start),
            value=-none,  # the start is no improvement
            best=start.clone(),
            best_gradient=torch.zeros_like(start),
            best_value=none,
            step_size=torch.full_like(none, 2 * threat.eps, dtype=start.dtype),
            improvements=torch.zeros_like(rows),
            checked_value=none,  # so the first checkpoint finds no standstill since the last
            halved=torch.zeros_like(rows, dtype=torch.bool),
        )

    def keep(self, kept: Tensor) -> None:
        """Leave the other rows out from now on. kept: (O,) positions."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[kept])

    def move(self, threat: ThreatModel, momentum: float) -> None:
        """u = P(x + step_size d), x <- P(x + momentum (u - x) + (1 - momentum) (x - previous))."""
        step = per_row(self.step_size, self.x) * steepest(self.gradient, threat)
        ahead = self._feasible(self.x + step, threat) - self.x
        behind = self.x - self.previous
        self.previous = self.x
        self.x = self._feasible(self.x + ahead * momentum + behind * (1 - momentum), threat)

    def _feasible(self, x: Tensor, threat: ThreatModel) -> Tensor:
        if threat.norm == "l2":
            x = self.images + project(x - self.images, threat)
        return torch.clamp(x, self.low, self.high)

    def record(self, values: Tensor, gradient: Tensor, compat: bool) -> None:
        """Take in the loss (A,) at x and its gradient; a NaN compares false: it is no progress."""
        values = values.double()
        # The reference keeps a float32 buffer of losses, and float64 best losses.
        value = values.float().double() if compat else values
        self.improvements = self.improvements + (value > self.value)
        self.value, self.gradient = value, gradient
        better = values > self.best_value
        self.best_value = torch.where(better, values, self.best_value)
        there = per_row(better, self.x)
        self.best = torch.where(there, self.x, self.best)
        self.best_gradient = torch.where(there, gradient, self.best_gradient)

    def review(self, steps: int, rho: float) -> None:
        """Halve step sizes and go back to the best point where the last `steps` steps did poorly.

        That is: at most rho of them raised the loss, or neither the step size nor the best loss
        changed at the last checkpoint and since.
        """
        stuck = ~self.halved & (self.checked_value >= self.best_value)
        self.halved = (self.improvements <= rho * steps) | stuck
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        back = per_row(self.halved, self.x)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.improvements, self.checked_value = torch.zeros_like(self.rows), self.best_value


def auto_pgd(
    evaluate: Evaluate,
    start: Tensor,
    images: Tensor,
    threat: ThreatModel,
    *,
    steps: int = 100,
    rho: float = 0.75,
    compat: bool = False,
) -> Ascent:
    """Maximise a loss from `start`; `evaluate` sees every iterate, start and last one included.

    start, images: (B, ...) of one floating dtype, start in the feasible set. Returns the rows that
    were never settled, with their points of largest loss in `best`.

    As in the reference, a jump back to the best point keeps the momentum of the point that was
    left. Unlike it, the first step is compared with the start; compat: with 0, in float32, as there
    (always an improvement for cross-entropy, never for a negative loss).
    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness", algorithm 1.
    """
    run, marks, last = Ascent.at(start, images, threat), checkpoints(steps), 0
    for step in range(steps + 1):
        if step > 0:
            run.move(threat, MOMENTUM if step > 1 else 1.0)
        values, gradient, settled = evaluate(run.x, run.rows)
        run.record(values, gradient, compat)
        if compat and step == 0:
            run.value = torch.zeros_like(run.value)
        if (kept := going_on(settled)) is not None:
            run.keep(kept)
        if not len(run.rows):
            break
        if step in marks:
            run.review(step - last, rho)
            last = step
    return run
