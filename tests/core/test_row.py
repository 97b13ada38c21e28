"""Rows: four images, counted by hand."""

import math

import pytest

from robench.core.errors import InputError
from robench.core.record import Flag
from robench.core.row import row_of, survivors, worst_case
from robench.core.threat import ThreatModel


def test_row_by_hand(record):
    row = row_of(record("1110", "1100"), path="records/x.json")
    assert (row.n, row.clean_accuracy, row.robust_accuracy, row.w_robust) == (4, 0.75, 0.5, 0.625)
    assert row.robust_interval_95 == pytest.approx((0.150039, 0.849961), abs=1e-6)
    assert row.w_robust_interval_95 == pytest.approx((0.155869, 1.0), abs=1e-6)
    assert (row.forward_passes, row.backward_passes, row.queries) == (88, 80, None)
    assert (row.attack, row.stop, row.record) == ("pgd_sat", "last", "records/x.json")


def test_row_weighs_as_asked(record):
    assert row_of(record("1110", "1100"), pi_adv=0.2).w_robust == pytest.approx(0.7)


@pytest.mark.parametrize("pi_adv", [-0.1, 1.1, math.nan])
def test_weights_outside_their_range(record, pi_adv):
    with pytest.raises(InputError, match="--pi-adv"):
        row_of(record(), pi_adv=pi_adv)


def test_row_of_nothing_judged_has_no_figures(record):
    row = row_of(record("", "", status="failed"))
    assert (row.n, row.clean_accuracy, row.robust_accuracy, row.w_robust) == (0, None, None, None)
    assert row.robust_interval_95 is None
    assert row.worst_class is None


def test_the_worst_class_is_that_of_the_smallest_share(record):
    made = record("1111", "1101")
    made.verdicts.label = made.verdicts.clean_prediction = [0, 1, 1, 2]
    row = row_of(made)
    found = (row.worst_class, row.worst_class_robust_accuracy, row.worst_class_n)
    assert found == (1, 0.5, 2)
    other = record("1111", "1110", attack="square")
    other.verdicts.label = other.verdicts.clean_prediction = [0, 1, 1, 2]
    row = worst_case([made, other])  # image 3, the only one of class 2, falls to the second
    found = (row.worst_class, row.worst_class_robust_accuracy, row.worst_class_n)
    assert found == (2, 0.0, 1)


def test_queries_are_those_charged(record):
    assert row_of(record(queries=100)).queries == 400


def test_worst_case_by_hand(record):
    first = record("1110", "1100")
    second = record("1110", "0110", attack="square", queries=10)
    row = worst_case([first, second])
    # Only image 1 survives both.
    assert (row.clean_accuracy, row.robust_accuracy, row.w_robust) == (0.75, 0.25, 0.5)
    assert row.parameters == {"members": ["pgd_sat", "square"]}
    assert (row.attack, row.status, row.n, row.seconds) == ("worst_case", "done", 4, 4.0)
    assert (row.forward_passes, row.backward_passes) == (176, 160)
    assert row.queries == worst_case([second, first]).queries == 40


def test_worst_case_goes_by_image_and_not_by_place(record):
    first = record("1111", "1100")
    second = record("1111", "0011", ids=[3, 2, 1, 0])  # images 0 and 1 survive, listed last
    assert survivors([first, second]) == {0: True, 1: True, 2: False, 3: False}
    assert worst_case([first, second]).robust_accuracy == 0.5


def flag(name, level, message="m", value=None):
    return Flag(name=name, level=level, message=message, value=value)


def test_a_union_has_its_members_flags_at_their_highest_level(record):
    few = flag("zero_gradient", "warn", "1 images have no gradient", 1)
    many = flag("zero_gradient", "fail", "4 images have no gradient", 4)
    row = worst_case(
        [
            record(flags=[few, flag("dynamic", "warn")]),
            record(attack="cw_inf", flags=[many, flag("dynamic", "warn")]),
            record(attack="fgsm", flags=[flag("no_op", "fail"), few]),
        ]
    )
    assert row.flags == (
        flag(
            "zero_gradient",
            "fail",
            "cw_inf: 4 images have no gradient; pgd_sat, fgsm: 1 images have no gradient",
            4,
        ),
        flag("dynamic", "warn", "pgd_sat, cw_inf: m"),
        flag("no_op", "fail", "fgsm: m"),
    )


def test_a_union_takes_no_flags_of_what_it_does_not_unite(record):
    unfinished = record(attack="cw_inf", status="partial", flags=[flag("no_op", "fail")])
    assert worst_case([record(), record(attack="fgsm"), unfinished]).flags == ()


def test_members_may_be_named_by_a_parameter(record):
    one = record(parameters={"surrogate": "a"}, flags=[flag("no_op", "fail")])
    row = worst_case([one, record(parameters={"surrogate": "b"})], parameter="surrogate")
    assert row.parameters == {"members": ["a", "b"]}
    assert row.flags == (flag("no_op", "fail", "a: m"),)


@pytest.mark.parametrize(
    "other",
    [
        {"status": "partial"},
        {"fingerprint": "e" * 64},
        {"digest": "e" * 64},
        {"threat": ThreatModel("linf", 4 / 255)},
        {"threat": ThreatModel("l2", 8 / 255)},
        {"ids": [0, 1, 2, 4]},
    ],
)
def test_worst_case_unites_like_with_like_only(record, other):
    assert worst_case([record(), record(attack="fgsm")]) is not None
    assert worst_case([record(), record(attack="fgsm", **other)]) is None


def test_worst_case_needs_two(record):
    assert worst_case([]) is None
    assert worst_case([record()]) is None
