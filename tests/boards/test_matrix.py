"""The surrogate x defense matrix of transfer rows."""

from robench.boards.matrix import matrices
from robench.core.row import Row


def row(defense: str, surrogate: str | None, robust: float | None, attack: str = "t") -> Row:
    parameters = {} if surrogate is None else {"surrogate": surrogate}
    status = "not_run" if robust is None else "done"
    return Row(
        defense=defense,
        dataset="d",
        attack=attack,
        parameters=parameters,
        status=status,
        norm="linf",
        eps=0.1,
        robust_accuracy=robust,
    )


def test_every_surrogate_against_every_defense() -> None:
    rows = [
        row("C", "A", 0.5),
        row("C", "B", 0.25),
        row("D", "A", None),
        row("C", None, 0.1, "pgd"),
    ]
    assert list(matrices(rows)) == [
        ("t", [["surrogate", "C", "D"], ["A", "50.00", "not run"], ["B", "25.00", "-"]])
    ]


def test_one_surrogate_or_one_defense_is_no_matrix() -> None:
    assert list(matrices([row("C", "A", 0.5), row("D", "A", 0.5)])) == []
    assert list(matrices([row("C", "A", 0.5), row("C", "B", 0.5)])) == []
