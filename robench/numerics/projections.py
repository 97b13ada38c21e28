"""Geometry of the threat ball and the pixel box."""

import torch
from torch import Tensor

from robench.core.threat import ThreatModel
from robench.numerics.rows import in_fixed_rows

L2_SHRINK = 1 - 2e-7
"""Searches project to eps (1 - 2e-7), so that float32 rounding stays inside the judge's 1e-6."""


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values shaped to broadcast over the rows of `like` (B, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def row_l2(delta: Tensor) -> Tensor:
    """(B,) float64 l2 norms of the rows of (B, ...)."""
    rows = delta.flatten(1).double()
    if rows.device.type != "cpu":
        return in_fixed_rows(lambda part: torch.linalg.vector_norm(part, dim=1), rows)
    # A single row is reduced by all threads, several rows one by one: two rows keep one rounding.
    pair = rows.expand(2, -1) if rows.shape[0] == 1 else rows
    return torch.linalg.vector_norm(pair, dim=1)[: rows.shape[0]]  # type: ignore[no-any-return]


def distance(delta: Tensor, norm: str) -> Tensor:
    """(B,) float64 distances in the threat's norm, pixel units."""
    if norm == "linf":
        return delta.double().abs().flatten(1).amax(dim=1)
    return row_l2(delta)


def feasible_box(images: Tensor, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """Ball and [0, 1] in one pair of bounds (linf); the box alone for l2.

    images: (B, ...) float32 in [0, 1]. One clamp between precomputed bounds everywhere: forms that
    add delta back differ by up to 4e-9.
    """
    if threat.norm == "linf":
        return (images - threat.eps).clamp(0, 1), (images + threat.eps).clamp(0, 1)
    return torch.zeros_like(images), torch.ones_like(images)


def project(delta: Tensor, threat: ThreatModel) -> Tensor:
    """Nearest point of the threat ball, row by row.

    delta: (B, ...) float, pixel units. Rows inside the ball come back bit for bit; l2 rows outside
    it go to eps (1 - 2e-7).
    """
    if threat.norm == "linf":
        return delta.clamp(-threat.eps, threat.eps)
    length = row_l2(delta)
    outside = length > threat.eps
    # clamp: a row of length 0 is inside, but where() evaluates 0/0 for it all the same.
    factor = torch.where(outside, threat.eps * L2_SHRINK / length.clamp(min=1e-12), 1.0)
    return delta * per_row(factor.to(delta.dtype), delta)
