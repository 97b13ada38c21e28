"""Features: what a network's last linear layer is given, read in the pass that gives the logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.models.global_rng import kept_global_rng, seed_torch


def last_linear(network: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits. Raises: InputError for a network without any."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise InputError("a network without a linear layer has no features to follow")
    return layers[-1]


@contextmanager
def tapped(layer: nn.Linear) -> Iterator[Callable[[], Tensor]]:
    """Within the block, what the layer was last given in the caller's thread: (B, D).

    Empty while no pass has reached it.
    """
    kept: dict[int, Tensor] = {}

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        kept[get_ident()] = inputs[0]

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield lambda: kept.get(get_ident(), torch.empty(0))
    finally:
        handle.remove()


def check_features(network: nn.Module, images: Tensor, what: str) -> None:
    """Raises: InputError unless the network's logits are its last linear layer of its features.

    network: in evaluation mode. images: (B, C, H, W) float32 in [0, 1]. what: it is, in errors.
    """
    layer = last_linear(network)
    with torch.no_grad(), tapped(layer) as latest:
        logits = network(images)
        features = latest()
        same = len(features) == len(images) and torch.equal(layer(features), logits)
    if not same:
        raise InputError(
            f"{what} gives logits that are not those of its last linear layer: it has no features "
            "to follow; take another teacher or another method"
        )


def adapter(features: int, wanted: int, seed: int) -> nn.Module:
    """From `features` numbers to `wanted`: a linear map without bias, or nothing where they agree.

    Global generators are left alone.
    """
    if features == wanted:
        return nn.Identity()
    with kept_global_rng():
        seed_torch(seed)
        return nn.Linear(features, wanted, bias=False)
