"""How images lie in a pass: so many rows, in one of two memory formats."""

from collections.abc import Iterator

import torch
from torch import Tensor


def padded_chunks(x: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """x (B, ...) in pieces of exactly `rows` rows, the last one filled with copies of its first."""
    for start in range(0, len(x), rows):
        piece = x[start : start + rows]
        where = slice(start, start + len(piece))
        if len(piece) < rows:
            piece = torch.cat([piece, piece[:1].expand(rows - len(piece), *piece.shape[1:])])
        yield where, piece


def with_channels_last(x: Tensor) -> Tensor:
    """Images (B, C, H, W) with the channels of a pixel side by side; others row after row."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
