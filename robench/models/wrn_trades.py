"""WideResNet-34 as in the code of TRADES: ReLU, symmetric padding.

Source: Zagoruyko and Komodakis 2016 (arXiv 1605.07146). TRADES builds an unused `sub_block1`
(2,102,112 parameters) too; it is not built here and dropped from checkpoints.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.build import Architecture
from robench.models.initialise import he_normal


class Block(nn.Module):
    """Pre-activation block. Where channels change, the shortcut starts from the activated input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.projects = channels != out
        if self.projects:
            self.convShortcut = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = self.convShortcut(y) if self.projects else x
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return residual + shortcut


class Stage(nn.Module):
    """Blocks under the key `layer`, as the checkpoints have them."""

    def __init__(self, channels: int, out: int, count: int, stride: int) -> None:
        super().__init__()
        rest = [Block(out, out, 1) for _ in range(count - 1)]
        self.layer = nn.Sequential(Block(channels, out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class WideResNet(nn.Module):
    """depth: 6 k + 4. width: the widening factor, stages of 16, 32 and 64 times it."""

    def __init__(self, depth: int, num_classes: int, width: int) -> None:
        super().__init__()
        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(16, 16 * width, count, 1)
        self.block2 = Stage(16 * width, 32 * width, count, 2)
        self.block3 = Stage(32 * width, 64 * width, count, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        he_normal(self, "fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


wrn34_10 = Architecture(
    partial(WideResNet, 34),
    width=10,
    width_tensor="block1.layer.0.conv1.weight",
    channels_per_width=16,
    head="fc",
)
