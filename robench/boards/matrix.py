"""The matrix of a transfer attack: every surrogate against every defense."""

from collections.abc import Iterable, Sequence

from robench.boards import words
from robench.core.row import Row

Matrix = list[list[str]]


def matrices(rows: Sequence[Row]) -> Iterable[tuple[str, Matrix]]:
    """(attack, table) where several surrogates met several defenses; first row and column: names.

    Cells: robust accuracy in per cent, or the status where nothing was measured.
    """
    transfers = [row for row in rows if row.parameters.get("surrogate")]
    for attack in dict.fromkeys(row.attack for row in transfers):
        cells = {
            (row.parameters["surrogate"], row.defense): row
            for row in transfers
            if row.attack == attack
        }
        surrogates = list(dict.fromkeys(surrogate for surrogate, _ in cells))
        defenses = list(dict.fromkeys(defense for _, defense in cells))
        if len(surrogates) > 1 and len(defenses) > 1:
            yield (
                attack,
                [["surrogate", *defenses]]
                + [
                    [surrogate, *(_cell(cells.get((surrogate, defense))) for defense in defenses)]
                    for surrogate in surrogates
                ],
            )


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return words.status(row) if row.robust_accuracy is None else words.percent(row.robust_accuracy)
