"""Standard adversarial training on F1."""

import pytest
import torch

from robench.numerics.losses import cross_entropy
from robench.training.methods.sat import sat
from tests.training.fixture import FixedStep, Y, advance


def test_cross_entropy_of_the_images_that_maximise_it() -> None:
    step = FixedStep()
    total, values, weights = advance(sat, step)
    assert total.item() == pytest.approx(0.975902, abs=1e-6)
    assert set(values) == set(weights) == {"adv"}
    assert step.passes == ["ascend", "S(x')"]
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy
    assert torch.equal(targets, Y)
    assert settings == {}  # start, ball and steps are the recipe's


def test_the_gradient_is_softmax_minus_one_hot() -> None:
    step = FixedStep()
    advance(sat, step)[0].backward()
    assert step.reached() == {"sa"}
    assert step.sa.grad is not None
    expected = (step.sa.detach().softmax(1) - torch.eye(3, dtype=torch.float64)) / 3
    torch.testing.assert_close(step.sa.grad, expected)
