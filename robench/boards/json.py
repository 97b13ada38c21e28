"""Boards as JSON: the rows of `robench eval --json`, in the order of the boards."""

from collections.abc import Sequence

import msgspec

from robench.boards.rank import Board


def render(boards: Sequence[Board]) -> str:
    """`{"rows": [...]}`; the rows of a defense stand together, its worst case last."""
    rows = [cell.row for b in boards for line in b.lines for cell in line.cells.values()]
    compact = msgspec.json.encode({"rows": rows}, order="deterministic")
    return msgspec.json.format(compact, indent=1).decode() + "\n"
