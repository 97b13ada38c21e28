"""G1, G2: is there a gradient to follow at all?"""

import torch
from torch import Tensor

from robench.attacks.pgd import starting_points
from robench.audit.finding import Finding, share
from robench.audit.subject import Subject
from robench.numerics.losses import Loss, cross_entropy_float32, margin, margin_of

CE_SHARE = 0.01
MARGIN_SHARE = 0.0
SATURATED = 17.0
"""Margin from which p_y - 1 rounds to 0 in float32: cross-entropy's gradient then points wrongly,
long before it is zero (attacks.md 0.10)."""
SATURATED_SHARE = 0.01


def zero_gradients(subject: Subject) -> Finding:
    """Images whose gradient is zero or not finite, at the image or at a random start.

    The margin decides. Plain float32 cross-entropy is counted beside it and at most warns: it
    saturates on confident honest networks as well, which G2 measures. Source: Athalye et al. 2018;
    AutoAttack's checks.py looks at DLR only, at the start only.
    """
    by_margin, by_ce = _dead(subject, margin), _dead(subject, cross_entropy_float32)
    found = share(
        int(by_margin.sum()),
        len(subject),
        MARGIN_SHARE,
        means="gradient attacks stand still on these images: nothing was tried on them",
        remedy="find the layer that has no slope (rounding, argmax, clamp); attack through it "
        "with BPDA, or with queries",
        cross_entropy_count=int(by_ce.sum()),
        cross_entropy_share=float(by_ce.float().mean()),
        cross_entropy_threshold=CE_SHARE,
    )
    if found.status == "pass" and bool(by_ce.any()):
        found.status = "warn"
        found.reason = (
            f"{int(by_ce.sum())} images have no float32 cross-entropy gradient, all have one of "
            "the margin: attack with a margin loss"
        )
    return found


def _dead(subject: Subject, loss: Loss) -> Tensor:
    """(N,) bool: no gradient at the image or at the start."""
    draws = subject.draws("pgd_sat")
    start = starting_points("uniform", subject.images, subject.ids, subject.threat, draws)
    return _vanishes(subject, loss, subject.images) | _vanishes(subject, loss, start)


def _vanishes(subject: Subject, loss: Loss, x: Tensor) -> Tensor:
    gradient = subject.gradients(loss, x, subject.everyone)[1].flatten(1)
    return ~gradient.isfinite().all(dim=1) | (gradient == 0).all(dim=1)


def saturation(subject: Subject) -> Finding:
    """Images whose margin is too large for cross-entropy in float32."""
    margins = margin_of(subject.clean_logits, subject.labels)
    return share(
        int((margins > SATURATED).sum()),
        len(subject),
        SATURATED_SHARE,
        means=f"margins above {SATURATED:g}: float32 cross-entropy gives gradients that point "
        "wrongly, so attacks that use it look weak",
        remedy="divide the logits by a constant (no verdict changes), or attack with a margin loss",
        largest_margin=float(margins.max()),
        median_margin=float(torch.median(margins)),
    )
