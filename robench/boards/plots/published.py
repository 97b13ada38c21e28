"""Published rows that may stand beside a board's column: same data set, norm, eps and attack."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from robench.boards import words
from robench.boards.columns import Column
from robench.boards.placing import Point, pareto_front
from robench.boards.published import SOURCES, names
from robench.boards.published.entry import Entry
from robench.boards.rank import Board
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import Stop
from robench.core.threat import format_eps

_SHAPES = 4  # architectures that shapes can tell apart; where there are more, one shape has to do


class Hollow(msgspec.Struct, frozen=True):
    """A published network. Fractions of 1."""

    name: str
    architecture: str
    where: tuple[str, ...]
    """The tables that print it."""
    clean: float
    robust: float

    @property
    def point(self) -> Point:
        """(clean, robust)."""
        return self.clean, self.robust


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What one source says beside the measured rows."""

    source: str
    n: int
    """Images behind its figures: the whole official test set."""
    rows: tuple[Hollow, ...]
    front: tuple[int, ...]
    """Places of the rows that no other published row dominates, by falling clean accuracy."""
    remarks: tuple[str, ...]

    def groups(self) -> list[tuple[str, list[Hollow]]]:
        """(what the legend says, rows) of each shape."""
        kinds = [kind for kind, _ in Counter(row.architecture for row in self.rows).most_common()]
        title = f"published ({self.source})"
        if len(kinds) > _SHAPES:
            return [(f"{title}, {self.n:,} images", list(self.rows))]
        return [
            (f"{title}, {kind}", [row for row in self.rows if row.architecture == kind])
            for kind in kinds
        ]


def published_beside(board: Board, column: str, source: str) -> Published:
    """The rows of a source under the attack of `column`, on the board's data set and threat.

    Variants from ablations and rows in doubt are left out, as nothing ranks them either.
    Raises: InputError for an unknown source, and where it has no such rows.
    """
    if source not in SOURCES.names():
        hint = did_you_mean(source, SOURCES.names())
        raise InputError(f"--with takes {' or '.join(SOURCES.names())}, not {source!r}{hint}")
    meaning = board.meanings.get(column)
    on_ground = [entry for entry in SOURCES.load(source)() if _same_ground(entry, board)]
    fitting = [entry for entry in on_ground if meaning and _attack(entry) == meaning.attack]
    drawn = [entry for entry in fitting if _drawable(entry)]
    if not drawn or meaning is None:
        raise InputError(_nothing(board, column, source, on_ground))
    rows = [_hollow(entry) for entry in drawn]
    front = pareto_front([(str(place), row.point) for place, row in enumerate(rows)])
    return Published(
        source=source,
        n=names.TEST_IMAGES,
        rows=tuple(rows),
        front=tuple(map(int, front)),
        remarks=tuple(_remarks(source, fitting, drawn, meaning)),
    )


def _same_ground(entry: Entry, board: Board) -> bool:
    ground = board.ground
    dataset = names.PREFIXES.get(ground.dataset, ground.dataset)
    return (entry.dataset, entry.norm, entry.eps) == (dataset, ground.norm, ground.eps)


def _attack(entry: Entry) -> str | None:
    setting = names.ATTACKS[entry.attack]
    return setting.attack if setting else None


def _silent(entry: Entry) -> bool:
    return entry.clean is None or entry.robust is None


def _drawable(entry: Entry) -> bool:
    return not _silent(entry) and entry.unranked is None


def _hollow(entry: Entry) -> Hollow:
    assert entry.clean is not None and entry.robust is not None, "drawable"
    return Hollow(
        words.plain(entry.name), entry.architecture, entry.where, entry.clean, entry.robust
    )


def _nothing(board: Board, column: str, source: str, on_ground: Sequence[Entry]) -> str:
    ground = board.ground
    attacks = dict.fromkeys(a for entry in on_ground if _drawable(entry) and (a := _attack(entry)))
    place = f"{ground.dataset} at {ground.norm} eps {format_eps(ground.eps)}"
    there = f"it has {', '.join(attacks)}" if attacks else "it has nothing of that"
    return f"{source} has no rows under {column} on {place}: {there}"


def _remarks(
    source: str, fitting: Sequence[Entry], drawn: Sequence[Entry], meaning: Column
) -> Iterator[str]:
    silent = sum(map(_silent, fitting))
    doubts = Counter(e.unranked for e in fitting if e.unranked and not _silent(e))
    if silent:
        yield f"left out of {source}: {silent} rows that do not print both accuracies"
    yield from (f"left out of {source}: {count} rows, {doubt}" for doubt, count in doubts.items())
    settings = [names.ATTACKS[name] for name in dict.fromkeys(entry.attack for entry in drawn)]
    parameters: dict[str, Any] = msgspec.json.decode(meaning.parameters)
    stop: Stop = "any" if meaning.stop == "any" else "last"
    for setting in filter(None, settings):
        if setting.unknown:
            yield f"{setting.attack} cannot be repeated as published: {setting.unknown}"
        elif departures := setting.departures(stop, parameters):
            yield f"{setting.attack} differs from the published one: {', '.join(departures)}"
