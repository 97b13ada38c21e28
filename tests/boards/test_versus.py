"""Two defenses against each other: where both were measured alike, and nowhere else."""

import json

import pytest
import scipy.stats

from robench.boards.rank import build_boards
from robench.boards.versus import compare_defenses, render_json
from robench.core.errors import InputError
from robench.core.threat import ThreatModel


def versus(found, *records, first="a", second="b"):
    return compare_defenses(build_boards(found(*records)), first, second)


def test_paired_figures_by_hand(found, record):
    comparisons = versus(
        found,
        record("a", clean="11111111", survived="11111100"),
        record("b", clean="11111110", survived="10000010"),
    )
    clean, attack = comparisons
    assert (clean.column, clean.only_first, clean.only_second, clean.p) == ("clean", 1, 0, 1.0)
    assert clean.difference == 1 / 8
    # Survived: 5 only a, 1 only b. Scores: (8 + 6) / 16 against (7 + 2) / 16.
    assert (attack.column, attack.only_first, attack.only_second) == ("pgd_sat", 5, 1)
    assert attack.p == pytest.approx(scipy.stats.binomtest(5, 6).pvalue)
    assert attack.difference == pytest.approx(5 / 16)
    # Differences 0, 0.5 x 5, -0.5, 0.5: variance (6 x 0.25 + 0.25 - 8 x (5/16)^2) / 7.
    half = 1.959964 * ((1.75 - 8 * (5 / 16) ** 2) / 7 / 8) ** 0.5
    assert attack.difference_interval_95 == pytest.approx((5 / 16 - half, 5 / 16 + half), abs=1e-6)
    assert attack.told_apart
    assert not clean.told_apart


def test_pairs_go_by_image_and_not_by_place(found, record):
    comparisons = versus(
        found, record("a", survived="1100"), record("b", survived="0011", ids=[3, 2, 1, 0])
    )
    assert (comparisons[1].only_first, comparisons[1].only_second) == (0, 0)


def test_the_order_of_the_names_is_the_sign(found, record):
    records = record("a", survived="1111"), record("b", survived="1000")
    ahead = versus(found, *records)[1]
    behind = versus(found, *records, first="b", second="a")[1]
    assert ahead.difference == -behind.difference > 0
    assert (ahead.only_first, behind.only_second) == (3, 3)
    assert ahead.told_apart
    assert behind.told_apart


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "cifar100"},
        {"digest": "e" * 64},
        {"threat": ThreatModel("linf", 4 / 255)},
        {"threat": ThreatModel("l2", 8 / 255)},
        {"parameters": {"steps": 50}},
        {"stop": "any"},
        {"attack": "fgsm"},
        {"status": "partial"},
        {"ids": [0, 1, 2, 7]},
    ],
)
def test_unlike_measurements_are_refused(found, record, other):
    with pytest.raises(InputError) as caught:
        versus(found, record("a"), record("b", **other))
    message = str(caught.value)
    assert "a and b share no finished attack on the same images and threat" in message
    assert "a has pgd_sat" in message
    assert "b has " in message


def test_names_that_are_unknown_equal_or_ambiguous(found, record):
    records = [record("trades"), record("mart"), record("mart", fingerprint="e" * 64)]
    with pytest.raises(InputError, match="no records of 'trade': did you mean 'trades'"):
        versus(found, *records, first="trade", second="trades")
    with pytest.raises(InputError, match="two different defenses"):
        versus(found, *records, first="mart", second="mart")
    with pytest.raises(InputError, match="write mart@eeeeeeee or mart@mmmmmmmm"):
        versus(found, *records, first="mart", second="trades")
    assert versus(found, *records, first="mart@eeeeeeee", second="trades")


def test_every_shared_column_of_every_shared_board(found, record):
    records = [record(name, attack) for name in "ab" for attack in ("fgsm", "pgd_sat")]
    records += [record(name, "fgsm", dataset="cifar100") for name in "ab"]
    comparisons = versus(found, *records)
    assert [(item.dataset, item.column) for item in comparisons] == [
        ("cifar10", "clean"),
        ("cifar10", "fgsm"),
        ("cifar10", "pgd_sat"),
        ("cifar10", "worst_case"),
        ("cifar100", "clean"),
        ("cifar100", "fgsm"),
    ]


def test_worst_cases_are_compared_over_all_their_attacks(found, record):
    records = [
        record("a", "fgsm", survived="1110"),
        record("a", "square", survived="0111"),
        record("b", "fgsm", survived="1100"),
        record("b", "square", survived="0011"),
    ]
    worst = versus(found, *records)[-1]
    assert (worst.column, worst.only_first, worst.only_second) == ("worst_case", 2, 0)
    assert worst.difference == 0.25


def test_machine_output(found, record):
    text = render_json(versus(found, record("a"), record("b", survived="1000")))
    (clean, attack) = json.loads(text)["comparisons"]
    assert (clean["column"], attack["column"]) == ("clean", "pgd_sat")
    assert attack["difference"] == pytest.approx(0.125)
    assert len(attack["difference_interval_95"]) == 2


def test_equal_differences_prove_nothing_on_few_images(found, record):
    few = versus(
        found, record("a", "fgsm", "1" * 4, "1" * 4), record("b", "fgsm", "1" * 4, "0" * 4)
    )
    assert few[1].difference_interval_95 == (0.5, 0.5)
    assert not few[1].told_apart
    many = versus(
        found, record("a", "fgsm", "1" * 9, "1" * 9), record("b", "fgsm", "1" * 9, "0" * 9)
    )
    assert many[1].told_apart


def test_equal_defenses_are_not_told_apart(found, record):
    assert [item.told_apart for item in versus(found, record("a"), record("b"))] == [False, False]
