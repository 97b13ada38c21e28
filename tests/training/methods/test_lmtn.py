"""LMTN-style on F1: both readings of the inputs, its passes, its gradient, its label."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale
from robench.training.methods.lmtn import Inputs, lmtn_style
from robench.training.plan import resolve_recipe
from tests.training.fixture import SA, SN, TA, TN, TR, TX, FixedStep, Y, advance


@pytest.mark.parametrize(
    ("inputs", "scale", "total"),
    [
        ("student", "batchmean", 0.217463),
        ("own-domain", "batchmean", 0.423132),
        ("student", "batchmean/10", 0.0217463),
    ],
)
def test_total_of_f1(inputs: Inputs, scale: KLScale, total: float) -> None:
    method = replace(lmtn_style, inputs=inputs, kl_scale=scale)
    found, _, weights = advance(method, FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"adv": 0.5, "nat": 0.5}


def test_the_default_is_a_tenth_of_batchmean_on_the_students_inputs() -> None:
    assert advance(lmtn_style, FixedStep())[0].item() == pytest.approx(0.0217463, abs=1e-7)


@pytest.mark.parametrize(
    ("inputs", "teachers"),
    [
        ("student", ["Ta(x')", "Tn(x')", "Ta(x)", "Tn(x)"]),
        ("own-domain", ["Ta(x')", "Tn(x)"]),
    ],
)
def test_passes(inputs: Inputs, teachers: list[str]) -> None:
    step = FixedStep()
    advance(replace(lmtn_style, inputs=inputs), step)
    assert step.passes[:3] == ["ascend", "S(x')", "S(x)"]
    assert sorted(step.passes[3:]) == sorted(teachers)
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy and settings == {}
    assert torch.equal(targets, Y)


def test_the_gradient_is_the_distance_from_the_averaged_logits() -> None:
    """Shares of .25 and .8, so that an exchange of the teachers or the losses shows."""
    step = FixedStep()
    method = replace(lmtn_style, robust_share=0.25, adv_weight=0.8, kl_scale="batchmean")
    advance(method, step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    nat, adv = 0.75 * TN + 0.25 * TR, 0.75 * TX + 0.25 * TA
    torch.testing.assert_close(3 * step.sn.grad, 0.2 * (SN.softmax(1) - nat.softmax(1)))
    torch.testing.assert_close(3 * step.sa.grad, 0.8 * (SA.softmax(1) - adv.softmax(1)))


def test_logits_are_averaged_not_probabilities() -> None:
    """(6, 0) and (0, 0) average to logits (3, 0): probability 1 / (1 + e^-3), not a half of 1.5."""
    assert lmtn_style._average(torch.tensor([6.0, 0.0]), torch.zeros(2)).tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [{"robust_share": 1.5}, {"adv_weight": -0.5}, {"inputs": "own"}, {"kl_scale": "mean"}],
)
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(lmtn_style, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("preset", "label"),
    [("paper", "reconstruction"), ("small", "reconstruction, small-scale, 5-step")],
)
def test_every_preset_says_that_it_is_a_reconstruction(preset: str, label: str) -> None:
    assert resolve_recipe("lmtn-style", "cifar10", preset=preset).label == label


def test_no_preset_claims_to_be_released() -> None:
    with pytest.raises(InputError, match="lmtn-style has paper, small"):
        resolve_recipe("lmtn-style", "cifar10", preset="released")
