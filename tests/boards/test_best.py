"""Which figures are the best of their column."""

from robench.boards.best import best
from robench.boards.rank import build_boards
from robench.core.record import Flag

REFUTED = Flag(name="no_op", level="fail", message="the attack changed no image")


def board_of(found, *records):
    (board,) = build_boards(found(*records))
    return board


def test_each_figure_has_its_own_best(found, record):
    board = board_of(
        found, record("a", "fgsm", "1111", "1000"), record("b", "fgsm", "1100", "1100")
    )
    # W-Robust: 0.625 and 0.5.
    assert best(board, "fgsm") == {
        *(("a", "clean_accuracy"), ("b", "robust_accuracy"), ("a", "w_robust"))
    }
    assert ("a", "clean_accuracy") in best(board, "clean")
    assert ("b", "clean_accuracy") not in best(board, "clean")


def test_all_of_a_tie_are_best(found, record):
    survived = {"a": "1100", "b": "0110", "c": "1000"}
    items = [record(name, "fgsm", "1110", bits) for name, bits in survived.items()]
    robust = {
        label for label, figure in best(board_of(found, *items), "fgsm") if "robust_" in figure
    }
    assert robust == {"a", "b"}


def test_equal_as_printed_is_a_tie(found, record):
    # W-Robust with a weight of 1e-5: 99.9995 and 99.9990 percent, both printed as 100.00.
    items = [record(name, "fgsm", "1111", bits) for name, bits in (("a", "1100"), ("b", "0000"))]
    (board,) = build_boards(found(*items), pi_adv=1e-5)
    assert {("a", "w_robust"), ("b", "w_robust")} <= best(board, "fgsm")
    assert ("b", "robust_accuracy") not in best(board, "fgsm")


def test_one_line_is_no_best(found, record):
    partial = record("b", "fgsm", "11", "11", n=4, status="partial")
    assert (
        best(board_of(found, record("a", "fgsm", "1111", "1000"), partial), "fgsm") == frozenset()
    )


def test_what_a_check_refutes_is_no_best(found, record):
    items = [
        record("a", "fgsm", "1111", "1111", flags=[REFUTED]),
        record("b", "fgsm", "1110", "1000"),
    ]
    assert best(board_of(found, *items), "fgsm") == {
        *(("a", "clean_accuracy"), ("b", "robust_accuracy"), ("b", "w_robust"))
    }


def test_worst_cases_over_other_attacks_are_not_compared(found, record):
    both = [record("a", attack, "1111", "1100") for attack in ("fgsm", "rays")]
    fewer = [record("b", attack, "1111", "1110") for attack in ("fgsm", "square")]
    assert best(board_of(found, *both, *fewer), "worst_case") == frozenset()
