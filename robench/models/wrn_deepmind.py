"""WideResNet-22 and -70 as in DeepMind's adversarial-robustness code: Swish, SAME padding.

Source: Gowal et al. 2020 (arXiv 2010.03593). A 3x3 convolution of stride 2 pads right and below
only, as SAME does for even sizes; the 1x1 shortcut is unpadded. Published code normalises inside
the network; here the `Normalize` layer does it.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.build import Architecture


class Block(nn.Module):
    """Pre-activation block. Where channels change, the shortcut starts from the activated input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(channels)
        self.halves = stride == 2
        self.conv_0 = nn.Conv2d(channels, out, 3, stride, 0 if self.halves else 1, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(out)
        self.conv_1 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.projects = channels != out
        if self.projects:
            self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.batchnorm_0(x))
        shortcut = self.shortcut(y) if self.projects else x
        if self.halves:
            y = F.pad(y, (0, 1, 0, 1))  # left, right, top, bottom
        residual: Tensor = self.conv_1(F.silu(self.batchnorm_1(self.conv_0(y))))
        return residual + shortcut


class Stage(nn.Module):
    """Blocks under the key `block`, as the checkpoints have them."""

    def __init__(self, channels: int, out: int, count: int, stride: int) -> None:
        super().__init__()
        rest = [Block(out, out, 1) for _ in range(count - 1)]
        self.block = nn.Sequential(Block(channels, out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


class WideResNet(nn.Module):
    """depth: 6 k + 4. width: the widening factor, stages of 16, 32 and 64 times it."""

    def __init__(self, depth: int, num_classes: int, width: int) -> None:
        super().__init__()
        count = (depth - 4) // 6
        self.init_conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.layer = nn.Sequential(
            Stage(16, 16 * width, count, 1),
            Stage(16 * width, 32 * width, count, 2),
            Stage(32 * width, 64 * width, count, 2),
        )
        self.batchnorm = nn.BatchNorm2d(64 * width)
        self.logits = nn.Linear(64 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.batchnorm(self.layer(self.init_conv(x))))
        logits: Tensor = self.logits(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _deepmind(depth: int, width: int) -> Architecture:
    return Architecture(
        partial(WideResNet, depth),
        width=width,
        width_tensor="layer.0.block.0.conv_0.weight",
        channels_per_width=16,
        head="logits",
        normalizes_inside=True,
    )


wrn22_6 = _deepmind(22, 6)
wrn70_16 = _deepmind(70, 16)
