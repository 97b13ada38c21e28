"""Boards: who is ranked against whom, by what, and who is not and why.

One board is one ground: a data set, an image set, a norm and an eps. Within a board, one column
is one attack with its parameters and its stop rule. Nothing is ranked across either.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from robench.boards.collect import Found, choose
from robench.boards.columns import Column, column_of, label_columns, matching
from robench.boards.pairs import CLEAN, Comparison, pair
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import DefenseInfo, Record, format_ids
from robench.core.row import WORST_CASE, Row, row_of, worst_case


@dataclass(frozen=True, order=True)
class Ground:
    """What must be equal before two numbers may stand on one board."""

    dataset: str
    norm: str
    eps: float
    n: int
    digest: str

    @classmethod
    def of(cls, record: Record) -> "Ground":
        """The ground on which `record` was measured."""
        images, threat = record.images, record.threat
        return cls(images.dataset, threat.norm, threat.eps, images.n, images.digest)


@dataclass(frozen=True)
class Cell:
    """What one defense reached in one column.

    records: the one record, or the members of a worst case. terms: what the cell was measured
    under (columns and image ids); only cells of equal terms are ranked together.
    """

    row: Row
    records: tuple[Record, ...]
    terms: tuple[object, ...]


@dataclass(frozen=True)
class Line:
    """A defense on a board. rank is None for one that is not ranked: reason says why."""

    label: str
    defense: DefenseInfo
    cells: Mapping[str, Cell]
    clean: Cell | None
    rank: int | None = None
    reason: str | None = None

    def cell(self, column: str) -> Cell | None:
        """Its cell in a column; `clean` gives the one that clean accuracy is taken from."""
        return self.clean if column == CLEAN else self.cells.get(column)


@dataclass(frozen=True)
class Board:
    """Lines in their order: ranked ones first, then the others by name.

    columns: labels, the one ranked by first, `worst_case` otherwise last. pairs: each ranked line
    against the next one.
    """

    ground: Ground
    columns: tuple[str, ...]
    meanings: Mapping[str, Column]
    ranked_by: str | None
    lines: tuple[Line, ...]
    pairs: tuple[Comparison, ...]
    pi_adv: float


def build_boards(
    found: Iterable[Found], pi_adv: float = 0.5, sort_by: str | None = None
) -> tuple[Board, ...]:
    """The boards of these records, in the order of data set, norm, eps and number of images.

    sort_by: an attack (`pgd_sat`, `pgd_sat[steps=50]`), `clean` or `worst_case`. None: W-Robust
    under autoattack where every line has it, else under pgd_trades, else under the attack that
    most lines have.
    Raises: InputError when no board has the column `sort_by`.
    """
    grounds: dict[Ground, list[Found]] = {}
    for item in choose(found):
        grounds.setdefault(Ground.of(item.record), []).append(item)
    boards = tuple(_board(g, grounds[g], pi_adv, sort_by) for g in sorted(grounds))
    if boards and sort_by is not None and all(board.ranked_by is None for board in boards):
        known = [CLEAN, *dict.fromkeys(label for board in boards for label in board.columns)]
        hint = did_you_mean(sort_by, known) or f": the records have {', '.join(known)}"
        raise InputError(f"cannot sort by {sort_by!r}{hint}")
    return boards


def _board(ground: Ground, found: list[Found], pi_adv: float, sort_by: str | None) -> Board:
    labels = label_columns(column_of(item.record) for item in found)
    lines = _lines(found, labels, pi_adv)
    ranked_by = _ranked_by(lines, labels, sort_by)
    lines = ranked(lines, ranked_by)
    attacks = sorted(labels.values())
    if any(WORST_CASE in line.cells for line in lines):
        attacks.append(WORST_CASE)
    return Board(
        ground=ground,
        columns=tuple(sorted(attacks, key=lambda label: label != ranked_by)),
        meanings={label: column for column, label in labels.items()},
        ranked_by=ranked_by,
        lines=lines,
        pairs=_neighbours(lines, ranked_by, pi_adv),
        pi_adv=pi_adv,
    )


def _lines(found: list[Found], labels: Mapping[Column, str], pi_adv: float) -> tuple[Line, ...]:
    defenses: dict[tuple[str, str], list[Found]] = {}
    for item in found:
        info = item.record.defense
        defenses.setdefault((info.name, info.fingerprint), []).append(item)
    names = Counter(name for name, _ in defenses)
    lines = []
    for (name, fingerprint), items in sorted(defenses.items()):
        # Two fingerprints are two defenses, also where somebody gave them one name.
        label = name if names[name] == 1 else f"{name}@{fingerprint[:8]}"
        cells = _cells(items, labels, pi_adv)
        finished = [c for c in cells.values() if c.row.status == "done" and len(c.records) == 1]
        clean = finished[0] if finished else None
        lines.append(Line(label, items[0].record.defense, cells, clean))
    return tuple(lines)


def _cells(items: list[Found], labels: Mapping[Column, str], pi_adv: float) -> dict[str, Cell]:
    cells = {}
    for item in sorted(items, key=lambda item: labels[column_of(item.record)]):
        record = item.record
        row = row_of(record, pi_adv, item.path)
        cells[labels[column_of(record)]] = Cell(row, (record,), _terms([record]))
    finished = [c.records[0] for c in cells.values() if c.row.status == "done"]
    united = worst_case(finished, pi_adv)
    if united is not None:
        cells[WORST_CASE] = Cell(united, tuple(finished), _terms(finished))
    return cells


def _terms(records: Sequence[Record]) -> tuple[object, ...]:
    ids = format_ids(sorted(records[0].verdicts.id))
    return (ids, *sorted(column_of(record) for record in records))


def _ranked_by(
    lines: Sequence[Line], labels: Mapping[Column, str], sort_by: str | None
) -> str | None:
    """The label of the column to rank by, or None where this board does not have it."""
    finished = Counter(label for line in lines for label in line.cells if _done(line, label))
    if sort_by in (CLEAN, WORST_CASE):
        return sort_by if any(_done(line, sort_by) for line in lines) else None
    if sort_by is not None:
        chosen = matching(sort_by, labels)
        return max(chosen, key=lambda label: finished[label], default=None)
    measured = sum(line.clean is not None for line in lines)
    full = [label for label in matching("autoattack", labels) if finished[label] == measured > 0]
    trades = [label for label in matching("pgd_trades", labels) if finished[label]]
    others = [label for label in sorted(labels.values()) if finished[label]]
    return max(full or trades or others, key=lambda label: finished[label], default=None)


def _done(line: Line, column: str) -> bool:
    cell = line.cell(column)
    return cell is not None and cell.row.status == "done"


def ranked(lines: Sequence[Line], column: str | None) -> tuple[Line, ...]:
    """The lines with their rank in a column, or the reason for none; ranked ones first.

    Equal figures share a rank, and the next one is skipped.
    """
    if column is None:
        return tuple(dataclasses.replace(line, reason="no column to rank by") for line in lines)
    terms = _common_terms(lines, column)
    fit: list[Line] = []
    others: list[Line] = []
    for line in lines:
        reason = _why_not(line, column, terms)
        (others if reason else fit).append(dataclasses.replace(line, rank=None, reason=reason))
    fit.sort(key=lambda line: (-figure(line, column), line.label))
    figures = [figure(line, column) for line in fit]
    placed = [
        dataclasses.replace(line, rank=figures.index(value) + 1)
        for line, value in zip(fit, figures, strict=True)
    ]
    return (*placed, *others)


def figure(line: Line, column: str) -> float:
    """What a line is ranked by: clean accuracy, or W-Robust under an attack."""
    cell = line.cell(column)
    assert cell is not None
    value = cell.row.clean_accuracy if column == CLEAN else cell.row.w_robust
    assert value is not None
    return round(value, 12)  # equal shares summed in another order are still a tie


def _common_terms(lines: Sequence[Line], column: str) -> tuple[object, ...]:
    """The terms of most finished cells; among equals those with most members."""
    cells = [line.cell(column) for line in lines if _done(line, column)]
    counts = Counter(_terms_in(cell, column) for cell in cells if cell is not None)
    return max(counts, key=lambda t: (counts[t], len(t), repr(t)), default=())


def _terms_in(cell: Cell, column: str) -> tuple[object, ...]:
    return cell.terms[:1] if column == CLEAN else cell.terms


def _why_not(line: Line, column: str, terms: tuple[object, ...]) -> str | None:
    cell = line.cell(column)
    if cell is None:
        needs = "two finished attacks" if column == WORST_CASE else "a finished record"
        return f"{column} needs {needs}"
    if cell.row.status != "done":
        status, reason = cell.row.status.replace("_", " "), cell.row.reason
        return f"{column} {status}: {reason or 'no reason given'}"
    if _terms_in(cell, column) == terms:
        return None
    if cell.terms[0] != terms[0]:
        return f"{column} was judged on other images than in the ranked lines"
    return f"its worst case is over {', '.join(members(cell))}, not over that of the ranked lines"


def members(cell: Cell) -> list[str]:
    """The attacks of a worst case, by name."""
    return [record.attack.name for record in cell.records]


def _neighbours(lines: Sequence[Line], column: str | None, pi_adv: float) -> tuple[Comparison, ...]:
    ranked = [line for line in lines if line.rank is not None]
    return tuple(
        comparison
        for above, below in pairwise(ranked)
        if column and (comparison := compare(above, below, column, pi_adv))
    )


def compare(first: Line, second: Line, column: str, pi_adv: float) -> Comparison | None:
    """The paired test of two lines of a board in one column, where both have finished it alike."""
    one, other = first.cell(column), second.cell(column)
    if one is None or other is None or not (_done(first, column) and _done(second, column)):
        return None
    if _terms_in(one, column) != _terms_in(other, column):
        return None
    return pair((first.label, second.label), column, one.records, other.records, pi_adv)
