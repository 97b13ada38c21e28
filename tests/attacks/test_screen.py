"""Screen: exact on linear models, the same whatever the company, and said to be a bound."""

import pytest
import torch

from robench.attacks.screen import Screen, cosine
from robench.core.threat import ThreatModel
from tests.harness import attack, random_images, small_cnn
from tests.linear import Linear, two_class, worst_margin

EPS = ThreatModel("linf", 3 / 255)


def test_step_sizes_fall_from_twice_eps_along_half_a_cosine() -> None:
    assert cosine(0.5, 4) == pytest.approx([1.0, 0.5 * (1 + 0.5**0.5), 0.5, 0.5 * (1 - 0.5**0.5)])


@pytest.mark.parametrize(("eps", "robust"), [(0.0714, True), (0.0715, False)])
def test_lin_1_edge(eps: float, robust: bool) -> None:
    x = torch.full((1, 1, 2, 2), 0.5)
    model = Linear(*two_class(0.0))
    out = attack(model, "screen", x, torch.tensor([1]), ThreatModel("linf", eps))
    assert out.survived == [robust]


def test_it_finds_the_closed_form_of_five_classes() -> None:
    """LIN-4: one target of the three nearest is the worst one here, for every image."""
    torch.manual_seed(1)
    weight, bias, x = torch.randn(5, 12), torch.randn(5), torch.rand(200, 12)
    model, images = Linear(weight, bias), x.reshape(200, 3, 2, 2)
    labels = model(images).argmax(1)
    out = attack(model, "screen[targets=4]", images, labels, ThreatModel("linf", 0.05))
    exact = worst_margin(weight, bias, images, labels, 0.05) > 0
    assert torch.equal(torch.tensor(out.survived), exact) and exact.sum() == 133


def test_the_targets_find_what_the_probe_does_not() -> None:
    model, images = small_cnn(), random_images(96)
    out = attack(model, "screen[steps=2]", images, model(images).argmax(1), EPS)
    assert [part.name for part in out.components] == ["margin_pgd", "margin_targeted"]
    assert all(part.broken > 0 for part in out.components) and any(out.survived)


def test_candidates_do_not_depend_on_company() -> None:
    model, images = small_cnn(), random_images(12)
    labels, ids = model(images).argmax(1), torch.arange(12)
    whole = attack(model, "screen[steps=4,target_steps=4]", images, labels, EPS)
    for i in range(0, 12, 3):
        part = slice(i, i + 3)
        few = attack(
            model, "screen[steps=4,target_steps=4]", images[part], labels[part], EPS, ids=ids[part]
        )
        assert torch.equal(few.candidates, whole.candidates[part])
        assert few.verdicts == whole.verdicts[part]


@pytest.mark.parametrize("classes", [2, 3, 200])
def test_any_number_of_classes(classes: int) -> None:
    model, images = small_cnn(classes), random_images(4)
    out = attack(model, "screen", images, model(images).argmax(1), ThreatModel("linf", 0.3))
    assert not any(out.survived)


def test_it_never_passes_for_autoattack() -> None:
    assert any("upper bound" in said for said in Screen().remarks(10))
