"""When a share alarms, and what the tests together amount to."""

import pytest

from robench.audit import TESTS
from robench.audit.finding import Finding, judge_share, label, not_run, share


@pytest.mark.parametrize(
    ("count", "n", "threshold", "status"),
    [
        (0, 64, 0.0, "pass"),
        (1, 64, 0.0, "warn"),
        (2, 2, 0.0, "warn"),  # all images, and still only two
        (3, 64, 0.0, "fail"),
        (3, 64, 0.005, "fail"),  # Wilson's bound is 1.6 %
        (3, 64, 0.02, "warn"),
        (12, 64, 0.10, "fail"),  # 11.1 %
        (11, 64, 0.10, "warn"),  # 9.9 %
    ],
)
def test_a_share_alarms_by_three_images_and_its_interval(
    count: int, n: int, threshold: float, status: str
) -> None:
    found = share(count, n, threshold, means="m", remedy="r")
    assert judge_share(count, n, threshold) == status == found.status
    assert found.value == count / n and found.threshold == threshold


def finding(test: str, status: str) -> Finding:
    return Finding(id=test, status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("findings", "expected", "because"),
    [
        ([("G8", "pass"), ("G5", "pass")], "no masking found", []),
        ([("G8", "warn"), ("G5", "warn")], "no masking found", []),
        ([("G8", "pass"), ("G5", "fail")], "suspicious", ["G5"]),
        ([("G8", "fail"), ("G5", "fail")], "masked", ["G8"]),
        ([("G8", "not_run"), ("G5", "pass")], "no masking found", []),
    ],
)
def test_a_decisive_test_alone_makes_the_label(
    findings: list[tuple[str, str]], expected: str, because: list[str]
) -> None:
    assert label([finding(*pair) for pair in findings]) == (expected, because)


def test_a_test_that_was_cut_off_is_no_clearance() -> None:
    cut = not_run("interrupted", cut=True)
    assert label([finding("G5", "pass"), cut]) == ("unfinished", [cut.id])
    assert label([finding("G5", "fail"), cut]) == ("suspicious", ["G5"])
    assert label([not_run("no surrogate"), finding("G5", "pass")]) == ("no masking found", [])


def test_every_test_says_what_it_weighs() -> None:
    for name, (_, groups, text) in TESTS.lines.items():
        assert groups in (("decisive",), ("supporting",)), name
        assert text and callable(TESTS.load(name))
