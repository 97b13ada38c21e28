"""`robench data`: what data sets there are, where they lie, how to get them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import Json

if TYPE_CHECKING:
    from robench.data.download import Progress

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Data sets: which there are, where they lie, how to get them.",
)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the data sets, and which of them are on this machine.

    Example: robench data list --json
    """
    from robench.data import DATASETS

    rows = []
    for name in DATASETS.names():
        dataset = DATASETS.load(name)
        here = dataset.located(dataset.folder) is not None
        rows.append(
            {"name": name, "help": DATASETS.help(name), "here": here, "path": str(dataset.folder)}
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        state = "here" if row["here"] else "to fetch"
        typer.echo(f"{row['name']:{width}}  {state:8}  {row['help']}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set of `robench data list`.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Import this archive or folder instead of downloading."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Get a data set: download it, or import an archive or a folder that is here.

    An interrupted download goes on where it stopped. Hashes are checked before anything is used.

    Example: robench data fetch cifar10

    Example: robench data fetch tiny-imagenet --from ~/Downloads/tiny-imagenet-200.zip
    """
    from robench.data import DATASETS
    from robench.data import fetch as fetching

    if source is None:
        with _progress_bar() as progress:
            path = fetching.fetch(name, say=_say, progress=progress)
    else:
        path = fetching.import_from(name, source.expanduser(), say=_say)
    state = DATASETS.load(name).hash_state(path)
    if as_json:
        typer.echo(json.dumps({"name": name, "path": str(path), "hash_state": state}))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A data set, or the path of an image folder.")],
    part: Annotated[str, typer.Option(help="test, or train.")] = "test",
    as_json: Json = False,
) -> None:
    """Show a data set: path, images, classes, digest, and whether its files are the published ones.

    Example: robench data info cifar10-sample --json
    """
    from robench.data.open import describe

    facts = describe(name, part)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:{width}}  {value}")


def _say(message: str) -> None:
    typer.echo(message, err=True)


@contextmanager
def _progress_bar() -> "Iterator[Progress]":
    """A bar on stderr, where that is a terminal; what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with bar:
        task = bar.add_task("download", total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)
