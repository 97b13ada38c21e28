"""Is an output a function of its image? Noise, state and batch statistics told from each other."""

import math

import torch
from torch import Tensor

from robench.core.record import Flag
from robench.evaluation.judge import Judge
from robench.models.global_rng import seeded_global_rng

SEEDS = 4
"""Seeds of the global generators that passes are compared under."""
DRIFT_PASSES = 5
REPEAT_TOLERANCE = 1e-4
"""Largest distance of an image's outputs, relative to their length, that rounding explains."""
DRIFT_COSINE = 0.5
"""Mean cosine of successive changes: about -0.5 for independent noise, 1 for a moving average."""


def repeatability_flags(judge: Judge, images: Tensor, labels: Tensor, first: Tensor) -> list[Flag]:
    """`randomised`, `stateful` and `batch_statistics`, each where the passes show it.

    images: (B, C, H, W) of one pass, labels: (B,). first: their (B, K) `seeded_logits`, the last
    pass before; not the first of all, since what a very first call answers says nothing.
    """
    again = seeded_logits(judge, images)
    if (noise := _distance(first, again)) > REPEAT_TOLERANCE:
        # Not noise of the global generators, which one seed repeats: a drift, or noise of its own.
        runs = [first, again, *(seeded_logits(judge, images) for _ in range(DRIFT_PASSES - 2))]
        return [_stateful(noise) if _drifts(runs) else _randomised(noise)]
    found = []
    others = [seeded_logits(judge, images, seed) for seed in range(1, SEEDS)]
    spread = max(_distance(first, other) for other in others)
    if spread > REPEAT_TOLERANCE or len({_correct(z, labels) for z in (first, *others)}) > 1:
        found.append(_randomised(spread))
    elsewhere = seeded_logits(judge, 1 - images.flip(0))
    moved = _distance(first, seeded_logits(judge, images))
    if moved > REPEAT_TOLERANCE or (not found and _remembered(first, elsewhere)):
        return [*found, _stateful(moved)]
    # The first half again, its batch filled up with other images: a reordering would not tell.
    half = max(1, len(images) // 2)
    company = _distance(first[:half], seeded_logits(judge, images[:half]))
    if company > REPEAT_TOLERANCE:
        message = "an image's output depends on the others in its batch (batch statistics?)"
        found.append(Flag(name="batch_statistics", level="fail", message=message, value=company))
    return found


def seeded_logits(judge: Judge, images: Tensor, seed: int = 0) -> Tensor:
    """(B, K) float32 logits of images (B, C, H, W), noise of the global generators repeated."""
    with seeded_global_rng(seed):
        return judge.logits(images)


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest of an image's two outputs, relative to the first; NaN counts as infinite."""
    length = one.norm(dim=1).clamp(min=1e-12)
    found = float(((one - other).norm(dim=1) / length).max())
    return math.inf if math.isnan(found) else found


def _correct(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())


def _drifts(runs: list[Tensor]) -> bool:
    """Whether outputs of the same images move one way: averages and counters do, noise does not."""
    outputs = torch.stack([logits.flatten() for logits in runs]).double()
    changes = outputs.diff(dim=0)
    cosines = torch.nn.functional.cosine_similarity(changes[1:], changes[:-1], dim=1)
    return bool(cosines.mean() > DRIFT_COSINE)


def _remembered(logits: Tensor, elsewhere: Tensor) -> bool:
    """Whether other images are answered alike row by row, and the rows differ: old answers."""
    return torch.equal(logits, elsewhere) and bool((logits != logits[:1]).any())


def _randomised(spread: float) -> Flag:
    message = "outputs change between forward passes: one verdict per image says little, use EOT"
    return Flag(name="randomised", level="fail", message=message, value=spread)


def _stateful(moved: float) -> Flag:
    message = (
        "an image's output depends on earlier calls: no verdict is of its image alone, reset what "
        "the defense remembers in every forward pass"
    )
    return Flag(name="stateful", level="fail", message=message, value=moved)
