"""What boards say of the weakest class."""

from robench.boards.rank import build_boards
from robench.boards.words import worst_classes


def test_the_weakest_class_under_the_leading_attack(found, record):
    made = record("mart", "pgd_trades", survived="1110")
    made.verdicts.label = made.verdicts.clean_prediction = [0, 1, 1, 1]
    weaker = record("mart", "cw_inf", survived="0000")
    partial = record("trades", "pgd_trades", status="partial", reason="cut")
    (board,) = build_boards(found(made, weaker, partial))
    # Wilson for 2 of 3.
    assert worst_classes(board) == [
        "mart: class 1 (3 images) 66.67 [20.8, 93.9] robust under pgd_trades"
    ]


def test_a_board_without_finished_records_says_nothing(found, record):
    (board,) = build_boards(found(record("mart", status="partial", reason="cut")))
    assert worst_classes(board) == []
