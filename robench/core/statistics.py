"""What the verdicts amount to: accuracies, W-Robust, intervals, paired tests."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Z_95 = 1.959963984540054


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


class McNemar(NamedTuple):
    """Discordant pairs of two defenses on the same images, and the exact two-sided p value."""

    only_first: int
    only_second: int
    p: float


def wilson(successes: int, n: int) -> Estimate:
    """A share with its Wilson score interval. Source: Wilson 1927, eq. for the score interval."""
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0)
    share, z2 = successes / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and n successes the bound is exactly 0 or 1; rounding would leave it a hair off.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(share, low, high)


class WorstClass(NamedTuple):
    """The class of which the smallest share survives, of its n images."""

    label: int
    share: float
    n: int


def worst_class(labels: Sequence[int], survived: Sequence[bool]) -> WorstClass:
    """The class with the lowest robust accuracy; of equal ones the first. Needs an image."""
    images, survivors = Counter(labels), Counter(itertools.compress(labels, survived))
    shares = ((survivors[label] / images[label], label) for label in images)
    share, label = min(shares)
    return WorstClass(label, share, images[label])


def scores(clean_correct: Sequence[bool], survived: Sequence[bool], pi_adv: float) -> list[float]:
    """Per image s = pi_nat clean_correct + pi_adv survived, pi_nat = 1 - pi_adv."""
    return [(1 - pi_adv) * c + pi_adv * s for c, s in zip(clean_correct, survived, strict=True)]


def mean_interval(values: Sequence[float], low: float, high: float) -> Estimate:
    """Mean with mean +- 1.96 sd / sqrt(n), clipped to [low, high]."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, low, high)
    mean = math.fsum(values) / n
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else math.inf
    half = Z_95 * math.sqrt(variance / n)
    return Estimate(mean, max(low, mean - half), min(high, mean + half))


def w_robust(
    clean_correct: Sequence[bool], survived: Sequence[bool], pi_adv: float = 0.5
) -> Estimate:
    """W-Robust and its interval. Source: B-MTARD paper, eq. 22."""
    return mean_interval(scores(clean_correct, survived, pi_adv), 0.0, 1.0)


def w_robust_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of the paired differences of two defenses' scores on the same images."""
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], -1.0, 1.0)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact McNemar test of two verdict columns on the same images, in the same order."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    discordant = only_first + only_second
    tail = math.fsum(
        math.exp(_log_binomial(discordant, k) - discordant * math.log(2))
        for k in range(min(only_first, only_second) + 1)
    )
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
