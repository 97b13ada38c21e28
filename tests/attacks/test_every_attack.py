"""What holds for every attack in the table, a new one included, on a linear model."""

import pytest
import torch
from torch import Tensor

from robench.attacks import ATTACKS
from robench.attacks.resolve import resolve_attacks
from robench.core.threat import ThreatModel
from tests.harness import Outcome, attack
from tests.linear import Linear, worst_margin

SHORT = {
    "gradient_estimation": "gradient_estimation[preset=lite]",
    "square_5000": "square_5000[queries=100]",
}
"""Less of the same search, where the default is long."""
ELSEWHERE = {"transfer_pgd_trades", "transfer_cw_inf", "autoattack"}
"""Transfer needs a surrogate (test_transfer.py); AutoAttack's parts are all here."""
SEARCHES = [name for name in ATTACKS.names() if name not in ELSEWHERE]


def _problem() -> tuple[Linear, Tensor, Tensor, float]:
    """A five-class model, 12 images that it has right, labels, and an eps that breaks some."""
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 12, generator=generator), torch.randn(5, generator=generator)
    images = torch.rand(12, 3, 2, 2, generator=generator)
    model = Linear(weight, bias)
    return model, images, model(images).argmax(1), 0.05


def _run(name: str, eps: float, rows: slice = slice(None)) -> Outcome:
    model, images, labels, _ = _problem()
    ids = torch.arange(len(images))[rows]
    threat = ThreatModel("linf", eps)
    return attack(model, SHORT.get(name, name), images[rows], labels[rows], threat, ids=ids)


@pytest.mark.parametrize("name", SEARCHES)
def test_no_image_breaks_that_the_closed_form_calls_robust(name: str) -> None:
    model, images, labels, eps = _problem()
    exact = worst_margin(model.weight, model.bias, images, labels, eps) > 0
    assert 0 < exact.sum() < len(exact)
    out = _run(name, eps)
    assert (torch.tensor(out.survived) >= exact).all()
    assert out.unchanged, "the attack wrote into its input"
    outside = (out.candidates - images).abs().max() - eps
    assert outside < 1e-6 and out.candidates.min() >= 0 and out.candidates.max() <= 1


@pytest.mark.parametrize("name", SEARCHES)
def test_eps_0_breaks_nothing(name: str) -> None:
    assert all(_run(name, 0.0, slice(4)).survived)


@pytest.mark.parametrize("name", SEARCHES)
def test_alone_an_image_gets_the_same_verdict_for_no_more_passes_than_declared(name: str) -> None:
    _, _, _, eps = _problem()
    together = _run(name, eps)
    ((_, search),) = [(n.name, n.attack) for n in resolve_attacks(SHORT.get(name, name))]
    stages = search.stages(name, 5)
    for place in range(4):
        alone = _run(name, eps, slice(place, place + 1))
        assert alone.survived[0] == together.survived[place]
        forward = sum(part.forward_passes for part in alone.components)
        backward = sum(part.backward_passes for part in alone.components)
        assert forward <= sum(stage.forward_passes for stage in stages)
        assert backward <= sum(stage.backward_passes for stage in stages)
