"""The student: its network, its training-mode passes, and how it is prepared for the device."""

import torch
from torch import Tensor, nn

from robench.models.build import build
from robench.models.global_rng import kept_global_rng, seed_torch
from robench.models.normalize import normalized, parse_normalization
from robench.training.recipe import Recipe


def new_network(recipe: Recipe, classes: int) -> nn.Module:
    """A freshly initialised network by the recipe's seed; global generators are left alone."""
    with kept_global_rng():
        seed_torch(recipe.seed)
        network = build(recipe.student.arch, classes, recipe.student.width)
    return normalized(network, parse_normalization(recipe.student.normalize))


class TrainingForward:
    """Training mode: images (B, C, H, W) float32 -> logits (B, K) float32 with gradient.

    bfloat16 inside the network only, by autocast; weights, statistics and losses stay float32.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        self.network, self.low = network, precision == "bf16"

    def __call__(self, x: Tensor) -> Tensor:
        # Inside another autocast block the cache of cast weights would outlive the step: the
        # network would go on computing with, and descending from, its first weights.
        with torch.autocast(
            x.device.type, dtype=torch.bfloat16, enabled=self.low, cache_enabled=False
        ):
            logits: Tensor = self.network(x)
        return logits.float()
