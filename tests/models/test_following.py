"""The copy that follows a network in training is the network's evaluation mode at every refresh."""

import pytest
import torch
from torch import nn

from robench.models import ARCHITECTURES
from robench.models.build import build
from robench.models.following import FollowingCopy

SMALL = {"mobilenet_v2": 4, "wrn34_10": 1, "wrn22_6": 1, "wrn70_16": 1}


def moved(network: nn.Module, seed: int) -> None:
    """Other weights, and other running statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.1, generator=generator)
            elif tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.randn(tensor.shape, generator=generator))


@pytest.mark.parametrize("architecture", ARCHITECTURES.names())
def test_it_is_the_evaluation_mode_after_each_refresh(architecture: str) -> None:
    torch.manual_seed(0)
    network = build(architecture, 10, SMALL.get(architecture, 2)).train()
    x = torch.rand(3, 3, 32, 32)
    copy = FollowingCopy(network, torch.float32)
    for seed in (1, 2):
        moved(network, seed)
        stale = copy(x)
        copy.refresh()
        expected = network.eval()(x)
        network.train()
        scale = expected.abs().max()  # float32 rounds each logit by what it rounds the largest by
        torch.testing.assert_close(copy(x) / scale, expected / scale, rtol=0, atol=2e-5)
        assert (stale - expected).abs().max() > 0.01 * scale


def test_refreshing_reads_the_network_only() -> None:
    network = build("resnet18", 10, 2).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = FollowingCopy(network, torch.bfloat16)
    copy.refresh()
    copy(torch.rand(2, 3, 32, 32)).sum()
    assert network.training and all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_bfloat16_stays_near() -> None:
    network = build("resnet18", 10, 4).train()
    moved(network, 3)
    copy = FollowingCopy(network, torch.bfloat16)
    moved(network, 4)
    copy.refresh()
    x = torch.rand(4, 3, 32, 32)
    expected = network.eval()(x)
    difference = (copy(x) - expected).abs().max() / expected.abs().max()
    assert difference < 0.05
