"""`robench leaderboard`: records in, boards out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import RecordPlaces, read_records
from robench.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from robench.boards.collect import Found
    from robench.boards.rank import Board

_WIDTH = 100  # of a table that goes to a file


def leaderboard(
    records: RecordPlaces = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="table, md, csv, json, latex or html.  [default: table]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write to this file, all at once, instead of stdout.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only boards of this data set.")] = None,
    sort_by: Annotated[
        str | None,
        typer.Option(
            help="An attack, clean or worst_case.  "
            "[default: autoattack where every defense has it, else pgd_trades]"
        ),
    ] = None,
    pi_adv: Annotated[
        float, typer.Option(help="Weight of robust accuracy in W-Robust, 0 to 1.")
    ] = 0.5,
    source: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="SOURCE", help="Published rows too, in latex: paper or robustbench."
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Paired tests of two defenses on the same images."),
    ] = None,
) -> None:
    """Rank the measured defenses, like with like.

    One board per data set, image set, norm and eps; one column per attack with its parameters and
    stop rule. Partial and failed records are shown and not ranked.

    Example: robench leaderboard --dataset cifar10 --sort-by pgd_sat

    Example: robench leaderboard --compare trades,bmtard

    Example: robench leaderboard --records leaderboards/records --format md --out README.md

    Example: robench leaderboard --dataset cifar10 --format latex --with paper --out table.tex
    """
    from robench.boards.rank import build_boards

    if as_json and format_ not in (None, "json"):
        raise InputError(f"--json and --format {format_} contradict each other: give one")
    chosen = "json" if as_json else format_ or "table"
    found = _of_dataset(read_records(records), dataset)
    if not found:
        typer.echo("no records: robench eval --defense REF --attacks LIST writes them", err=True)
    boards = build_boards(found, pi_adv, sort_by)
    shown = _comparisons(boards, compare, chosen) if compare else _render(boards, chosen, source)
    _deliver(shown, out)


def _of_dataset(found: "Sequence[Found]", dataset: str | None) -> "Sequence[Found]":
    from robench.core.names import did_you_mean

    if dataset is None:
        return found
    known = sorted({item.record.images.dataset for item in found})
    if dataset not in known:
        hint = did_you_mean(dataset, known) or f": there are {', '.join(known) or 'none at all'}"
        raise InputError(f"no records of data set {dataset!r}{hint}")
    return [item for item in found if item.record.images.dataset == dataset]


def _render(boards: "Sequence[Board]", format_: str, source: str | None) -> "RenderableType":
    from robench.boards import FORMATS

    rendered: RenderableType
    if source is None:
        rendered = FORMATS.load(format_)(boards)
    elif format_ == "latex":
        from robench.boards.latex import render
        from robench.boards.published import SOURCES

        rendered = render(boards, SOURCES.load(source)())
    else:
        raise InputError(
            f"--with goes with --format latex, not {format_}: html shows every published row, "
            "robench compare ranks among them"
        )
    return rendered


def _comparisons(boards: "Sequence[Board]", compare: str, format_: str) -> "RenderableType":
    from robench.boards.versus import compare_defenses, render_json
    from robench.core.names import split_list

    if format_ not in ("table", "json"):
        raise InputError(f"--compare is shown as table or json, not as {format_}")
    names = split_list(compare)
    if len(names) != 2:
        raise InputError(f"--compare takes two defenses, as in trades,bmtard; not {compare!r}")
    comparisons = compare_defenses(boards, names[0], names[1])
    if format_ == "json":
        return render_json(comparisons)
    from robench.boards.terminal import render_comparisons

    return render_comparisons(comparisons)


def _deliver(rendered: "RenderableType", out: Path | None) -> None:
    """Text goes out byte for byte; anything else as rich draws it."""
    from robench.core.files import atomic_write

    if out is not None:
        atomic_write(out, (rendered if isinstance(rendered, str) else _drawn(rendered)).encode())
        typer.echo(f"wrote {out}", err=True)
    elif isinstance(rendered, str):
        typer.echo(rendered, nl=False)
    else:
        from rich.console import Console

        Console().print(rendered)


def _drawn(rendered: "RenderableType") -> str:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=_WIDTH, no_color=True, force_terminal=False).print(rendered)
    return text.getvalue()
