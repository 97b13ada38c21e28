"""Intervals and tests against figures worked out by hand, and against scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robench.core.statistics import (
    mcnemar,
    scores,
    w_robust,
    w_robust_difference,
    wilson,
    worst_class,
)

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (5, 10, 0.236593, 0.763407),
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (1, 1, 0.206549, 1.0),
    ],
)
def test_wilson_by_hand(successes, n, low, high):
    estimate = wilson(successes, n)
    assert estimate.value == successes / n
    assert estimate.low == pytest.approx(low, abs=1e-6)
    assert estimate.high == pytest.approx(high, abs=1e-6)


def test_wilson_bounds_are_exact_at_both_ends():
    for n in range(1, 200):
        assert wilson(0, n).low == 0.0
        assert wilson(n, n).high == 1.0


def test_wilson_of_nothing_knows_nothing():
    estimate = wilson(0, 0)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_against_scipy(pair):
    theirs = stats.binomtest(*pair).proportion_ci(method="wilson")
    assert wilson(*pair)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_scores_weigh_clean_and_robust():
    assert scores([True, True, False], [True, False, False], 0.25) == [1.0, 0.75, 0.0]


def test_w_robust_by_hand():
    # Scores 1, 1, 0.5, 0: mean 0.625, squared deviations 0.6875, variance 0.6875 / 3,
    # half-width 1.959964 sqrt(0.6875 / 3 / 4) = 0.469131; the upper end is clipped.
    estimate = w_robust([True, True, True, False], [True, True, False, False])
    assert estimate.value == 0.625
    assert estimate.low == pytest.approx(0.155869, abs=1e-6)
    assert estimate.high == 1.0


def test_w_robust_is_the_weighted_mean_of_the_two_accuracies():
    clean, survived = [True] * 8 + [False] * 2, [True] * 3 + [False] * 7
    assert w_robust(clean, survived, 0.5).value == pytest.approx(0.55)
    assert w_robust(clean, survived, 0.0).value == pytest.approx(0.8)
    assert w_robust(clean, survived, 1.0).value == pytest.approx(0.3)
    assert w_robust(clean, survived, 0.2).value == pytest.approx(0.8 * 0.8 + 0.2 * 0.3)


def test_one_image_leaves_w_robust_open():
    assert w_robust([True], [True])[1:] == (0.0, 1.0)


def test_paired_difference_by_hand():
    # Differences 0.5, 0, 0, -0.5, 0.5: mean 0.1, variance 0.7 / 4, half 1.959964 sqrt(0.175 / 5).
    estimate = w_robust_difference([1.0, 1.0, 0.5, 0.0, 0.5], [0.5, 1.0, 0.5, 0.5, 0.0])
    assert estimate.value == pytest.approx(0.1)
    assert estimate.low == pytest.approx(0.1 - 0.366676, abs=1e-6)
    assert estimate.high == pytest.approx(0.1 + 0.366676, abs=1e-6)


def test_pairing_narrows_the_interval():
    first = [1.0, 0.5, 0.0, 1.0, 0.0, 0.5] * 10
    second = [value - 0.5 if i % 10 == 0 else value for i, value in enumerate(first)]
    paired = w_robust_difference(first, second)
    assert paired.high - paired.low < 0.1  # unpaired: 0.3
    assert w_robust_difference(first, first) == (0.0, 0.0, 0.0)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="zip"):
        w_robust_difference([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="zip"):
        mcnemar([True], [True, False])


def test_mcnemar_by_hand():
    # 5 against 1 of 6 discordant pairs: 2 (1 + 6) / 64.
    first = [True] * 5 + [False] + [True] * 3 + [False]
    second = [False] * 5 + [True] + [True] * 3 + [False]
    test = mcnemar(first, second)
    assert (test.only_first, test.only_second) == (5, 1)
    assert test.p == pytest.approx(14 / 64)


def test_mcnemar_of_equals_is_one():
    assert mcnemar([True, False], [True, False]).p == 1.0
    assert mcnemar([True, False], [False, True]).p == 1.0


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_against_scipy(b, c):
    first, second = [True] * b + [False] * c, [False] * b + [True] * c
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(first, second).p == pytest.approx(theirs, rel=1e-9, abs=1e-280)


@pytest.mark.parametrize(
    ("labels", "survived", "expected"),
    [
        # 1 of 2, 2 of 3 and 1 of 1 survive.
        ([7, 0, 0, 7, 0, 2], [True, True, False, False, True, True], (7, 0.5, 2)),
        ([3, 5], [True, False], (5, 0.0, 1)),
        ([5, 3], [False, False], (3, 0.0, 1)),  # of equal classes the first
        ([4, 4, 4, 4], [True, False, True, True], (4, 0.75, 4)),
    ],
)
def test_worst_class_by_hand(labels, survived, expected):
    assert worst_class(labels, survived) == expected
