"""Divergences and entropies of training: F1 by the reduction's name, saturation, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from robench.core.errors import InputError
from robench.training.losses import (
    KLScale,
    divergence,
    entropies,
    require_kl_scale,
    soft_targets,
    teacher_kl,
)
from tests.training.fixture import SA, SN, TA, TN, TR


@pytest.mark.parametrize(
    ("teacher", "student", "rows"),
    [
        (TR, SA, [0.253385, 0.323228, 0.278007]),
        (TR, SN, [0.008242, 0.084485, 0.046276]),
        (TN, SN, [0.209180, 0.566694, 0.489757]),
        (TA, SA, [0.104574, 0.136574, 0.121748]),
        (SN, SA, [0.186004, 0.115885, 0.111884]),
    ],
)
def test_each_row_of_f1(teacher: torch.Tensor, student: torch.Tensor, rows: list[float]) -> None:
    found = [teacher_kl(teacher[i : i + 1], student[i : i + 1]).item() for i in range(3)]
    assert found == pytest.approx(rows, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "divisor"), [("batchmean", 1), ("batchmean/10", 10), ("batchmean/C", 3)]
)
def test_a_reduction_is_a_divisor_of_batchmean(scale: KLScale, divisor: int) -> None:
    value = teacher_kl(TN, SN, scale=scale).item()
    assert value == pytest.approx(0.421877 / divisor, abs=1e-6)
    theirs = F.kl_div(F.log_softmax(SN, 1), F.softmax(TN, 1), reduction="batchmean")
    assert value == pytest.approx(theirs.item() / divisor, rel=1e-12)


def test_a_temperature_is_the_targets_only() -> None:
    assert teacher_kl(TN, SN, temperature=2.0).item() == pytest.approx(0.145448, abs=1e-6)
    assert teacher_kl(TN, SN, temperature=4.0).item() == pytest.approx(0.0244, abs=5e-5)
    assert teacher_kl(TA, SA, temperature=2.0).item() == pytest.approx(0.027959, abs=1e-6)
    assert teacher_kl(SN * 2, SN, temperature=2.0).item() == pytest.approx(0, abs=1e-12)


def test_eps_moves_the_value_and_not_the_gradient() -> None:
    """d/dp of p log(p + eps) - p log p is about eps a class: 3e-5 for three classes."""
    student = SN.clone().requires_grad_()
    values = [teacher_kl(TN, student, eps=eps) for eps in (0.0, 1e-5)]
    shift = (values[1] - values[0]).item()
    assert 1e-5 < shift < 3e-5
    slopes = [torch.autograd.grad(value, student)[0] for value in values]
    assert torch.equal(*slopes)


def test_the_student_s_gradient_is_softmax_minus_teacher() -> None:
    student, teacher = SN.clone().requires_grad_(), TN.clone().requires_grad_()
    teacher_kl(teacher, student).backward()
    assert teacher.grad is None
    expected = (F.softmax(SN, 1) - F.softmax(TN, 1)) / 3
    torch.testing.assert_close(student.grad, expected)


def test_a_divergence_moves_its_target_too() -> None:
    """TRADES does not detach: dKL(p || q)/dz = p (log p - log q - KL), row by row."""
    target, logits = SN.clone().requires_grad_(), SA.clone().requires_grad_()
    divergence(target, logits).backward()
    p, ratio = F.softmax(SN, 1), F.log_softmax(SN, 1) - F.log_softmax(SA, 1)
    rows = (p * ratio).sum(1, keepdim=True)
    torch.testing.assert_close(target.grad, p * (ratio - rows) / 3)
    assert logits.grad is not None


@pytest.mark.parametrize("scale", ["batchmean", "batchmean/C"])
def test_weights_of_rows_are_not_normalised(scale: KLScale) -> None:
    """(3 x .209180 + 0 + .489757) / 3, and the teacher's divergence takes them, too."""
    weights = torch.tensor([3.0, 0.0, 1.0], dtype=torch.float64)
    divisor = 1 if scale == "batchmean" else 3
    for loss in (divergence, teacher_kl):
        value = loss(TN, SN, weights=weights, scale=scale).item()
        assert value == pytest.approx(0.372432 / divisor, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_the_dtype_and_stand_saturation(dtype: torch.dtype) -> None:
    """softmax(1e4, 0, 0) underflows to (1, 0, 0): its log would make 0 log 0 = NaN."""
    teacher = torch.tensor([[1e4, 0.0, 0.0]], dtype=dtype)
    student = torch.tensor([[0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = teacher_kl(teacher, student)
    value.backward()
    assert value.dtype == dtype
    assert value.item() == pytest.approx(math.log(3), rel=1e-6)
    assert student.grad is not None
    assert student.grad.tolist() == [pytest.approx([-2 / 3, 1 / 3, 1 / 3], rel=1e-6)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_is_exact_where_softmax_saturates(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [5.0, 5.0, -1e30]], dtype=dtype)
    expected = torch.tensor([0.0, math.log(3), math.log(2)], dtype=dtype)
    torch.testing.assert_close(entropies(logits), expected, atol=0, rtol=1e-6)


def test_entropies_of_f1() -> None:
    assert entropies(TN).mean().item() == pytest.approx(0.100444, abs=1e-6)
    assert entropies(TA).mean().item() == pytest.approx(0.886975, abs=1e-6)
    # A binary one by hand: p = 3/4, temperature 2 on twice the logits.
    p = entropies(torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64), 2.0).item()
    assert p == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), rel=1e-12)


def test_entropy_of_nan_is_nan() -> None:
    assert entropies(torch.tensor([[math.nan, 0.0]])).isnan().all()


def test_soft_targets_are_float64_without_gradient() -> None:
    targets = soft_targets(SN.float().requires_grad_())
    assert targets.dtype == torch.float64
    assert not targets.requires_grad
    torch.testing.assert_close(targets, F.log_softmax(SN, 1))


def test_an_unknown_reduction_names_the_nearest() -> None:
    with pytest.raises(InputError, match="'batch-mean': did you mean 'batchmean'"):
        require_kl_scale("batch-mean")
