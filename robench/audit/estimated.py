"""G10: do the gradients point where differences of queries say?"""

import math

import torch
from torch import Tensor

from robench.attacks.gradient_estimation import estimate
from robench.audit.finding import Finding, not_run
from robench.audit.subject import Subject
from robench.numerics.losses import margin, margin_of

SIGMA = 1 / 255
"""Length of a probe in each pixel: a grey level, so that the estimate is of the local slope."""
OF_EXPECTED = 0.5
UNREPEATABLE = {"randomised", "stateful", "batch_statistics"}


def expected_cosine(pairs: int, elements: int) -> float:
    """Of an estimate from so many pairs of probes with the true gradient: sqrt(q / (q + d - 1)).

    Source: attacks.md 11.3.
    """
    return math.sqrt(pairs / (pairs + elements - 1))


def estimated_gradient(subject: Subject) -> Finding:
    """Mean cosine of the estimated and the computed gradient of the margin, at the images."""
    if UNREPEATABLE & set(subject.flags):
        return not_run("outputs are not repeatable (G14): differences of queries are mostly noise")
    places, pairs = subject.everyone[: subject.budget.pair_images], subject.budget.pairs
    images = subject.images[places]

    def values(x: Tensor, rows: Tensor) -> Tensor:
        subject.tick(len(x))
        return margin_of(subject.logits(x), subject.labels[places[rows]])

    draws = subject.draws("estimated_gradient")
    estimated = estimate(values, images, subject.ids[places], draws, queries=2 * pairs, sigma=SIGMA)
    # Of minus the margin z_y - max z_j, which the estimate is of.
    computed = -subject.gradients(margin, images, places)[1]
    value = float(cosines(computed, estimated).mean())
    expected = expected_cosine(pairs, images[0].numel())
    return Finding(
        status="fail" if value < OF_EXPECTED * expected else "pass",
        value=value,
        threshold=OF_EXPECTED * expected,
        alarm="below",
        means="the computed gradient is not the slope of the function (mean cosine with an "
        "estimate from queries)",
        remedy="BPDA, or the attack gradient_estimation",
        details={"expected": expected, "images": len(places), "pairs": pairs},
    )


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(B,) float64 cosines of rows (B, ...); 0 where one is zero or not finite: no direction."""
    a, b = (rows.flatten(1).double() for rows in (a, b))
    cosine = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.where(cosine.isfinite(), cosine, 0.0)
