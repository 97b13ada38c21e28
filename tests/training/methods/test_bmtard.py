"""B-MTARD and its ablations: training-methods.md 11-14 and T1-T8, T13, step by step on F1."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError, RunError
from robench.numerics.losses import cross_entropy
from robench.training.method import restore_state, state_of
from robench.training.methods.bmtard import BMTARD, bmtard, mtard, mtard_baseline, mtard_ebb
from tests.training.fixture import SA, SN, TA, TN, FixedStep, Y, advance

VARIANTS = {"baseline": mtard_baseline, "ebb": mtard_ebb, "mtard": mtard, "bmtard": bmtard}


def _steps() -> list[FixedStep]:
    """A student that grows more confident: SN x 1, 1.5, 2 and SA x 1, 1.1, 1.2."""
    return [
        FixedStep(sn=(SN * n).requires_grad_(), sa=(SA * a).requires_grad_())
        for n, a in ((1, 1), (1.5, 1.1), (2, 1.2))
    ]


def _run(method: BMTARD) -> dict[str, list[float]]:
    """Three steps: totals, values, and the state after each of them."""
    rows: dict[str, list[float]] = {}
    for step in _steps():
        total, values, weights = advance(method, step)
        assert weights == {"adv": method.w_adv, "nat": method.w_nat}
        state = {"w_nat": method.w_nat, "tau_nat": method.tau_nat, "tau_adv": method.tau_adv}
        for name, value in ({"total": total.item()} | values | state).items():
            rows.setdefault(name, []).append(value)
    return rows


def _expect(rows: Mapping[str, list[float]], **expected: list[float]) -> None:
    for name, values in expected.items():
        assert rows[name] == pytest.approx(values, abs=1e-6), name


def _batchmean(method: BMTARD, **parameters: float) -> BMTARD:
    return replace(method, kl_scale="batchmean", **parameters)


def test_t1_from_temperature_1() -> None:
    rows = _run(_batchmean(bmtard))
    _expect(
        rows,
        nat=[0.421877, 0.280772, 0.188777],
        adv=[0.120965, 0.117517, 0.114786],
        entropy_nat=[0.100444, 0.100800, 0.101156],
        entropy_adv=[0.886975] * 3,
        w_nat=[0.5, 0.497664, 0.493233],
        total=[0.271421, 0.198763, 0.151281],
        tau_nat=[1.001, 1.002, 1.003],
        tau_adv=[1.0] * 3,
    )
    _expect(rows, knowledge_adv=[math.log(3) - 0.886975] * 3)


def test_t1r_as_released() -> None:
    """Mean over B C and log(p + 1e-5)."""
    rows = _run(replace(bmtard, kl_scale="batchmean/C", kl_eps=1e-5))
    _expect(rows, total=[0.090484, 0.066264, 0.050437], w_nat=[0.5, 0.497664, 0.493234])


def test_t2_from_temperature_2() -> None:
    _expect(
        _run(_batchmean(bmtard, temperature=2.0)),
        nat=[0.145448, 0.070049, 0.043851],
        adv=[0.027959, 0.029452, 0.031653],
        w_nat=[0.5, 0.495344, 0.488218],
        total=[0.086704, 0.049561, 0.037608],
        tau_nat=[2.001, 2.002, 2.003],
        tau_adv=[1.999, 1.998, 1.997],
    )


def test_t3_with_fast_rates_and_a_sharp_exponent() -> None:
    _expect(
        _run(_batchmean(bmtard, temperature_rate=1.0, weight_rate=0.5, beta=4.0)),
        w_nat=[0.5, 0.250429, 0.126401],
        tau_nat=[2, 3, 4],
        total=[0.271421, 0.105657, 0.111451],
    )


def test_t4_at_the_upper_bound() -> None:
    _expect(
        _run(_batchmean(bmtard, temperature=9.9995)),
        tau_nat=[10.0] * 3,
        tau_adv=[9.9985, 9.9975, 9.9965],
        w_nat=[0.5, 0.504429, 0.510720],
    )


@pytest.mark.parametrize(
    ("parameters", "total"),
    [
        ({"kl_scale": "batchmean"}, 0.271421),
        ({"kl_scale": "batchmean/C", "kl_eps": 1e-5}, 0.090484),
        ({}, 0.027142),
    ],
)
def test_baseline_by_reduction(parameters: dict[str, object], total: float) -> None:
    """The default is a tenth of batchmean."""
    method = replace(mtard_baseline, **parameters)  # type: ignore[arg-type]
    rows = _run(method)
    assert rows["total"][0] == pytest.approx(total, abs=1e-6)
    assert (rows["w_nat"], rows["tau_nat"], rows["tau_adv"]) == ([0.5] * 3, [1.0] * 3, [1.0] * 3)


def test_t5_balanced_entropies_alone() -> None:
    rows = _run(_batchmean(mtard_ebb, temperature=2.0))
    _expect(rows, total=[0.086704, 0.049750, 0.037752], tau_nat=[2.001, 2.002, 2.003])
    assert rows["w_nat"] == [0.5] * 3


def test_t5_balanced_losses_alone() -> None:
    rows = _run(_batchmean(mtard))
    _expect(rows, total=[0.271421, 0.198889, 0.151496], w_nat=[0.5, 0.497669, 0.493251])
    assert rows["tau_nat"] == rows["tau_adv"] == [1.0] * 3


def _entropy(rows: list[list[float]], tau: float) -> float:
    """Mean entropy in plain floats: ln sum e^(z / tau) - mean of z / tau under softmax."""
    total = 0.0
    for row in rows:
        shifted = [(z - max(row)) / tau for z in row]
        parts = [math.exp(z) for z in shifted]
        mean = sum(p * z for p, z in zip(parts, shifted, strict=True)) / sum(parts)
        total += math.log(sum(parts)) - mean
    return total / len(rows)


def test_t6_temperatures_stop_where_the_entropies_are_equal() -> None:
    method, taus = replace(mtard_ebb), [1.0]
    clean, robust = TN.tolist(), TA.tolist()
    for _ in range(4000):
        entropy_nat, entropy_adv = _entropy(clean, method.tau_nat), _entropy(robust, method.tau_adv)
        method.weigh(
            {"nat": 1.0, "adv": 1.0, "entropy_nat": entropy_nat, "entropy_adv": entropy_adv}
        )
        taus.append(method.tau_nat)
    falls = [update for update in range(1, 4001) if taus[update] < taus[update - 1]]
    assert falls[0] == 2938
    assert all(abs(tau - 3.936555) <= 2 * 0.001 for tau in taus[2938:])
    assert _entropy(clean, 3.936555) == pytest.approx(_entropy(robust, 1.0), abs=1e-6)
    assert method.tau_adv == pytest.approx(1.0, abs=0.0011)


def test_t7_the_scale_of_the_losses_moves_no_weight_and_no_temperature() -> None:
    small, large = _run(replace(bmtard)), _run(_batchmean(bmtard))
    _expect(large, total=[10 * total for total in small["total"]])
    for name in ("w_nat", "tau_nat", "tau_adv"):
        assert small[name] == pytest.approx(large[name], abs=1e-12)


class _LateTemperatures(BMTARD):
    """The paper's order: temperatures last, after the weights."""

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        self.entropy_balance = False
        weights = super().weigh(values)
        self.entropy_balance = True
        self._balance_entropies(values)
        return weights


def test_t8_temperatures_may_move_before_or_after_the_weights() -> None:
    early = _run(BMTARD(temperature=2.0, temperature_rate=0.5))
    late = _run(_LateTemperatures(temperature=2.0, temperature_rate=0.5))
    assert early == late


def test_t13_a_milestone_shrinks_both_rates() -> None:
    method = replace(bmtard)
    method.decay(0.1)
    assert method.r_tau == pytest.approx(1e-4, rel=1e-12)
    assert method.r_w == pytest.approx(0.0025, rel=1e-12)
    method.weigh(_values(entropy_adv=2.0))
    assert method.tau_nat == pytest.approx(1.0001, abs=1e-12)
    assert replace(method).r_tau == 0.001


@pytest.mark.parametrize("name", VARIANTS)
def test_passes_come_in_the_released_order(name: str) -> None:
    step = FixedStep()
    advance(replace(VARIANTS[name]), step)
    assert step.passes == ["ascend", "S(x')", "Ta(x')", "S(x)", "Tn(x)"]
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy
    assert torch.equal(targets, Y)
    assert settings == {}


def test_the_gradient_reaches_the_student_only() -> None:
    step = _steps()[1]
    method = _batchmean(bmtard, temperature=2.0)
    advance(method, FixedStep())
    tau = method.tau_nat, method.tau_adv
    total, _, weights = advance(method, step)
    total.backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    clean, robust = (TN / tau[0]).softmax(1), (TA / tau[1]).softmax(1)
    nat = (SN * 1.5).softmax(1) - clean
    adv = (SA * 1.1).softmax(1) - robust
    torch.testing.assert_close(3 * step.sn.grad, weights["nat"] * nat)
    torch.testing.assert_close(3 * step.sa.grad, weights["adv"] * adv)


def test_measures_carry_no_gradient() -> None:
    terms = bmtard.outer(FixedStep(), FixedStep().adversarial)
    assert not any(measure.requires_grad for measure in terms.measures.values())


def _values(**changes: float) -> dict[str, float]:
    return {"nat": 1.0, "adv": 1.0, "entropy_nat": 0.5, "entropy_adv": 0.5} | changes


def test_equal_entropies_move_no_temperature() -> None:
    method = replace(bmtard, temperature=2.0)
    method.weigh(_values())
    assert (method.tau_nat, method.tau_adv) == (2.0, 2.0)


def test_an_entropy_of_0_has_a_sign_too() -> None:
    method = replace(bmtard, temperature=2.0)
    method.weigh(_values(entropy_nat=0.0))
    assert (method.tau_nat, method.tau_adv) == (2.001, 1.999)


@pytest.mark.parametrize("name", ["nat", "adv", "entropy_nat", "entropy_adv"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_number_that_is_none_enters_the_state(variant: str, name: str, value: float) -> None:
    method = replace(VARIANTS[variant])
    before = state_of(method)
    with pytest.raises(RunError, match=f"^{name} is {value} in this step, expected a finite"):
        method.weigh(_values(**{name: value}))
    assert state_of(method) == before


@pytest.mark.parametrize("name", ["nat", "adv"])
def test_a_first_loss_of_0_measures_nothing(name: str) -> None:
    with pytest.raises(RunError, match=f"the first {name} loss is 0.0, expected a positive one"):
        replace(bmtard).weigh(_values(**{name: 0.0}))


def test_weights_are_floored_and_sum_to_1() -> None:
    """A float32 divergence of nearly equal predictions may round to -1e-9."""
    method = replace(mtard, weight_rate=1.0, beta=0.5)
    method.weigh(_values())
    assert method.weigh(_values(nat=-1e-9)) == {"adv": 1.0, "nat": 0.0}
    assert method.weigh(_values(nat=-1e-9, adv=0.0)) == {"adv": 1.0, "nat": 0.0}
    for step in range(1, 200):
        weights = method.weigh(_values(nat=1 / step, adv=step % 7 + 0.1))
        assert sum(weights.values()) == pytest.approx(1, abs=1e-15)


def test_a_sum_that_has_drifted_comes_back_to_1() -> None:
    method = replace(mtard)
    restore_state(method, {"w_nat": 0.6, "w_adv": 0.5})
    assert sum(method.weigh(_values()).values()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_reads_its_losses_relative_to_the_first_step(variant: str) -> None:
    method = replace(VARIANTS[variant])
    method.weigh(_values(nat=4.0, adv=2.0))
    later = _values(nat=1.0, adv=1.5, entropy_adv=0.75)
    method.weigh(later)
    assert (method.first_nat, method.first_adv) == (4.0, 2.0)
    assert method.readings(later) == {
        "relative_nat": 0.25,
        "relative_adv": 0.75,
        "relative_gap": 0.5,
        "entropy_gap": 0.25,
    }


def test_state_survives_json_bit_for_bit() -> None:
    method = replace(bmtard, temperature=2.0)
    steps = _steps()
    advance(method, steps[0])
    advance(method, steps[1])
    method.decay(0.1)
    copy = replace(bmtard, temperature=2.0)
    restore_state(copy, json.loads(json.dumps(state_of(method))))
    assert state_of(copy) == state_of(method)
    assert len(state_of(copy)) == 8
    assert advance(copy, steps[2])[1:] == advance(method, _steps()[2])[1:]
    assert state_of(copy) == state_of(method)


def test_a_copy_starts_anew() -> None:
    method = replace(bmtard)
    method.weigh(_values(entropy_adv=1.0))
    fresh = replace(method)
    assert (fresh.tau_nat, fresh.first_nat, fresh.w_nat) == (1.0, None, 0.5)


def test_names_decide_the_switches() -> None:
    assert BMTARD.fixed == ("entropy_balance", "loss_balance")
    switches = {n: (m.entropy_balance, m.loss_balance) for n, m in VARIANTS.items()}
    assert switches == {
        "baseline": (False, False),
        "ebb": (True, False),
        "mtard": (False, True),
        "bmtard": (True, True),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.5},
        {"temperature": 11.0},
        {"weight_rate": 2.0},
        {"temperature_rate": -1.0},
        {"beta": 0.0},
        {"kl_scale": "batchmean/100"},
    ],
)
def test_parameters_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(bmtard, **wrong)  # type: ignore[arg-type]
