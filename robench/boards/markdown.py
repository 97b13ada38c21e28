"""Boards as Markdown, for `leaderboards/README.md`."""

import re
from collections.abc import Iterable, Mapping, Sequence

from robench.boards import words
from robench.boards.best import Best, best
from robench.boards.pairs import CLEAN
from robench.boards.rank import Board, Cell, Line
from robench.boards.reproduce import commands
from robench.core.row import WORST_CASE, Row

_HEAD = """# Leaderboards

Made by `robench leaderboard --format md` from the records beside this file. Accuracies are in
percent, with their 95 % interval; under each attack robust accuracy stands before W-Robust, which
weighs clean and robust accuracy. Bold is the best of a column. Only figures from the same images,
threat model, attack, parameters and stop rule are ranked together. `!` marks a figure with a
warning, `!!` one that a check refutes. McNemar tests are exact, two-sided and not corrected for
their number.
"""


def render(boards: Sequence[Board]) -> str:
    """A Markdown page: one section per board, nothing in it that a second run would change."""
    if not boards:
        return f"{_HEAD}\nNo records yet.\n"
    return "\n".join([_HEAD, *(_section(board) for board in boards)])


def _section(board: Board) -> str:
    blocks = [
        f"## {escape(words.title(board))}",
        escape(f"{words.ranking(board)} {words.scale(board)}"),
        _ranking_table(board),
        bullets(words.remarks(board)),
        _part("Neighbours", [words.neighbour(board, pair) for pair in board.pairs]),
        _part("Worst class", words.worst_classes(board)),
        _part("Flags", words.board_flags(board)),
        table(["column", "parameters", "stop", "precision"], _column_lines(board)),
        table(["defense", "architecture", "parameters", "fingerprint"], _defense_lines(board)),
        f"Image set {_code(board.ground.digest[:12])}.",
        _commands(board),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _ranking_table(board: Board) -> str:
    header = ["rank", "defense", "clean", *(_code(column) for column in board.columns)]
    bold = {column: best(board, column) for column in (CLEAN, *board.columns)}
    return table(header, [_ranking_line(board, line, bold) for line in board.lines])


def _ranking_line(board: Board, line: Line, bold: Mapping[str, Best]) -> list[str]:
    clean = "-"
    if line.clean is not None:
        clean = _figure(line.clean.row, "clean_accuracy", (line.label, bold[CLEAN]))
    cells = [_cell(line.cells.get(column), (line.label, bold[column])) for column in board.columns]
    said = f" ({escape(words.plain(line.defense.label))})" if line.defense.label else ""
    return [str(line.rank or "-"), _code(line.label) + said, clean, *cells]


def _cell(cell: Cell | None, bold: tuple[str, Best]) -> str:
    if cell is None:
        return "-"
    row = cell.row
    if row.w_robust is None:
        return words.status(row)
    robust = f"{_figure(row, 'robust_accuracy', bold)} {words.bounds(row.robust_interval_95)}"
    weighted = f"{_figure(row, 'w_robust', bold)} {words.bounds(row.w_robust_interval_95)}"
    unfinished = f" ({words.status(row)}, n = {row.n})" if row.status != "done" else ""
    return f"{robust} / {weighted} {words.mark(row)}".rstrip() + unfinished


def _figure(row: Row, name: str, bold: tuple[str, Best]) -> str:
    label, best_ones = bold
    text = words.percent(getattr(row, name))
    return f"**{text}**" if (label, name) in best_ones else text


def _column_lines(board: Board) -> Iterable[list[str]]:
    for label in board.columns:
        if label == WORST_CASE:
            continue
        values = board.meanings[label].values()
        stop = values.pop("stop")
        parameters = ", ".join(f"{key}={value}" for key, value in values.items())
        cells = [line.cells[label] for line in board.lines if label in line.cells]
        precisions = sorted({cell.row.precision or "-" for cell in cells})
        yield [_code(label), _code(parameters) if parameters else "-", stop, ", ".join(precisions)]


def _defense_lines(board: Board) -> Iterable[list[str]]:
    for line in board.lines:
        info = line.defense
        width = "" if info.width is None else f", width {info.width}"
        architecture = escape(words.plain(f"{info.architecture}{width}"))
        fingerprint = _code(info.fingerprint[:12])
        yield [_code(line.label), architecture, f"{info.parameters:,}", fingerprint]


def _commands(board: Board) -> str:
    lines = [words.plain(command) for command in commands(board)]
    return "\n".join(["To reproduce:", "", "```sh", *lines, "```"]) if lines else ""


def _part(heading: str, sentences: Sequence[str]) -> str:
    return f"{heading}:\n\n{bullets(sentences)}" if sentences else ""


def bullets(sentences: Iterable[str]) -> str:
    """A list, one item a sentence."""
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    # An underscore inside a word is no emphasis, so names stay readable in the source.
    return re.sub(r"([\\`*\[\]<>|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _code(text: str) -> str:
    # A pipe ends a table cell even inside a code span.
    return f"`{words.plain(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
