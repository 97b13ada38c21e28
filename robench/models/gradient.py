"""The input gradient of a loss through a network, from a gradient in its logits."""

from collections.abc import Callable

import torch
from torch import Tensor

from robench.numerics.losses import Loss


def loss_gradient(
    forward: Callable[[Tensor], Tensor],
    loss: Loss,
    x: Tensor,
    targets: Tensor,
    *,
    exact: bool = False,
) -> tuple[Tensor, Tensor]:
    """Logits (B, K) float32, and the gradient (B, C, H, W) up to a positive power of two a row.

    targets: (B, ...), whatever the loss takes. exact: the gradient itself; it may underflow.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        output = forward(x)
    z = output.detach().float()
    if not output.requires_grad:  # nothing to differentiate: a zero gradient, and flagged so
        return z, torch.zeros_like(x)
    seed = loss(z, targets)[1]
    seed = (seed if exact else _unit_scale(seed)).to(output.dtype)
    (gradient,) = torch.autograd.grad(output, x, seed, allow_unused=True)
    return z, torch.zeros_like(x) if gradient is None else gradient.float()


def _unit_scale(gradient: Tensor) -> Tensor:
    """Rows scaled by a power of two to a largest magnitude in [0.5, 1): bits and signs stay."""
    largest = gradient.abs().amax(dim=1, keepdim=True)
    return torch.ldexp(gradient, -torch.frexp(largest).exponent)
