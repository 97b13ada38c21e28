"""The behaviour probe: how a defense answers beyond its clean logits, to know it again.

A fingerprint is of what can be read: weights, sources, values. Two defenses may still differ in
what cannot be read, and give the same logits on clean images while another backward pass decides
how robust they look. So records keep the answers to fixed noisy images, and the input gradients.

A gradient is kept as its products with a few fixed vectors of random signs: by the Johnson-
Lindenstrauss lemma lengths and angles survive, and a record stays small. Numbers and no hash:
gradients of other hardware point the same way, but not to the last bit.
"""

import hashlib
import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robench.core.record import Behaviour
from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge
from robench.models.global_rng import seeded_global_rng
from robench.models.layout import padded_chunks
from robench.models.passes import exact_float32, out_of_memory
from robench.numerics.random import ImageDraws

IMAGES = 8
NOISE = 8 / 255
"""Of the noisy images, whatever the threat: two threats on one defense see the same probe."""
SKETCH = 16
"""Products that are kept of a gradient."""
ROUNDING = 1e-5
"""Largest difference of gradients, relative to the longer one, that is rounding on a CPU."""
COSINE = 0.999
"""Least cosine of gradients of other hardware, or of a GPU."""
NOT_REPEATED = ""
"""In the place of a hash: two runs of the probe differ, so nothing can be compared."""
NO_GRADIENT = "no gradient"
Sketches = list[list[float]]
_DRAWS = ImageDraws(0, "behaviour")


def clean_probe(model: nn.Module, images: Tensor, rows: int) -> str:
    """SHA-256 of the float32 logits of images (n, C, H, W), at the judge's passes of `rows` rows.

    Under a fixed seed; `NOT_REPEATED` where that does not make two runs equal.
    """
    first, second = (_logits(model, images, rows) for _ in range(2))
    return first if first == second else NOT_REPEATED


def probe(model: nn.Module, images: Tensor, rows: int, differentiable: bool) -> Behaviour:
    """Noisy logits, and input gradients on clean and noisy images (n, C, H, W)."""
    noisy = _noisy(images)
    remarks = []
    first, second = (_logits(model, noisy, rows) for _ in range(2))
    if first != second:
        first = NOT_REPEATED
        remarks.append("logits do not repeat under a fixed seed")
    if not differentiable:
        return Behaviour(first, None, (*remarks, NO_GRADIENT))
    both = torch.cat([images, noisy])
    once, again = (_gradients(model, both, rows) for _ in range(2))
    if once is None or again is None:
        return Behaviour(first, None, (*remarks, NO_GRADIENT))
    if not np.isfinite(once).all():
        remarks.append("gradients are not finite on some images")
        once, again = _finite(once), _finite(again)
    if not _agree(once, again, by_cosine=images.device.type != "cpu"):
        return Behaviour(first, None, (*remarks, "gradients do not repeat under a fixed seed"))
    return Behaviour(first, once, tuple(remarks))


def same(one: Behaviour | None, other: Behaviour | None, by_cosine: bool) -> bool:
    """Whether two probes can be of one defense; None, of older records, says nothing.

    by_cosine: on a GPU, or between machines: logits do not count, gradients by their direction.
    """
    if one is None or other is None:
        return True
    if not by_cosine and one.noisy_logits != other.noisy_logits:
        return False  # one that repeats and one that does not are two, as well
    if one.gradients is None or other.gradients is None:
        lost = [NO_GRADIENT in behaviour.remarks for behaviour in (one, other)]
        return one.gradients is other.gradients and lost[0] == lost[1]
    return _agree(one.gradients, other.gradients, by_cosine)


def _agree(one: Sketches, other: Sketches, by_cosine: bool) -> bool:
    if by_cosine:
        return _cosine(one, other) >= COSINE
    return _difference(one, other) <= ROUNDING


def _logits(model: nn.Module, images: Tensor, rows: int) -> str:
    with seeded_global_rng():
        logits = Judge(model, ThreatModel(eps=0), rows).logits(images)
    return hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest()


def _noisy(images: Tensor) -> Tensor:
    ids = torch.arange(len(images), device=images.device)
    signs = _DRAWS.signs(ids, images.shape[1:], purpose="sign")
    return (images + NOISE * signs).clamp(0, 1)


def _gradients(model: nn.Module, images: Tensor, rows: int) -> Sketches | None:
    """(n, SKETCH) products of each image's gradient of a fixed mixture of its logits."""
    found = []
    with seeded_global_rng(), exact_float32(), torch.enable_grad():
        for where, chunk in padded_chunks(images, rows):
            x = chunk.detach().clone().requires_grad_()
            try:
                logits = model(x.clone()).float()
                mixed = (logits * _mixture(logits.shape[1]).to(logits)).sum()
                (gradient,) = torch.autograd.grad(mixed, x, allow_unused=True)
            except Exception as error:  # foreign code: some raise now and then
                if out_of_memory(error):
                    raise
                return None
            if gradient is None:
                return None
            found += _sketches(gradient[: where.stop - where.start])
    return found


def _sketches(gradients: Tensor) -> Sketches:
    flat = gradients.detach().float().cpu().contiguous().flatten(1).numpy().astype(np.float64)
    # numpy's sum along the last axis is the same on any number of threads; a product is not.
    products = [(row * _signs(flat.shape[1])).sum(axis=1) for row in flat]
    return [[float(f"{value:.9g}") for value in row.tolist()] for row in products]


def _finite(sketches: Sketches) -> Sketches:
    """With zeros in the place of what JSON cannot say."""
    return [[value if math.isfinite(value) else 0.0 for value in row] for row in sketches]


@cache
def _signs(elements: int) -> NDArray[np.float64]:
    """(SKETCH, elements) fixed random signs, scaled so that lengths stay."""
    signs = _DRAWS.signs(torch.arange(SKETCH), (elements,), purpose="probe")
    return signs.double().numpy() / math.sqrt(SKETCH)


def _mixture(classes: int) -> Tensor:
    """(classes,) fixed weights of the logits: no class is left out, and they do not cancel."""
    return torch.cos(torch.arange(classes, dtype=torch.float64) * 2.0 + 0.5).float()


def _difference(one: Sketches, other: Sketches) -> float:
    a, b = np.array(one), np.array(other)
    if a.shape != b.shape:
        return math.inf
    longest = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    apart = np.linalg.norm(a - b, axis=1)
    return float((apart / np.where(longest == 0, 1, longest)).max())


def _cosine(one: Sketches, other: Sketches) -> float:
    """Of all images together, each with the same weight."""
    a, b = (_unit(np.array(vectors)) for vectors in (one, other))
    if a.shape != b.shape:
        return -1.0
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 if np.array_equal(a, b) else float((a * b).sum()) / max(length, 1e-300)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
