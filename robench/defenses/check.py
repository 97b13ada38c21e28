"""Is the input convention right? It cannot be seen in tensor shapes, only in clean accuracy."""

import torch
from torch import Tensor, nn

from robench.core.statistics import wilson
from robench.defenses.defense import Defense
from robench.models.global_rng import kept_global_rng
from robench.models.layout import padded_chunks
from robench.models.normalize import LISTED, Normalized, normalized

GAIN = 0.03
"""Another listed normalisation is named when it gains more clean accuracy than this."""
ROWS = 32


@torch.no_grad()
def normalization_warning(
    defense: Defense, images: Tensor, labels: Tensor, rows: int = ROWS
) -> str | None:
    """One line when the normalisation looks wrong, naming the better one; None when all is well.

    images: (n, C, H, W) float32 in [0, 1], labels: (n,) int64, the first ones of the set. rows: of
    every pass. Costs up to four passes per image; a candidate is given up once it cannot win.
    """
    if not len(images):
        return None
    device = next((p.device for p in defense.model.parameters()), images.device)
    images, labels = images.to(device), labels.to(device)
    with kept_global_rng():
        current = _accuracy(defense.model, images, labels, rows, at_least=0.0)
        best, name = _best_other(defense, images, labels, rows, current)
    chance = 1 / defense.num_classes
    most = wilson(round(current * len(images)), len(images)).high
    better = f"; --normalize {name} gives {best:.1%}" if best > current + GAIN else ""
    if most >= chance and not better:
        return None
    low = f", below chance (1 / classes = {chance:.1%})" if most < chance else ""
    return (
        f"clean accuracy of {defense.name} is {current:.1%} on {len(images)} images with "
        f"normalization {defense.normalization}{low}{better}"
    )


def _best_other(
    defense: Defense, images: Tensor, labels: Tensor, rows: int, current: float
) -> tuple[float, str]:
    """The best accuracy that another listed normalisation reaches, and its name."""
    model = defense.model
    network: nn.Module = model.network if isinstance(model, Normalized) else model
    best, best_name = current, ""
    for name, normalization in LISTED.items():
        # Three channels have the listed constants; a network for others can only take none.
        if name == defense.normalization or len(normalization.mean) not in (1, images.shape[1]):
            continue
        candidate = normalized(network, normalization).to(images.device)
        at_least = best + GAIN * (not best_name)
        reached = _accuracy(candidate, images, labels, rows, at_least=at_least)
        if reached > best:
            best, best_name = reached, name
    return best, best_name


def _accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, rows: int, *, at_least: float
) -> float:
    """Share of images classified as their label; 0.0 as soon as `at_least` is out of reach."""
    allowed = (1 - at_least) * len(images)
    wrong = 0
    for where, chunk in padded_chunks(images, rows):
        expected = labels[where]
        predictions = model(chunk.clone()).argmax(dim=1)  # a clone: some work in place
        wrong += int((predictions[: len(expected)] != expected).sum())
        if wrong > allowed:
            return 0.0
    return 1 - wrong / len(images)
