"""The student's training-mode passes."""

import pytest
import torch

from robench.models.passes import exact_float32
from robench.training.student import TrainingForward
from tests.harness import random_images, small_cnn


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pass_uses_the_weights_as_they_are_now(precision: str) -> None:
    network, images = small_cnn().train(), random_images(8)
    forward = TrainingForward(network, precision)
    with exact_float32():  # as a run does: an outer autocast block keeps cast weights for reuse
        before = forward(images)
        before.sum().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        after = forward(images)
    fresh = TrainingForward(network, precision)(images)
    assert torch.equal(after, fresh)
    assert not torch.allclose(before, after, atol=0.1)


def test_bf16_descends_as_float32_does() -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        network, images = small_cnn().train(), random_images(32)
        labels = torch.arange(32) % 10
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        forward = TrainingForward(network, precision)
        with exact_float32():
            for _ in range(30):
                loss = torch.nn.functional.cross_entropy(forward(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        losses[precision] = loss.item()
    assert losses["fp32"] < 1.0
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.15)
