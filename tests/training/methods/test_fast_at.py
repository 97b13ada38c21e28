"""One-step training: the noise, its bounds, the step, and the projected preset."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.methods.fast_at import FastAT, fast_at
from tests.training.fixture import FixedStep, Y, advance

EPS = 0.125
WONG = replace(fast_at, start_radius=1.0, step_factor=1.25, project=True)


def _ascent(method: FastAT, pixel: float) -> tuple[torch.Tensor, dict[str, object]]:
    """(start, other settings) of the only ascent, on 3 images of 64 equal pixels."""
    step = FixedStep()
    step.images = torch.full((3, 1, 8, 8), pixel)
    method.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy
    assert torch.equal(targets, Y)
    start = settings.pop("start")
    assert isinstance(start, torch.Tensor)
    return start, settings


def test_noise_of_two_eps_is_not_clipped() -> None:
    start, settings = _ascent(fast_at, pixel=0.0)
    assert -2 * EPS <= start.min() < -1.9 * EPS
    assert 1.9 * EPS < start.max() <= 2 * EPS
    assert settings == {"within_ball": False, "step_sizes": [EPS]}


def test_noise_differs_by_image_and_repeats() -> None:
    start, _ = _ascent(fast_at, pixel=0.5)
    assert len({tuple(row.flatten().tolist()) for row in start}) == 3
    assert torch.equal(start, _ascent(fast_at, pixel=0.5)[0])


@pytest.mark.parametrize("pixel", [0.0, 0.5, 1.0])
def test_the_projected_preset_stays_in_the_ball_and_the_box(pixel: float) -> None:
    """The step of 10/255 leaves the ball of 8/255 by itself: `within_ball` brings it back."""
    start, settings = _ascent(WONG, pixel)
    assert (start - pixel).abs().max() <= EPS
    assert start.min() >= 0 and start.max() <= 1
    assert start.unique().numel() > 50
    assert settings == {"within_ball": True, "step_sizes": [1.25 * EPS]}


def test_the_loss_is_that_of_sat() -> None:
    step = FixedStep()
    total, _, weights = advance(fast_at, step)
    assert total.item() == pytest.approx(0.975902, abs=1e-6)
    assert weights == {"adv": 1.0}
    assert step.passes == ["ascend", "S(x')"]


@pytest.mark.parametrize("wrong", [{"start_radius": -1.0}, {"step_factor": 0.0}])
def test_a_radius_or_step_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected a radius of at least 0 and a positive step"):
        replace(fast_at, **wrong)
