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


def log_odds(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """logsumexp_{j != y} z_j - z_y: cross-entropy is its softplus, so both order points alike.

    For searches that compare values: cross-entropy itself rounds to 0 once the margin is large
    (17 in float32, 37 in float64), and then no step would count as progress. The gradient has the
    direction of cross-entropy's.
    """
    z = logits.double()
    own = _own(logits, labels)
    others = z.masked_fill(own, -torch.inf)
    total = torch.logsumexp(others, dim=1)
    p = (others - total[:, None]).exp()
    values = total - z.gather(1, labels[:, None])[:, 0]
    return values.to(logits.dtype), p.masked_fill(own, -1.0).to(logits.dtype)


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


_DLR_OFFSET = 1e-12


def dlr(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """-(z_y - max_{j != y} z_j) / (z_1 - z_3 + 1e-12), z_1 >= z_2 >= ... the sorted logits.

    Constant 1 with gradient 0 where y is third: misclassified already. Of equal logits the first
    counts as the larger, in the reference the last: the values agree, the gradients are two of
    those that a kink has. Source: Croce & Hein 2020, "Reliable evaluation of adversarial
    robustness", section 4. Raises: InputError below three classes.
    """
    _require_classes(logits, 3, "dlr", "margin")
    y, other = labels[:, None], best_other(logits, labels)[1][:, None]
    ordered, places = _sorted(logits)
    scale = ordered[:, 0] - ordered[:, 2] + _DLR_OFFSET
    change = _weights(logits, (places[:, :1], 1.0), (places[:, 2:3], -1.0))
    return _minus_quotient(logits, y, other, scale, change)


def dlr_targeted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2 + 1e-12). labels: (B, 2) int64, label and target.

    Ties as in `dlr`. Source: Croce & Hein 2020, section 4. Raises: InputError below four classes.
    """
    _require_classes(logits, 4, "dlr_targeted", "margin_targeted")
    ordered, places = _sorted(logits)
    scale = ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + _DLR_OFFSET
    change = _weights(logits, (places[:, :1], 1.0), (places[:, 2:4], -0.5))
    return _minus_quotient(logits, labels[:, :1], labels[:, 1:], scale, change)


def _require_classes(logits: Tensor, least: int, name: str, instead: str) -> None:
    if logits.shape[1] < least:
        raise InputError(
            f"the {name} loss needs {least} classes, not {logits.shape[1]}: use {instead}"
        )


def _sorted(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(values, indices) (B, K), largest first; first index on ties, like `best_other`."""
    values, indices = logits.sort(dim=1, descending=True, stable=True)
    return values, indices


def _weights(logits: Tensor, *terms: tuple[Tensor, float]) -> Tensor:
    """(B, K) zeros with the weight of each term added at its indices (B, n)."""
    weights = torch.zeros_like(logits)
    for indices, weight in terms:
        weights.scatter_add_(1, indices, torch.full_like(indices, weight, dtype=logits.dtype))
    return weights


def _minus_quotient(
    logits: Tensor, y: Tensor, other: Tensor, scale: Tensor, change: Tensor
) -> tuple[Tensor, Tensor]:
    """f = -(z_y - z_other) / scale, and its gradient -(e_y - e_other + f change) / scale.

    scale: (B,), change: (B, K) its gradient.
    """
    values = (logits.gather(1, other) - logits.gather(1, y))[:, 0] / scale
    difference = _weights(logits, (y, 1.0), (other, -1.0))
    return values, -(difference + values[:, None] * change) / scale[:, None]


def kl_divergence(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """KL(target || softmax(logits)), for inner maximisations: one that takes no labels.

    targets: (B, K) log-probabilities, any dtype. Gradient softmax(logits) - target, in float64: 0
    where the two are equal, so a search must not start there.
    Source: Zhang et al. 2019 (TRADES), Algorithm 1.
    """
    log_target, log_p = targets.double(), F.log_softmax(logits.double(), dim=1)
    target = log_target.exp()
    values = (target * (log_target - log_p)).sum(dim=1)
    return values.to(logits.dtype), (log_p.exp() - target).to(logits.dtype)


def squared_error(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """|p - q|^2 of p = softmax(logits) and the target q, for inner maximisations.

    targets: (B, K) log-probabilities, any dtype, as of `kl_divergence`. The gradient is
    2 p_j (p_j - q_j - sum_k p_k (p_k - q_k)), in float64: 0 where the two are equal, so a search
    must not start there, and vanishing where p saturates, which is the loss and not rounding.
    Source: Pang et al. 2022 (SCORE), and its released code.
    """
    p, q = F.log_softmax(logits.double(), dim=1).exp(), targets.double().exp()
    apart = p - q
    slope = apart - (p * apart).sum(dim=1, keepdim=True)
    return (apart**2).sum(dim=1).to(logits.dtype), (2 * p * slope).to(logits.dtype)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_float32": cross_entropy_float32,
    "margin": margin,
    "dlr": dlr,
}


def loss_named(name: str) -> Loss:
    """The loss of that name. Raises: InputError with the nearest names."""
    if name not in LOSSES:
        hint = did_you_mean(name, LOSSES)
        raise InputError(f"unknown loss {name!r}{hint}: expected {', '.join(LOSSES)}")
    return LOSSES[name]
