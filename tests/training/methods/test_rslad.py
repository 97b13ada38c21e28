"""RSLAD on F1: the total by reduction, one teacher pass, the order of passes, the inner target."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.losses import KLScale
from robench.training.methods.rslad import rslad
from tests.training.fixture import SA, SN, TR, FixedStep, advance


@pytest.mark.parametrize(
    ("scale", "eps", "total"),
    [
        ("batchmean", 0.0, 0.245117),
        ("batchmean/C", 1e-5, 0.081716),  # as released: mean over B C, log(p + 1e-5)
        ("batchmean/10", 0.0, 0.024512),
    ],
)
def test_total_of_f1(scale: KLScale, eps: float, total: float) -> None:
    found, _, weights = advance(replace(rslad, kl_scale=scale, kl_eps=eps), FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"adv": 5 / 6, "nat": pytest.approx(1 / 6)}


def test_the_default_is_a_tenth_of_batchmean() -> None:
    assert advance(rslad, FixedStep())[0].item() == pytest.approx(0.024512, abs=1e-6)


def test_one_teacher_pass_and_the_adversarial_images_first() -> None:
    step = FixedStep()
    advance(rslad, step)
    assert step.passes == ["Ta(x)", "ascend", "S(x')", "S(x)"]


def test_the_gradient_reaches_the_student_only() -> None:
    step = FixedStep()
    advance(replace(rslad, kl_scale="batchmean"), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    torch.testing.assert_close(3 * step.sa.grad, 5 / 6 * (SA.softmax(1) - TR.softmax(1)))
    torch.testing.assert_close(3 * step.sn.grad, 1 / 6 * (SN.softmax(1) - TR.softmax(1)))


def test_inner_maximises_the_divergence_from_the_teacher_on_clean_images() -> None:
    step = FixedStep()
    rslad.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert loss is kl_divergence
    assert settings == {}
    assert loss(SA, targets)[0].tolist() == pytest.approx([0.253385, 0.323228, 0.278007], abs=1e-6)


@pytest.mark.parametrize("wrong", [{"adv_weight": 1.5}, {"kl_scale": "batchmean/c"}])
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(rslad, **wrong)  # type: ignore[arg-type]
