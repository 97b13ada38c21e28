"""MobileNet-v2 for small images: stem and second stage of stride 1, ReLU instead of ReLU6.

Source: Sandler et al. 2018 (arXiv 1801.04381), table 2, in the common CIFAR form: a block of
stride 1 always has a residual, through a 1x1 convolution where the channels differ.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.models.build import Architecture

# (expansion, channels at width 32, blocks, stride of the first block)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Block(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1)."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * channels
        self.residual = stride == 1
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if self.residual and channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        projected: Tensor = self.bn3(self.conv3(y))
        return projected + self.shortcut(x) if self.residual else projected


class MobileNetV2(nn.Module):
    """width: channels of the stem (32 published); all others, the last 1280 too, follow it."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        if width % 4:
            raise InputError(f"mobilenet_v2 needs a width divisible by 4, not {width}")
        last = 40 * width
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layers = _blocks(width)
        self.conv2 = nn.Conv2d(10 * width, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.linear = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _blocks(width: int) -> nn.Sequential:
    blocks, channels = [], width
    for expansion, published, count, stride in _STAGES:
        out = published * width // 32
        for place in range(count):
            blocks.append(Block(channels, out, expansion, stride if place == 0 else 1))
            channels = out
    return nn.Sequential(*blocks)


mobilenet_v2 = Architecture(MobileNetV2, width=32)
