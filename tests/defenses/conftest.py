"""A folder to stand in, small checkpoints, and the bundled images."""

import pytest
import torch

from robench.data.open import load_evalset
from robench.models.build import build
from robench.models.weights import write_weights


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def sample():
    """The first 500 CIFAR-10 test images, (500, 3, 32, 32) float32 in [0, 1], and their labels."""
    evalset = load_evalset("cifar10-sample")
    return torch.from_numpy(evalset.images).float() / 255, torch.from_numpy(evalset.labels)


@pytest.fixture
def checkpoint(here):
    """A function that writes a small network with its metadata and returns both."""

    def write(name="small.safetensors", architecture="resnet56", classes=10, width=4, **metadata):
        torch.manual_seed(0)
        network = build(architecture, classes, width).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
        write_weights(here / name, network.state_dict(), metadata)
        return here / name, network

    return write


@torch.no_grad()
def correct(defense, images, labels):
    """Number of images classified as their label."""
    return sum(
        int((defense.model(x).argmax(1) == y).sum())
        for x, y in zip(images.split(50), labels.split(50), strict=True)
    )


@pytest.fixture(scope="session")
def count_correct():
    return correct
