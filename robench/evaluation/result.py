"""Result: the rows of one evaluation, as the command line and Python users get them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from robench.core.record import Record
from robench.core.row import Row

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Result:
    """rows: one per attack and the worst case, defense by defense. records: what they came from.

    warnings: what should be known beside the flags of the rows (a likely wrong normalisation).
    read: the attacks whose finished record was read and not measured, defense by defense.
    """

    rows: Sequence[Row]
    records: Sequence[Record]
    warnings: Sequence[str] = ()
    read: Sequence[str] = ()

    def row(self, attack: str, defense: str | None = None) -> Row:
        """The row of that attack (of that defense, when there are several)."""
        for row in self.rows:
            if row.attack == attack and defense in (None, row.defense):
                return row
        raise KeyError(attack)

    def to_json(self) -> bytes:
        """The object that `robench eval --json` prints."""
        return msgspec.json.encode({"rows": self.rows, "warnings": self.warnings})

    def to_dataframe(self) -> "pandas.DataFrame":
        """One line per row, one column per field."""
        import pandas

        return pandas.DataFrame([msgspec.to_builtins(row) for row in self.rows])
