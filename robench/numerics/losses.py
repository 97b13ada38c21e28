"""Losses of the searches: per-row values to *maximise*, with their gradient in the logits.

A loss is a function `(logits (B, K) float32, labels (B,) int64) -> (values (B,), gradient (B, K))`;
one whose name ends in `targeted` takes labels (B, 2): label and target.
Gradients are written out, not left to autograd: float32 softmax saturates (attacks.md 0.10), and
a search must not lose the true-class term when the network is merely confident.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.core.names import did_you_mean

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) bool, true at the label."""
    return F.one_hot(labels, logits.shape[1]).bool()


def best_other(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(values, indices) of the largest logit that is not the label's; first index on ties."""
    masked = logits.masked_fill(_own(logits, labels), -torch.inf)
    # max(dim), not amax: ties send the gradient to one class instead of splitting it.
    values, indices = masked.max(dim=1)
    return values, indices


def margin_of(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) label logit minus the largest other: negative where misclassified."""
    return logits.gather(1, labels[:, None])[:, 0] - best_other(logits, labels)[0]


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with a gradient that keeps its direction at every margin.

    The gradient is p_j for j != y and -sum_{j != y} p_j for y, in float64, each row divided by
    max_{j != y} p_j: a positive factor, so signs and directions are those of cross-entropy, and
    nothing underflows however confident the network is. Source: attacks.md 0.10.
    """
    z = logits.double()
    own = _own(logits, labels)
    log_p = F.log_softmax(z, dim=1)
    values = -log_p.gather(1, labels[:, None])[:, 0]
    others = log_p.masked_fill(own, -torch.inf)
    p = (others - others.amax(dim=1, keepdim=True)).exp()
    gradient = torch.where(own, -p.sum(dim=1, keepdim=True), p)
    return values.to(logits.dtype), gradient.to(logits.dtype)


def cross_entropy_float32(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Plain float32 cross-entropy, as the peers compute it: for cross-checks only, it saturates."""
    log_p = F.log_softmax(logits, dim=1)
    one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return -log_p.gather(1, labels[:, None])[:, 0], log_p.exp() - one_hot


def margin(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """max_{j != y} z_j - z_y, unclipped: Carlini-Wagner's loss with kappa = infinity.

    Source: Carlini & Wagner 2017, f_6; as a PGD loss in Madry et al. 2018, section 5.
    """
    values, indices = best_other(logits, labels)
    values = values - logits.gather(1, labels[:, None])[:, 0]
    gradient = torch.zeros_like(logits)
    gradient.scatter_(1, indices[:, None], 1.0)
    gradient.scatter_(1, labels[:, None], -1.0)
    return values, gradient


def margin_targeted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """z_t - z_y. labels: (B, 2) int64, label and target. The whole gradient: +1 and -1."""
    y, t = labels[:, :1], labels[:, 1:]
    gradient = torch.zeros_like(logits).scatter_(1, t, 1.0).scatter_(1, y, -1.0)
    return (logits.gather(1, t) - logits.gather(1, y))[:, 0], gradient


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_float32": cross_entropy_float32,
    "margin": margin,
}


def loss_named(name: str) -> Loss:
    """The loss of that name. Raises: InputError with the nearest names."""
    if name not in LOSSES:
        hint = did_you_mean(name, LOSSES)
        raise InputError(f"unknown loss {name!r}{hint}: expected {', '.join(LOSSES)}")
    return LOSSES[name]
