"""Rows of a batch: which of them go on, and sums that round the same however many there are."""

from collections.abc import Callable

import torch
from torch import Tensor

FIXED_ROWS = 1024
"""Rows of a reduction on a GPU where they are of the size of images; large rows go by fewer."""
FIXED_VALUES = 2**22
"""Values of a reduction on a GPU at most: 32 MiB of float64."""


def going_on(settled: Tensor | None) -> Tensor | None:
    """(O,) positions of the rows that are not settled; None where all go on.

    settled: (A,) bool, or None for "none": then no GPU is waited for.
    """
    if settled is None:
        return None
    kept = (~settled).nonzero()[:, 0]
    return kept if len(kept) < len(settled) else None


def in_fixed_rows(reduce: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """reduce (R, d), ... -> (R,) on values (B, d), ..., always called with as many rows.

    A CUDA kernel shares out the elements of a row among threads by how many rows there are, so it
    adds them in another order, and rounds otherwise, when the batch has another size. The number
    of rows depends on d alone; the last call is filled with zeros.
    """
    rows = max(2, min(FIXED_ROWS, FIXED_VALUES // max(1, values[0].shape[1])))
    found = []
    for first in range(0, max(1, len(values[0])), rows):
        parts = [value[first : first + rows].contiguous() for value in values]
        n = len(parts[0])
        if n < rows:
            parts = [torch.cat([p, p.new_zeros(rows - n, *p.shape[1:])]) for p in parts]
        found.append(reduce(*parts)[:n])
    return torch.cat(found)
