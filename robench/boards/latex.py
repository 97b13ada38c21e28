"""Boards as LaTeX tables in the layout of the B-MTARD paper's Tables 3 to 6, to be `\\input`.

One block of columns for each attack (clean, robust, W-Robust), one row for each defense, the best
of each column in bold.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from robench.boards import words
from robench.boards.best import FIGURES, Best, best
from robench.boards.published.entry import Entry
from robench.boards.published_lines import PublishedLine, published_lines
from robench.boards.rank import Board, Cell, Line
from robench.core.row import WORST_CASE
from robench.core.threat import format_eps

_HEAD = """% Made by `robench leaderboard --format latex`.
% In the preamble: \\usepackage{booktabs,graphicx}
"""
_PER_TABLE = 3
"""Attacks side by side: with their intervals they just fit the width of a page."""
_SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
}
_ACCENTS = {"\u0300", "\u0301", "\u0302", "\u0303", "\u0308", "\u030a", "\u0327", "\u030c"}
"""Letters with these are set by every LaTeX; other signs beyond ASCII stop it."""


def render(boards: Sequence[Board], published: Sequence[Entry] = ()) -> str:
    """The tables of every board; published: rows to show below the measured ones, marked."""
    if not boards:
        return f"{_HEAD}% No records yet.\n"
    return "\n".join(
        [_HEAD, *(_table(part) for board in boards for part in _parts(board, published))]
    )


@dataclass(frozen=True)
class _Part:
    """A board, or as many of its columns as one table takes."""

    board: Board
    columns: Sequence[str]
    place: tuple[int, int]
    published: Sequence[PublishedLine]


def _parts(board: Board, published: Sequence[Entry]) -> Iterator[_Part]:
    starts = range(0, len(board.columns), _PER_TABLE)
    for number, start in enumerate(starts, 1):
        columns = board.columns[start : start + _PER_TABLE]
        lines = published_lines(board, columns, published)
        yield _Part(board, columns, (number, len(starts)), lines)


def _table(part: _Part) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_caption(part)}}}\label{{{_label(part)}}}\par\smallskip",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'rrr' * len(part.columns)}}}",
            r"\toprule",
            *_header(part.columns),
            r"\midrule",
            *_measured(part),
            *_printed(part),
            r"\bottomrule",
            r"\end{tabular}}",
            *_notes(part),
            r"\end{table}",
            "",
        ]
    )


def _header(columns: Sequence[str]) -> Iterator[str]:
    blocks = [rf"\multicolumn{{3}}{{c}}{{{escape(column)}}}" for column in columns]
    yield _row(["", *blocks])
    yield "".join(rf"\cmidrule(lr){{{3 * i + 2}-{3 * i + 4}}}" for i in range(len(columns)))
    yield _row(["Defense", *["Clean", "Robust", "W-Robust"] * len(columns)])


def _measured(part: _Part) -> Iterator[str]:
    """Two lines for each defense: its figures, then its label and the intervals."""
    bold = {column: best(part.board, column) for column in part.columns}
    for line in part.board.lines:
        cells = [(column, line.cells.get(column)) for column in part.columns]
        figures = [text for c, cell in cells for text in _figures(line, cell, bold[c])]
        intervals = [text for _, cell in cells for text in _intervals(cell)]
        yield _row([escape(line.label), *figures])
        if line.defense.label or any(intervals):
            yield _row([_small(line.defense.label or ""), *intervals])


def _figures(line: Line, cell: Cell | None, bold: Best) -> Iterator[str]:
    """Dashes for what is not finished: the notes say why."""
    for figure in FIGURES:
        if cell is None or cell.row.status != "done":
            yield "--"
            continue
        text = words.percent(getattr(cell.row, figure))
        text = rf"\textbf{{{text}}}" if (line.label, figure) in bold else text
        mark = words.mark(cell.row) if figure == "robust_accuracy" else ""
        yield text + (rf"\rlap{{\textsuperscript{{{mark}}}}}" if mark else "")


def _intervals(cell: Cell | None) -> list[str]:
    if cell is None or cell.row.status != "done":
        return ["", "", ""]
    row = cell.row
    return [
        "",
        *(_small(words.bounds(b)) for b in (row.robust_interval_95, row.w_robust_interval_95)),
    ]


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape(text)}}}" if text else ""


def _printed(part: _Part) -> Iterator[str]:
    """Published rows, set apart from the measured ones by a rule, a heading and slanted figures."""
    if not part.published:
        return
    yield r"\midrule"
    heading = r"\emph{Published, not measured here}"
    yield _row([rf"\multicolumn{{{3 * len(part.columns) + 1}}}{{l}}{{{heading}}}"])
    for line in part.published:
        figures = (line.figures(column, part.board.pi_adv) for column in part.columns)
        cells = [rf"\textit{{{text}}}" if text else "--" for three in figures for text in three]
        yield _row([rf"\textit{{{escape(line.title)}}}", *cells])


def _caption(part: _Part) -> str:
    board, ground = part.board, part.board.ground
    attacks = ", ".join(part.columns)
    number, of = part.place
    split = f" (table {number} of {of})" if of > 1 else ""
    text = (
        f"Clean accuracy, robust accuracy and W-Robust in percent on {ground.dataset}, "
        f"{ground.n} images, {ground.norm} eps {format_eps(ground.eps)}, under {attacks}{split}. "
        f"W-Robust is {1 - board.pi_adv:g} clean + {board.pi_adv:g} robust accuracy. In brackets: "
        "95 % intervals, over the choice of images. Bold: best measured figure of its column."
    )
    if part.published:
        text += " Italic: published, of the whole test set."
    return escape(words.plain(text))


def _label(part: _Part) -> str:
    """`tab:cifar10-linf-3fa9c1d2-1`; the digits are of the image set."""
    ground = part.board.ground
    name = f"{ground.dataset}-{ground.norm}-{ground.eps:g}-{ground.digest[:8]}-{part.place[0]}"
    return f"tab:{re.sub('[^A-Za-z0-9.]+', '-', name)}"


def _notes(part: _Part) -> Iterator[str]:
    """What must be known beside the figures, under the table."""
    board = part.board
    remarks = words.remarks(board, worst=WORST_CASE in part.columns)
    printed = [remark for line in part.published for remark in line.remarks]
    sentences = [words.scale(board), *remarks, *_flags(part), *_settings(part), *printed]
    text = " ".join(_sentence(escape(words.plain(sentence))) for sentence in sentences)
    yield rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize\raggedright {text}}}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _flags(part: _Part) -> list[str]:
    cells = [
        (line, column, line.cells[column])
        for line in part.board.lines
        for column in part.columns
        if column in line.cells
    ]
    return words.flags([c.row for _, _, c in cells], [f"{n.label} {a}" for n, a, _ in cells])


def _settings(part: _Part) -> Iterator[str]:
    """Parameters and stop rule of every attack in the table."""
    for column in part.columns:
        if column == WORST_CASE:
            continue
        values = part.board.meanings[column].values()
        yield f"{column}: {', '.join(f'{key}={value}' for key, value in values.items())}"


def _row(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def escape(text: str) -> str:
    """Text that LaTeX shows as it is; what it cannot set becomes a question mark."""
    plain = "".join(_SPECIAL.get(c, c if c.isascii() else _letter(c)) for c in words.plain(text))
    plain = re.sub("-(?=-)", "-{}", plain)  # two hyphens would become a dash
    # At the start of a row, an argument of the `\\` or the rule before it.
    return f"{{}}{plain}" if plain.startswith(("[", "*")) else plain


def _letter(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    accented = (
        len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS
    )
    return character if accented else "?"
