"""Losses against autograd, by hand, and where float32 saturates."""

import pytest
import torch
import torch.nn.functional as F

from robench.core.errors import InputError
from robench.numerics import losses


def test_margin_masks_by_minus_infinity() -> None:
    """CW-1: with all logits below 0 a multiplicative mask would give the true class's slot 0."""
    logits, labels = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([0])
    values, gradient = losses.margin(logits, labels)
    assert values.tolist() == [-1.0]
    assert gradient.tolist() == [[-1.0, 1.0, 0.0]]


def test_margin_sends_a_tie_to_one_class() -> None:
    _, gradient = losses.margin(torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([0]))
    assert sorted(gradient[0].tolist()) == [-1.0, 0.0, 1.0]


def _autograd(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = logits.double().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, labels, reduction="sum"), z)
    return gradient


def test_cross_entropy_has_the_direction_of_autograd() -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(50, 7), torch.randint(0, 7, (50,))
    values, gradient = losses.cross_entropy(logits, labels)
    torch.testing.assert_close(values, F.cross_entropy(logits, labels, reduction="none"))
    expected = _autograd(logits, labels)
    unit = F.normalize(gradient.double(), dim=1)
    torch.testing.assert_close(unit, F.normalize(expected, dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0, 200.0, 5000.0])
def test_cross_entropy_never_saturates(margin: float) -> None:
    """At margin 20 float32 loses the true-class term; at 200 everything. Ours keeps both."""
    logits = torch.tensor([[margin, 0.0, -1.0]])
    _, gradient = losses.cross_entropy(logits, torch.tensor([0]))
    share = torch.tensor(-1.0).exp().item()
    expected = torch.tensor([[-(1 + share), 1.0, share]])
    torch.testing.assert_close(gradient, expected)
    if margin >= 20:
        _, plain = losses.cross_entropy_float32(logits, torch.tensor([0]))
        assert plain[0, 0] == 0


def test_plain_cross_entropy_is_what_the_peers_compute() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(20, 5), torch.randint(0, 5, (20,))
    _, gradient = losses.cross_entropy_float32(logits, labels)
    torch.testing.assert_close(gradient, _autograd(logits, labels).float(), atol=1e-6, rtol=1e-5)


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'margin'"):
        losses.loss_named("margn")
