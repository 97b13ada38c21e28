"""Numbers by class as a method's state keeps them: plain lists, empty until the first batch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def class_sums(values: Tensor, labels: Tensor, classes: int) -> list[float]:
    """The sum of a batch's values (B,) over each class, in float64."""
    # Not bincount or index_add: on a GPU they add in an order that changes from run to run.
    members = F.one_hot(labels, classes)
    sums: list[float] = (members * values.double()[:, None]).sum(dim=0).tolist()
    return sums


def added(total: Sequence[float], more: Sequence[float]) -> list[float]:
    """Sums place by place, in a new list; an empty total counts as zeros."""
    return [a + b for a, b in zip(total or [0.0] * len(more), more, strict=True)]


def row_values(by_class: Sequence[float], labels: Tensor, like: Tensor) -> Tensor:
    """(B,) the number of each row's class, 1 while there is none; dtype and device of `like`."""
    if not by_class:
        return torch.ones_like(labels, dtype=like.dtype)
    return torch.tensor(by_class, dtype=like.dtype, device=like.device)[labels]
