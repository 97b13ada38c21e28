"""Pre-activation ResNet-18 and -34 for small images, with a batch norm before the pooling.

Source: He et al. 2016 (arXiv 1603.05027). The shortcut is a bare 1x1 convolution of the activated
input. Another PreActResNet-18 in circulation has no final batch norm: 1,024 parameters fewer, a
different function, and not this network.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.build import Architecture


class Block(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; identity shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.projects = stride != 1 or channels != out
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = self.shortcut(y) if self.projects else x
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return residual + shortcut


class PreActResNet(nn.Module):
    """blocks: of the four stages. width: channels of the first; they double in the others."""

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.layer1 = _stage(width, width, blocks[0], 1)
        self.layer2 = _stage(width, 2 * width, blocks[1], 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks[2], 2)
        self.layer4 = _stage(4 * width, 8 * width, blocks[3], 2)
        self.bn = nn.BatchNorm2d(8 * width)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        x = F.relu(self.bn(x))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(channels: int, out: int, count: int, stride: int) -> nn.Sequential:
    rest = [Block(out, out, 1) for _ in range(count - 1)]
    return nn.Sequential(Block(channels, out, stride), *rest)


preactresnet18 = Architecture(partial(PreActResNet, (2, 2, 2, 2)), width=64)
preactresnet34 = Architecture(partial(PreActResNet, (3, 4, 6, 3)), width=64)
