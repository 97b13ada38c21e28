"""The commands that measure a board again."""

import shlex
from collections.abc import Iterator

from robench.boards.columns import call
from robench.boards.rank import Board, Cell
from robench.core.record import ImagesInfo, Record
from robench.core.threat import format_eps

Setting = tuple[ImagesInfo, str, str, int]


def commands(board: Board) -> list[str]:
    """`robench eval ...` lines; defenses measured alike share one."""
    settings: dict[tuple[str, Setting], list[str]] = {}
    for record in _records(board):
        setting: Setting = (record.images, record.stop, record.precision, record.seed)
        attacks = settings.setdefault((record.defense.ref, setting), [])
        attacks.append(call(record.attack.name, record.attack.parameters))
    shared: dict[tuple[tuple[str, ...], Setting], list[str]] = {}
    for (ref, setting), attacks in settings.items():
        shared.setdefault((tuple(attacks), setting), []).append(ref)
    return [_command(board, refs, attacks, setting) for (attacks, setting), refs in shared.items()]


def _records(board: Board) -> Iterator[Record]:
    for line in board.lines:
        yield from (c.records[0] for c in line.cells.values() if _is_measured(c))


def _is_measured(cell: Cell) -> bool:
    return len(cell.records) == 1 and cell.row.status == "done"


def _command(board: Board, refs: list[str], attacks: tuple[str, ...], setting: Setting) -> str:
    ground, (images, stop, precision, seed) = board.ground, setting
    first_n = images.ids in ("0", f"0-{images.n - 1}")
    words = ["robench", "eval", "--defense", ",".join(refs), "--attacks", ",".join(attacks)]
    words += ["--dataset", images.ref]
    words += ["--n", str(images.n)] if first_n else ["--images", images.ids]
    words += ["--norm", ground.norm, "--eps", format_eps(ground.eps)]
    words += ["--stop", stop, "--precision", precision, "--seed", str(seed)]
    return shlex.join(words)
