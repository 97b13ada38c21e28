"""Single tests where the right figure is known by hand or in closed form."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.audit.budget import Budget
from robench.audit.estimated import cosines, estimated_gradient, expected_cosine
from robench.audit.gradients import saturation, zero_gradients
from robench.audit.iterations import LAST, _moved_at_the_end, incomplete, step_size
from robench.audit.queries import RandomNoise
from robench.audit.stability import unstable_loss
from robench.audit.subject import Subject
from robench.core.errors import InputError
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet


def line_up(greys: list[int], label: int = 0) -> EvalSet:
    """One image (1, 8, 8) of an even grey for each level."""
    levels = np.array(greys, dtype=np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)
    labels = np.full(len(greys), label, dtype=np.int64)
    return EvalSet("greys", levels, labels, np.arange(len(greys), dtype=np.int64), ("a", "b"))


class MeanGrey(nn.Module):
    """Logits (scale (mean - 1/2), 0): a linear function, whose margin is known."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        z = self.scale * (x.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([z, torch.zeros_like(z)], dim=1)


def subject(model: nn.Module, images: EvalSet, budget: Budget, eps: float = 0.1) -> Subject:
    return Subject(model.eval(), images, ThreatModel(eps=eps), budget, torch.device("cpu"))


def test_only_correct_images_are_attacked(tiny: Budget) -> None:
    found = subject(MeanGrey(), line_up([0, 200, 255, 100]), tiny)
    assert found.ids.tolist() == [1, 2]


def test_nothing_correct_is_bad_input(tiny: Budget) -> None:
    with pytest.raises(InputError, match="none of 2 images"):
        subject(MeanGrey(), line_up([0, 10]), tiny)


def test_saturation_counts_margins_above_17(tiny: Budget) -> None:
    """Margins 100 (grey - 1/2): 17.06 at grey 171, 16.7 at 170."""
    found = saturation(subject(MeanGrey(100.0), line_up([128, 170, 171, 255]), tiny))
    assert (found.count, found.n, found.status) == (2, 4, "warn")
    assert found.details["largest_margin"] == pytest.approx(50.0)


def test_float32_cross_entropy_alone_only_warns(tiny: Budget) -> None:
    found = zero_gradients(subject(MeanGrey(1000.0), line_up([200, 210, 220, 255]), tiny))
    assert found.count == 0 and found.status == "warn"
    assert found.details["cross_entropy_count"] == 4


def test_attacks_reach_the_closed_form(tiny: Budget) -> None:
    """The mean falls by eps at most: grey 140 and 153 (0.549, 0.6) end below 1/2, 154 does not."""
    from robench.audit.iterations import pgd
    from robench.audit.radius import unbounded

    found = subject(MeanGrey(), line_up([140, 153, 154, 200]), tiny, eps=0.1001)
    assert pgd(found).broken.tolist() == [True, True, False, False]
    assert unbounded(found).count == 0


def test_the_same_attack_runs_once(tiny: Budget) -> None:
    from robench.audit.iterations import pgd

    found = subject(MeanGrey(), line_up([140, 200]), tiny)
    assert pgd(found) is pgd(found) and pgd(found) is not pgd(found, stop="last")


@pytest.mark.parametrize(("pairs", "expected"), [(1, 0.125), (64, math.sqrt(64 / 127))])
def test_expected_cosine(pairs: int, expected: float) -> None:
    """One pair is one direction of signs: cosine 1 / sqrt(d) to a gradient along one axis."""
    assert expected_cosine(pairs, 64) == pytest.approx(expected)


def test_cosines_of_zero_rows_are_zero() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [torch.nan, 1.0]])
    b = torch.tensor([[-2.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert cosines(a, b).tolist() == pytest.approx([-1.0, 0.0, math.sqrt(0.5), 0.0])


def test_a_linear_function_has_the_expected_cosine(tiny: Budget) -> None:
    found = estimated_gradient(subject(MeanGrey(), line_up(list(range(140, 236, 4))), tiny))
    assert found.status == "pass"
    # Of 24 images; one estimate has a standard deviation of about 0.1.
    assert found.value == pytest.approx(found.details["expected"], abs=0.06)


@pytest.mark.parametrize(
    ("eps", "steps", "expected"),
    [(8 / 255, 20, 2 / 255), (1.0, 20, 0.125), (32 / 255, 10, 8 / 255)],
)
def test_steps_cross_the_ball(eps: float, steps: int, expected: float) -> None:
    assert step_size(eps, steps) == pytest.approx(expected)


def test_movement_at_the_end_is_of_the_running_best() -> None:
    """Image 0 jumps before the last steps, image 1 in them, image 2 never, 3 only downwards."""
    losses = torch.zeros(LAST + 5, 4).double()
    losses[3:, 0], losses[-3:, 1], losses[-3:, 3] = 1.0, 1.0, -1.0
    losses[0, 1] = 0.2
    losses[-2:, 0] = 1.04
    moved = _moved_at_the_end(losses)
    assert moved.tolist() == pytest.approx([0.04 / 1.04, 0.8, 0.0, 0.0])


def test_an_attack_that_is_cut_off_counts_where_it_failed(tiny: Budget) -> None:
    """Eleven steps from the start to the corner: the loss moves on both, grey 140 breaks."""
    few = dataclasses.replace(tiny, steps=11)
    found = incomplete(subject(MeanGrey(), line_up([140, 200]), few, eps=0.1))
    assert (found.count, found.n) == (1, 2)
    enough = dataclasses.replace(tiny, steps=60)
    assert incomplete(subject(MeanGrey(), line_up([140, 200]), enough, eps=0.1)).count == 0


def test_the_change_of_the_loss_is_relative_and_capped(tiny: Budget) -> None:
    calm = unstable_loss(subject(MeanGrey(), line_up([200, 220]), tiny))
    wild = unstable_loss(subject(MeanGrey(1e3), line_up([200, 220]), tiny, eps=0.5))
    assert calm.status == "pass" and calm.value is not None and calm.value < 0.01
    assert wild.status == "warn" and wild.value == pytest.approx(1.0, abs=0.01)


def test_noise_breaks_what_is_near_the_boundary(tiny: Budget) -> None:
    """The mean of 64 pixels of U(-0.5, 0.5) has sd 0.036: grey 128 is 0.002 away, 250 is 0.48."""
    found = subject(MeanGrey(), line_up([128, 250]), tiny, eps=0.5)
    outcome = found.attack_some("random_noise", RandomNoise(10), found.everyone)
    assert outcome.broken.tolist() == [True, False]


def test_noise_does_not_depend_on_company(tiny: Budget) -> None:
    found = subject(MeanGrey(), line_up([150, 180, 250]), tiny)
    together = found.attack_some("random_noise", RandomNoise(3), found.everyone)
    alone = found.attack_some("random_noise", RandomNoise(3), found.everyone[2:])
    assert torch.equal(together.candidates[2:], alone.candidates)
    assert float((alone.candidates - found.images[2:]).abs().max()) > 0.05


def test_every_point_of_noise_is_another(tiny: Budget) -> None:
    found = subject(MeanGrey(), line_up([250]), tiny)
    first, second = (
        found.attack_some("random_noise", RandomNoise(n), found.everyone) for n in (1, 2)
    )
    assert not torch.equal(first.candidates, second.candidates)
