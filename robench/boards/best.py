"""The best figures of a column, for the formats that set them in bold."""

from robench.boards import words
from robench.boards.rank import Board, ranked

Best = frozenset[tuple[str, str]]
"""(label of a line, name of a figure) for each best one."""
FIGURES = ("clean_accuracy", "robust_accuracy", "w_robust")


def best(board: Board, column: str) -> Best:
    """The best figures among the lines that are ranked together.

    column: one of the board's, or `clean`. Equal as printed is equal: all of a tie are best.
    Nothing where fewer than two lines can be compared. An attack's figure that a check refutes is
    no best; clean accuracy does not hang on it.
    """
    lines = [line for line in ranked(board.lines, column) if line.rank is not None]
    rows = {line.label: cell.row for line in lines if (cell := line.cell(column)) is not None}
    if len(rows) < 2:
        return frozenset()
    sound = {label: row for label, row in rows.items() if words.mark(row) != "!!"}
    found = set()
    for figure in FIGURES:
        able = rows if figure == "clean_accuracy" else sound
        printed = {k: float(words.percent(getattr(row, figure))) for k, row in able.items()}
        found |= {(k, figure) for k, value in printed.items() if value == max(printed.values())}
    return frozenset(found)
