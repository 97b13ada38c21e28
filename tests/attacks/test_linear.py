"""LIN-1 to LIN-5: on a linear model the worst case is known, so every attack can be held to it."""

import pytest
import torch

from robench.core.threat import ThreatModel
from tests.harness import attack
from tests.linear import Linear, two_class, worst_margin

FOUND = ["fgsm", "pgd_sat", "cw_inf"]
APGD = ["apgd_ce", "apgd_dlr", "apgd_t"]
EDGE = 1 / 14  # margin .25 over the weights' l1 norm 3.5
L2_EDGE = 0.25 / 5.25**0.5


def _grey() -> torch.Tensor:
    return torch.full((1, 1, 2, 2), 0.5)


def test_the_closed_form_is_right_by_hand() -> None:
    """LIN-2: margin .25 minus 3.5 * 8/255."""
    weight, bias = two_class(0.0)
    margin = worst_margin(weight, bias, _grey(), torch.tensor([1]), 8 / 255)
    assert margin.item() == pytest.approx(0.140196, abs=1e-6)


@pytest.mark.parametrize("text", [*FOUND, "pgd_trades[step_size=0.0179]"])
@pytest.mark.parametrize("stop", ["last", "any"])
@pytest.mark.parametrize(("eps", "robust"), [(0.0714, True), (0.0715, False)])
def test_lin_1_edge(text: str, stop: str, eps: float, robust: bool) -> None:
    weight, bias = two_class(0.0)
    out = attack(
        Linear(weight, bias), text, _grey(), torch.tensor([1]), ThreatModel("linf", eps), stop=stop
    )
    assert out.survived == [robust]


@pytest.mark.parametrize("text", APGD)
@pytest.mark.parametrize(("eps", "robust"), [(0.0714, True), (0.0715, False)])
def test_lin_1_edge_of_apgd(text: str, eps: float, robust: bool) -> None:
    weight, bias = two_class(0.0)
    out = attack(Linear(weight, bias), text, _grey(), torch.tensor([1]), ThreatModel("linf", eps))
    assert out.survived == [robust]


def test_lin_1_leaves_a_coordinate_without_gradient_alone() -> None:
    weight, bias = two_class(0.0)
    out = attack(
        Linear(weight, bias), "fgsm", _grey(), torch.tensor([1]), ThreatModel("linf", 0.07)
    )
    assert out.candidates.flatten()[3] == 0.5
    torch.testing.assert_close(out.candidates.flatten()[:3], torch.tensor([0.57, 0.43, 0.57]))


@pytest.mark.parametrize("text", [*FOUND, *APGD])
def test_lin_2_worst_margin(text: str) -> None:
    weight, bias = two_class(0.0)
    out = attack(
        Linear(weight, bias), text, _grey(), torch.tensor([1]), ThreatModel("linf", 8 / 255)
    )
    assert out.verdicts[0].margin == pytest.approx(0.140196, abs=1e-6)
    assert out.verdicts[0].distance == pytest.approx(8 / 255, abs=1e-7)


@pytest.mark.parametrize("text", [*FOUND, *APGD])
def test_lin_3_worst_margin_in_the_corner_of_the_box(text: str) -> None:
    weight, bias = two_class(2.0)
    x = torch.tensor([0.99, 0.01, 0.5, 0.5]).reshape(1, 1, 2, 2)
    out = attack(Linear(weight, bias), text, x, torch.tensor([1]), ThreatModel("linf", 8 / 255))
    assert out.verdicts[0].margin == pytest.approx(0.734314, abs=1e-6)
    delta = (out.candidates - x).flatten()[:3]
    torch.testing.assert_close(delta, torch.tensor([0.01, -0.01, 8 / 255]), atol=1e-6, rtol=0)


def _lin_4() -> tuple[Linear, torch.Tensor, torch.Tensor, float, torch.Tensor]:
    """Model, images, labels, eps, and which images the closed form calls robust."""
    torch.manual_seed(1)
    weight, bias, x = torch.randn(5, 12), torch.randn(5), torch.rand(200, 12)
    images, eps = x.reshape(200, 3, 2, 2), 0.05
    model = Linear(weight, bias)
    labels = model(images).argmax(1)
    exact = worst_margin(weight, bias, images, labels, eps) > 0
    assert exact.sum() == 133
    return model, images, labels, eps, exact


def test_lin_4_no_attack_beats_the_closed_form() -> None:
    model, images, labels, eps, exact = _lin_4()
    for text in [*FOUND, "pgd_trades"]:
        survived = torch.tensor(
            attack(model, text, images, labels, ThreatModel("linf", eps)).survived
        )
        assert (survived >= exact).all(), text
    strong = attack(
        model, "cw_inf[step_size=0.0125]", images, labels, ThreatModel("linf", eps), stop="any"
    )
    assert sum(strong.survived) <= 134  # attacks.md: a 30-step margin search finds all but rounding


@pytest.mark.parametrize("text", APGD)
def test_lin_4_apgd_reaches_the_closed_form(text: str) -> None:
    model, images, labels, eps, exact = _lin_4()
    out = attack(model, text, images, labels, ThreatModel("linf", eps), rows=200)
    assert (torch.tensor(out.survived) >= exact).all()
    assert sum(out.survived) <= 134


@pytest.mark.parametrize("text", APGD)
@pytest.mark.parametrize(("share", "robust"), [(0.999, True), (1.001, False)])
def test_lin_5_edge_in_l2(text: str, share: float, robust: bool) -> None:
    """The nearest point of the boundary lies .25 / sqrt(1 + 4 + .25) = .109109 away."""
    weight, bias = two_class(0.0)
    threat = ThreatModel("l2", share * L2_EDGE)
    out = attack(Linear(weight, bias), text, _grey(), torch.tensor([1]), threat)
    assert out.survived == [robust]
    if robust:
        assert out.verdicts[0].margin == pytest.approx(0.25 * (1 - share), abs=1e-6)
        torch.testing.assert_close(
            out.candidates.flatten() - 0.5, share * 0.25 / 5.25 * weight[0], atol=1e-4, rtol=0
        )
