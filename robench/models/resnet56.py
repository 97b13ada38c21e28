"""ResNet-56 for CIFAR: three stages of nine blocks, with both published shortcuts.

Source: He et al. 2016 (arXiv 1512.03385), section 4.2. Option A (`resnet56`) takes every second
pixel and pads the new channels with zeros; option B (`resnet56b`) has a 1x1 convolution with batch
norm. Keys as in the checkpoints in circulation: `linear` for A, `downsample` and `fc` for B.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from robench.models.build import Architecture
from robench.models.initialise import he_normal

_BLOCKS = 9


class PaddedBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut has no parameters."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, out - channels
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.stride == 1 else self._padded(x)))

    def _padded(self, x: Tensor) -> Tensor:
        before = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


class ProjectedBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut between stages is a convolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


BlockType = type[PaddedBlock] | type[ProjectedBlock]


def _stage(block: BlockType, channels: int, out: int, stride: int) -> nn.Sequential:
    rest = [block(out, out, 1) for _ in range(_BLOCKS - 1)]
    return nn.Sequential(block(channels, out, stride), *rest)


class _ResNet56(nn.Module):
    """width: channels of the first stage; they double in each of the other two."""

    def __init__(self, block: BlockType, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(block, width, width, 1)
        self.layer2 = _stage(block, width, 2 * width, 2)
        self.layer3 = _stage(block, 2 * width, 4 * width, 2)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class ResNet56A(_ResNet56):
    """Option A; He initialisation by inputs."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(PaddedBlock, width)
        self.linear = nn.Linear(4 * width, num_classes)
        he_normal(self, "fan_in")
        nn.init.kaiming_normal_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(x))
        return logits


class ResNet56B(_ResNet56):
    """Option B; He initialisation by outputs."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(ProjectedBlock, width)
        self.fc = nn.Linear(4 * width, num_classes)
        he_normal(self, "fan_out")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits


resnet56 = Architecture(ResNet56A, width=16)
resnet56b = Architecture(ResNet56B, width=16, head="fc")
