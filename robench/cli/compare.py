"""`robench compare`: a measured defense beside published figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import OnlyDataset, RecordPlaces, read_records
from robench.core.errors import InputError
from robench.core.names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robench.boards.collect import Found

_FORMATS = ("table", "md", "json")


def compare(
    defense: Annotated[str, typer.Argument(help="A defense's name on the records.")],
    source: Annotated[str, typer.Option("--with", metavar="SOURCE", help="paper or robustbench.")],
    records: RecordPlaces = None,
    dataset: OnlyDataset = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="table, md or json.  [default: table]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show a measured defense beside what others published.

    Reads records, loads no network. A rank is given only where nothing but the number of images
    differs, and then as a range; everything else is shown with the reason.

    Example: robench compare bmtard --with paper

    Example: robench compare natural-resnet18 --with robustbench --records leaderboards/records
    """
    from robench.boards.compare import compare_with

    chosen = _format(format_, as_json)
    _check_source(source)
    placements = compare_with(_found(records, dataset), defense, source)
    if chosen == "table":
        from rich.console import Console

        from robench.boards.compare_text import render

        Console().print(render(placements))
    else:
        from robench.boards.compare_text import render_json, render_markdown

        typer.echo((render_json if chosen == "json" else render_markdown)(placements), nl=False)


def _format(format_: str | None, as_json: bool) -> str:
    if as_json and format_ not in (None, "json"):
        raise InputError(f"--json and --format {format_} contradict each other: give one")
    chosen = "json" if as_json else format_ or "table"
    if chosen not in _FORMATS:
        hint = did_you_mean(chosen, _FORMATS) or f": there are {', '.join(_FORMATS)}"
        raise InputError(f"unknown format {chosen!r}{hint}")
    return chosen


def _check_source(source: str) -> None:
    from robench.boards.published import SOURCES

    known = SOURCES.names()
    if source not in known:
        hint = did_you_mean(source, known)
        raise InputError(f"--with takes {' or '.join(known)}, not {source!r}{hint}")


def _found(records: list[Path] | None, dataset: str | None) -> "Sequence[Found]":
    found = read_records(records)
    if not found:
        raise InputError("no records: robench eval --defense REF --attacks LIST writes them")
    known = sorted({item.record.images.dataset for item in found})
    if dataset is not None and dataset not in known:
        hint = did_you_mean(dataset, known) or f": there are {', '.join(known)}"
        raise InputError(f"no records of data set {dataset!r}{hint}")
    return [item for item in found if dataset in (None, item.record.images.dataset)]
