"""SCORE on F1: where the clip bites, what is differentiated, the inner objective, its recipes."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import squared_error
from robench.training.methods.score import Clip, score
from robench.training.plan import resolve_recipe
from robench.training.schedule import Schedule
from tests.training.fixture import SA, SN, FixedStep, Y, advance


@pytest.mark.parametrize(
    ("slack", "clip", "total", "clipped"),
    [
        (0.0, "sum", 0.849593, 0),
        (0.0, "robust", 0.849593, 0),
        (0.3, "sum", 0.714593, 0),
        (0.3, "robust", 0.272569, 2 / 3),
        # The maximum of the mean, not of each row, would give .849593 - .84375 = .005843.
        (0.75, "sum", 0.033297, 1 / 3),
        (0.75, "robust", 0.255806, 1),
    ],
)
def test_total_of_f1(slack: float, clip: Clip, total: float, clipped: float) -> None:
    found, values, weights = advance(replace(score, slack=slack, clip=clip), FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"score": 1.0}
    assert values["clipped"] == pytest.approx(clipped)
    parts = values["error_nat"] + 6 * values["error_adv"]
    assert parts == pytest.approx(0.849593, abs=1e-6)  # before any clip
    assert values["error_nat"] == pytest.approx(0.255806, abs=1e-6)


@pytest.mark.parametrize(("classes", "bound"), [(10, 0.1), (100, 0.090909), (200, 0.090452)])
def test_the_bound_is_the_error_of_a_prediction_with_the_slack(classes: int, bound: float) -> None:
    assert score.bound(classes) == pytest.approx(bound, abs=1e-6)
    assert score.bound(3) == pytest.approx(0.135, rel=1e-12)
    assert replace(score, slack=0.75).bound(3) == 0.84375
    p = torch.full((classes,), 0.3 / (classes - 1), dtype=torch.float64)
    p[0] = 0.7
    one_hot = torch.zeros_like(p)
    one_hot[0] = 1
    assert score.bound(classes) == pytest.approx(((p - one_hot) ** 2).sum().item(), rel=1e-12)


def test_two_student_passes_the_adversarial_one_first() -> None:
    step = FixedStep()
    advance(score, step)
    assert step.passes == ["frozen S(x)", "ascend", "S(x')", "S(x)"]


def _pulled(p: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Through softmax: d/dz = p (slope - sum p slope)."""
    return p * (slope - (p * slope).sum(1, keepdim=True))


@pytest.mark.parametrize(("slack", "open_rows"), [(0.0, [1, 1, 1]), (0.75, [1, 1, 0])])
def test_clipped_rows_have_no_gradient_and_the_target_is_not_detached(
    slack: float, open_rows: list[int]
) -> None:
    step = FixedStep()
    advance(replace(score, slack=slack), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    p, q = SN.softmax(1), SA.softmax(1)
    rows = torch.tensor(open_rows)[:, None]
    hard = p - torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(3 * step.sa.grad, rows * _pulled(q, 12 * (q - p)))
    torch.testing.assert_close(3 * step.sn.grad, rows * _pulled(p, 2 * hard + 12 * (p - q)))


def test_inner_maximises_the_squared_error_from_the_clean_prediction() -> None:
    """T12: at x' = x, value and gradient are 0: a search must start from noise."""
    step = FixedStep()
    score.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert loss is squared_error and settings == {}
    assert not targets.requires_grad
    values, gradient = loss(SN, targets)
    assert not values.any() and not gradient.any()
    expected = ((SA.softmax(1) - SN.softmax(1)) ** 2).sum(1)
    torch.testing.assert_close(loss(SA, targets)[0], expected)


def test_measures_carry_no_gradient() -> None:
    step = FixedStep()
    terms = score.outer(step, step.adversarial)
    assert set(terms.measures) == {"error_nat", "error_adv", "clipped"}
    assert not any(value.requires_grad for value in terms.measures.values())


def test_labels_are_those_of_the_batch() -> None:
    step = FixedStep()
    step.labels = Y.flip(0)
    other = torch.eye(3, dtype=torch.float64).flip(0)
    expected = ((SN.softmax(1) - other) ** 2).sum(1).mean().item()
    assert advance(score, step)[1]["error_nat"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("wrong", [{"lam": -1.0}, {"slack": 1.5}, {"clip": "clean"}])
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(score, **wrong)  # type: ignore[arg-type]


def test_a_clip_close_to_a_known_one_is_named() -> None:
    with pytest.raises(InputError, match="unknown clip 'robst': did you mean 'robust'"):
        replace(score, clip="robst")  # type: ignore[arg-type]


def test_its_own_schedule() -> None:
    recipe = resolve_recipe("score", "cifar10")
    schedule = Schedule(recipe.optimizer, recipe.epochs, 1)
    rates = [schedule.rate(epoch, 1) for epoch in (1, 100, 101, 105, 106, 110)]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])
    assert (recipe.epochs, recipe.optimizer.weight_decay) == (110, 5e-4)
    assert (recipe.inner.start, recipe.inner.craft_mode) == ("gauss1e-3", "eval")


@pytest.mark.parametrize(
    ("dataset", "preset", "normalization"),
    [
        ("cifar10", "paper", "cifar10"),
        ("cifar100", "paper", "cifar100"),
        ("cifar100", "released", "cifar10"),  # the published script knows these constants only
        ("cifar10", "small", "none"),
        ("cifar100", "small", "none"),
        ("elsewhere", "paper", "none"),
    ],
)
def test_normalization_inside(dataset: str, preset: str, normalization: str) -> None:
    assert resolve_recipe("score", dataset, preset=preset).student.normalize == normalization
