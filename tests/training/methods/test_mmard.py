"""MMARD-style on F1: the loss, the joint ascent, its gradient through both networks, its label."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.training.losses import KLScale
from robench.training.methods.mmard import mmard_style
from robench.training.plan import resolve_recipe
from tests.training.fixture import SA, TA, TR, FixedStep, Y, advance, single

SHIFT = [0.046819, 0.022249, 0.017388]
"""|d_S - d_T|^2 of F1, row by row."""


@pytest.mark.parametrize(("scale", "divisor"), [("batchmean", 1), ("batchmean/10", 10)])
def test_total_of_f1(scale: KLScale, divisor: int) -> None:
    """The reduction is that of the divergences; the shift is no divergence."""
    total, _, weights = advance(replace(mmard_style, kl_scale=scale), FixedStep())
    shift = sum(SHIFT) / 3
    assert total.item() == pytest.approx((0.137345 - shift) / divisor + shift, abs=1e-6)
    assert weights == {"adv": 5 / 6, "nat": pytest.approx(1 / 6), "shift": 1.0}
    assert mmard_style.kl_scale == "batchmean"


def test_the_shift_of_each_row() -> None:
    for row, shift in enumerate(SHIFT):
        assert advance(mmard_style, single(row))[1]["shift"] == pytest.approx(shift, abs=1e-6)


def test_the_inner_objective_of_f1() -> None:
    step = FixedStep()
    mmard_style.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert settings == {"beside": "robust"} and step.passes == ["Ta(x)", "ascend"]
    assert torch.equal(targets[:, 0].long(), Y)
    torch.testing.assert_close(targets[:, 1:].exp(), TR.softmax(1))
    values, _ = loss(torch.cat([SA, TA], dim=1), targets)
    assert values.sum().item() == pytest.approx(3.044015, abs=1e-6)


@pytest.mark.parametrize("teacher_weight", [0.0, 1.0, 2.5])
def test_the_inner_gradient_is_that_of_autograd_in_both_networks(teacher_weight: float) -> None:
    method = replace(mmard_style, teacher_weight=teacher_weight)
    step = FixedStep()
    method.inner(step)
    [(loss, targets, _)] = step.ascents
    both = torch.cat([SA, TA], dim=1).requires_grad_()
    student, teacher = both.chunk(2, dim=1)
    error = torch.nn.functional.cross_entropy(student, Y, reduction="sum")
    moved = (TR.softmax(1) * (TR.log_softmax(1) - teacher.log_softmax(1))).sum()
    (error + teacher_weight * moved).backward()
    assert both.grad is not None
    torch.testing.assert_close(loss(both.detach(), targets)[1], both.grad)


def test_passes_and_what_the_gradient_reaches() -> None:
    step = FixedStep()
    advance(mmard_style, step)[0].backward()
    assert step.passes == ["Ta(x)", "ascend", "S(x')", "S(x)", "Ta(x')"]
    assert step.reached() == {"sn", "sa"}


@pytest.mark.parametrize(
    "wrong", [{"adv_weight": 1.5}, {"shift_weight": -1.0}, {"teacher_weight": -1.0}]
)
def test_parameters_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(mmard_style, **wrong)


@pytest.mark.parametrize(
    ("preset", "label"),
    [("paper", "reconstruction"), ("small", "reconstruction, small-scale, 5-step")],
)
def test_every_preset_says_that_it_is_a_reconstruction(preset: str, label: str) -> None:
    assert resolve_recipe("mmard-style", "cifar10", preset=preset).label == label
