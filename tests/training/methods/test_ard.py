"""ARD on F1: the total by temperature and reduction, its passes, its gradient, its recipes."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale
from robench.training.methods.ard import ard
from robench.training.plan import resolve_recipe
from robench.training.schedule import Schedule
from tests.training.fixture import SA, SN, TR, FixedStep, Y, advance


@pytest.mark.parametrize(
    ("temperature", "alpha", "scale", "total"),
    [
        (30.0, 1.0, "batchmean/C", 0.115707),
        (30.0, 1.0, "batchmean", 0.347120),
        (5.0, 0.95, "batchmean/C", 0.137424),
        (5.0, 0.95, "batchmean", 0.361568),
    ],
)
def test_total_of_f1(temperature: float, alpha: float, scale: KLScale, total: float) -> None:
    method = replace(ard, temperature=temperature, alpha=alpha, kl_scale=scale)
    assert advance(method, FixedStep())[0].item() == pytest.approx(total, abs=1e-6)


def test_the_defaults_are_those_of_cifar10() -> None:
    total, _, weights = advance(ard, FixedStep())
    assert total.item() == pytest.approx(0.115707, abs=1e-6)
    assert weights == {"adv": 1.0}


def test_labels_add_the_cross_entropy_of_clean_images() -> None:
    _, values, weights = advance(replace(ard, alpha=0.75), FixedStep())
    assert values["nat"] == pytest.approx(0.507052, abs=1e-6)
    assert weights == {"adv": 0.75, "nat": 0.25}


@pytest.mark.parametrize(
    ("alpha", "passes"),
    [
        (1.0, ["ascend", "S(x')", "Ta(x)"]),
        (0.95, ["ascend", "S(x')", "Ta(x)", "S(x)"]),
    ],
)
def test_no_clean_pass_is_spent_on_a_weight_of_0(alpha: float, passes: list[str]) -> None:
    step = FixedStep()
    advance(replace(ard, alpha=alpha), step)
    assert step.passes == passes
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy and settings == {}
    assert torch.equal(targets, Y)


def test_temperature_and_its_square_leave_a_factor_t_in_the_gradient() -> None:
    """T^2 KL(. || S / T): d/dS = T (softmax(S / T) - softmax(Ta / T)), and the student only."""
    step = FixedStep()
    advance(replace(ard, temperature=5.0, alpha=0.75, kl_scale="batchmean"), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    apart = (SA / 5).softmax(1) - (TR / 5).softmax(1)
    torch.testing.assert_close(3 * step.sa.grad, 0.75 * 5 * apart)
    one_hot = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(3 * step.sn.grad, 0.25 * (SN.softmax(1) - one_hot))


@pytest.mark.parametrize(
    "wrong", [{"alpha": 1.5}, {"alpha": -0.1}, {"temperature": 0.0}, {"kl_scale": "mean"}]
)
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(ard, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("preset", "last"), [("paper", 0.001), ("released", 0.01)])
def test_the_released_schedule_never_reaches_a_hundredth(preset: str, last: float) -> None:
    recipe = resolve_recipe("ard", "cifar10", preset=preset)
    schedule = Schedule(recipe.optimizer, recipe.epochs, 1)
    rates = [schedule.rate(epoch, 1) for epoch in (100, 101, 150, 151, 200)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, last, last])
    assert recipe.inner.start == "uniform"
    assert recipe.inner.craft_mode == ("train" if preset == "released" else "eval")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [("cifar10", (30.0, 1.0)), ("cifar100", (5.0, 0.95)), ("tiny-imagenet", (5.0, 0.95))],
)
def test_temperature_and_share_by_data_set(dataset: str, expected: tuple[float, float]) -> None:
    parameters = resolve_recipe("ard", dataset, teachers=["robust=x"]).parameters
    assert (parameters["temperature"], parameters["alpha"]) == expected
    assert parameters["kl_scale"] == "batchmean/C"
