"""Who is ranked, in which order, and who is not and why."""

import dataclasses
import random

import pytest

from robench.boards.rank import build_boards
from robench.core.errors import InputError
from robench.core.threat import ThreatModel


def boards(found, *records, **options):
    return build_boards(found(*records), **options)


def standing(board):
    return [(line.rank, line.label) for line in board.lines]


def reasons(board):
    return {line.label: line.reason for line in board.lines if line.rank is None}


def test_w_robust_decides_and_not_robust_accuracy(found, record):
    # tough: clean 3/5, robust 3/5, W-Robust 0.6. fine: clean 5/5, robust 2/5, W-Robust 0.7.
    tough, fine = (
        record("tough", clean="11100", survived="11100"),
        record("fine", clean="11111", survived="11000"),
    )
    (board,) = boards(found, tough, fine)
    assert standing(board) == [(1, "fine"), (2, "tough")]
    (board,) = boards(found, tough, fine, pi_adv=1.0)
    assert standing(board) == [(1, "tough"), (2, "fine")]
    (board,) = boards(found, tough, fine, pi_adv=0.0)
    assert standing(board) == [(1, "fine"), (2, "tough")]


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "cifar100"},
        {"digest": "e" * 64},
        {"threat": ThreatModel("linf", 0.031)},
        {"threat": ThreatModel("l2", 8 / 255)},
        {"n": 9},
    ],
)
def test_different_grounds_are_different_boards(found, record, other):
    result = boards(found, record("a"), record("b", **other))
    assert [[line.label for line in board.lines] for board in result] in (
        [["a"], ["b"]],
        [["b"], ["a"]],
    )
    assert all(not board.pairs for board in result)


@pytest.mark.parametrize("other", [{"parameters": {"steps": 50}}, {"stop": "any"}])
def test_other_parameters_or_stop_rules_are_other_columns(found, record, other):
    (board,) = boards(found, record("a"), record("b", survived="1000"), record("c", **other))
    assert len(board.columns) == 2
    assert standing(board) == [(1, "a"), (2, "b"), (None, "c")]
    assert reasons(board) == {"c": f"{board.ranked_by} needs a finished record"}


def test_autoattack_ranks_where_every_defense_has_it(found, record):
    records = [
        record("a", "autoattack", survived="1000"),
        record("b", "autoattack", survived="1100"),
        record("a", "pgd_trades", survived="1110"),
        record("b", "pgd_trades", survived="1100"),
    ]
    (board,) = boards(found, *records)
    assert (board.ranked_by, standing(board)) == ("autoattack", [(1, "b"), (2, "a")])
    assert board.columns == ("autoattack", "pgd_trades", "worst_case")


def test_else_pgd_trades_ranks(found, record):
    records = [
        record("a", "autoattack", survived="1000"),
        record("b", "pgd_trades", survived="1100"),
        record("a", "pgd_trades", survived="1110"),
    ]
    (board,) = boards(found, *records)
    assert (board.ranked_by, standing(board)) == ("pgd_trades", [(1, "a"), (2, "b")])
    partial = record("b", "autoattack", clean="11", survived="11", n=4, status="partial")
    assert boards(found, *records, partial)[0].ranked_by == "pgd_trades"


def test_else_the_attack_that_most_have(found, record):
    (board,) = boards(
        found,
        record("a", "fgsm"),
        record("b", "fgsm"),
        record("a", "cw_inf"),
        record("b", "square"),
    )
    assert board.ranked_by == "fgsm"


def test_the_defaults_come_before_what_is_more_common(found, record):
    both = [record(name, attack) for name in "ab" for attack in ("apgd_ce", "autoattack")]
    assert boards(found, *both)[0].ranked_by == "autoattack"
    apgd = [record(name, "apgd_ce") for name in "ab"]
    assert boards(found, *apgd, record("a", "pgd_trades"))[0].ranked_by == "pgd_trades"


def test_the_ranking_column_stands_first_and_the_worst_case_last(found, record):
    records = [record("a", attack) for attack in ("fgsm", "pgd_sat", "square")]
    (board,) = boards(found, *records, sort_by="pgd_sat")
    assert board.columns == ("pgd_sat", "fgsm", "square", "worst_case")
    (board,) = boards(found, *records, sort_by="worst_case")
    assert board.columns == ("worst_case", "fgsm", "pgd_sat", "square")


def test_clean_accuracy_does_not_depend_on_the_attack(found, record):
    records = record("a", "fgsm", "1110", "0000"), record("b", "pgd_sat", "1111", "0000")
    (board,) = boards(found, *records, sort_by="clean")
    assert standing(board) == [(1, "b"), (2, "a")]
    assert len(board.pairs) == 1


def test_a_partial_record_is_no_part_of_a_worst_case(found, record):
    records = [record(name, attack) for name in "ab" for attack in ("fgsm", "pgd_sat")]
    partial = record("a", "square", clean="11", survived="00", n=4, status="partial")
    (board,) = boards(found, *records, partial, sort_by="worst_case")
    assert standing(board) == [(1, "a"), (1, "b")]


def test_sort_by(found, record):
    records = [
        record("a", "fgsm", clean="1111", survived="1110"),
        record("a", "pgd_sat", clean="1111", survived="0001"),
        record("b", "fgsm", clean="1110", survived="1100"),
        record("b", "pgd_sat", clean="1110", survived="1100"),
        record("c", "fgsm", clean="1111", survived="1111"),
    ]
    (board,) = boards(found, *records, sort_by="pgd_sat")
    assert standing(board) == [(1, "a"), (1, "b"), (None, "c")]
    (board,) = boards(found, *records, sort_by="fgsm")
    assert standing(board) == [(1, "c"), (2, "a"), (3, "b")]
    (board,) = boards(found, *records, sort_by="clean")
    assert standing(board) == [(1, "a"), (1, "c"), (3, "b")]
    (board,) = boards(found, *records, sort_by="worst_case")
    # a keeps no image under both attacks: W-Robust 0.5; b keeps two of four: 0.625.
    assert standing(board) == [(1, "b"), (2, "a"), (None, "c")]
    assert reasons(board) == {"c": "worst_case needs two finished attacks"}


def test_sorting_by_what_is_not_there(found, record):
    with pytest.raises(InputError, match="cannot sort by 'pgd-sat': did you mean 'pgd_sat'"):
        boards(found, record(), sort_by="pgd-sat")
    with pytest.raises(InputError, match="'zzz': the records have clean, pgd_sat"):
        boards(found, record(), sort_by="zzz")
    with pytest.raises(InputError, match="'worst_case'"):
        boards(found, record(), sort_by="worst_case")


def test_a_board_without_the_column_is_left_unranked(found, record):
    with_it, without = boards(
        found, record("a", "fgsm"), record("b", dataset="cifar100"), sort_by="fgsm"
    )
    assert standing(with_it) == [(1, "a")]
    assert (without.ranked_by, standing(without)) == (None, [(None, "b")])


def test_partial_and_failed_records_are_shown_and_not_ranked(found, record):
    partial = record("b", clean="111", survived="111", n=4, status="partial", reason="3 of 4")
    failed = record("c", clean="", survived="", n=4, status="failed", reason="out of memory")
    not_run = record("d", clean="", survived="", n=4, status="not_run", reason="no surrogate")
    (board,) = boards(found, partial, failed, not_run, record("a", survived="1000"))
    assert standing(board) == [(1, "a"), (None, "b"), (None, "c"), (None, "d")]
    assert reasons(board) == {
        "b": "pgd_sat partial: 3 of 4",
        "c": "pgd_sat failed: out of memory",
        "d": "pgd_sat not run: no surrogate",
    }
    assert board.lines[1].cells["pgd_sat"].row.robust_accuracy == 1.0


def test_nothing_finished_means_nothing_ranked(found, record):
    partial = record("a", clean="1", survived="1", n=4, status="partial")
    (board,) = boards(found, partial)
    assert (board.ranked_by, standing(board)) == (None, [(None, "a")])


def test_equal_figures_share_a_rank(found, record):
    names = {"a": "1100", "b": "0011", "c": "1000", "d": "1110"}
    (board,) = boards(found, *(record(name, survived=s) for name, s in names.items()))
    assert standing(board) == [(1, "d"), (2, "a"), (2, "b"), (4, "c")]


def test_two_fingerprints_are_two_defenses(found, record):
    old = record("mine", fingerprint="0" * 64, survived="1000")
    new = record("mine", "fgsm", fingerprint="1" * 64, survived="1100")
    both = record("mine", fingerprint="1" * 64, survived="1100")
    (board,) = boards(found, old, new, both)
    assert standing(board) == [(1, "mine@11111111"), (2, "mine@00000000")]
    assert "worst_case" not in board.lines[1].cells


def test_worst_cases_are_ranked_over_equal_attacks_only(found, record):
    records = [
        record("a", "fgsm", survived="1110"),
        record("a", "pgd_sat", survived="1110"),
        record("b", "fgsm", survived="1100"),
        record("b", "pgd_sat", survived="0110"),
        record("c", "fgsm", survived="1111"),
        record("c", "square", survived="1111"),
    ]
    (board,) = boards(found, *records, sort_by="worst_case")
    assert standing(board) == [(1, "a"), (2, "b"), (None, "c")]
    assert reasons(board)["c"].startswith("its worst case is over fgsm, square, not")
    assert board.lines[1].cells["worst_case"].row.robust_accuracy == 0.25


def test_worst_cases_over_other_parameters_are_not_equal(found, record):
    records = [record(name, "fgsm") for name in "abc"]
    records += [record("a"), record("b"), record("c", parameters={"steps": 1})]
    (board,) = boards(found, *records, sort_by="worst_case")
    assert standing(board) == [(1, "a"), (1, "b"), (None, "c")]


@pytest.mark.parametrize("sort_by", [None, "clean"])
def test_a_digest_does_not_hide_other_images(found, record, sort_by):
    records = [record("a"), record("b"), record("c", survived="1111", ids=[0, 1, 2, 7])]
    (board,) = boards(found, *records, sort_by=sort_by)
    assert standing(board) == [(1, "a"), (1, "b"), (None, "c")]
    assert "other images" in reasons(board)["c"]


def test_neighbours_are_compared_in_ranking_order(found, record):
    records = [
        record("a", clean="1111", survived="1111"),
        record("b", clean="1111", survived="0001"),
        record("c", clean="1111", survived="1000"),
        record("d", clean="11", survived="11", n=4, status="partial"),
    ]
    (board,) = boards(found, *records)
    assert [(p.first, p.second) for p in board.pairs] == [("a", "b"), ("b", "c")]
    assert (board.pairs[0].only_first, board.pairs[0].only_second) == (3, 0)
    assert board.pairs[0].difference == pytest.approx(0.375)
    assert (board.pairs[1].only_first, board.pairs[1].only_second) == (1, 1)
    assert not board.pairs[1].told_apart


def test_boards_stand_in_the_order_of_data_norm_eps_and_n(found, record):
    result = boards(
        found,
        record(dataset="tiny-imagenet"),
        record(threat=ThreatModel("linf", 8 / 255)),
        record(threat=ThreatModel("linf", 4 / 255)),
        record(threat=ThreatModel("l2", 0.5)),
        record(clean="11", survived="11", digest="a" * 64),
    )
    grounds = [(b.ground.dataset, b.ground.norm, b.ground.eps, b.ground.n) for b in result]
    assert grounds == sorted(grounds)
    assert len(grounds) == 5


def test_no_records_make_no_board(found):
    assert boards(found) == ()


def check_ranking(board, images):
    """Ranks worked out again from the verdict strings; an AssertionError for any other order."""
    figures = {}
    for name, (clean, survived) in images.items():
        figures[name] = sum(c == "1" for c in clean) + sum(s == "1" for s in survived)
    expected = sorted(images, key=lambda name: (-figures[name], name))
    assert [line.label for line in board.lines] == expected
    for line in board.lines:
        assert line.rank == 1 + sum(other > figures[line.label] for other in figures.values())


def random_images(rng):
    images = {}
    for name in "abcde":
        clean = "".join(rng.choice("01") for _ in range(6))
        images[name] = clean, "".join(rng.choice("01") if c == "1" else "0" for c in clean)
    return images


def test_rankings_against_a_count_by_hand(found, record):
    rng = random.Random(0)
    for _ in range(50):
        images = random_images(rng)
        records = [record(name, clean=c, survived=s) for name, (c, s) in images.items()]
        rng.shuffle(records)
        (board,) = boards(found, *records)
        check_ranking(board, images)


def test_a_planted_wrong_ranking_is_caught(found, record):
    images = {"a": ("1111", "1110"), "b": ("1111", "1000"), "c": ("1100", "1000")}
    (board,) = boards(
        found, *(record(name, clean=c, survived=s) for name, (c, s) in images.items())
    )
    check_ranking(board, images)
    first, second, third = board.lines
    swapped = dataclasses.replace(board, lines=(second, first, third))
    tied = dataclasses.replace(board, lines=(first, dataclasses.replace(second, rank=1), third))
    for wrong in (swapped, tied):
        with pytest.raises(AssertionError):
            check_ranking(wrong, images)
