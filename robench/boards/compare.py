"""`robench compare`: a measured defense beside published figures.

A rank is hypothetical: had our figure been published. From fewer images than the published ones it
is a range; where anything but the number of images differs there is none, and the reason stands
in its place.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec

from robench.boards.agreement import agreement
from robench.boards.collect import Found
from robench.boards.joining import (
    Apart,
    Beside,
    Figures,
    dataset_of,
    is_prefix,
    join,
    refusals,
)
from robench.boards.placing import (
    Figure,
    Front,
    Point,
    RankRange,
    front_state,
    pareto_front,
    rank_range,
)
from robench.boards.published import SOURCES, names
from robench.boards.published.entry import Entry
from robench.boards.rank import Board, Cell, Line, build_boards
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import Flag
from robench.core.references import portable_record
from robench.core.row import WORST_CASE
from robench.core.statistics import wilson
from robench.core.threat import format_eps

OURS = "ours"  # not the defense's name: a `bmtard` of ours stands beside the paper's


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where we would stand among the ranked rows."""

    robust: RankRange | None
    """By robust accuracy; null where no row prints it."""
    w_robust: RankRange | None
    """By W-Robust as printed; an inconsistent row counts with all that it could mean."""
    next_above: str | None
    """The row with the nearest higher robust accuracy."""
    next_below: str | None
    """The row with the nearest robust accuracy that is not higher."""
    front: tuple[str, ...]
    """The Pareto front of clean and robust accuracy, with ours as measured, called "ours"."""
    on_front: Front
    """Whether we are on it: "open" where our bounds allow both."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One finished record beside one published source. Accuracies are fractions of 1."""

    defense: str
    label: str | None
    """What must be said of the defense's training: "small-scale, 5-step"."""
    source: str
    dataset: str
    image_set: str
    """Digest of our images, labels and ids."""
    n: int
    published_n: int
    """Images behind the published figures: the whole official test set."""
    norm: str
    eps: float
    attack: str
    """With what tells it from others of that name: `pgd_sat[steps=50]`."""
    architecture: str
    parameters: int
    clean: Figure
    robust: Figure
    w_robust: Figure
    refused: tuple[str, ...]
    """Why there is no place; empty where there is one."""
    place: Place | None
    notes: tuple[str, ...]
    """What else must be said of the defense; of a network of RobustBench, whether it agrees."""
    flags: tuple[Flag, ...]
    """Of our record."""
    rows: tuple[Beside, ...]
    """Those that may be ranked first, by falling robust accuracy."""
    apart: tuple[Apart, ...]
    record: str | None


def compare_with(found: Iterable[Found], defense: str, source: str) -> list[Placement]:
    """Every finished record of `defense` that has published rows beside it.

    defense: a name on the records, or a board's label for it. source: "paper" or "robustbench".
    Raises: InputError for a name that is unknown or means several defenses, for a defense without
    finished records, and where nothing can be compared: what differs is named.
    """
    entries: Sequence[Entry] = SOURCES.load(source)()
    cells = _cells(build_boards(found), defense)
    made = [_placement(line, label, cell, source, entries) for line, label, cell in cells]
    placements = [placement for placement in made if placement.rows]
    if not placements:
        raise InputError(_nothing(defense, source, made, entries))
    return placements


def lines_of(boards: Sequence[Board], defense: str) -> list[tuple[Board, Line]]:
    """The lines of a defense with their boards.

    defense: a name on the records, or a board's label for it.
    Raises: InputError for a name that is unknown or means several defenses.
    """
    lines = [(board, line) for board in boards for line in board.lines]
    mine = [pair for pair in lines if defense in (pair[1].label, pair[1].defense.name)]
    if not mine:
        known = sorted({name for _, line in lines for name in (line.label, line.defense.name)})
        hint = did_you_mean(defense, known) or f": there are {', '.join(known) or 'none at all'}"
        raise InputError(f"no records of {defense!r}{hint}")
    if len({line.defense.fingerprint for _, line in mine}) > 1:
        labels = " or ".join(dict.fromkeys(line.label for _, line in mine))
        raise InputError(f"{defense!r} means several defenses: write {labels}")
    return mine


def _cells(boards: Sequence[Board], defense: str) -> list[tuple[Line, str, Cell]]:
    """The finished records of the defense with their lines and columns."""
    done = [
        (line, label, cell)
        for _, line in lines_of(boards, defense)
        for label, cell in line.cells.items()
        if label != WORST_CASE and cell.row.status == "done"
    ]
    if not done:
        raise InputError(f"no finished record of {defense!r}: robench eval --defense {defense}")
    return done


def _placement(
    line: Line, label: str, cell: Cell, source: str, entries: Iterable[Entry]
) -> Placement:
    record, ours = cell.records[0], measured(cell)
    known = _known(ours, len(record.verdicts), is_prefix(record))
    rows, apart = join(record, known, entries)
    refused = tuple(refusals(record))
    ranked = [] if refused else [row for row in rows if row.unranked is None]
    if rows and not refused and not ranked:
        reasons = dict.fromkeys(row.unranked for row in rows if row.unranked)
        refused = (f"no row beside it is comparable ({'; '.join(reasons)})",)
    return Placement(
        defense=line.label,
        label=line.defense.label,
        source=source,
        dataset=dataset_of(record),
        image_set=record.images.digest,
        n=len(record.verdicts),
        published_n=names.TEST_IMAGES,
        norm=record.threat.norm,
        eps=record.threat.eps,
        attack=label,
        architecture=record.defense.architecture,
        parameters=record.defense.parameters,
        clean=ours.clean,
        robust=ours.robust,
        w_robust=ours.w_robust,
        refused=refused,
        place=_place(known, ranked) if ranked else None,
        notes=(*line.defense.notes, *agreement(record)),
        flags=cell.row.flags,
        rows=tuple(rows),
        apart=apart,
        record=None if cell.row.record is None else portable_record(cell.row.record),
    )


def measured(cell: Cell) -> Figures:
    """The figures of a finished cell with their intervals."""
    verdicts, row = cell.records[0].verdicts, cell.row
    clean = wilson(sum(verdicts.clean_correct), len(verdicts))
    robust = wilson(sum(verdicts.survived), len(verdicts))
    assert row.w_robust is not None and row.w_robust_interval_95 is not None, "a finished record"
    return Figures(
        clean=Figure(*clean),
        robust=Figure(*robust),
        w_robust=Figure(row.w_robust, *row.w_robust_interval_95),
    )


def _known(ours: Figures, n: int, prefix: bool) -> Figures:
    """On the whole test set, the published figures are of the very same images: no bounds."""
    if not (prefix and n == names.TEST_IMAGES):
        return ours
    exact = (Figure(f.value, f.value, f.value) for f in _all(ours))
    return Figures(*exact)


def _all(figures: Figures) -> Iterator[Figure]:
    yield from (figures.clean, figures.robust, figures.w_robust)


def _place(ours: Figures, ranked: Sequence[Beside]) -> Place:
    robust = [(row.robust, row.robust) for row in ranked if row.robust is not None]
    weighted = [bounds for row in ranked if (bounds := _bounds(row)) is not None]
    points = [(row.name, point) for row in ranked if (point := _point(row)) is not None]
    mine = (OURS, (ours.clean.value, ours.robust.value))
    return Place(
        robust=rank_range(ours.robust, robust) if robust else None,
        w_robust=rank_range(ours.w_robust, weighted) if weighted else None,
        next_above=_next_above(ours.robust.value, ranked),
        next_below=_next_below(ours.robust.value, ranked),
        front=tuple(pareto_front([mine, *points])),
        on_front=front_state(ours.clean, ours.robust, [point for _, point in points]),
    )


def _bounds(row: Beside) -> Point | None:
    """What a printed W-Robust could mean: itself, and what its accuracies give if that differs."""
    if row.w_robust is None:
        return None
    if row.w_robust_recomputed is None or not is_inconsistent(row):
        return row.w_robust, row.w_robust
    low, high = sorted((row.w_robust, row.w_robust_recomputed))
    return low, high


def is_inconsistent(row: Beside) -> bool:
    """Whether the row's printed W-Robust does not follow from its accuracies."""
    return any(remark.startswith("inconsistent:") for remark in row.remarks)


def _point(row: Beside) -> Point | None:
    return None if row.clean is None or row.robust is None else (row.clean, row.robust)


def _next_above(ours: float, ranked: Sequence[Beside]) -> str | None:
    rows = [row for row in ranked if row.robust is not None and row.robust > ours]
    return min(rows, key=attrgetter("robust")).name if rows else None


def _next_below(ours: float, ranked: Sequence[Beside]) -> str | None:
    rows = [row for row in ranked if row.robust is not None and row.robust <= ours]
    return max(rows, key=attrgetter("robust")).name if rows else None


def _nothing(defense: str, source: str, made: Sequence[Placement], entries: Sequence[Entry]) -> str:
    """Why none of the records has a published row beside it."""
    datasets = list(dict.fromkeys(entry.dataset for entry in entries))
    reasons = dict.fromkeys(_why_nothing(placement, datasets) for placement in made)
    return f"nothing of {defense} can be compared with {source}: {'; '.join(reasons)}"


def _why_nothing(placement: Placement, datasets: Sequence[str]) -> str:
    if placement.dataset not in datasets:
        return f"it was measured on {placement.dataset}, published are {', '.join(datasets)}"
    threat = f"{placement.norm} eps {format_eps(placement.eps)}"
    if not placement.apart:
        return f"no published rows of {placement.attack} on {placement.dataset}"
    apart = ", ".join(f"{part.reason} ({len(part.names)} rows)" for part in placement.apart)
    ours = f"{placement.architecture}, {placement.parameters:,} parameters, {threat}"
    return f"{placement.attack} on {placement.dataset} is of {ours}; published: {apart}"
