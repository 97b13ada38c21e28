"""He initialisation, for the families whose published code uses it."""

from typing import Literal

from torch import nn


def he_normal(network: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """Normal weights of variance 2 / fan in every convolution; other layers keep their own.

    Source: He et al. 2015, equation 10 (fan_in) and 14 (fan_out).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
