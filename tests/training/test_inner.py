"""The inner maximisation: in the ball, uphill, and without a trace on the network (T9, T10)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robench.models.build import build
from robench.numerics.losses import cross_entropy, cross_entropy_float32
from robench.numerics.random import BatchDraws
from robench.training.inner import PIECE_ROWS, Crafter, bounds, starting_points
from robench.training.recipe import Inner
from robench.training.student import TrainingForward
from tests.harness import random_images, small_cnn

INNER = Inner(eps="8/255", steps=5, step_size="2/255")


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build("resnet18", 10, 4).to(memory_format=torch.channels_last).train()


def data(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


def crafted(net: nn.Module, mode: str, inner: Inner = INNER, **at: Any) -> tuple[Tensor, Tensor]:
    """(start, adversarial images)."""
    images, labels = data()
    crafter = Crafter(net, TrainingForward(net, "fp32"), mode, torch.float32)
    draws = BatchDraws(0, epoch=1)
    start = starting_points(inner, images, torch.arange(len(images)), draws)
    low, high = bounds(inner, images, True)
    return start, crafter.ascend(
        cross_entropy, labels, start, low, high, [inner.step] * inner.steps
    )


@pytest.mark.parametrize("mode", ["eval", "train", "train_frozen_stats"])
@pytest.mark.parametrize("start", ["gauss1e-3", "uniform"])
def test_images_stay_in_ball_and_box_and_gain_loss(mode: str, start: str) -> None:
    net, (images, labels) = network(), data()
    inner = Inner(eps="8/255", steps=5, step_size="2/255", start=start)  # type: ignore[arg-type]
    _, adversarial = crafted(net, mode, inner)
    assert (adversarial - images).abs().max() <= 8 / 255 + 1e-6
    assert (adversarial - images).abs().max() > 7.9 / 255
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    net.train(mode != "eval")
    with torch.no_grad():
        before = nn.functional.cross_entropy(net(images), labels, reduction="none")
        after = nn.functional.cross_entropy(net(adversarial), labels, reduction="none")
    assert (after >= before).float().mean() >= 0.95


def test_a_step_that_the_ball_does_not_hold_reaches_three_eps() -> None:
    """T10 for fast-at: noise of 2 eps and a step of eps, held by the box alone."""
    net, (images, labels) = network(), data()
    eps = INNER.radius
    draws, ids = BatchDraws(0, epoch=1), torch.arange(len(images))
    start = images + draws.uniform(ids, images.shape[1:], -2 * eps, 2 * eps, purpose="start")
    low, high = bounds(INNER, images, within_ball=False)
    crafter = Crafter(net, TrainingForward(net, "fp32"), "train", torch.float32)
    adversarial = crafter.ascend(cross_entropy, labels, start, low, high, [eps])
    assert 2.9 * eps < (adversarial - images).abs().max() <= 3 * eps + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1


def test_one_step_is_the_sign_of_the_gradient_in_evaluation_mode() -> None:
    net, (images, labels) = network(), data()
    inner = Inner(eps="8/255", steps=1, step_size="2/255")
    start, adversarial = crafted(net, "eval", inner)
    leaf = start.clone().requires_grad_()
    nn.functional.cross_entropy(net.eval()(leaf), labels, reduction="sum").backward()
    assert leaf.grad is not None
    low, high = bounds(inner, images, True)
    expected = torch.clamp(start + inner.step * leaf.grad.sign(), low, high)
    # Folding rounds, and a gradient near zero may change its sign.
    assert (expected != adversarial).float().mean() < 1e-3


@pytest.mark.parametrize(
    ("mode", "moves"), [("eval", False), ("train", True), ("train_frozen_stats", False)]
)
def test_what_crafting_leaves_behind(mode: str, moves: bool) -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    crafted(net, mode)
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert bool(moved) is moves
    assert all("running" in name or "batches" in name for name in moved)
    assert net.training and all(module.training for module in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_a_start_is_small_noise_that_may_leave_the_box_or_uniform_noise_that_may_not() -> None:
    images, ids, draws = torch.zeros(50, 3, 8, 8), torch.arange(50), BatchDraws(0, epoch=1)
    gauss = starting_points(INNER, images, ids, draws)
    assert gauss.min() < 0 and abs(gauss.std().item() - 0.001) < 2e-5
    uniform = starting_points(Inner(start="uniform"), images + 0.5, ids, draws) - 0.5
    assert uniform.abs().max() <= 8 / 255 + 1e-6 and uniform.abs().max() > 7.9 / 255
    assert abs(uniform.std().item() - 8 / 255 / 3**0.5) < 1e-3
    assert starting_points(Inner(start="uniform"), images, ids, draws).min() == 0


def test_an_image_is_crafted_the_same_in_any_company_of_whole_passes() -> None:
    net = network()
    crafter = Crafter(net, TrainingForward(net, "fp32"), "eval", torch.float32)
    images, labels = data(2 * PIECE_ROWS)
    low, high = bounds(INNER, images, True)
    whole = crafter.ascend(cross_entropy, labels, images, low, high, [INNER.step] * 3)
    half = crafter.ascend(
        cross_entropy,
        *(values[PIECE_ROWS:] for values in (labels, images, low, high)),
        [INNER.step] * 3,
    )
    assert torch.equal(whole[PIECE_ROWS:], half)


def test_the_copy_follows_only_when_told_that_the_weights_moved() -> None:
    net, (images, _) = network(), data(4)
    crafter = Crafter(net, TrainingForward(net, "fp32"), "eval", torch.float32)
    before = crafter.logits(images)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.2)
    assert torch.equal(crafter.logits(images), before)
    crafter.moved()
    torch.testing.assert_close(crafter.logits(images), net.eval()(images), rtol=1e-4, atol=1e-4)


def test_a_watcher_sees_every_iterate_but_the_last_with_its_place_in_the_batch() -> None:
    net, (images, labels) = network(), data(PIECE_ROWS + 5)
    crafter = Crafter(net, TrainingForward(net, "fp32"), "eval", torch.float32)
    low, high = bounds(INNER, images, True)
    seen = torch.zeros(len(images), dtype=torch.int64)
    first: dict[int, Tensor] = {}

    def watch(rows: Tensor, logits: Tensor) -> None:
        for row, z in zip(rows.tolist(), logits, strict=True):
            first.setdefault(row, z)
        seen[rows] += 1

    crafter.ascend(cross_entropy, labels, images, low, high, [INNER.step] * 3, watch)
    assert seen.tolist() == [3] * len(images)
    expected = crafter.logits(images)
    torch.testing.assert_close(torch.stack([first[i] for i in range(len(images))]), expected)


@pytest.mark.parametrize("rows", [None, 2])
def test_a_teacher_beside_the_student_is_attacked_as_well(rows: int | None) -> None:
    """The sum of both networks' cross-entropies, step by step, whatever the pieces."""
    student, teacher = small_cnn(), small_cnn(seed=1)
    images, labels = random_images(6), torch.arange(6)
    crafter = Crafter(student, TrainingForward(student, "fp32"), "eval", torch.float32)
    low, high = bounds(INNER, images, within_ball=True)

    def both(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        parts = [cross_entropy_float32(half, targets) for half in logits.chunk(2, dim=1)]
        return parts[0][0] + parts[1][0], torch.cat([slope for _, slope in parts], dim=1)

    sizes = [INNER.step] * 3
    x = crafter.ascend(both, labels, images, low, high, sizes, beside=teacher, rows=rows)
    expected = images
    for size in sizes:
        z = expected.clone().requires_grad_()
        loss = nn.functional.cross_entropy(student(z), labels, reduction="sum")
        loss = loss + nn.functional.cross_entropy(teacher(z), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, z)
        expected = (expected + size * gradient.sign()).clamp(low, high)
    assert (x - expected).abs().gt(1e-6).float().mean() < 0.001  # signs of vanishing gradients
    alone = crafter.ascend(cross_entropy, labels, images, low, high, sizes)
    assert not torch.equal(alone, x)
