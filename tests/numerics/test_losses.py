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


def test_log_odds_rank_points_like_cross_entropy() -> None:
    torch.manual_seed(2)
    logits, labels = 3 * torch.randn(50, 7), torch.randint(0, 7, (50,))
    values, gradient = losses.log_odds(logits, labels)
    torch.testing.assert_close(
        F.softplus(values), F.cross_entropy(logits, labels, reduction="none")
    )
    expected = losses.cross_entropy(logits, labels)[1]
    torch.testing.assert_close(F.normalize(gradient), F.normalize(expected), atol=1e-6, rtol=0)
    assert gradient.gather(1, labels[:, None]).unique().tolist() == [-1.0]


def test_log_odds_are_their_own_gradient() -> None:
    """log_odds is a loss in its own right: df/dz = softmax over the others, -1 at the label."""
    logits, labels = _ranked(torch.float64)
    z = logits.clone().requires_grad_()
    others = z.masked_fill(F.one_hot(labels, z.shape[1]).bool(), -torch.inf)
    values = others.logsumexp(1) - z.gather(1, labels[:, None])[:, 0]
    (expected,) = torch.autograd.grad(values.sum(), z)
    found, gradient = losses.log_odds(logits, labels)
    torch.testing.assert_close(found, values.detach())
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("margin", [20.0, 60.0, 200.0, 5000.0])
def test_log_odds_tell_confident_points_apart(margin: float) -> None:
    """Cross-entropy is 0 at both in float32: APGD would never see progress."""
    logits = torch.tensor([[margin, 0.0, -1.0], [margin + 0.1, 0.0, -1.0]])
    values, _ = losses.log_odds(logits, torch.tensor([0, 0]))
    assert values[0] > values[1]
    assert values[0] == pytest.approx(0.313262 - margin, rel=1e-6)
    assert losses.cross_entropy_float32(logits, torch.tensor([0, 0]))[0].tolist() == [0.0, 0.0]


def test_dlr_by_hand() -> None:
    """APGD-4: the label third gives the constant 1 without gradient; first gives -2/3."""
    logits = torch.tensor([[3.0, 2.0, 5.0, 1.0], [3.0, 2.0, 5.0, 1.0], [3.0, 2.0, 5.0, 1.0]])
    values, gradient = losses.dlr(logits, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(values, torch.tensor([1.0, 2 / 3, -2 / 3]))
    assert gradient[0].tolist() == [0.0] * 4
    # f = (z_2 - z_0) / (z_2 - z_1) at (3, 2, 5): df/dz_0 = -1/3, df/dz_1 = 2/9, df/dz_2 = 1/9.
    torch.testing.assert_close(gradient[1], torch.tensor([-1 / 3, 2 / 9, 1 / 9, 0.0]))


def test_dlr_targeted_by_hand() -> None:
    """DLR-T: -(4 - 3) / (4 - (2 + 1) / 2) = -0.4."""
    values, gradient = losses.dlr_targeted(
        torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[0, 1]])
    )
    torch.testing.assert_close(values, torch.tensor([-0.4]))
    # -(1 - .4 * 1) / 2.5, 1 / 2.5, and .4 * (-.5) / 2.5 with the sign turned twice.
    torch.testing.assert_close(gradient, torch.tensor([[-0.24, 0.4, -0.08, -0.08]]))


def _ranked(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits (60, 6) with the label at every rank ten times."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(60, 6, generator=generator, dtype=dtype)
    ranks = torch.arange(60) % 6
    return logits, logits.argsort(1, descending=True).gather(1, ranks[:, None])[:, 0]


def _reference_dlr(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    top = z.sort(dim=1).values
    own = F.one_hot(labels, z.shape[1]).bool()
    other = z.masked_fill(own, -torch.inf).amax(1)
    return -(z[own] - other) / (top[:, -1] - top[:, -3] + 1e-12)


def test_dlr_against_autograd() -> None:
    logits, labels = _ranked(torch.float64)
    z = logits.clone().requires_grad_()
    expected = _reference_dlr(z, labels)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    values, gradient = losses.dlr(logits, labels)
    torch.testing.assert_close(values, expected.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, slope, atol=1e-11, rtol=0)


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 5])
def test_targeted_losses_against_autograd(shift: int) -> None:
    logits, labels = _ranked(torch.float64)
    targets = (labels + shift) % 6
    pairs, rows = torch.stack([labels, targets], 1), torch.arange(60)
    z = logits.clone().requires_grad_()
    top = z.sort(dim=1).values
    difference = z[rows, targets] - z[rows, labels]
    expected = {
        "dlr_targeted": difference / (top[:, -1] - 0.5 * (top[:, -3] + top[:, -4]) + 1e-12),
        "margin_targeted": difference,
    }
    for name, value in expected.items():
        (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
        found, gradient = getattr(losses, name)(logits, pairs)
        torch.testing.assert_close(found, value.detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(gradient, slope, atol=1e-11, rtol=0)


def test_dlr_values_of_ties_are_the_reference_s() -> None:
    """Gradients at a tie may go to another of the equal classes; values and their sum to 0 stay."""
    logits = torch.tensor([[2.0, 2.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 2.0, 2.0]])
    for label in range(3):
        labels = torch.full((4,), label)
        values, gradient = losses.dlr(logits, labels)
        assert torch.equal(values, _reference_dlr(logits, labels))
        torch.testing.assert_close(
            gradient.sum(1) / gradient.abs().amax(1).clamp(min=1), torch.zeros(4)
        )
    # Three equal logits: 0 / 1e-12 stays 0.
    assert losses.dlr(logits[2:3], torch.tensor([0]))[0].item() == 0


def test_dlr_needs_its_classes() -> None:
    with pytest.raises(InputError, match="dlr loss needs 3 classes, not 2: use margin"):
        losses.dlr(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(InputError, match="needs 4 classes, not 3: use margin_targeted"):
        losses.dlr_targeted(torch.zeros(1, 3), torch.tensor([[0, 1]]))


def test_names_take_one_label() -> None:
    assert "dlr" in losses.LOSSES
    assert not [name for name in losses.LOSSES if name.endswith("targeted")]


def test_kl_divergence_by_hand() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = ln 2 - H(1/4); the gradient is the difference."""
    values, gradient = losses.kl_divergence(
        torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.75, 0.25]]).double().log()
    )
    assert values.item() == pytest.approx(0.130812, abs=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.25]], dtype=torch.float64))


def test_kl_divergence_against_autograd() -> None:
    torch.manual_seed(4)
    logits, targets = torch.randn(40, 6), F.log_softmax(3 * torch.randn(40, 6), 1)
    z = logits.double().requires_grad_()
    expected = F.kl_div(F.log_softmax(z, 1), targets.double(), reduction="none", log_target=True)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    values, gradient = losses.kl_divergence(logits, targets)
    assert values.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(values, expected.sum(1).detach().float())
    torch.testing.assert_close(gradient, slope.float())


def test_kl_divergence_vanishes_at_its_target() -> None:
    """T12: sign() of rounding would be a full step, so float64 targets leave no rounding at all."""
    torch.manual_seed(5)
    logits = 8 * torch.randn(100, 10)
    values, gradient = losses.kl_divergence(logits, F.log_softmax(logits.double(), 1))
    assert not values.any()
    assert not gradient.any()
    rounded_values, rounded = losses.kl_divergence(logits, F.log_softmax(logits, 1))
    assert rounded_values.abs().max() < 1e-6
    assert 0 < rounded.abs().max() < 1e-6


def test_kl_divergence_stands_saturated_targets() -> None:
    targets = F.log_softmax(torch.tensor([[1e4, 0.0, 0.0]]), 1)
    values, gradient = losses.kl_divergence(torch.tensor([[0.0, 1e4, 0.0]]), targets)
    assert values.tolist() == [1e4]
    assert gradient.tolist() == [[-1.0, 1.0, 0.0]]


def test_names_take_labels_and_a_divergence_does_not() -> None:
    assert "kl_divergence" not in losses.LOSSES


def test_squared_error_by_hand() -> None:
    """p = (1/2, 1/2), q = (3/4, 1/4): 2/16, and p_j (p_j - q_j - 0) doubled is -+1/4."""
    logits, target = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.75, 0.25]]).double()
    values, gradient = losses.squared_error(logits, target.log())
    assert values.item() == pytest.approx(0.125, rel=1e-12)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.25]], dtype=torch.float64))


def test_squared_error_against_autograd() -> None:
    torch.manual_seed(6)
    logits, targets = torch.randn(40, 6), F.log_softmax(3 * torch.randn(40, 6), 1)
    z = logits.double().requires_grad_()
    expected = ((z.softmax(1) - targets.double().exp()) ** 2).sum(1)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    values, gradient = losses.squared_error(logits, targets)
    assert values.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(values, expected.detach().float())
    torch.testing.assert_close(gradient, slope.float())


def test_squared_error_vanishes_at_its_target() -> None:
    """T12, and no rounding is left, as with kl_divergence."""
    torch.manual_seed(7)
    logits = 8 * torch.randn(100, 10)
    values, gradient = losses.squared_error(logits, F.log_softmax(logits.double(), 1))
    assert not values.any()
    assert not gradient.any()


def test_squared_error_stands_saturated_logits() -> None:
    """Its gradient vanishes at a wrong corner: the loss is flat there, at its largest value."""
    targets = F.log_softmax(torch.tensor([[1e4, 0.0, 0.0]]), 1)
    values, gradient = losses.squared_error(torch.tensor([[0.0, 1e4, 0.0]]), targets)
    assert values.tolist() == [2.0]
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]
    assert "squared_error" not in losses.LOSSES
