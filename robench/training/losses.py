"""Losses of training: scalars over a batch, differentiable, in the dtype of the logits."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.core.names import did_you_mean

KLScale = Literal["batchmean", "batchmean/10", "batchmean/C"]
"""How a divergence (B, K) becomes a number: the sum over classes, its mean over rows; that divided
by ten, whatever K; or by K. Papers differ in nothing more often (training-methods.md 0)."""


def require_kl_scale(scale: str) -> None:
    """Raises: InputError for a scale that is none of KLScale, with the nearest names."""
    known = get_args(KLScale)
    if scale not in known:
        hint = did_you_mean(scale, known)
        raise InputError(f"unknown kl_scale {scale!r}{hint}: expected {', '.join(known)}")


def _divisor(scale: KLScale, classes: int) -> int:
    return {"batchmean": 1, "batchmean/10": 10, "batchmean/C": classes}[scale]


def divergence(
    target_logits: Tensor,
    logits: Tensor,
    *,
    temperature: float = 1.0,
    scale: KLScale = "batchmean",
    eps: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """KL(softmax(target_logits / temperature) || softmax(logits)), a scalar; gradient through both.

    target_logits, logits: (B, K). temperature: of the targets only, and no factor temperature^2.
    eps: log(p + eps) for log p of the targets, as in released code; 0 is the divergence itself.
    weights: (B,), of the rows; the sum is still divided by B, whatever they add up to.
    """
    log_p = F.log_softmax(target_logits / temperature, dim=1)
    p = log_p.exp()
    # Not log(softmax): once a probability underflows, 0 log 0 would be NaN.
    log_target = (p + eps).log() if eps else log_p
    rows = (p * (log_target - F.log_softmax(logits, dim=1))).sum(dim=1)
    rows = rows if weights is None else weights * rows
    return rows.mean() / _divisor(scale, logits.shape[1])


def teacher_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    temperature: float = 1.0,
    scale: KLScale = "batchmean",
    eps: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """KL(teacher || student), a scalar; gradient through the student only. Else as `divergence`.

    Papers that write KL(S, T) compute this one, too: training-methods.md 0.
    """
    return divergence(
        teacher_logits.detach(),
        student_logits,
        temperature=temperature,
        scale=scale,
        eps=eps,
        weights=weights,
    )


def entropies(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(logits / temperature), row by row: (B,), in nats, 0 when saturated."""
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def soft_targets(logits: Tensor) -> Tensor:
    """Log-probabilities (B, K) float64: the targets of `numerics.losses.kl_divergence`.

    float64: at equal logits the gradient there is then 0, not the rounding of float32, whose sign
    would be a step.
    """
    return F.log_softmax(logits.detach().double(), dim=1)
