"""The tables of the B-MTARD paper and of the MTARD poster, each W-Robust recomputed."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from robench.boards.published.entry import Entry, read_fields, share
from robench.boards.published.names import CLASSES, DATASETS, parameters

FILE = Path(__file__).with_name("paper_results.csv")
EPS = 8 / 255
# Percent points. Two figures of two digits and their mean, rounded, are no further apart.
TOLERANCE = Decimal("0.015")
# What was varied around the method in Tables 1, 7, 8 and 11; such rows are no further methods.
_ABLATIONS = ("tau=", "beta=", "teachers=", "balance=")

Consistency = Literal["consistent", "inconsistent", "not checkable"]


class PaperRow(msgspec.Struct, frozen=True, kw_only=True):
    """A printed row: one network under one attack. Percent, with the digits that are printed.

    source: "bmtard" or "mtard-poster". Texts are as in the file, which SOURCE.md describes.
    """

    source: str
    table: str
    dataset: str
    role: str
    architecture: str
    method: str
    setting: str
    attack: str = ""
    variant: str = ""
    clean: Decimal | None = None
    robust: Decimal | None = None
    w_robust: Decimal | None = None
    note: str = ""

    @property
    def w_robust_recomputed(self) -> Decimal | None:
        """Mean of the printed clean and robust accuracy. Source: B-MTARD paper, eq. 22."""
        if self.clean is None or self.robust is None:
            return None
        return (self.clean + self.robust) / 2

    @property
    def difference(self) -> Decimal | None:
        """Printed minus recomputed W-Robust."""
        recomputed = self.w_robust_recomputed
        if self.w_robust is None or recomputed is None:
            return None
        return self.w_robust - recomputed

    @property
    def consistency(self) -> Consistency:
        """Whether the printed W-Robust follows from the two accuracies beside it."""
        if self.difference is None:
            return "not checkable"
        return "consistent" if abs(self.difference) <= TOLERANCE else "inconsistent"

    @property
    def where(self) -> str:
        """`T3`, `poster T2`."""
        return f"T{self.table}" if self.source == "bmtard" else f"poster T{self.table}"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every row of the file, in its order."""
    return read(FILE)


def read(path: Path) -> tuple[PaperRow, ...]:
    """The rows of a file in the form of `paper_results.csv`."""
    # Not strict: the numbers of a CSV file are text.
    return tuple(msgspec.convert(row, PaperRow, strict=False) for row in read_fields(path))


@cache
def entries() -> tuple[Entry, ...]:
    """The accuracies among the rows. What several tables print alike is one entry that names them.

    Table 1 holds knowledge scales and gives none.
    """
    merged: dict[tuple[str, ...], list[Entry]] = {}
    for entry in map(_entry, (row for row in paper_rows() if row.attack)):
        key = (entry.name, entry.dataset, entry.attack, entry.architecture)
        alike = merged.setdefault(key, [])
        place = next((i for i, other in enumerate(alike) if _agree(entry, other)), None)
        if place is None:
            alike.append(entry)
        else:
            alike[place] = _merge(alike[place], entry)
    return tuple(entry for alike in merged.values() for entry in alike)


def _entry(row: PaperRow) -> Entry:
    dataset = DATASETS[row.dataset]
    ablation = row.variant.startswith(_ABLATIONS)
    return Entry(
        name=f"{row.method} ({row.variant})" if ablation else row.method,
        where=(row.where,),
        dataset=dataset,
        norm="linf",
        eps=EPS,
        attack=row.attack,
        architecture=row.architecture,
        parameters=parameters(row.architecture, CLASSES[dataset]),
        clean=share(row.clean),
        robust=share(row.robust),
        w_robust=share(row.w_robust),
        w_robust_recomputed=share(row.w_robust_recomputed),
        unranked="variant" if ablation else None,
        remarks=tuple(_remarks(row)),
    )


def _remarks(row: PaperRow) -> Iterator[str]:
    if row.consistency == "inconsistent":
        yield (
            f"inconsistent: W-Robust is printed as {row.w_robust}, "
            f"{row.clean} and {row.robust} give {row.w_robust_recomputed}"
        )
    # The file's own "inconsistent:" says the same; ours is computed.
    yield from (
        note for note in row.note.split("; ") if note and not note.startswith("inconsistent:")
    )


def _agree(entry: Entry, other: Entry) -> bool:
    """Whether the two are equal in all that both print."""
    figures = ("clean", "robust", "w_robust")
    both = ((getattr(entry, name), getattr(other, name)) for name in figures)
    return all(one == two for one, two in both if one is not None and two is not None)


def _merge(first: Entry, later: Entry) -> Entry:
    where = tuple(dict.fromkeys((*first.where, *later.where)))
    remarks = tuple(dict.fromkeys((*first.remarks, *later.remarks)))
    return replace(first, where=where, remarks=remarks)
