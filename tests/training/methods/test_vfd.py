"""VFD-Adv-style on F1 with logits as features: the loss, what moves, its label, its adapter."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.methods.vfd import vfd_adv_style
from robench.training.plan import resolve_recipe
from tests.training.fixture import FixedStep, Y, advance, single


def test_total_of_f1() -> None:
    total, values, weights = advance(vfd_adv_style, FixedStep())
    assert total.item() == pytest.approx(1.775902, abs=1e-6)
    assert values["adv"] == pytest.approx(0.975902, abs=1e-6)
    assert weights == {"adv": 1.0, "feature_adv": 1.0, "feature_nat": 1.0}


def test_the_distances_of_each_row() -> None:
    rows = [(0.227845, 0.023365), (0.846887, 0.070472), (1.092515, 0.138917)]
    for row, (adv, nat) in enumerate(rows):
        values = advance(vfd_adv_style, single(row))[1]
        assert values["feature_adv"] == pytest.approx(adv, abs=1e-6)
        assert values["feature_nat"] == pytest.approx(nat, abs=1e-6)


def test_the_weight_acts_on_both_feature_terms() -> None:
    total, values, _ = advance(replace(vfd_adv_style, feature_weight=0.25), FixedStep())
    features = values["feature_adv"] + values["feature_nat"]
    assert total.item() == pytest.approx(values["adv"] + 0.25 * features)


def test_a_feature_vector_of_any_length_is_compared_by_direction() -> None:
    step = FixedStep()
    _, values, _ = advance(vfd_adv_style, step)
    longer = FixedStep(tn=3 * step.tn.detach())
    assert advance(vfd_adv_style, longer)[1]["feature_adv"] == pytest.approx(values["feature_adv"])


def test_passes_and_what_the_gradient_reaches() -> None:
    step = FixedStep()
    advance(vfd_adv_style, step)[0].backward()
    assert step.passes == ["ascend", "Tn(x)", "S(x')", "S(x)"]
    [(loss, targets, settings)] = step.ascents
    assert loss is cross_entropy and torch.equal(targets, Y) and not settings
    assert step.sa.grad is not None and step.sn.grad is not None


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0"):
        replace(vfd_adv_style, feature_weight=-1.0)


@pytest.mark.parametrize(
    ("preset", "label"),
    [("paper", "reconstruction"), ("small", "reconstruction, small-scale, 5-step")],
)
def test_every_preset_says_that_it_is_a_reconstruction(preset: str, label: str) -> None:
    assert resolve_recipe("vfd-adv-style", "cifar10", preset=preset).label == label
