"""`robench history`: training curves of one or several runs, as figures and in a short table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robench.core.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from robench.training.history import History, Value

_FILE = "history.csv"
_Cell = tuple[str, tuple[str, ...], str]
"""A column of the table: its heading, what of the history stands in it, and how."""
_TABLE: tuple[_Cell, ...] = (
    ("epoch", ("epoch",), "d"),
    ("loss", ("loss",), ".4f"),
    ("clean", ("validation_clean",), ".2%"),
    ("robust", ("validation_robust",), ".2%"),
    ("W-Robust", ("validation_w_robust",), ".2%"),
    ("tau nat/adv", ("tau_nat", "tau_adv"), ".3f"),
    ("w nat/adv", ("w_nat", "w_adv"), ".3f"),
    ("H nat/adv", ("entropy_nat", "entropy_adv"), ".3f"),
)


@dataclass(frozen=True)
class _Run:
    name: str
    path: Path
    method: str
    label: str
    history: "History"

    @property
    def title(self) -> str:
        """The name, with the method where the name does not say it, and the label, always."""
        method = "" if self.method in self.name else self.method
        details = ", ".join(detail for detail in (method, self.label) if detail)
        text = f"{self.name} ({details})" if details else self.name
        return "".join(c if c.isprintable() else "?" for c in text)

    @property
    def last(self) -> "dict[str, Value]":
        return self.history.rows[-1]


def history(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", help="Folders of training runs, or history.csv."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the figures go.  [default: figures/ in DIR; of several runs: ./figures]",
        ),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="png, svg and pdf, one or several, with commas.")
    ] = "png,svg",
    as_json: Annotated[
        bool, typer.Option("--json", help='{"runs": [...], "figures": [...]} on stdout.')
    ] = False,
) -> None:
    """Draw training curves: total loss, both teachers' relative losses, and their entropies.

    A figure shows all runs side by side; a run without its columns is left out, and named.

    Example: robench history runs/bmtard

    Example: robench history runs/mtard-baseline runs/mtard --out paper --format pdf
    """
    from robench.core.names import split_list
    from robench.training.figures import draw

    formats = split_list(format_)
    if not formats:
        raise InputError("--format is empty: expected png, svg or pdf, as in --format png,svg")
    read = _read(runs)
    folder = out or (read[0].path.parent if len(read) == 1 else Path()) / "figures"
    drawn = draw([(run.title, run.history) for run in read], folder, formats=formats)
    for sentence in drawn.left_out:
        typer.echo(f"left out: {sentence}", err=True)
    if as_json:
        typer.echo(_json(read, drawn.paths))
        return
    _show(read, drawn.paths)


def _read(places: Sequence[Path]) -> list[_Run]:
    """Every run, before anything is drawn."""
    from robench.training.history import History

    files = [_file(place) for place in places]
    names = _names([file.parent if file.name == _FILE else file.with_suffix("") for file in files])
    runs = []
    for file, name in zip(files, names, strict=True):
        method, label = _said(file.parent / "recipe.toml")
        run = _Run(name, file, method, label, History.read(file))
        if not run.history.rows:
            raise InputError(f"{file} has no rows yet: the first comes after the first epoch")
        runs.append(run)
    return runs


def _file(place: Path) -> Path:
    if not place.exists():
        raise InputError(f"no such run: {place}; expected a folder with {_FILE}, or that file")
    if place.is_dir() and not (place / _FILE).is_file():
        raise InputError(f"no {_FILE} in {place}: robench train writes it after the first epoch")
    return place / _FILE if place.is_dir() else place


def _names(folders: Sequence[Path]) -> list[str]:
    """The end of each path, as many parts as tell it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    if repeated := {str(f) for f, p in zip(folders, parts, strict=True) if parts.count(p) > 1}:
        raise InputError(f"the same run is given twice: {', '.join(sorted(repeated))}")
    return [_ending(own, [other for other in parts if other != own]) for own in parts]


def _ending(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    length = 1
    while any(own[-length:] == other[-length:] for other in others):
        length += 1
    return str(Path(*own[-length:]))


def _said(recipe: Path) -> tuple[str, str]:
    """Method and label, empty where the run's recipe does not say them or there is none."""
    import tomllib

    if not recipe.is_file():
        return "", ""
    try:
        content = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # ValueError: bad TOML and bad UTF-8
        raise InputError(f"cannot read {recipe}: {error}") from error
    method, label = (content.get(key, "") for key in ("method", "label"))
    if not isinstance(method, str) or not isinstance(label, str):
        raise InputError(f"{recipe}: expected text for method and label")
    return method, label


def _json(runs: Sequence[_Run], figures: Sequence[Path]) -> str:
    import json

    rows = [
        {
            "name": run.name,
            "path": str(run.path),
            "method": run.method,
            "label": run.label,
            "epochs": len(run.history.rows),
            "last": {name: _finite(value) for name, value in run.last.items()},
        }
        for run in runs
    ]
    return json.dumps({"runs": rows, "figures": [str(path) for path in figures]})


def _finite(value: "Value") -> "Value":
    """JSON knows no nan and no inf: null."""
    from math import isfinite

    return None if isinstance(value, float) and not isfinite(value) else value


def _show(runs: Sequence[_Run], figures: Sequence[Path]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table(runs))
    for path in figures:
        typer.echo(f"wrote {path}")


def _table(runs: Sequence[_Run]) -> "Table":
    """The last epoch of each run, as `Text`: rich would read brackets as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    there: set[str] = {name for run in runs for name in run.history.columns}
    cells = [cell for cell in _TABLE if there.issuperset(cell[1])]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for heading, _, _ in cells:
        table.add_column(heading, justify="right")
    for run in runs:
        figures = (_figure(run.last, names, form) for _, names, form in cells)
        table.add_row(Text(run.title), *map(Text, figures))
    return table


def _figure(row: "dict[str, Any]", names: Sequence[str], form: str) -> str:
    values = [row.get(name) for name in names]
    numbers = [format(v, form) if isinstance(v, float | int) else "-" for v in values]
    return "/".join(numbers)
