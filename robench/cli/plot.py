"""`robench plot`: figures from records."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robench.cli.options import OnlyDataset, RecordPlaces, read_records
from robench.core.errors import InputError
from robench.core.names import split_list

if TYPE_CHECKING:
    from robench.boards.collect import Found
    from robench.boards.plots.plot import Pixels, Plot, Records


def plot(
    figure: Annotated[str, typer.Argument(help="tradeoff, epsilon, queries, heatmap or gallery.")],
    records: RecordPlaces = None,
    defense: Annotated[str | None, typer.Option(metavar="A,B", help="Only these defenses.")] = None,
    attack: Annotated[
        str | None, typer.Option(help="The attack, as pgd_sat or pgd_sat[steps=50].")
    ] = None,
    dataset: OnlyDataset = None,
    norm: Annotated[str | None, typer.Option(help="Only records of this norm.")] = None,
    eps: Annotated[str | None, typer.Option(help="Only records at this eps, as 8/255.")] = None,
    n: Annotated[int | None, typer.Option(help="Only records of so many images.")] = None,
    source: Annotated[
        str | None,
        typer.Option("--with", metavar="SOURCE", help="tradeoff: paper or robustbench."),
    ] = None,
    pi_adv: Annotated[
        float | None, typer.Option(help="tradeoff: weight of robust accuracy.  [default: 0.5]")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            metavar="3,17-19", help="gallery: these images.  [default: the first 5 broken]"
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A .png, .svg or .pdf; repeatable.  [default: FIGURE.png]"
        ),
    ] = None,
    if_changed: Annotated[
        bool, typer.Option(help="Leave files alone that hold these very data.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The plotted data, and the files, on stdout.")
    ] = False,
) -> None:
    """Draw a figure from records.

    Every file holds the SHA-256 of the data plotted in it, and nothing that changes by itself.

    Example: robench plot tradeoff --with paper --attack pgd_trades --out tradeoff.pdf

    Example: robench plot queries --defense fast-at-resnet18-w32 --attack square

    Example: robench plot heatmap --records leaderboards/records --n 1000 --out heatmap.svg

    Example: robench plot gallery --defense fast-at-resnet18-w32 --ids 3,17-19 --out gallery.pdf
    """
    from robench.boards.plots import FIGURES
    from robench.core.record import parse_ids
    from robench.core.threat import parse_number
    from robench.figures.saving import format_of

    made: Callable[..., Plot] = FIGURES.load(figure)
    files = out or [Path(f"{figure}.png")]
    for path in files:
        format_of(path)
    given = {
        "attack": attack,
        "eps": None if eps is None else parse_number(eps),
        "source": source,
        "pi_adv": pi_adv,
        "ids": None if ids is None else parse_ids(ids),
    }
    options = _taken(figure, made, given)
    chosen = _records(records, dataset, norm, n, split_list(defense or ""))
    drawn = made(chosen, **options)
    for remark in drawn.remarks:
        typer.echo(remark, err=True)
    written = _write(drawn, files, if_changed)
    _say(figure, drawn, files, written, as_json)


def _taken(figure: str, made: "Callable[..., Plot]", given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, which must be keywords of the figure's function."""
    options = {name: value for name, value in given.items() if value is not None}
    takes = inspect.signature(made).parameters
    for name in options.keys() - takes.keys():
        known = ", ".join(_option(key) for key in given if key in takes)
        raise InputError(f"{figure} takes no {_option(name)}: it takes {known}")
    return options


def _option(keyword: str) -> str:
    return "--with" if keyword == "source" else f"--{keyword.replace('_', '-')}"


def _records(
    places: list[Path] | None,
    dataset: str | None,
    norm: str | None,
    n: int | None,
    defenses: list[str],
) -> "Records":
    from robench.boards.plots.plot import Records

    return Records(
        found=read_records(places),
        dataset=dataset,
        norm=norm,
        n=n,
        defenses=tuple(defenses),
        pixels=pixels,
    )


def pixels(found: "Found", ids: Sequence[int]) -> "Pixels":
    """Images of a record, as a gallery shows them. Loads torch, which no other figure needs."""
    from robench.evaluation.kept import judged_images

    return judged_images(Path(found.path), found.record, ids)


def _write(plot: "Plot", files: list[Path], if_changed: bool) -> list[Path]:
    """The files written: none before all are drawn."""
    from robench.figures.saving import format_of, rendered, stale, write_all
    from robench.figures.style import styled

    wanted = stale(files, plot.data) if if_changed else files
    if not wanted:
        return []
    with styled():
        figure = plot.draw()
    contents = rendered(figure, dict.fromkeys(map(format_of, wanted)), plot.data)
    write_all({path: contents[format_of(path)] for path in wanted})
    return wanted


def _say(figure: str, plot: "Plot", files: list[Path], written: list[Path], as_json: bool) -> None:
    import msgspec

    from robench.figures.saving import digest

    if as_json:
        content = {
            "figure": figure,
            "files": [str(path) for path in files],
            "sha256": digest(plot.data),
            "data": plot.data,
        }
        typer.echo(msgspec.json.encode(content).decode())
        return
    for path in files:
        typer.echo(f"wrote {path}" if path in written else f"unchanged {path}")
