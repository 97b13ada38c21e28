"""Boards as JSON: the rows of `robench eval --json`, in the order of the boards."""

from collections.abc import Sequence

import msgspec

from robench.boards.rank import Board
from robench.core.references import portable_record
from robench.core.row import Row


def render(boards: Sequence[Board]) -> str:
    """`{"rows": [...]}`; the rows of a defense stand together, its worst case last."""
    rows = [_shared(cell.row) for b in boards for line in b.lines for cell in line.cells.values()]
    compact = msgspec.json.encode({"rows": rows}, order="deterministic")
    return msgspec.json.format(compact, indent=1).decode() + "\n"


def _shared(row: Row) -> Row:
    """The row without the path of a folder of records that only this machine has."""
    path = row.record
    return row if path is None else msgspec.structs.replace(row, record=portable_record(path))
