"""`--compare A,B`: two defenses against each other, wherever both were measured alike."""

from collections.abc import Sequence

import msgspec

from robench.boards.pairs import CLEAN, Comparison
from robench.boards.rank import Board, Line, compare
from robench.boards.words import title
from robench.core.errors import InputError
from robench.core.names import did_you_mean


def compare_defenses(boards: Sequence[Board], first: str, second: str) -> list[Comparison]:
    """Paired tests in clean accuracy and in every column that both have finished.

    Raises: InputError for a name that is unknown or means several defenses, and for two defenses
    that were nowhere measured alike: what each has is named.
    """
    if first == second:
        raise InputError(f"--compare takes two different defenses, not {first!r} twice")
    found = []
    for board in boards:
        one, other = _line(board, first), _line(board, second)
        if one is not None and other is not None:
            columns = (CLEAN, *board.columns)
            found += [compare(one, other, column, board.pi_adv) for column in columns]
    comparisons = [comparison for comparison in found if comparison is not None]
    if not any(comparison.column != CLEAN for comparison in comparisons):
        raise InputError(_refusal(boards, first, second))
    return comparisons


def _line(board: Board, name: str) -> Line | None:
    lines = [line for line in board.lines if name in (line.label, line.defense.name)]
    if len(lines) > 1:
        labels = " or ".join(line.label for line in lines)
        raise InputError(f"{name!r} means several defenses on {title(board)}: write {labels}")
    return lines[0] if lines else None


def _refusal(boards: Sequence[Board], first: str, second: str) -> str:
    known = sorted({label for b in boards for line in b.lines for label in _names(line)})
    for name in (first, second):
        if name not in known:
            return f"no records of {name!r}{did_you_mean(name, known) or f': {_listed(known)}'}"
    has = "; ".join(f"{name} has {_measured(boards, name)}" for name in (first, second))
    return f"{first} and {second} share no finished attack on the same images and threat: {has}"


def _names(line: Line) -> tuple[str, str]:
    return line.label, line.defense.name


def _listed(known: Sequence[str]) -> str:
    return f"there are {', '.join(known)}" if known else "there are none at all"


def _measured(boards: Sequence[Board], name: str) -> str:
    places = []
    for board in boards:
        line = _line(board, name)
        if line is not None:
            done = [column for column, cell in line.cells.items() if cell.row.status == "done"]
            places.append(f"{', '.join(done) or 'nothing finished'} on {title(board)}")
    return " and ".join(places)


def render_json(comparisons: Sequence[Comparison]) -> str:
    """`{"comparisons": [...]}`."""
    compact = msgspec.json.encode({"comparisons": comparisons})
    return msgspec.json.format(compact, indent=1).decode() + "\n"
