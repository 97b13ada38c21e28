"""How boards say things, alike in all formats: figures, intervals, flags, what a rank is worth."""

import math
import re
from collections.abc import Iterable, Sequence

from robench.boards.pairs import CLEAN, Comparison
from robench.boards.rank import Board, Cell, Line, members
from robench.core.row import WORST_CASE, Row
from robench.core.statistics import Z_95, wilson
from robench.core.threat import format_eps

SMALL = 1000  # below, two defenses must lie several points apart to be told apart
_COUNTED = re.compile(r"(\d+) (?:images: )?(.*)", re.DOTALL)
_MARKS = {"info": "", "warn": "!", "fail": "!!"}


def plain(text: str) -> str:
    """The text on one line, without control characters: records may come from anywhere."""
    return "".join(c if c.isprintable() else "?" for c in text)


def percent(share: float | None) -> str:
    """`52.31`, or `-` for what was not measured."""
    return "-" if share is None else f"{100 * share:.2f}"


def bounds(interval: tuple[float, float] | None) -> str:
    """`[47.6, 56.9]`, or nothing."""
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def estimate(share: float | None, interval: tuple[float, float] | None) -> str:
    """`52.31 [47.6, 56.9]`."""
    return f"{percent(share)} {bounds(interval)}".rstrip()


def count(number: int) -> str:
    """`850`, `17.6k`, `12.3M`: six characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def duration(seconds: float) -> str:
    """`3.2s`, `4m05s` or `2h10m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def status(row: Row) -> str:
    """`done`, `partial`, `not run`, `failed`."""
    return row.status.replace("_", " ")


def mark(row: Row) -> str:
    """`!` behind a figure with a warning, `!!` behind one that a check refutes."""
    return max((_MARKS[flag.level] for flag in row.flags), default="")


def queries(row: Row) -> list[str]:
    """What a black-box attack asked about an image; empty for all others."""
    if row.queries_mean is None:
        return []
    return [
        f"{row.attack}: {row.queries_mean:.1f} queries an attacked image on average, median "
        f"{row.queries_median:g}, at most {row.queries_most}."
    ]


def title(board: Board) -> str:
    """`cifar10, 500 images (3fa9c1d2), linf eps 8/255`: the digits tell image sets apart."""
    ground = board.ground
    images = f"{ground.n} images ({ground.digest[:8]})"
    return plain(f"{ground.dataset}, {images}, {ground.norm} eps {format_eps(ground.eps)}")


def ranking(board: Board) -> str:
    """What the lines are ordered by."""
    if board.ranked_by is None:
        return "Not ranked: no finished record in a column to rank by."
    if board.ranked_by == CLEAN:
        return "Ranked by clean accuracy."
    return f"Ranked by {_weights(board)} under {plain(board.ranked_by)}."


def _weights(board: Board) -> str:
    pi_adv = board.pi_adv
    return f"W-Robust ({1 - pi_adv:g} x clean + {pi_adv:g} x robust accuracy)"


def scale(board: Board) -> str:
    """How far an accuracy near one half is known from so many images."""
    n = board.ground.n
    half = 100 * Z_95 * math.sqrt(0.25 / max(n, 1))
    small = "Small scale: " if n < SMALL else ""
    return f"{small}{n} images leave an accuracy near 50 % uncertain by {half:.1f} points."


def remarks(board: Board, worst: bool = True) -> list[str]:
    """What must be known beside the figures: lines without rank, cells without figures, ...

    worst: whether the worst case is among what is shown.
    """
    united = worst_cases(board) if worst else []
    unlike = differing_clean(board)
    return [*noted(board), *unranked(board), *unfinished(board), *united, *unlike]


def noted(board: Board) -> list[str]:
    """What the loading of each defense found."""
    notes = [(line.label, note) for line in board.lines for note in line.defense.notes]
    # A checkpoint that was found by its method's name says so itself.
    return [plain(n if n.startswith(f"{name}:") else f"{name}: {n}") + "." for name, n in notes]


def unranked(board: Board) -> list[str]:
    """One sentence for each line that has no rank."""
    if board.ranked_by is None:
        return []
    lines = (line for line in board.lines if line.rank is None)
    return [plain(f"{line.label} is not ranked: {line.reason}.") for line in lines]


def unfinished(board: Board) -> list[str]:
    """Why cells outside the ranking column are partial, failed or not run."""
    cells = [(line, label, cell.row) for line in board.lines for label, cell in line.cells.items()]
    return [
        plain(f"{line.label}: {label} {status(row)}: {row.reason or 'no reason given'}.")
        for line, label, row in cells
        if row.status != "done" and label != board.ranked_by
    ]


def worst_classes(board: Board) -> list[str]:
    """The weakest class of each line, under the attack that leads the board."""
    column = board.columns[0]
    cells = [(line, line.cells[column]) for line in board.lines if column in line.cells]
    return [
        plain(f"{line.label}: {_worst_class(cell.row)} under {column}")
        for line, cell in cells
        if cell.row.status == "done"
    ]


def _worst_class(row: Row) -> str:
    assert row.worst_class_n is not None and row.worst_class_robust_accuracy is not None
    share, low, high = wilson(
        round(row.worst_class_robust_accuracy * row.worst_class_n), row.worst_class_n
    )
    of = f"class {row.worst_class} ({row.worst_class_n} images)"
    return f"{of} {estimate(share, (low, high))} robust"


def neighbour(board: Board, comparison: Comparison) -> str:
    """The paired difference of two neighbours, and whether it means anything."""
    ranks = {line.label: line.rank for line in board.lines}
    first, second = comparison.first, comparison.second
    names = plain(f"{first} ({ranks[first]}) - {second} ({ranks[second]})")
    return f"{names}: {difference(comparison)}"


def difference(comparison: Comparison) -> str:
    """`+1.20 points [-0.3, +2.7], 30 against 22 images (McNemar p = 0.332): not told apart`."""
    images = f"{comparison.only_first} against {comparison.only_second} images"
    test = f"(McNemar p = {comparison.p:.3g})"
    low, high = (100 * bound for bound in comparison.difference_interval_95)
    points = f"{100 * comparison.difference:+.2f} points [{low:+.1f}, {high:+.1f}]"
    return f"{points}, {images} {test}: {judgement(comparison)}"


def judgement(comparison: Comparison) -> str:
    """What the interval of the difference allows to say."""
    return "told apart" if comparison.told_apart else "not told apart"


def worst_cases(board: Board) -> list[str]:
    """What each worst case unites; lines with the same attacks share a sentence."""
    if WORST_CASE not in board.columns:
        return []
    cells = [(line, line.cells[WORST_CASE]) for line in board.lines if WORST_CASE in line.cells]
    groups: dict[str, list[str]] = {}
    for line, cell in cells:
        groups.setdefault(", ".join(_member_labels(board, cell)), []).append(line.label)
    return [
        plain(f"worst_case of {', '.join(labels)}: an image survives all of {attacks}.")
        for attacks, labels in groups.items()
    ]


def _member_labels(board: Board, cell: Cell) -> Sequence[str]:
    labels = {column: label for label, column in board.meanings.items()}
    known = [labels[column] for column in labels if column in cell.terms]
    return sorted(known) or members(cell)


def flags(rows: Iterable[Row], labels: Iterable[str]) -> list[str]:
    """Each flag once, worst level first, with the labels that it concerns.

    labels: the name of each row in the sentence, in the order of `rows`. A count that opens the
    message goes to the label: "3 images: ..." and "5 images: ..." are one flag. Of what a union has
    from its members only warnings are said, and only where the member itself is not shown.
    """
    shown = list(zip(rows, labels, strict=True))
    said = {(r.defense, f.name, f.level) for r, _ in shown if not _united(r) for f in r.flags}
    concerned: dict[tuple[str, str, str], list[str]] = {}
    for row, label in shown:
        for flag in row.flags:
            known = flag.level == "info" or (row.defense, flag.name, flag.level) in said
            if known and _united(row):
                continue
            counted = _COUNTED.fullmatch(flag.message)
            message, number = (counted[2], f" {counted[1]}") if counted else (flag.message, "")
            concerned.setdefault((flag.level, flag.name, message), []).append(label + number)
    order = sorted(concerned, key=lambda key: ("fail", "warn", "info").index(key[0]))
    return [
        plain(f"{level}: {message} ({name}: {', '.join(dict.fromkeys(concerned[key]))})")
        for key in order
        for level, name, message in [key]
    ]


def _united(row: Row) -> bool:
    return "members" in row.parameters


def board_flags(board: Board) -> list[str]:
    """The flags of a board's records, with `defense: attack`."""
    cells = [(line, label, cell) for line in board.lines for label, cell in line.cells.items()]
    return flags([c.row for _, _, c in cells], [f"{line.label} {a}" for line, a, _ in cells])


def differing_clean(board: Board) -> list[str]:
    """Lines whose records disagree on clean accuracy: device kinds, or a randomised defense."""
    sentences = []
    for line in board.lines:
        low, high = _clean_range(line)
        if low != high:
            text = f"{line.label}: clean accuracy differs between its records"
            sentences.append(plain(f"{text} ({percent(low)} to {percent(high)})."))
    return sentences


def _clean_range(line: Line) -> tuple[float, float]:
    rows = [cell.row for cell in line.cells.values() if cell.row.status == "done"]
    shares = [row.clean_accuracy for row in rows if row.clean_accuracy is not None] or [0.0]
    return min(shares), max(shares)
