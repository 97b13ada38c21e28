"""Closed forms for linear models: what any attack can reach at most, by hand."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """z = W x + b on flattened images."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def worst_margin(weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor, eps: float) -> Tensor:
    """(B,) exact smallest margin over the linf ball of eps and the box [0, 1], in float64.

    m_k = (z_y - z_k) - sum_i [(w_k - w_y)_i^+ min(eps, 1 - x_i) + (w_k - w_y)_i^- min(eps, x_i)].
    """
    w, b, x = weight.double(), bias.double(), x.double().flatten(1)
    z = x @ w.T + b
    up, down = (1 - x).clamp(max=eps), x.clamp(max=eps)
    difference = w[None] - w[labels][:, None]
    gain = (difference.clamp(min=0) * up[:, None]).sum(2)
    gain = gain + ((-difference).clamp(min=0) * down[:, None]).sum(2)
    margins = z.gather(1, labels[:, None]) - z - gain
    margins.scatter_(1, labels[:, None], torch.inf)
    return margins.min(dim=1).values


def two_class(offset: float) -> tuple[Tensor, Tensor]:
    """LIN-1: w = (1, -2, .5, 0), z = (w x - offset, 0)."""
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    return weight, torch.tensor([-offset, 0.0])
