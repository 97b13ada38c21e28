"""One step of the loop against the same step written out, and what the method is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.core.errors import RunError
from robench.numerics.random import BatchDraws
from robench.training.engine import Trainer
from robench.training.images import TrainingImages
from robench.training.method import Method, Step, Terms
from robench.training.methods.bmtard import BMTARD
from robench.training.methods.natural import natural
from robench.training.recipe import Inner, Optimizer, Recipe


def small_images(n: int = 20) -> TrainingImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return TrainingImages(pixels, torch.arange(n) % 4, torch.arange(n) + 100)


def network(seed: int = 0, channels: int = 4) -> nn.Module:
    """Without batch norm: a piece of a batch gives what the whole gives."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(channels * 64, 4),
        )


def recipe(method: str = "natural", **changes: object) -> Recipe:
    settings: dict[str, object] = {
        "epochs": 2,
        "batch_size": 8,
        "optimizer": Optimizer(lr=0.1, milestones=[0.5]),
        "inner": Inner(steps=2),
    }
    return Recipe(method=method, dataset="cifar10", **{**settings, **changes})  # type: ignore[arg-type]


def trainer(method: Method, settings: Recipe | None = None, **more: object) -> Trainer:
    teachers = {"clean": network(1), "robust": network(2)}
    frozen = {role: net.requires_grad_(False) for role, net in teachers.items()}
    return Trainer(
        settings or recipe(),
        network(),
        method,
        frozen,
        small_images(),
        "fp32",
        **more,  # type: ignore[arg-type]
    )


def test_a_natural_step_is_sgd_with_momentum_and_decay_on_the_augmented_batch() -> None:
    run, expected = trainer(natural), network()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    for number, rows in enumerate(run.batches(1)[:2], start=1):
        images = run.images.batch(rows, BatchDraws(0, 1), augment=True)
        loss = F.cross_entropy(expected(images), run.images.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values = run.step(rows, 1, number)
        assert values["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for got, wanted in zip(run.network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_an_epoch_shows_every_image_once() -> None:
    batches = trainer(natural).batches(1)
    assert [len(rows) for rows in batches] == [8, 8, 4]
    assert sorted(torch.cat(batches).tolist()) == list(range(20))


@dataclass
class Told(Method):
    """Two losses of known gradient, and whatever it is told."""

    roles: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def inner(self, step: Step) -> Tensor:
        return step.images + 0.5

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        mean = step.student(adversarial).mean()
        return Terms({"first": mean, "second": 3 * mean}, {"measure": mean.detach() * 0 + 7})

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        self.values.append(dict(values))
        return {"first": 2.0, "second": 0.5}

    def readings(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"reading": values["measure"] + 1}


def test_the_total_is_the_weighted_sum_and_the_method_is_told_the_values() -> None:
    method = Told()
    run = trainer(method)
    before = [parameter.detach().clone() for parameter in run.network.parameters()]
    values = run.step(run.batches(1)[0], 1, 1)
    (told,) = method.values
    assert told["second"] == pytest.approx(3 * told["first"]) and told["measure"] == 7
    assert values["loss"] == pytest.approx(3.5 * told["first"])
    assert values["loss_first"] == told["first"] and values["reading"] == 8
    assert 0 <= values["train_adversarial"] <= 1 and "train_clean" not in values
    # The gradient of mean logits in the last bias is 1/4 a class, times the weights 2 + 0.5 x 3.
    moved = before[-1] - list(run.network.parameters())[-1]
    torch.testing.assert_close(moved, 0.1 * (torch.full((4,), 3.5 / 4) + 2e-4 * before[-1]))


def test_bmtard_moves_temperatures_and_weights_once_a_step_and_decays_at_milestones() -> None:
    method = BMTARD()
    run = trainer(method, recipe("bmtard"))
    for number, rows in enumerate(run.batches(1), start=1):
        run.step(rows, 1, number)
    assert abs(method.tau_nat - 1.0) <= 0.003 + 1e-12 and abs(method.tau_adv - 1.0) <= 0.003 + 1e-12
    assert max(method.tau_nat, method.tau_adv) > 1.0
    assert method.w_nat + method.w_adv == pytest.approx(1, abs=1e-12)
    assert method.first_nat is not None
    run.end_epoch(1)
    assert method.r_tau == pytest.approx(1e-4, rel=1e-12)
    assert method.r_w == pytest.approx(0.0025, rel=1e-12)
    assert run.schedule.rate(2, 1) == pytest.approx(0.01, rel=1e-12)
    run.end_epoch(2)
    assert method.r_tau == pytest.approx(1e-4, rel=1e-12)


def test_a_loss_that_is_no_number_stops_before_the_weights_move() -> None:
    run = trainer(natural)
    with torch.no_grad():
        list(run.network.parameters())[-1][0] = torch.nan
    before = [parameter.detach().clone() for parameter in run.network.parameters()]
    with pytest.raises(RunError, match="nat is nan at epoch 3, step 7"):
        run.step(run.batches(3)[0], 3, 7)
    for got, wanted in zip(run.network.parameters(), before, strict=True):
        assert torch.equal(got.nan_to_num(), wanted.nan_to_num())


class Unweighed(Told):
    """Forgets the weight of one of its losses."""

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"other": 1.0}


def test_a_loss_without_a_weight_is_named_before_the_student_moves() -> None:
    run = trainer(Unweighed())
    with pytest.raises(
        RunError, match=r"natural gives its loss 'first' no weight: it weighs other"
    ):
        run.step(run.batches(1)[0], 1, 1)
    for got, wanted in zip(run.network.parameters(), network().parameters(), strict=True):
        assert torch.equal(got, wanted)


@dataclass
class Gathering(Told):
    """Counts images a class over an epoch, and notes in which order it is told of its end."""

    counts: list[float] = field(init=False, default_factory=lambda: [0.0] * 4)
    notes: list[str] = field(init=False, default_factory=list)

    gathered: ClassVar[tuple[str, ...]] = ("counts",)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        for label in step.labels.tolist():
            self.counts[label] += 1.0
        return super().outer(step, adversarial)

    def decay(self, factor: float) -> None:
        self.notes.append(f"decay {factor:g}")

    def end_epoch(self) -> None:
        self.notes.append(f"gathered {self.counts}")


def test_milestones_pass_before_what_an_epoch_gathered_takes_effect() -> None:
    method = Gathering()
    run = trainer(method)
    for number, rows in enumerate(run.batches(1), start=1):
        run.step(rows, 1, number)
    run.end_epoch(1)
    assert method.notes == ["decay 0.1", "gathered [5.0, 5.0, 5.0, 5.0]"]
