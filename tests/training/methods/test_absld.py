"""ABSLD on F1: temperatures after an epoch, what they divide, and the released code's aliasing."""

import json
import math
from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.losses import KLScale
from robench.training.method import restore_state, state_of
from robench.training.methods.absld import ABSLD, absld
from robench.training.methods.rslad import rslad
from robench.training.plan import resolve_recipe
from tests.training.fixture import SA, SN, TR, FixedStep, advance
from tests.training.test_engine import recipe, trainer

TAU_ADV, TAU_NAT = [1.1, 0.948100, 0.951900], [1.1, 0.934817, 0.965183]
"""After an epoch of F1 alone."""


def _second_epoch(**parameters: object) -> ABSLD:
    method = replace(absld, **parameters)  # type: ignore[arg-type]
    advance(method, FixedStep())
    method.end_epoch()
    return method


def _ended(method: ABSLD, adv: list[float], nat: list[float]) -> ABSLD:
    method.ce_adv, method.ce_nat = adv, nat
    method.end_epoch()
    return method


def test_the_temperatures_of_f1() -> None:
    """The easy class's labels soften by the whole rate, the hard ones' sharpen."""
    method = _second_epoch()
    assert method.tau_adv == pytest.approx(TAU_ADV, abs=1e-6)
    assert method.tau_nat == pytest.approx(TAU_NAT, abs=1e-6)
    assert (method.ce_adv, method.ce_nat) == ([], [])


@pytest.mark.parametrize(
    ("scale", "alias", "total"),
    [
        ("batchmean", False, 0.249212),
        ("batchmean", True, 0.255812),
        ("batchmean/10", False, 0.0249212),
    ],
)
def test_total_of_f1_in_the_second_epoch(scale: KLScale, alias: bool, total: float) -> None:
    method = _second_epoch(kl_scale=scale, alias_temps=alias)
    found, _, weights = advance(method, FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"adv": 5 / 6, "nat": pytest.approx(1 / 6)}


@pytest.mark.parametrize("alias", [False, True])
def test_the_first_epoch_is_rslad_s_bit_for_bit(alias: bool) -> None:
    ours = replace(absld, kl_eps=1e-5, alias_temps=alias)
    assert advance(ours, FixedStep())[1:] == advance(replace(rslad, kl_eps=1e-5), FixedStep())[1:]
    assert set(ours.readings({}).values()) == {1.0}


def test_an_epoch_adds_up_the_student_s_cross_entropies_by_class() -> None:
    """.713862, 1.111901, 1.101943 on x' and .241311, .680270, .599574 on x; then other labels."""
    method, second = replace(absld), FixedStep()
    advance(method, FixedStep())
    assert method.ce_adv == pytest.approx([0.713862, 1.111901, 1.101943], abs=1e-6)
    assert method.ce_nat == pytest.approx([0.241311, 0.680270, 0.599574], abs=1e-6)
    second.labels = torch.tensor([0, 2, 2])
    advance(method, second)
    sharp = -SA.log_softmax(1)[1, 2].item()
    expected = [2 * 0.713862, 1.111901, 2 * 1.101943 + sharp]
    assert method.ce_adv == pytest.approx(expected, abs=1e-6)


def test_gaps_are_relative_to_the_largest() -> None:
    """Sums 1, 2, 6: gaps -2, -1, 3 over 3, times the rate 0.3."""
    method = _ended(replace(absld, temperature_rate=0.3), [1.0, 2.0, 6.0], [100.0, 200.0, 600.0])
    assert method.tau_adv == pytest.approx([1.2, 1.1, 0.7], abs=1e-12)
    assert method.tau_nat == pytest.approx(method.tau_adv, abs=1e-12)
    _ended(method, [1.0, 6.0, 2.0], [5.0, 5.0, 5.0])
    assert method.tau_adv == pytest.approx([1.4, 0.8, 0.8], abs=1e-12)
    assert method.tau_nat == pytest.approx([1.2, 1.1, 0.7], abs=1e-12)


def test_equal_sums_move_no_temperature() -> None:
    method = _ended(replace(absld), [0.7] * 3, [0.0] * 3)
    assert method.tau_adv == method.tau_nat == [1.0] * 3


def test_temperatures_stay_in_their_range() -> None:
    method = replace(absld, temperature_rate=3.0)
    for _ in range(2):
        _ended(method, [1.0, 1.0, 4.0], [1.0, 3.0])
    assert method.tau_adv == [4.0, 4.0, 0.5]
    assert method.tau_nat == [5.0, 0.5]
    assert method.readings({}) == {
        "tau_adv_min": 0.5,
        "tau_adv_max": 4.0,
        "tau_nat_min": 0.5,
        "tau_nat_max": 5.0,
    }


def test_a_milestone_shrinks_the_rate_before_the_epoch_takes_effect() -> None:
    """The engine's order: decay, then the end of the epoch; the parameter keeps the first rate."""
    method = replace(absld)
    advance(method, FixedStep())
    method.decay(0.1)
    method.end_epoch()
    assert method.r_tau == pytest.approx(0.01, rel=1e-12)
    assert method.tau_adv[0] == pytest.approx(1.01, abs=1e-12)
    assert replace(method).r_tau == 0.1


def test_passes_are_those_of_rslad() -> None:
    step = FixedStep()
    advance(_second_epoch(), step)
    assert step.passes == ["Ta(x)", "ascend", "S(x')", "S(x)"]


@pytest.mark.parametrize("alias", [False, True])
def test_inner_maximises_the_divergence_from_the_tempered_teacher(alias: bool) -> None:
    step, method = FixedStep(), _second_epoch(alias_temps=alias)
    method.inner(step)
    [(loss, targets, settings)] = step.ascents
    assert loss is kl_divergence and settings == {} and not targets.requires_grad
    taus = [a * (n if alias else 1.0) for a, n in zip(TAU_ADV, TAU_NAT, strict=True)]
    expected = (TR / torch.tensor(taus, dtype=torch.float64)[:, None]).log_softmax(1)
    torch.testing.assert_close(targets, expected, atol=1e-5, rtol=0.0)


def test_the_gradient_reaches_the_student_only_each_row_with_its_class_s_temperature() -> None:
    step, method = FixedStep(), _second_epoch(kl_scale="batchmean")
    step.labels = torch.tensor([2, 2, 0])
    advance(method, step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    for grad, student, taus, weight in (
        (step.sa.grad, SA, TAU_ADV, 5 / 6),
        (step.sn.grad, SN, TAU_NAT, 1 / 6),
    ):
        by_row = torch.tensor([[taus[2]], [taus[2]], [taus[0]]], dtype=torch.float64)
        expected = weight * (student.softmax(1) - (TR / by_row).softmax(1))
        torch.testing.assert_close(3 * grad, expected, atol=1e-6, rtol=0.0)


def test_state_in_the_middle_of_an_epoch_survives_json_bit_for_bit() -> None:
    one = _second_epoch()
    advance(one, FixedStep())
    one.decay(0.1)
    other = replace(absld)
    restore_state(other, json.loads(json.dumps(state_of(one))))
    assert state_of(other) == state_of(one)
    for each in (one, other):
        advance(each, FixedStep(sa=(SA * 2).requires_grad_()))
        each.end_epoch()
    assert state_of(one) == state_of(other)
    assert advance(one, FixedStep())[1:] == advance(other, FixedStep())[1:]


def test_what_a_state_was_does_not_move_with_the_method() -> None:
    method = replace(absld)
    advance(method, FixedStep())
    before = state_of(method)
    frozen = json.dumps(before)
    advance(method, FixedStep())
    method.end_epoch()
    assert json.dumps(before) == frozen
    fresh = {"tau_adv": [], "tau_nat": [], "ce_adv": [], "ce_nat": [], "r_tau": 0.1}
    assert state_of(replace(method)) == fresh


def test_an_epoch_of_the_engine_moves_the_temperatures_with_the_decayed_rate() -> None:
    method = replace(absld)
    run = trainer(method, recipe("absld"))  # its one milestone is the end of epoch 1
    for number, rows in enumerate(run.batches(1), start=1):
        run.step(rows, 1, number)
    # 20 images near chance: ln 4 each.
    assert sum(method.ce_nat) == pytest.approx(20 * math.log(4), rel=0.2)
    run.end_epoch(1)
    moves = [abs(tau - 1) for tau in method.tau_adv]
    assert max(moves) == pytest.approx(0.01, abs=1e-12) and len(moves) == 4
    values = run.step(run.batches(2)[0], 2, 1)
    assert values["tau_adv_min"] == min(method.tau_adv) < values["tau_adv_max"]


def test_recipes_of_absld() -> None:
    teachers = ["robust=x.safetensors"]
    for dataset, epochs in (("cifar10", 300), ("cifar100", 300), ("tiny-imagenet", 100)):
        paper, released = (
            resolve_recipe("absld", dataset, preset=preset, teachers=teachers)
            for preset in ("paper", "released")
        )
        assert paper.epochs == released.epochs == epochs
        assert not paper.optimizer.nesterov and not released.optimizer.nesterov
        assert paper.parameters | {"kl_eps": 1e-5, "alias_temps": True} == released.parameters
        assert (paper.parameters["kl_eps"], paper.parameters["alias_temps"]) == (0.0, False)
        assert (released.selection.part, released.selection.images) == ("test", 10000)


def test_two_devices_that_share_an_epoch_gather_what_one_gathers() -> None:
    steps = [FixedStep(), FixedStep(sa=(SA * 2).requires_grad_(), sn=(SN * 3).requires_grad_())]
    one, two = replace(absld), [replace(absld), replace(absld)]
    for method, step in zip(two, steps, strict=True):
        advance(one, step)
        advance(method, step)
    for name in absld.gathered:
        parts = zip(*(getattr(method, name) for method in two), strict=True)
        setattr(two[0], name, [sum(part) for part in parts])
    one.end_epoch()
    two[0].end_epoch()
    assert state_of(one) == state_of(two[0])


def _epochs(method: ABSLD, interrupted: bool) -> tuple[dict[str, object], dict[str, float]]:
    """Two epochs; or the same with all of the state written and read in the middle of each."""
    run = trainer(method, recipe("absld"))
    for epoch in (1, 2):
        for number, rows in enumerate(run.batches(epoch), start=1):
            values = run.step(rows, epoch, number)
            if interrupted and number == 2:
                state = json.loads(json.dumps(state_of(run.method)))
                before, run = run, trainer(replace(absld), recipe("absld"))
                run.network.load_state_dict(before.network.state_dict())
                run.optimizer.load_state_dict(before.optimizer.state_dict())
                restore_state(run.method, state)
        run.end_epoch(epoch)
    return state_of(run.method), values


def test_a_run_that_was_interrupted_ends_as_one_that_was_not() -> None:
    whole, cut = _epochs(replace(absld), False), _epochs(replace(absld), True)
    assert whole == cut
    assert whole[1]["tau_adv_min"] < whole[1]["tau_adv_max"]


@pytest.mark.parametrize(
    "wrong", [{"temperature_rate": -0.1}, {"adv_weight": 1.5}, {"kl_scale": "batchmean/c"}]
)
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(absld, **wrong)  # type: ignore[arg-type]
