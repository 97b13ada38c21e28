"""Row of the page: a measured or a published figure, in one form for table and figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from robench.boards import words
from robench.boards.audits import audited
from robench.boards.columns import Column, label_columns
from robench.boards.published import names
from robench.boards.rank import Board, Cell, Line, ranked
from robench.core.row import WORST_CASE
from robench.core.statistics import wilson
from robench.core.threat import format_eps

Source = Literal["measured", "paper", "robustbench"]
Labels = Mapping[str, Mapping[Column, str]]


class Note(msgspec.Struct, frozen=True):
    """A remark at a row. level: "fail" and "warn" stand out."""

    level: Literal["info", "warn", "fail"]
    text: str


class PageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One defense under one attack. Accuracies are fractions of 1, null where there is none."""

    id: str
    """Of the element that tells more."""
    source: Source
    where: str
    """"measured", or the tables or the leaderboard that print it."""
    link: str = ""
    """Address of the publication, where the source gives one."""
    ground: str
    """Data set, norm and eps."""
    attack: str
    """As on the boards; what is nobody's equal has "(published)" behind it."""
    name: str
    architecture: str
    parameters: int | None = None
    n: int | None = None
    """Judged images; null for published rows."""
    clean_n: int | None = None
    """Of them correct without attack, and surviving it."""
    robust_n: int | None = None
    clean: float | None = None
    clean_interval: tuple[float, float] | None = None
    robust: float | None = None
    robust_interval: tuple[float, float] | None = None
    w_printed: float | None = None
    """W-Robust as printed, by equal weights; null for measured rows."""
    w_recomputed: float | None = None
    """From the two printed accuracies."""
    best_known: float | None = None
    worst: float | None = None
    """Robust accuracy of the worst class."""
    worst_class: int | None = None
    weighed: bool = True
    """Whether W-Robust is defined: there is none of accuracy under corruptions."""
    status: str = ""
    """Why a measured row has no final figures; empty where it has."""
    field: str | None = None
    """Rows of one field are ranked together; null for a row that is not ranked."""
    notes: tuple[Note, ...] = ()


def ground_of(board: Board) -> str:
    """`cifar10, linf eps 8/255`; a data set that begins another one's test set goes with that."""
    ground = board.ground
    dataset = names.PREFIXES.get(ground.dataset, ground.dataset)
    return words.plain(f"{dataset}, {ground.norm} eps {format_eps(ground.eps)}")


def attack_labels(boards: Sequence[Board]) -> Labels:
    """Ground -> column -> label, the same label on every board of a ground."""
    columns: dict[str, set[Column]] = {}
    for board in boards:
        columns.setdefault(ground_of(board), set()).update(board.meanings.values())
    return {ground: label_columns(found) for ground, found in columns.items()}


def line_id(board: int, line: int) -> str:
    """Id of the element with the details of a measured defense; both count from 0."""
    return f"measured-{board + 1}-{line + 1}"


def measured_rows(boards: Sequence[Board]) -> Iterator[PageRow]:
    """Every cell of every board."""
    labels = attack_labels(boards)
    for place, board in enumerate(boards):
        ids = {line.label: line_id(place, i) for i, line in enumerate(board.lines)}
        for column in board.columns:
            attack = attack_label(board, column, labels)
            for line in ranked(board.lines, column):
                if column in line.cells:
                    yield _measured(board, line, column, attack, ids[line.label])


def attack_label(board: Board, column: str, labels: Labels) -> str:
    """The page's label of a board's column."""
    if column == WORST_CASE:
        return WORST_CASE
    return words.plain(labels[ground_of(board)][board.meanings[column]])


def _measured(board: Board, line: Line, column: str, attack: str, id_: str) -> PageRow:
    cell = line.cells[column]
    row, verdicts = cell.row, cell.records[0].verdicts
    judged = row.robust_accuracy is not None
    return PageRow(
        id=id_,
        source="measured",
        where="measured",
        ground=ground_of(board),
        attack=attack,
        name=words.plain(line.label),
        architecture=architecture(line),
        parameters=line.defense.parameters,
        n=row.n,
        clean_n=sum(verdicts.clean_correct) if judged else None,
        robust_n=round(row.robust_accuracy * row.n) if row.robust_accuracy is not None else None,
        clean=row.clean_accuracy,
        clean_interval=clean_interval(cell),
        robust=row.robust_accuracy,
        robust_interval=row.robust_interval_95,
        worst=row.worst_class_robust_accuracy,
        worst_class=row.worst_class,
        status="" if row.status == "done" else words.status(row),
        field=None if line.rank is None else words.title(board),
        notes=tuple(_notes(line, cell)),
    )


def clean_interval(cell: Cell) -> tuple[float, float] | None:
    """Wilson's 95 % interval of clean accuracy."""
    verdicts = cell.records[0].verdicts
    if not len(verdicts):
        return None
    share = wilson(sum(verdicts.clean_correct), len(verdicts))
    return share.low, share.high


def architecture(line: Line) -> str:
    """`resnet18, width 32`."""
    width = "" if line.defense.width is None else f", width {line.defense.width}"
    return words.plain(f"{line.defense.architecture}{width}")


def _notes(line: Line, cell: Cell) -> Iterator[Note]:
    if line.defense.label:
        yield Note("info", words.plain(line.defense.label))
    if line.reason:
        yield Note("info", words.plain(f"not ranked: {line.reason}"))
    if cell.row.n and cell.row.n < words.SMALL:
        yield Note("info", f"small scale: {cell.row.n} images")
    said = audited(line).words
    if said != "not audited":
        level: Literal["info", "warn"] = "info" if said == "no masking found" else "warn"
        yield Note(level, words.plain(f"audit: {said}"))
    for flag in cell.row.flags:
        if flag.level != "info":
            yield Note(flag.level, words.plain(f"{flag.level}: {flag.name}"))
