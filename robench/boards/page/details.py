"""What the page says of one measured defense: settings, figures, cost, audit, how to repeat it."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from robench.boards import words
from robench.boards.audits import Audited, audited
from robench.boards.columns import typed
from robench.boards.page.rows import Labels, architecture, attack_label, clean_interval, line_id
from robench.boards.rank import Board, Cell, Line, members
from robench.boards.reproduce import commands
from robench.core.references import portable
from robench.core.row import WORST_CASE

Fact = tuple[str, str]


@dataclass(frozen=True)
class AttackDetail:
    """One attack on the defense, as text."""

    attack: str
    setting: str
    images: str
    clean: str
    robust: str
    w_robust: str
    worst_class: str
    forward_passes: str
    backward_passes: str
    queries: str
    seconds: str
    record: str


@dataclass(frozen=True)
class Detail:
    """A measured defense on one board."""

    id: str
    name: str
    said: str
    """What must be said of its training."""
    ground: str
    """Data set, images, norm and eps."""
    facts: tuple[Fact, ...]
    attacks: tuple[AttackDetail, ...]
    remarks: tuple[str, ...]
    audited: Audited
    commands: tuple[str, ...]


def details(boards: Sequence[Board], labels: Labels) -> Iterator[Detail]:
    """Every line of every board, in their order."""
    for place, board in enumerate(boards):
        for i, line in enumerate(board.lines):
            yield _detail(board, line, line_id(place, i), labels)


def _detail(board: Board, line: Line, id_: str, labels: Labels) -> Detail:
    alone = dataclasses.replace(board, lines=(line,))
    cells = [
        (attack_label(board, c, labels), line.cells[c]) for c in board.columns if c in line.cells
    ]
    return Detail(
        id=id_,
        name=words.plain(line.label),
        said=words.plain(line.defense.label or ""),
        ground=words.title(board),
        facts=tuple((term, words.plain(text)) for term, text in _facts(line) if text),
        attacks=tuple(_attack(label, cell) for label, cell in cells),
        remarks=(*words.remarks(alone), *words.board_flags(alone)),
        audited=audited(line),
        commands=tuple(words.plain(command) for command in commands(alone)),
    )


def _facts(line: Line) -> Iterator[Fact]:
    info = line.defense
    record = next(iter(line.cells.values())).records[0]
    yield "Reference", portable(info.ref)
    yield "Network", f"{architecture(line)}, {info.parameters:,} parameters"
    yield "Trained for", f"{info.dataset or 'not stated'}, {info.num_classes} classes"
    yield "Normalization", info.normalization
    yield "Fingerprint", info.fingerprint
    yield "Checkpoint SHA-256", info.checkpoint_sha256 or ""
    yield "Keys mapped by", ", ".join(info.key_rules)
    yield "Images", f"ids {record.images.ids}, digest {record.images.digest}"
    yield "Measured with", ", ".join(f"{name} {v}" for name, v in sorted(record.versions.items()))
    hardware = [f"{name} {value}" for name, value in sorted(record.hardware.items())]
    yield "Device", ", ".join([record.device_kind, *hardware])


def _attack(label: str, cell: Cell) -> AttackDetail:
    row = cell.row
    unfinished = "" if row.status == "done" else f" ({words.status(row)})"
    return AttackDetail(
        attack=label,
        setting=words.plain(_setting(cell)),
        images=f"{row.n}{unfinished}",
        clean=words.estimate(row.clean_accuracy, clean_interval(cell)),
        robust=words.estimate(row.robust_accuracy, row.robust_interval_95),
        w_robust=words.estimate(row.w_robust, row.w_robust_interval_95),
        worst_class=_worst_class(cell),
        forward_passes=f"{row.forward_passes:,}",
        backward_passes=f"{row.backward_passes:,}",
        queries="-" if row.queries is None else f"{row.queries:,}",
        seconds=words.duration(row.seconds),
        record=_record(cell),
    )


def _setting(cell: Cell) -> str:
    row = cell.row
    if row.attack == WORST_CASE:
        return f"an image survives all of {', '.join(members(cell))}"
    parameters = [f"{key}={typed(value)}" for key, value in sorted(row.parameters.items())]
    return ", ".join(
        [*parameters, f"stop={row.stop}", f"precision={row.precision}", f"seed={row.seed}"]
    )


def _worst_class(cell: Cell) -> str:
    row = cell.row
    if row.worst_class is None:
        return "-"
    return f"class {row.worst_class}: {words.percent(row.worst_class_robust_accuracy)}"


def _record(cell: Cell) -> str:
    """Data set, defense and file: where the folder of records lies is the reader's own affair."""
    if cell.row.record is None:
        return "-"
    return words.plain("/".join(PurePosixPath(cell.row.record).parts[-3:]))
