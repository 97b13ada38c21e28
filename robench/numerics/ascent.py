"""The one signed-gradient loop: PGD, FGSM and CW_inf of the attacks, the inner step of training."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robench.numerics.rows import going_on

Gradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x (A, ...), rows (A,)) -> (logits (A, K), gradient (A, ...)); rows index the starting batch."""
Settled = Callable[[Tensor, Tensor, Tensor], Tensor | None]
"""(x, rows, logits) -> (A,) bool of rows that need no further step, or None for "none"."""


def signed_ascent(
    gradient: Gradient,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    step_sizes: Sequence[float],
    settled: Settled | None = None,
) -> Tensor:
    """z <- clamp(z + step_size sign(gradient), low, high), for each size; last iterates (B, ...).

    start, low, high: (B, ...) float32, pixel units. `settled` sees every iterate but the last, the
    result, and takes rows out of the active set: no pass is spent on them afterwards.
    Source: Madry et al. 2018, section 2.1.
    """
    result, rows = start.clone(), torch.arange(start.shape[0], device=start.device)
    x = start
    for step_size in step_sizes:
        logits, direction = gradient(x, rows)
        kept = going_on(settled(x, rows, logits)) if settled is not None else None
        if kept is not None:
            result[rows] = x  # of those that go on as well: they are written again
            x, rows, direction = x[kept], rows[kept], direction[kept]
            low, high = low[kept], high[kept]
            if not len(rows):
                return result
        x = torch.clamp(x + step_size * direction.sign(), low, high)
    result[rows] = x
    return result
