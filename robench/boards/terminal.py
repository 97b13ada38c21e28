"""Boards, and the result of `robench eval`, as tables for the terminal.

Every cell is a `Text`, never a string: rich would read `[steps=50]` as markup and drop it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.table import Table
from rich.text import Text

from robench.boards import words
from robench.boards.columns import call
from robench.boards.matrix import Matrix, matrices
from robench.boards.pairs import Comparison
from robench.boards.rank import Board, Cell, Line
from robench.core.row import Row
from robench.core.threat import format_eps

# Characters of a column, `W 62.50 [15.6,100.0]` and its gap, and of rank and clean accuracy.
_COLUMN, _FIXED = 22, 13


def render(boards: Sequence[Board]) -> RenderableType:
    """Every board: its lines in blocks of as many columns as fit, what must be known below."""
    if not boards:
        return Text("no records")
    return Group(*(part for board in boards for part in _board(board)))


def _board(board: Board) -> Iterable[RenderableType]:
    yield Text(words.title(board), style="bold")
    yield Text(f"{words.ranking(board)} {words.scale(board)}")
    yield _Blocks(board)
    yield from _sentences("Neighbours:", [words.neighbour(board, pair) for pair in board.pairs])
    yield from _sentences("Worst class:", words.worst_classes(board))
    yield from _sentences("Remarks:", words.remarks(board))
    yield from _sentences("Flags:", words.board_flags(board))
    yield Text()


@dataclass(frozen=True)
class _Blocks:
    """The table of a board, cut into blocks that the terminal is wide enough for."""

    board: Board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = max((len(line.label) for line in self.board.lines), default=0)
        at_once = max(1, (options.max_width - _FIXED - label) // _COLUMN)
        for start in range(0, len(self.board.columns), at_once):
            yield _block(self.board, self.board.columns[start : start + at_once])


def _block(board: Board, columns: Sequence[str]) -> Table:
    table = grid(["", "defense", "clean", *columns], right={0, 2})
    for line in board.lines:
        clean = words.percent(line.clean.row.clean_accuracy) if line.clean else "-"
        cells = [_cell(line.cells.get(column)) for column in columns]
        said = [words.plain(text) for text in (line.label, line.defense.label) if text]
        table.add_row(Text(_rank(line)), Text("\n".join(said)), Text(clean), *cells)
    return table


def _rank(line: Line) -> str:
    return "-" if line.rank is None else str(line.rank)


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("-")
    row = cell.row
    if row.w_robust is None:
        return Text(words.status(row), style="yellow")
    robust = _tight(row.robust_accuracy, row.robust_interval_95)
    weighted = _tight(row.w_robust, row.w_robust_interval_95)
    unfinished = f"\n{words.status(row)}, n = {row.n}" if row.status != "done" else ""
    return Text(f"{robust} {words.mark(row)}".rstrip() + f"\nW {weighted}{unfinished}")


def render_rows(rows: Sequence[Row]) -> RenderableType:
    """The W-Robust table of `robench eval`: one block per defense, flags and reasons below."""
    if not rows:
        return Text("no rows")
    groups = [list(group) for _, group in groupby(rows, key=_setting)]
    several = len(groups) > 1
    tables = [part for group in groups for part in _result(group, several)]
    return Group(*tables, *(part for found in matrices(rows) for part in _matrix(*found)))


def _matrix(attack: str, cells: Matrix) -> Iterable[RenderableType]:
    yield Text(words.plain(f"{attack}: robust accuracy by surrogate and defense"), style="bold")
    table = grid([words.plain(name) for name in cells[0]], right=set(range(1, len(cells[0]))))
    for row in cells[1:]:
        table.add_row(*(Text(words.plain(text)) for text in row))
    yield table


def _setting(row: Row) -> tuple[str, str, str, float]:
    return row.defense, row.dataset, row.norm, row.eps


def _result(rows: Sequence[Row], several: bool) -> Iterable[RenderableType]:
    first = rows[0]
    label = f" ({first.label})" if first.label else ""
    heading = f"{first.defense}{label} on {first.dataset}, {first.norm} eps {format_eps(first.eps)}"
    yield Text(words.plain(heading), style="bold")
    table = grid(
        ["attack", "n", "clean", "robust", "W-Robust", "stop", "prec", "passes", "time", "status"],
        right={1, 2, 7, 8},
        gap=0,
    )
    for row in rows:
        table.add_row(*(Text(words.plain(text)) for text in _figures(row)))
    yield table
    for row in rows:
        if len(row.components) > 1:
            yield from _parts(row)
    yield from _sentences("", [words.plain(text) for row in rows for text in words.queries(row)])
    reasons = [f"{row.attack} {words.status(row)}: {row.reason}" for row in rows if row.reason]
    yield from _sentences("", [words.plain(reason) for reason in reasons])
    yield from _sentences("", _members(rows))
    yield from _sentences("Flags:", words.flags(rows, [row.attack for row in rows]))
    calls = [call(row.attack, row.parameters) for row in rows if "members" not in row.parameters]
    yield Text(words.plain(f"Parameters: {', '.join(calls)}"))
    if several:
        yield Text()


def _figures(row: Row) -> list[str]:
    passes = row.forward_passes + row.backward_passes
    return [
        f"{row.attack} {words.mark(row)}".rstrip(),
        f"{row.n}" if row.n else "-",
        words.percent(row.clean_accuracy),
        _tight(row.robust_accuracy, row.robust_interval_95),
        _tight(row.w_robust, row.w_robust_interval_95),
        row.stop or "-",
        row.precision or "-",
        words.count(passes) if passes else "-",
        words.duration(row.seconds) if row.seconds else "-",
        words.status(row),
    ]


def _parts(row: Row) -> Iterable[RenderableType]:
    """What each part of an attack left over and took."""
    yield Text(words.plain(f"Parts of {row.attack}:"))
    table = grid(["part", "survivors", "passes", "unconfirmed", "time"], right={1, 2, 3, 4})
    left = round(row.n * (row.clean_accuracy or 0.0))
    for part in row.components:
        left -= part.broken
        passes = words.count(part.forward_passes + part.backward_passes)
        figures = [str(left), passes, str(part.unconfirmed_hits), words.duration(part.seconds)]
        table.add_row(*(Text(words.plain(text)) for text in (part.name, *figures)))
    yield table


def _tight(share: float | None, interval: tuple[float, float] | None) -> str:
    # Without a blank in the interval a narrow terminal breaks the line in front of it.
    return words.estimate(share, interval).replace(", ", ",")


def _members(rows: Sequence[Row]) -> list[str]:
    united = [
        (row.attack, row.parameters["members"]) for row in rows if "members" in row.parameters
    ]
    return [
        words.plain(f"{attack}: an image survives all of {', '.join(members)}.")
        for attack, members in united
    ]


def render_comparisons(comparisons: Sequence[Comparison]) -> RenderableType:
    """Paired tests of two defenses, a line per column and a block per image set and threat."""
    blocks: list[RenderableType] = []
    for (dataset, digest, n, norm, eps), group in groupby(comparisons, key=_ground):
        paired = list(group)
        names = f"{paired[0].first} - {paired[0].second}"
        heading = f"{names}: {dataset}, {n} images ({digest[:8]}), {norm} eps {format_eps(eps)}"
        blocks += [Text(words.plain(heading), style="bold"), _paired(paired)]
    note = "clean: clean accuracy; other columns: W-Robust. p: exact McNemar test, uncorrected."
    return Group(*blocks, Text(note))


def _paired(comparisons: Sequence[Comparison]) -> Table:
    table = grid(
        ["column", "difference (points)", "only first", "only second", "p", ""], right={2, 3, 4}
    )
    for item in comparisons:
        low, high = (100 * bound for bound in item.difference_interval_95)
        points = f"{100 * item.difference:+.2f} [{low:+.1f}, {high:+.1f}]"
        counts = [str(item.only_first), str(item.only_second), f"{item.p:.3g}"]
        fields = [words.plain(item.column), points, *counts, words.judgement(item)]
        table.add_row(*(Text(field) for field in fields))
    return table


def _ground(comparison: Comparison) -> tuple[str, str, int, str, float]:
    item = comparison
    return item.dataset, item.image_set, item.n, item.norm, item.eps


def grid(columns: Sequence[str], right: set[int], gap: int = 1) -> Table:
    """An empty table.

    right: columns set flush right. gap: blanks between columns beside the one that the box draws.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, collapse_padding=True)
    table.padding, table.pad_edge = (0, gap), False
    for place, column in enumerate(columns):
        justify: JustifyMethod = "right" if place in right else "left"
        table.add_column(Text(words.plain(column)), justify=justify, overflow="fold")
    return table


def _sentences(heading: str, sentences: Sequence[str]) -> Iterable[RenderableType]:
    if heading and sentences:
        yield Text(heading)
    yield from (Text(f"  {sentence}" if heading else sentence) for sentence in sentences)
