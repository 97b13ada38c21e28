"""The commands that measure a board again."""

import re
import shlex
from collections.abc import Iterator, Sequence

from robench.boards.columns import call
from robench.boards.rank import Board, Cell
from robench.core.record import DefenseInfo, ImagesInfo, Record
from robench.core.references import names_checkpoint, portable
from robench.core.threat import ThreatModel, format_eps

Setting = tuple[tuple[str, ...], ImagesInfo, ThreatModel, str, str, int]


def commands(board: Board) -> list[str]:
    """`robench eval ...` lines; defenses measured alike share one."""
    settings: dict[tuple[str, Setting], list[str]] = {}
    for record in _records(board):
        attacks = settings.setdefault((record.defense.ref, _setting(record)), [])
        attacks.append(_attack(record))
    shared: dict[tuple[tuple[str, ...], Setting], list[str]] = {}
    for (ref, setting), attacks in settings.items():
        shared.setdefault((tuple(attacks), setting), []).append(ref)
    return [_command(refs, attacks, setting) for (attacks, setting), refs in shared.items()]


def command(record: Record) -> str:
    """The `robench eval ...` line that measures this one record again."""
    return _command([record.defense.ref], [_attack(record)], _setting(record))


def _records(board: Board) -> Iterator[Record]:
    for line in board.lines:
        yield from (c.records[0] for c in line.cells.values() if _is_measured(c))


def _is_measured(cell: Cell) -> bool:
    return len(cell.records) == 1 and cell.row.status == "done"


def _attack(record: Record) -> str:
    return call(record.attack.name, record.attack.parameters)


def _setting(record: Record) -> Setting:
    loading = _loading(record.defense)
    return loading, record.images, record.threat, record.stop, record.precision, record.seed


def _loading(defense: DefenseInfo) -> tuple[str, ...]:
    """The options by which a bare checkpoint file is read; a name or a scheme knows them."""
    has_scheme = re.match(r"[a-z_]{2,}:", defense.ref)
    if has_scheme or not names_checkpoint(defense.ref):
        return ()
    width = () if defense.width is None else ("--width", str(defense.width))
    return "--arch", defense.architecture, *width, "--normalize", defense.normalization


def _command(refs: Sequence[str], attacks: Sequence[str], setting: Setting) -> str:
    loading, images, threat, stop, precision, seed = setting
    first_n = images.ids in ("0", f"0-{images.n - 1}")
    words = ["robench", "eval", "--defense", ",".join(map(portable, refs)), *loading]
    words += ["--attacks", ",".join(attacks), "--dataset", portable(images.ref)]
    words += ["--class-order", portable(images.class_order)] if images.class_order else []
    words += ["--n", str(images.n)] if first_n else ["--images", images.ids]
    words += ["--norm", threat.norm, "--eps", format_eps(threat.eps)]
    words += ["--stop", stop, "--precision", precision, "--seed", str(seed)]
    return shlex.join(words)
