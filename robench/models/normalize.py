"""The input convention of a network: which mean and standard deviation its pixels are scaled by."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.core.names import did_you_mean


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std on pixels in [0, 1]; one number per channel, or one for all.

    Raises: InputError for numbers that are not finite, a std that is not positive, or lengths
    that differ.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                f"normalization has {len(self.mean)} means and {len(self.std)} deviations: "
                "expected one of each per channel"
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(0 < s < 1e6 for s in self.std):
            raise InputError("normalization needs finite means and positive deviations")

    @property
    def is_identity(self) -> bool:
        """Whether pixels pass unchanged."""
        return not any(self.mean) and all(s == 1 for s in self.std)

    @property
    def text(self) -> str:
        """The listed name where there is one, else `MEAN/STD`; `parse_normalization` reads both."""
        if self.is_identity:
            return "none"
        numbers = (",".join(map(repr, self.mean)), ",".join(map(repr, self.std)))
        return next((name for name, n in LISTED.items() if n == self), "/".join(numbers))


LISTED = {
    "none": Normalization((0.0,), (1.0,)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""The names of `--normalize`."""


def parse_normalization(text: str) -> Normalization:
    """`none`, `cifar10`, `cifar100`, `imagenet`, or `0.5,0.5,0.5/0.2,0.2,0.2`.

    Raises: InputError for anything else.
    """
    text = text.strip()
    if text in LISTED:
        return LISTED[text]
    mean, slash, std = text.partition("/")
    if slash:
        return Normalization(_numbers(mean, text), _numbers(std, text))
    hint = did_you_mean(text, LISTED) or ":"
    raise InputError(
        f"unknown normalization {text!r}{hint} expected {', '.join(LISTED)} or MEAN/STD, "
        "as 0.5,0.5,0.5/0.2,0.2,0.2"
    )


def _numbers(part: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in part.split(","))
    except ValueError:
        raise InputError(
            f"cannot read {text!r} as MEAN/STD: write 0.5,0.5,0.5/0.2,0.2,0.2"
        ) from None


class Normalize(nn.Module):
    """The first layer of a network that was trained on normalised pixels.

    Its constants are no part of the state dict: a checkpoint is the network's alone, and the
    normalisation stands in its metadata.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        self.register_buffer("mean", _per_channel(normalization.mean), persistent=False)
        self.register_buffer("std", _per_channel(normalization.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


class Normalized(nn.Sequential):
    """`normalize`, then `network`."""

    normalize: Normalize
    network: nn.Module

    def __init__(self, normalization: Normalization, network: nn.Module) -> None:
        layers = OrderedDict(normalize=Normalize(normalization), network=network)
        super().__init__(layers)
        self.training = getattr(network, "training", False)  # a frozen TorchScript one has none


def normalized(network: nn.Module, normalization: Normalization) -> nn.Module:
    """The network behind its normalisation; the network itself where there is none."""
    return network if normalization.is_identity else Normalized(normalization, network)
