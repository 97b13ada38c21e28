"""Attacks that cheat or fail: each must be caught, and none may move a verdict."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Stage
from robench.core.record import Verdicts
from robench.core.threat import ThreatModel
from robench.evaluation.flags import record_flags
from tests.harness import Outcome, attack, random_images, small_cnn

EPS = ThreatModel("linf", 8 / 255)


@dataclass(frozen=True)
class Planted:
    """What a dishonest attack shares with an honest one."""

    norms: ClassVar = ("linf",)
    stops: ClassVar = ("last", "any")

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", 1, 0, self.run)]


class NoOp(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        return images


class OutOfBall(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        return images.flip(0)  # other images of the set: certainly misclassified


class OutOfBox(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        return images - threat.eps  # in the ball, below 0 where the image is dark


class InPlace(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        images.copy_(images.flip(0))  # "no change" relative to what it was given
        return images


class ChangesLabels(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        labels += 1
        ids += 1
        return images


class SelfReporting(Planted):
    def run(self, view, images, labels, ids, threat, draws):
        return images, torch.ones(len(images), dtype=torch.bool)


class LyingLogits(Planted):
    """Tells the stop rule that every image is broken."""

    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        logits = torch.zeros(len(images), 10).scatter_(1, ((labels + 1) % 10)[:, None], 9.0)
        settled = view.offer(ids, images, logits)
        assert settled is None or not settled.any()
        return images


class OffersOthers(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        view.offer(ids + 1000, images, view.clean_logits(ids))
        return images


class WrongShape(Planted):
    def run(self, view, images, labels, ids, threat, draws) -> Tensor:
        return images[:-1]


def run(planted: Planted, stop: str = "last") -> tuple[Outcome, set[str]]:
    model, images = small_cnn(), random_images(16, seed=5)
    labels = model(images).argmax(1)
    # Labels of several classes, or the flipped images would be classified as wanted.
    assert len(labels.unique()) > 2
    out = attack(model, "planted", images, labels, EPS, stop=stop, search=planted)
    flags = record_flags(Verdicts.of(out.verdicts), out.components, planted, EPS, 10)
    return out, {flag.name for flag in flags}


@pytest.mark.parametrize("planted", [NoOp(), ChangesLabels(), LyingLogits()])
@pytest.mark.parametrize("stop", ["last", "any"])
def test_an_attack_without_effect_is_named(planted: Planted, stop: str) -> None:
    out, flags = run(planted, stop)
    assert all(out.survived) and "no_op" in flags


def test_out_of_ball_candidates_count_for_nothing() -> None:
    out, flags = run(OutOfBall())
    assert all(out.survived) and {"rejected_ball", "no_op"} <= flags


def test_out_of_box_candidates_count_for_nothing() -> None:
    out, flags = run(OutOfBox())
    assert all(out.survived) and "rejected_box" in flags


def test_working_in_place_changes_no_verdict_and_is_noticed() -> None:
    out, flags = run(InPlace())
    assert all(out.survived) and not out.unchanged and "rejected_ball" in flags


def test_lies_to_the_stop_rule_are_counted() -> None:
    _, flags = run(LyingLogits(), "any")
    assert "unconfirmed_hit" in flags


@pytest.mark.parametrize("planted", [SelfReporting(), WrongShape()])
def test_anything_but_candidates_is_refused(planted: Planted) -> None:
    with pytest.raises(RunError, match=r"planted returned .* expected candidates"):
        run(planted)


def test_images_that_were_not_given_cannot_be_offered() -> None:
    with pytest.raises(RunError, match="not given"):
        run(OffersOthers(), "any")
