"""The judge: ball, box, finiteness, a fresh forward. Everything else rests on this file."""

import pytest
import torch
from torch import Tensor, nn

from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge, Judgement
from tests.harness import random_images, small_cnn

EPS = 8 / 255


class Sum(nn.Module):
    """Class 1 where the image's mean is above its first pixel's threshold of .5, else class 0."""

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).mean(1) - 0.5
        return torch.stack([-score, score], dim=1)


def judged(
    clean: Tensor, candidates: Tensor, norm: str = "linf", eps: float = EPS, label: int = 0
) -> Judgement:
    labels = torch.full((len(clean),), label)
    return Judge(Sum(), ThreatModel(norm, eps), rows=4).verify(clean, candidates, labels)


def grey(value: float, n: int = 1) -> Tensor:
    return torch.full((n, 3, 4, 4), value)


def test_every_grey_level_at_the_edge_is_accepted() -> None:
    """ROUND: float32(x +- 8/255) leaves the exact ball by up to 2.8e-8."""
    levels = (torch.arange(256) / 255).reshape(256, 1, 1, 1)
    for sign in (-1, 1):
        candidates = (levels + sign * EPS).clamp(0, 1)
        assert not judged(levels, candidates).findings["rejected_ball"].any()


@pytest.mark.parametrize("sign", [-1, 1])
def test_two_millionths_too_far_is_refused(sign: int) -> None:
    result = judged(grey(0.5), grey(0.5) + sign * (EPS + 2e-6))
    assert result.findings["rejected_ball"].all() and not result.broken.any()


@pytest.mark.parametrize("value", [1 + 6e-8, -1e-9])
def test_outside_the_box_is_refused(value: float) -> None:
    clean = grey(1.0 if value > 0 else 0.0)
    candidate = clean.clone()
    candidate[0, 0, 0, 0] = torch.tensor(value, dtype=torch.float64).float()
    assert candidate[0, 0, 0, 0] != clean[0, 0, 0, 0]
    label = 1 if value < 0 else 0
    result = judged(clean, candidate, label=label)
    assert result.findings["rejected_box"].all() and not result.broken.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_candidates_that_are_not_finite_are_refused(bad: float) -> None:
    candidate = grey(0.49).clone()
    candidate[0, 1, 2, 3] = bad
    result = judged(grey(0.49), candidate)
    assert result.findings["rejected_not_finite"].all() and not result.broken.any()
    assert result.prediction.tolist() == [0] and result.distance.tolist() == [0]


def test_a_refused_candidate_is_judged_as_its_clean_image() -> None:
    result = judged(grey(0.49), grey(0.9))
    torch.testing.assert_close(result.margin, torch.tensor([0.02]).double(), atol=1e-6, rtol=0)


def test_a_hit_is_a_hit() -> None:
    result = judged(grey(0.49), grey(0.51))
    assert result.broken.tolist() == [True] and result.prediction.tolist() == [1]
    assert result.distance.item() == pytest.approx(0.02)


@pytest.mark.parametrize(("length", "allowed"), [(0.4999999, True), (0.5 * (1 + 2e-6), False)])
def test_l2_tolerance_is_relative(length: float, allowed: bool) -> None:
    delta = grey(1.0) / 48**0.5 * length
    result = judged(grey(0.48), grey(0.48) + delta, "l2", 0.5)
    assert result.broken.tolist() == [allowed]
    assert result.findings["rejected_ball"].tolist() == [not allowed]


def test_nan_logits_are_no_success() -> None:
    """NAN: torch's argmax returns the index of a NaN, so a NaN would look like a hit."""

    class NanAbove(Sum):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            logits[x.flatten(1).mean(1) > 0.5, 1] = torch.nan
            return logits

    judge = Judge(NanAbove(), ThreatModel("linf", EPS), rows=4)
    result = judge.verify(grey(0.49, 2), torch.cat([grey(0.51), grey(0.48)]), torch.zeros(2).long())
    assert not result.broken.any()
    assert result.findings["rejected_logits"].tolist() == [True, False]


def test_ties_and_fragile_margins_are_named() -> None:
    clean = torch.cat([grey(0.5), grey(0.5 + 1e-6), grey(0.4)])
    result = judged(clean, clean)
    assert result.findings["tie"].tolist() == [True, False, False]
    assert result.findings["fragile"].tolist() == [True, True, False]
    assert result.broken.tolist() == [False, True, False]  # first index on ties


def test_float64_is_reported_beside_a_fragile_verdict() -> None:
    class Cancels(nn.Module):
        """Float32 rounds 1e8 + score to 1e8: a tie that float64 decides."""

        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).mean(1)
            return torch.stack([torch.full_like(score, 1e8), 1e8 + score], dim=1)

    judge = Judge(Cancels(), ThreatModel("linf", EPS), rows=4)
    result = judge.verify(grey(0.4), grey(0.4), torch.zeros(1).long())
    assert result.findings["float64_disagrees"].all() and not result.broken.any()


def test_a_defense_that_works_in_place_changes_nothing() -> None:
    class InPlace(Sum):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.add_(0.3))

    clean, candidates = grey(0.1, 3), grey(0.12, 3)
    before = clean.clone(), candidates.clone()
    Judge(InPlace(), ThreatModel("linf", EPS), rows=4).verify(
        clean, candidates, torch.zeros(3).long()
    )
    assert torch.equal(clean, before[0]) and torch.equal(candidates, before[1])


def test_verdict_bits_do_not_depend_on_the_batch() -> None:
    judge = Judge(small_cnn(), ThreatModel("linf", EPS), rows=8)
    images = random_images(21)
    whole = judge.logits(images)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(3))
    assert torch.equal(judge.logits(images[order]), whole[order])
    assert torch.equal(torch.cat([judge.logits(images[i : i + 1]) for i in range(21)]), whole)


def test_autocast_around_the_caller_does_not_reach_the_judge() -> None:
    judge, images = Judge(small_cnn(), ThreatModel("linf", EPS), rows=8), random_images(8)
    plain = judge.logits(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(judge.logits(images), plain)
