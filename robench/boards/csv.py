"""Boards as CSV: the fields of `Row`, one line per defense and attack."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from robench.boards.rank import Board, Cell, Line
from robench.core.references import portable_record
from robench.core.row import Row

_INTERVALS = ("robust_interval_95", "w_robust_interval_95")


def render(boards: Sequence[Board]) -> str:
    """CSV text with a header line.

    An interval takes two columns (`_low`, `_high`); parameters, flags and components are JSON;
    `image_set` and `fingerprint` close the line, because figures of different image sets must not
    be compared.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_header(), "image_set", "fingerprint"])
    for board in boards:
        for line in board.lines:
            for cell in line.cells.values():
                writer.writerow([*_fields(cell), *_origin(board, line)])
    return text.getvalue()


def _header() -> Iterator[str]:
    for name in Row.__struct_fields__:
        yield from (f"{name}_low", f"{name}_high") if name in _INTERVALS else (name,)


def _fields(cell: Cell) -> Iterator[Any]:
    for name in Row.__struct_fields__:
        value = getattr(cell.row, name)
        if name in _INTERVALS:
            yield from value or ("", "")
        elif name == "record" and value is not None:
            yield portable_record(value)
        elif name in ("parameters", "flags", "components"):
            yield msgspec.json.encode(value, order="deterministic").decode()
        else:
            yield "" if value is None else value


def _origin(board: Board, line: Line) -> tuple[str, str]:
    return board.ground.digest, line.defense.fingerprint
