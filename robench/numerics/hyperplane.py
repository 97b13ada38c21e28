"""The nearest point of a hyperplane inside the pixel box, in linf or l2."""

import torch
from torch import Tensor

from robench.core.threat import Norm
from robench.numerics.rows import in_fixed_rows

UNCHECKED = 8
"""Newton steps on a GPU before it is asked whether they were enough: on images they are. One that
is too many changes nothing."""


def row_sum(values: Tensor) -> Tensor:
    """(B,) float64 sums of the rows of (B, d), each the same whatever B is."""
    if values.device.type != "cpu":
        return in_fixed_rows(lambda part: part.sum(dim=1, dtype=torch.float64), values)
    # A single row is reduced by all threads, several rows one by one: two rows keep one rounding.
    pair = values.repeat(2, 1) if len(values) == 1 else values
    return pair.sum(dim=1, dtype=torch.float64)[: len(values)]


def dual_norm(normal: Tensor, norm: Norm) -> Tensor:
    """(B,) float64 dual norms of (B, d): gap / dual norm is the distance to a hyperplane."""
    w = normal.double()
    return row_sum(w.abs()) if norm == "linf" else row_sum(w.square()).sqrt()


def move_onto(points: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """Smallest d (B, d) with w (t + d) = b and 0 <= t + d <= 1; the full move where there is none.

    points t: (B, d) in [0, 1]. normal w: (B, d); where it is 0 or not finite a coordinate stays.
    gap: (B,) b - w t, which a caller knows better than a difference of two large sums.
    Source: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack", equation 4; they sort the breakpoints, see `_multiplier`.
    """
    # d_i = min(lambda s_i, room_i) towards the plane: s = 1 (linf) or |w| (l2), room to the box.
    # In float64, whatever comes in: lambda is a quotient of differences of sums. In place, because
    # fresh memory costs more than the arithmetic.
    w = normal.double().nan_to_num(0, 0, 0)
    gap = gap.double().nan_to_num(0, 0, 0)[:, None]
    weight = w.abs()
    towards = w.sign_().mul_(gap.sign())
    room = towards.add(1).div_(2).sub_(points).mul_(towards)  # 1 - t, t; 0 without w
    speed = torch.ones_like(weight) if norm == "linf" else weight
    multiplier = _multiplier(weight * speed, weight * room, gap.abs())
    return torch.minimum(multiplier * speed, room).mul_(towards).to(points.dtype)


def _multiplier(rate: Tensor, most: Tensor, goal: Tensor) -> Tensor:
    """lambda (B, 1) with sum_i min(lambda rate_i, most_i) = goal; one that fills all if none has.

    rate, most: (B, d) >= 0, goal: (B, 1). Newton from 0: the sum is concave and piecewise linear in
    lambda, so no step overshoots and the last one is exact. 3 to 6 steps on images, at most d + 1.
    """
    end, total = most / rate, row_sum(most)[:, None]  # NaN where nothing moves: never free
    value, part, free = torch.zeros_like(goal), torch.empty_like(rate), torch.empty_like(rate)
    steps = 1 if goal.device.type == "cpu" else UNCHECKED
    while True:
        for _ in range(steps):
            before = value
            torch.gt(end, value, out=free)
            slope = row_sum(torch.mul(rate, free, out=part))[:, None]
            full = total - row_sum(torch.mul(most, free, out=part))[:, None]
            # max: rounding must not turn a step back, or it might come again for ever.
            step = torch.maximum(value, (goal - full) / slope)
            value = torch.where(slope > 0, step, value)
        if torch.equal(value, before):
            return value
