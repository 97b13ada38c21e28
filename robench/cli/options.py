"""Options that several commands take, and how those that name records are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robench.boards.collect import Found

TrainedFor = Annotated[
    str | None, typer.Option(help="Default: the one the defense was trained for.")
]
ClassOrder = Annotated[
    Path | None,
    typer.Option(help="File with the classes of an image folder, one a line, label 0 first."),
]
Eps = Annotated[
    str | None, typer.Option(help="8/255 or 0.031; default the defense's own, else 8/255.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Seed = Annotated[int, typer.Option(help="Of all random draws.")]
Arch = Annotated[str | None, typer.Option(help="Architecture, where a checkpoint does not tell.")]
Width = Annotated[int | None, typer.Option(help="Width, where --arch needs one.")]
Normalize = Annotated[
    str | None, typer.Option(help="none, cifar10, cifar100, imagenet or MEAN/STD.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout.")]
RecordPlaces = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of records, or one record; repeatable.  [default: your records]"),
]
OnlyDataset = Annotated[str | None, typer.Option(help="Only records of this data set.")]


def read_records(places: Sequence[Path] | None) -> "tuple[Found, ...]":
    """The records there, or where `robench eval` writes; what is unreadable is named on stderr."""
    from robench.boards.collect import collect
    from robench.core.project import records_place

    collected = collect(places or [records_place(Path.cwd())])
    for warning in collected.warnings:
        typer.echo(f"left out: {warning}", err=True)
    return collected.found
