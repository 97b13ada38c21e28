"""Do methods stand in the paper's order here? Every pair of them, by a paired test.

From records of students of one data set on the same images, beside Table 3 of the B-MTARD paper
(ResNet-18), W-Robust under each attack and clean accuracy. A pair is told apart where the 95 %
interval of the paired difference leaves out zero; p is McNemar's on the images that survive.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from robench.boards.collect import collect
from robench.boards.pairs import CLEAN, Comparison
from robench.boards.published.paper import entries
from robench.boards.rank import Board, Line, build_boards, compare, figure

# In the order of the paper's tables.
METHODS = (
    "sat",
    "trades",
    "ard",
    "rslad",
    "score",
    "fair-ard",
    "absld",
    "mtard-baseline",
    "mtard",
    "bmtard",
)
COLUMNS = ("pgd_sat", "pgd_trades", "cw_inf", "fgsm", CLEAN)
# Not in a table: what section 4.2 says of its ablation comes to these, W-Robust in percent.
BASELINE = {"pgd_sat": 68.18, "pgd_trades": 69.92, "cw_inf": 67.37}


class Pair(NamedTuple):
    """Two methods in a column: the paper's difference in points, and ours on the same images."""

    paper: float
    here: Comparison

    @property
    def verdict(self) -> str:
        """Where it belongs in the count; a difference of exactly nothing contradicts nothing."""
        agrees = self.paper * self.here.difference >= 0
        return f"{'same' if agrees else 'other'} order, {self._apart}told apart"

    @property
    def _apart(self) -> str:
        return "" if self.here.told_apart else "not "


def published(dataset: str, column: str) -> dict[str, float]:
    """Method -> percent, of ResNet-18 in Table 3 and of the baseline in the text."""
    rows = [row for row in entries() if "T3" in row.where and row.dataset == dataset]
    if column == CLEAN:
        return {row.name: 100 * row.clean for row in rows if row.clean is not None}
    figures = {
        row.name: 100 * row.w_robust
        for row in rows
        if row.attack == column and row.w_robust is not None
    }
    if dataset == "cifar10" and column in BASELINE:
        figures["mtard-baseline"] = BASELINE[column]
    return figures


def pairs(lines: Sequence[Line], column: str, paper: dict[str, float]) -> Iterator[Pair]:
    """Every two methods that both sides have, the one that the paper has ahead first."""
    for one, other in combinations([line for line in lines if line.label in paper], 2):
        if paper[one.label] < paper[other.label]:
            one, other = other, one
        here = compare(one, other, column, pi_adv=0.5)
        if here is not None:
            yield Pair(paper[one.label] - paper[other.label], here)


def main(
    records: Annotated[Path, typer.Option(help="Folder of records.")] = Path(
        "leaderboards/records"
    ),
    dataset: Annotated[str, typer.Option()] = "cifar10",
) -> None:
    """Print what docs/ordering.md shows, as Markdown."""
    boards = [b for b in build_boards(collect([records]).found) if b.ground.dataset == dataset]
    for board in boards:
        lines = [line for name in METHODS for line in board.lines if line.label == name]
        if len(lines) > 1:
            _report(board, lines, dataset)


def _report(board: Board, lines: Sequence[Line], dataset: str) -> None:
    columns = [column for column in COLUMNS if column == CLEAN or column in board.columns]
    paper = {column: published(dataset, column) for column in columns}
    typer.echo(f"\n| method | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for line in lines:
        cells = (_cell(line, column, paper[column]) for column in columns)
        typer.echo(f"| `{line.label}` | {' | '.join(cells)} |")
    found = {column: list(pairs(lines, column, paper[column])) for column in columns}
    verdicts = [
        f"{order} order, {apart}told apart" for order in ("same", "other") for apart in ("", "not ")
    ]
    typer.echo(f"\n| pairs | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for verdict in verdicts:
        counts = (str(sum(p.verdict == verdict for p in found[column])) for column in columns)
        typer.echo(f"| {verdict} | {' | '.join(counts)} |")
    typer.echo("\n| column | ahead in the paper | by | here by | 95 % interval | McNemar p |")
    typer.echo(f"|{'---|' * 6}")
    for column in columns:
        for pair in found[column]:
            if pair.verdict == "other order, told apart":
                typer.echo(_contrary(column, pair))


def _cell(line: Line, column: str, paper: dict[str, float]) -> str:
    """`54.4 (69.94)`: ours and, in brackets, the paper's."""
    ours = f"{100 * figure(line, column):.1f}" if line.cell(column) else "-"
    return f"{ours} ({paper[line.label]:.2f})" if line.label in paper else ours


def _contrary(column: str, pair: Pair) -> str:
    here, (low, high) = pair.here, pair.here.difference_interval_95
    return (
        f"| {column} | `{here.first}` over `{here.second}` | {pair.paper:+.2f} | "
        f"{100 * here.difference:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} | {here.p:.2g} |"
    )


if __name__ == "__main__":
    typer.run(main)
