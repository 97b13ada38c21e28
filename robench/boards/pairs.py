"""Two defenses on the same images: the paired difference and the exact McNemar test."""

from collections.abc import Sequence

import msgspec

from robench.core.record import Record
from robench.core.row import survivors
from robench.core.statistics import mcnemar, scores, w_robust_difference

CLEAN = "clean"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """First minus second, image by image. Accuracies and differences are fractions of 1."""

    first: str
    second: str
    dataset: str
    image_set: str
    """Digest of the images, labels and ids that both were judged on."""
    n: int
    norm: str
    eps: float
    column: str
    """The attack whose W-Robust is compared, `worst_case`, or `clean` for clean accuracy."""
    difference: float
    difference_interval_95: tuple[float, float]
    only_first: int
    """Images that only the first gets right (under attack; for `clean`: without one)."""
    only_second: int
    p: float
    """Exact two-sided McNemar test of these two counts."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the difference leaves out zero.

        Where all images differ by the same amount the interval has no width and claims certainty
        even for two images; there the exact test decides.
        """
        low, high = self.difference_interval_95
        return (low > 0 or high < 0) and (low < high or self.p < 0.05)


Outcomes = dict[int, tuple[bool, bool]]


def outcomes(records: Sequence[Record]) -> Outcomes:
    """Image id -> (clean-correct, survived all of `records`)."""
    union = survivors(records)
    verdicts = records[0].verdicts
    correct = zip(verdicts.id, verdicts.clean_correct, strict=True)
    return {image: (clean, union[image]) for image, clean in correct}


def pair(
    labels: tuple[str, str],
    column: str,
    first: Sequence[Record],
    second: Sequence[Record],
    pi_adv: float,
) -> Comparison:
    """The comparison of two defenses, each given by the records of one cell."""
    one, other = outcomes(first), outcomes(second)
    assert one.keys() == other.keys(), "paired tests need the same images"
    ours, theirs = list(one.values()), [other[image] for image in one]
    place = int(column != CLEAN)
    weight = pi_adv if column != CLEAN else 0.0
    test = mcnemar([o[place] for o in ours], [o[place] for o in theirs])
    difference = w_robust_difference(_scores(ours, weight), _scores(theirs, weight))
    record = first[0]
    return Comparison(
        first=labels[0],
        second=labels[1],
        dataset=record.images.dataset,
        image_set=record.images.digest,
        n=len(ours),
        norm=record.threat.norm,
        eps=record.threat.eps,
        column=column,
        difference=difference.value,
        difference_interval_95=(difference.low, difference.high),
        only_first=test.only_first,
        only_second=test.only_second,
        p=test.p,
    )


def _scores(results: Sequence[tuple[bool, bool]], pi_adv: float) -> list[float]:
    return scores([clean for clean, _ in results], [survived for _, survived in results], pi_adv)
