"""Sanity flags: each planted fault must be named, and an honest network must not be accused."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from robench.attacks.pgd import PGD
from robench.core.record import Component, Flag, Verdict, Verdicts
from robench.core.threat import ThreatModel
from robench.evaluation.flags import record_flags
from tests.harness import small_cnn
from tests.scored import score


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()


class Softmax(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).softmax(1)


class LogSoftmax(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).log_softmax(1)


class Noisy(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.05 * torch.randn_like(x))


class BatchStatistics(Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.network[1] = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class StaysInTraining(Wrapped):
    """Puts a layer back into training mode in its own forward."""

    def forward(self, x: Tensor) -> Tensor:
        self.network[2].training = True
        return self.network(x)


class Quantised(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.network((x * 16).round() / 16)


class Differentiates(Wrapped):
    """Purifies its input by a gradient step of its own."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(z).square().sum(), z)
        return self.network(x - 1e-4 * gradient.sign())


def flags_of(folder: Path, model: nn.Module, attacks: str = "fgsm") -> dict[str, str]:
    row = score(folder, attacks, model=model.eval()).rows[0]
    return {flag.name: flag.level for flag in row.flags}


@pytest.mark.parametrize(
    ("model", "name", "level"),
    [
        (Softmax, "softmax_output", "warn"),
        (LogSoftmax, "log_softmax_output", "warn"),
        (Noisy, "randomised", "fail"),
        (BatchStatistics, "batch_statistics", "fail"),
        (StaysInTraining, "training_mode", "fail"),
        (Quantised, "zero_gradient", "fail"),
        (Differentiates, "dynamic", "warn"),
    ],
)
def test_planted_faults_are_named(tmp_path: Path, model: type, name: str, level: str) -> None:
    assert flags_of(tmp_path, model()).get(name) == level


def test_an_honest_network_is_not_accused(tmp_path: Path) -> None:
    found = flags_of(tmp_path, small_cnn(), "pgd_sat")
    assert not {name for name, level in found.items() if level != "info"}


def test_probabilities_are_flagged_not_refused(tmp_path: Path) -> None:
    row = score(tmp_path, "fgsm", model=Softmax()).rows[0]
    assert row.status == "done" and row.robust_accuracy is not None


def verdict(i: int, *flags: str, distance: float = 0.03, survived: bool = True) -> Verdict:
    return Verdict(i, 0, 0, 0 if survived else 1, survived, distance, 1.0, 3, 1, flags=flags)


@pytest.mark.parametrize(("count", "level"), [(0, None), (1, "warn"), (2, "warn"), (6, "fail")])
def test_one_zero_gradient_proves_nothing(count: int, level: str | None) -> None:
    """A share alarms only with 3 images and a Wilson bound above 1 % (attacks.md 16)."""
    rows = [verdict(i, *(["zero_gradient"] if i < count else [])) for i in range(100)]
    found = record_flags(Verdicts.of(rows), [], PGD(), ThreatModel(), 10)
    assert next((f.level for f in found if f.name == "zero_gradient"), None) == level


REFUSALS = ("rejected_not_finite", "rejected_box", "rejected_ball", "rejected_logits")


@dataclass(frozen=True)
class EveryImage(PGD):
    every_image: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("refused", "of", "level"),
    [
        (0, 100, None),
        (1, 100, "warn"),
        (5, 100, "warn"),
        (6, 100, "fail"),
        (2, 10, "warn"),
        (3, 10, "fail"),
        (3, 60, "warn"),
        (3, 59, "fail"),
    ],
)
@pytest.mark.parametrize("kinds", [REFUSALS[:1], REFUSALS[2:], REFUSALS])
def test_refused_candidates_count_together(
    refused: int, of: int, level: str | None, kinds: tuple[str, ...]
) -> None:
    """Above 5 % of the attacked images and at least 3, whichever test refused them."""
    rows = [verdict(i, *([kinds[i % len(kinds)]] if i < refused else [])) for i in range(of)]
    found = record_flags(Verdicts.of(rows), [], PGD(), ThreatModel(), 10)
    levels = {flag.name: flag.level for flag in found if flag.name in REFUSALS}
    assert levels == dict.fromkeys(kinds[:refused], level)


def test_an_image_refused_in_two_ways_counts_once() -> None:
    rows = [verdict(i, *(REFUSALS[:2] if i < 2 else [])) for i in range(10)]
    found = record_flags(Verdicts.of(rows), [], PGD(), ThreatModel(), 10)
    assert {f.level for f in found if f.name in REFUSALS} == {"warn"}


def test_refusals_are_of_the_attacked_images() -> None:
    """Clean-wrong images are attacked only where the attack goes after every image."""
    wrong = [Verdict(i, 0, 1, 1, False, 0.0, -1.0, 1, 0) for i in range(50, 100)]
    rows = [verdict(i, *(["rejected_ball"] if i < 4 else [])) for i in range(50)]
    for attack, level in ((PGD(), "fail"), (EveryImage(), "warn")):
        found = record_flags(Verdicts.of([*rows, *wrong]), [], attack, ThreatModel(), 10)
        assert {f.level for f in found if f.name == "rejected_ball"} == {level}


def test_what_depends_on_earlier_calls_is_not_said_to_mask_gradients() -> None:
    rows = Verdicts.of(
        verdict(i, "zero_gradient", "rejected_logits", survived=False) for i in range(10)
    )
    parts = [
        Component(name="apgd_ce", backward_passes=9),
        Component(name="square_5000", broken=10),
    ]
    own = [Flag(name="stateful", level="fail", message="m")]
    with_it, without = (
        {f.name for f in record_flags(rows, parts, PGD(), ThreatModel(), 10, defense)}
        for defense in (own, [])
    )
    assert without - with_it == {"zero_gradient", "square_helps"}
    assert "rejected_logits" in with_it


class Cast(Wrapped):
    kind = torch.float16

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).to(self.kind)


class CastShort(Cast):
    kind = torch.bfloat16


class CastLong(Cast):
    kind = torch.float64


@pytest.mark.parametrize(
    ("model", "bits"), [(Cast, 11), (CastShort, 8), (CastLong, None), (small_cnn, None)]
)
def test_outputs_of_few_bits_are_said(tmp_path: Path, model: type, bits: int | None) -> None:
    (row,) = score(tmp_path, "fgsm", model=model().eval()).rows
    found = [flag for flag in row.flags if flag.name == "half_outputs"]
    assert [(flag.value, flag.level) for flag in found] == ([(bits, "warn")] if bits else [])
    assert all(f"rounded to {bits} bits" in flag.message for flag in found)


def test_an_attack_that_raises_margins_is_named() -> None:
    rows = [verdict(i, *(["margin_rose"] if i < 6 else [])) for i in range(10)]
    names = {flag.name for flag in record_flags(Verdicts.of(rows), [], PGD(), ThreatModel(), 10)}
    assert "margin_rose" in names
    rows = [verdict(i, *(["margin_rose"] if i < 5 else [])) for i in range(10)]
    names = {flag.name for flag in record_flags(Verdicts.of(rows), [], PGD(), ThreatModel(), 10)}
    assert "margin_rose" not in names


@pytest.mark.parametrize(("steps", "level"), [(20, None), (10, None), (7, "info"), (3, "warn")])
def test_steps_that_cannot_cross_the_ball_are_named(steps: int, level: str | None) -> None:
    """Two radii of 8/255 take 8 steps of 2/255 from a uniform start."""
    found = record_flags(Verdicts.of([verdict(0)]), [], PGD(steps=steps), ThreatModel(), 10)
    assert next((f.level for f in found if f.name == "under_travel"), None) == level
