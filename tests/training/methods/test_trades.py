"""TRADES on F1: the total, what is differentiated, the order of passes, the inner target."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.losses import KLScale
from robench.training.methods.trades import trades
from tests.training.fixture import SA, SN, FixedStep, Y, advance


@pytest.mark.parametrize(
    ("scale", "total"),
    [("batchmean", 1.334597), ("batchmean/10", 0.589806), ("batchmean/C", 0.782900)],
)
def test_total_of_f1(scale: KLScale, total: float) -> None:
    """.507052 + 6 x .137924, divided by the reduction's divisor."""
    found, values, weights = advance(replace(trades, kl_scale=scale), FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-5)
    assert values["nat"] == pytest.approx(0.507052, abs=1e-6)
    assert weights == {"nat": 1.0, "adv": 6.0}


def test_the_default_reduction_is_batchmean() -> None:
    assert advance(trades, FixedStep())[0].item() == pytest.approx(1.334597, abs=1e-6)


def test_clean_images_are_forwarded_once() -> None:
    step = FixedStep()
    advance(trades, step)
    assert step.passes == ["frozen S(x)", "ascend", "S(x)", "S(x')"]


def test_double_forward_moves_batch_norm_twice_and_keeps_the_total() -> None:
    step = FixedStep()
    total = advance(replace(trades, double_forward=True), step)[0]
    assert step.passes == ["frozen S(x)", "ascend", "S(x)", "S(x')", "S(x)"]
    assert total.item() == pytest.approx(1.334597, abs=1e-6)


def test_the_target_is_not_detached() -> None:
    """The clean logits' gradient has a part from the divergence: p (log p - log q - KL)."""
    step = FixedStep()
    advance(trades, step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    p, ratio = SN.softmax(1), F.log_softmax(SN, 1) - F.log_softmax(SA, 1)
    pull = 6 * p * (ratio - (p * ratio).sum(1, keepdim=True))
    assert step.sn.grad is not None and step.sa.grad is not None
    torch.testing.assert_close(3 * step.sn.grad, p - F.one_hot(Y) + pull)
    torch.testing.assert_close(3 * step.sa.grad, 6 * (SA.softmax(1) - p))


def test_inner_maximises_the_divergence_from_the_clean_prediction() -> None:
    """T12: at x' = x, value and gradient are 0: a search must start from noise."""
    step = FixedStep()
    trades.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert loss is kl_divergence
    assert settings == {}
    assert not targets.requires_grad
    values, gradient = loss(SN, targets)
    assert values.abs().max() < 1e-6
    assert gradient.abs().max() < 1e-6
    assert loss(SA, targets)[0].tolist() == pytest.approx([0.186004, 0.115885, 0.111884], abs=1e-6)


@pytest.mark.parametrize("wrong", [{"lam": -1.0}, {"kl_scale": "mean"}])
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(trades, **wrong)  # type: ignore[arg-type]
