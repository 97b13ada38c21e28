"""From all records to those of one figure: exactly one board, one column, or an error that asks."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from robench.boards import words
from robench.boards.collect import Found
from robench.boards.columns import Column, column_of, label_columns, matching
from robench.boards.plots.plot import Records
from robench.boards.rank import Board, Line, build_boards
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import DefenseInfo, Record
from robench.core.row import WORST_CASE
from robench.core.threat import format_eps


def wanted(records: Records) -> list[Found]:
    """The records of the wanted data set, norm, number of images and defenses.

    Raises: InputError that says what there is, when nothing fits.
    """
    found = list(records.found)
    if not found:
        raise InputError("no records: robench eval --defense REF --attacks LIST writes them")
    found = _having(found, "--dataset", records.dataset, lambda r: [r.images.dataset])
    found = _having(found, "--norm", records.norm, lambda r: [r.threat.norm])
    n = None if records.n is None else str(records.n)
    found = _having(found, "--n", n, lambda r: [str(r.images.n)])
    if not records.defenses:
        return found
    chosen: dict[str, Found] = {}
    for name in records.defenses:
        chosen |= {item.path: item for item in _having(found, "--defense", name, _names)}
    return list(chosen.values())


def narrowed(records: Records, attack: str | None, eps: float | None) -> list[Found]:
    """The wanted records at that eps and under that attack, for figures of one record.

    Raises: InputError that says what there is, when nothing fits.
    """
    found = wanted(records)
    if eps is not None:
        found = _having(found, "--eps", format_eps(eps), lambda r: [format_eps(r.threat.eps)])
    if attack is None:
        return found
    labels = label_columns(column_of(item.record) for item in found)
    chosen = one_label(attack, [*labels.values()], {label: c for c, label in labels.items()})
    return [item for item in found if labels[column_of(item.record)] == chosen]


def _names(record: Record) -> list[str]:
    """What a defense may be called: its name, or that with its fingerprint as on the boards."""
    name = record.defense.name
    return [name, f"{name}@{record.defense.fingerprint[:8]}"]


def _having(
    found: list[Found], option: str, value: str | None, names: Callable[[Record], list[str]]
) -> list[Found]:
    if value is None:
        return found
    chosen = [item for item in found if value in names(item.record)]
    if not chosen:
        known = sorted({names(item.record)[0] for item in found})
        hint = did_you_mean(value, known) or ":"
        raise InputError(f"no records with {option} {value}{hint} there are {', '.join(known)}")
    return chosen


def one_board(records: Records, eps: float | None = None, pi_adv: float = 0.5) -> Board:
    """The one board of the wanted records.

    Raises: InputError when there is none of that eps, and when there are several.
    """
    boards = build_boards(wanted(records), pi_adv)
    fitting = [board for board in boards if eps is None or board.ground.eps == eps]
    if not fitting:
        assert eps is not None
        known = ", ".join(dict.fromkeys(format_eps(board.ground.eps) for board in boards))
        raise InputError(f"no records at eps {format_eps(eps)}: there are {known}")
    if len(fitting) > 1:
        raise InputError(
            "a figure is of one board, and the records make several: "
            f"{'; '.join(map(words.title, fitting))}: "
            "choose one with --dataset, --norm, --eps, --n or --records"
        )
    return fitting[0]


def one_column(board: Board, attack: str | None, among: Sequence[str] | None = None) -> str:
    """The label of the one column that `attack` means, by default the one that the board ranks by.

    among: the columns that the figure can show; None: all.
    Raises: InputError for an attack that no column or several columns fit.
    """
    there = list(board.columns if among is None else among)
    if attack is None and board.ranked_by in there:
        return str(board.ranked_by)
    return one_label(attack, there, board.meanings)


def one_label(attack: str | None, there: Sequence[str], meanings: Mapping[str, Column]) -> str:
    """The one label among `there` that `attack` means, by default the only one.

    meanings: what those labels stand for that are attacks.
    Raises: InputError for an attack that no label or several labels fit.
    """
    if attack is None:
        fitting = list(there)
    elif attack in there:  # also worst_case, which is no attack
        return attack
    else:
        labels = {column: label for label, column in meanings.items() if label in there}
        fitting = matching(attack, labels)
    if not fitting:
        hint = did_you_mean(str(attack), there) or ":"
        raise InputError(f"no records under {attack!r}{hint} there are {', '.join(there)}")
    if len(fitting) > 1:
        raise InputError(f"choose one with --attack: {', '.join(fitting)}")
    return fitting[0]


def finished(board: Board, column: str) -> list[Line]:
    """The lines that have a finished record in the column.

    Raises: InputError when there is none.
    """
    lines = [line for line in board.lines if column in line.cells]
    done = [line for line in lines if line.cells[column].row.status == "done"]
    if not done:
        raise InputError(f"no finished record under {column}: robench eval goes on with it")
    return done


def left_out(board: Board, shown: Iterable[Line], column: str) -> tuple[str, ...]:
    """A sentence for each line of the board that the figure does not show."""
    labels = [line.label for line in shown]
    needs = "two finished attacks" if column == WORST_CASE else f"a finished record under {column}"
    return tuple(
        words.plain(f"left out: {line.label}, which has not {needs}")
        for line in board.lines
        if line.label not in labels
    )


def titled(line: Line) -> str:
    """A defense's label, followed in brackets by what must be said of its training."""
    return named(line.label, line.defense)


def named(name: str, defense: DefenseInfo) -> str:
    """As `titled`, under any name."""
    return words.plain(f"{name} ({defense.label})" if defense.label else name)
