"""Published rows as lines of a measured board: only those that could be ranked with its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from robench.boards import words
from robench.boards.compare import is_inconsistent, measured
from robench.boards.joining import Beside, join, refusals
from robench.boards.published.entry import Entry
from robench.boards.rank import Board, Cell

_PI_ADV = 0.5
"""Weight of robust accuracy in every W-Robust that is printed."""


@dataclass
class PublishedLine:
    """A published network: what is printed of it in each column."""

    name: str
    architecture: str
    cells: dict[str, Beside] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`trades, ResNet-18 (T3)`."""
        where = dict.fromkeys(table for row in self.cells.values() for table in row.where)
        tables = f" ({', '.join(where)})" if where else ""
        return f"{self.name}, {self.architecture}{tables}"

    @property
    def remarks(self) -> list[str]:
        """What must be known of its figures, each once."""
        said = (remark for row in self.cells.values() for remark in row.remarks)
        return [f"{self.name}: {remark}." for remark in dict.fromkeys(said)]

    def figures(self, column: str, pi_adv: float) -> list[str]:
        """Clean, robust and W-Robust in percent; nothing for what is not printed or so weighted."""
        row = self.cells.get(column)
        if row is None:
            return ["", "", ""]
        weighted = row.w_robust if pi_adv == _PI_ADV else None
        doubt = " !" if weighted is not None and is_inconsistent(row) else ""
        shares = (row.clean, row.robust, weighted)
        texts = ["" if share is None else words.percent(share) for share in shares]
        return [*texts[:2], texts[2] + doubt]


def published_lines(
    board: Board, columns: Sequence[str], entries: Iterable[Entry]
) -> list[PublishedLine]:
    """The networks that stand beside some measured line in a column, by falling robust accuracy.

    Where an attack differs from the published one, or the images are not the first of the test
    set, the column has none.
    """
    entries, lines = tuple(entries), list[PublishedLine]()
    for column in columns:
        for line in board.lines:
            for row in _comparable(line.cells.get(column), entries):
                _add(lines, column, row)
    return lines


def _comparable(cell: Cell | None, entries: Sequence[Entry]) -> list[Beside]:
    if cell is None or cell.row.status != "done" or len(cell.records) != 1:
        return []
    (record,) = cell.records
    if any(refusals(record)):
        return []
    rows, _ = join(record, measured(cell), entries)
    return [row for row in rows if row.unranked is None]


def _add(lines: list[PublishedLine], column: str, row: Beside) -> None:
    """Into the line of its network; figures that two tables print differently take two lines."""
    mine = [e for e in lines if (e.name, e.architecture) == (row.name, row.architecture)]
    if any(_as_printed(e.cells.get(column)) == _as_printed(row) for e in mine):
        return  # another measured line of that network brought it
    free = next((e for e in mine if column not in e.cells), None)
    if free is None:
        free = PublishedLine(row.name, row.architecture)
        lines.append(free)
    free.cells[column] = row


def _as_printed(row: Beside | None) -> tuple[object, ...] | None:
    return None if row is None else (row.where, row.clean, row.robust, row.w_robust)
