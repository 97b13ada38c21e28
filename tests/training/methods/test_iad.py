"""IAD-I and IAD-II on F1: totals before and after introspection begins, passes, gradients."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.methods.iad import IAD1, IAD2, Introspective, iad_1, iad_2
from robench.training.plan import resolve_recipe
from tests.training.fixture import SA, SN, TA, TR, TX, FixedStep, Y, advance, single

TRUST = torch.tensor([0.965701, 0.946348, 0.945547], dtype=torch.float64)
"""p_Ta(y | x')^0.1 of F1."""


def _at(epoch: int) -> FixedStep:
    step = FixedStep()
    step.epoch = epoch
    return step


@pytest.mark.parametrize(
    ("epoch", "weight_teacher", "total"),
    [(60, True, 0.284873), (60, False, 0.284873), (61, True, 0.277380), (61, False, 0.291103)],
)
def test_iad_1_of_f1(epoch: int, weight_teacher: bool, total: float) -> None:
    """.277380 weights the teacher, too; .291103 is what released code computes."""
    method = replace(iad_1, weight_teacher=weight_teacher, kl_scale="batchmean")
    found, values, weights = advance(method, _at(epoch))
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"adv": 1.0, "self": 1.0, "nat": 0.0}
    assert values["nat"] == pytest.approx(0.507052, abs=1e-6)


@pytest.mark.parametrize(("epoch", "total"), [(40, 0.356191), (41, 0.356382)])
def test_iad_2_of_f1(epoch: int, total: float) -> None:
    found, values, weights = advance(replace(iad_2, kl_scale="batchmean"), _at(epoch))
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"label": 0.25, "robust": 0.5, "self": 0.5, "clean": 0.25}
    assert values["label"] == pytest.approx(0.975902, abs=1e-6)


@pytest.mark.parametrize("method", [iad_1, iad_2])
def test_trust_is_the_teachers_probability_of_the_label(method: Introspective) -> None:
    before, after = (advance(method, _at(epoch))[1] for epoch in (1, 61))
    assert (before["trust"], before["self"]) == (1.0, 0.0)
    assert after["trust"] == pytest.approx(TRUST.mean().item(), abs=1e-6)
    # KL(S(x) || S(x')) of F1, row by row.
    introspected = (1 - TRUST) * torch.tensor([0.186004, 0.115885, 0.111884])
    assert after["self"] == pytest.approx(introspected.mean().item(), abs=1e-6)
    assert before.keys() == after.keys()  # a history's columns are fixed by its first epoch


def test_trust_of_each_row() -> None:
    for row, trust in enumerate(TRUST):
        step = single(row)
        step.epoch = 61
        assert advance(iad_1, step)[1]["trust"] == pytest.approx(trust.item(), abs=1e-6)


def test_a_larger_exponent_trusts_less_and_0_always() -> None:
    trust = [advance(replace(iad_1, beta=b), _at(61))[1]["trust"] for b in (0.0, 0.1, 1.0)]
    assert trust[0] == 1.0
    assert trust[2] == pytest.approx(TA.softmax(1).diagonal().mean().item(), rel=1e-12)
    assert trust[2] < trust[1] < trust[0]


def test_a_teacher_that_is_sure_of_another_class_is_still_trusted_a_little() -> None:
    """p = e^-300 underflows in float32, p^0.1 = e^-30 does not."""
    step = _at(61)
    step.ta = torch.tensor([[0.0, 300.0, 0.0]] * 3)
    step.labels = torch.zeros(3, dtype=torch.int64)
    trust = advance(iad_1, step)[1]["trust"]
    assert trust == pytest.approx(9.357623e-14, rel=1e-5, abs=0)


@pytest.mark.parametrize(
    ("method", "epoch", "passes"),
    [
        (iad_1, 60, ["ascend", "Ta(x)", "S(x')", "S(x)"]),
        (iad_1, 61, ["ascend", "Ta(x)", "S(x')", "S(x)", "Ta(x')"]),
        (iad_2, 40, ["ascend", "S(x')", "S(x)", "Ta(x')", "Tn(x')"]),
        (iad_2, 41, ["ascend", "S(x')", "S(x)", "Ta(x')", "Tn(x')"]),
    ],
)
def test_passes(method: Introspective, epoch: int, passes: list[str]) -> None:
    step = _at(epoch)
    advance(method, step)
    assert step.passes == passes
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy and settings == {}
    assert torch.equal(targets, Y)


def _introspection(trust: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of (1 - a) KL(S(x) || S(x')) in both logits, row by row."""
    p, q = SN.softmax(1), SA.softmax(1)
    ratio = F.log_softmax(SN, 1) - F.log_softmax(SA, 1)
    pull = p * (ratio - (p * ratio).sum(1, keepdim=True))
    return (1 - trust)[:, None] * pull, (1 - trust)[:, None] * (q - p)


def test_gradient_of_iad_1() -> None:
    """alpha and T^2 KL at T: a T (softmax(S / T) - softmax(Ta / T)); S(x) is not detached."""
    step = _at(61)
    advance(replace(iad_1, alpha=0.75, temperature=2.0), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    trust = TA.softmax(1).diagonal() ** 0.1
    own, other = _introspection(trust)
    taught = trust[:, None] * 2 * ((SA / 2).softmax(1) - (TR / 2).softmax(1))
    hard = SN.softmax(1) - torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(3 * step.sa.grad, 0.75 * (taught + other))
    torch.testing.assert_close(3 * step.sn.grad, 0.75 * own + 0.25 * hard)


def test_gradient_of_iad_2() -> None:
    """The clean teacher is trusted without condition: a weighs the robust one alone."""
    step = _at(41)
    advance(replace(iad_2, alpha1=0.6, alpha2=0.3), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    trust = TA.softmax(1).diagonal() ** 0.1
    own, other = _introspection(trust)
    q = SA.softmax(1)
    robust = trust[:, None] * (q - TA.softmax(1))
    hard = q - torch.eye(3, dtype=torch.float64)
    expected = 0.1 * hard + 0.6 * (robust + other) + 0.3 * (q - TX.softmax(1))
    torch.testing.assert_close(3 * step.sa.grad, expected)
    torch.testing.assert_close(3 * step.sn.grad, 0.6 * own)


@pytest.mark.parametrize("scale", ["batchmean/10", "batchmean/C"])
@pytest.mark.parametrize("method", [iad_1, iad_2])
def test_the_reduction_divides_every_divergence(method: Introspective, scale: str) -> None:
    whole, part = (
        advance(m, _at(61))[1]
        for m in (method, replace(method, kl_scale=scale))  # type: ignore[arg-type]
    )
    divisor = {"batchmean/10": 10, "batchmean/C": 3}[scale]
    for name in {"adv", "self", "robust", "clean"} & whole.keys():
        assert part[name] == pytest.approx(whole[name] / divisor, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (iad_1, {"beta": -0.1}),
        (iad_1, {"begin": -1}),
        (iad_1, {"temperature": 0.0}),
        (iad_1, {"alpha": 1.1}),
        (iad_1, {"kl_scale": "sum"}),
        (iad_2, {"alpha1": 0.8, "alpha2": 0.3}),
        (iad_2, {"alpha2": -0.1}),
    ],
)
def test_parameters_without_sense_are_refused(
    method: Introspective, wrong: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(method, **wrong)  # type: ignore[arg-type]


def test_teachers() -> None:
    assert IAD1.roles == ("robust",)
    assert IAD2.roles == ("clean", "robust")


@pytest.mark.parametrize(("method", "share"), [("iad-i", 0.3), ("iad-ii", 0.2)])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny-imagenet"])
@pytest.mark.parametrize("preset", ["paper", "small", "released"])
def test_introspection_begins_at_the_same_part_of_every_run(
    method: str, share: float, dataset: str, preset: str
) -> None:
    """60 and 40 of 200 epochs; begin counts whole epochs."""
    teachers = ["robust=x"] if method == "iad-i" else ["robust=x", "clean=y"]
    recipe = resolve_recipe(method, dataset, preset=preset, teachers=teachers)
    assert recipe.parameters["begin"] == round(share * recipe.epochs)
    if method == "iad-i":
        assert recipe.parameters["weight_teacher"] is (preset != "released")
