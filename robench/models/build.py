"""Building a network by name, and what its checkpoint looks like."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from robench.core.errors import InputError
from robench.models import ARCHITECTURES

Layout = dict[str, torch.Size]


@dataclass(frozen=True)
class Architecture:
    """What a line of the table points to: how to build it, and where its size can be read.

    network: (num_classes, width) -> nn.Module, input (B, 3, H, W), output (B, num_classes) logits.
    width: the published one. width_tensor: the state-dict entry whose first dimension is
    width x channels_per_width. head: the last linear layer. normalizes_inside: published code
    subtracts the data set's mean inside the network, with constants that no checkpoint holds.
    """

    network: Callable[[int, int], nn.Module]
    width: int
    width_tensor: str = "conv1.weight"
    channels_per_width: int = 1
    head: str = "linear"
    normalizes_inside: bool = False


def build(architecture: str, num_classes: int, width: int | None = None) -> nn.Module:
    """A freshly initialised network, in training mode.

    width: None is the published one.
    Raises: InputError for an unknown name, or a size that the family cannot have.
    """
    chosen: Architecture = ARCHITECTURES.load(architecture)
    width = chosen.width if width is None else width
    if num_classes < 2 or width < 1:
        raise InputError(
            f"{architecture} cannot have {num_classes} classes and width {width}: "
            "expected at least 2 classes and width 1"
        )
    return chosen.network(num_classes, width)


def build_empty(architecture: str, num_classes: int, width: int | None = None) -> nn.Module:
    """The network without memory for its weights (device meta); no random number is drawn."""
    with torch.device("meta"):
        return build(architecture, num_classes, width)


def layout(network: nn.Module) -> Layout:
    """Names and shapes of the state dict, in its order."""
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
