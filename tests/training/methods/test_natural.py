"""Natural training on F1."""

import pytest

from robench.training.methods.natural import natural
from tests.training.fixture import FixedStep, advance


def test_cross_entropy_of_clean_images_and_no_others() -> None:
    step = FixedStep()
    total, values, weights = advance(natural, step)
    assert total.item() == pytest.approx(0.507052, abs=1e-6)
    assert values == {"nat": total.item()}
    assert weights == {"nat": 1.0}
    assert step.passes == ["S(x)"]
    assert natural.inner(step) is step.images


def test_adversarial_images_are_not_looked_at() -> None:
    step = FixedStep()
    natural.outer(step, step.adversarial)
    assert step.passes == ["S(x)"]
