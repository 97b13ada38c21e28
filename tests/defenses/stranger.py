"""A stranger's network, built from its published description; none of our architectures fits it.

Tests load it as `python:stranger:resnet4b` from this folder.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

CHECKPOINT = Path(__file__).parents[3] / "shared" / "models" / "external" / "resnet4b.pth"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


class Block(nn.Module):
    """Two 3x3 convolutions with bias; a 1x1 shortcut where the block halves the map."""

    def __init__(self, channels: int, stride: int, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride))

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4B(nn.Module):
    """Pixels in [0, 1] to 10 logits; normalises inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(Block(32, 2, 16), Block(32, 1, 32))
        self.layer2 = nn.Sequential(Block(32, 2, 32), Block(32, 1, 32))
        self.linear1 = nn.Linear(512, 100)
        self.linear2 = nn.Linear(100, 10)
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.std = torch.tensor(STD).view(1, 3, 1, 1)

    def forward(self, x):
        x = F.relu(self.conv1((x - self.mean) / self.std))
        x = self.layer2(self.layer1(x)).flatten(1)
        return self.linear2(F.relu(self.linear1(x)))


def resnet4b() -> nn.Module:
    """The network with the published weights, in training mode as construction leaves it."""
    network = ResNet4B()
    stored = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
    network.load_state_dict(stored["state_dict"])
    return network
