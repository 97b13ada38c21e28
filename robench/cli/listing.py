"""`robench list`: what there is of a kind, with one line of help each."""

import json
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from robench.core.errors import InputError
from robench.core.names import did_you_mean

if TYPE_CHECKING:
    from robench.core.table import Table

_TABLES = {
    "defenses": "robench.defenses:DEFENSES",
    "attacks": "robench.attacks:ATTACKS",
    "datasets": "robench.data:DATASETS",
    "architectures": "robench.models:ARCHITECTURES",
    "methods": "robench.training:METHODS",
    "formats": "robench.boards:FORMATS",
    "figures": "robench.boards.plots:FIGURES",
    "adapters": "robench.attacks:ADAPTERS",
}


def list_things(
    kind: Annotated[str, typer.Argument(help="defenses, attacks, datasets, architectures, ...")],
    as_json: Annotated[
        bool, typer.Option("--json", help='[{"name": ..., "help": ...}, ...] on stdout.')
    ] = False,
) -> None:
    """List defenses, attacks, adapters, datasets, architectures, methods, formats or figures.

    Example: robench list attacks

    Example: robench list defenses --json
    """
    table = _table(kind)
    if as_json:
        rows = [{"name": name, "help": table.help(name)} for name in table.names()]
        typer.echo(json.dumps(rows))
        return
    _show(table)


def _table(kind: str) -> "Table":
    there = [kind for kind, target in _TABLES.items() if _exists(target.partition(":")[0])]
    if kind not in there:
        hint = did_you_mean(kind, there)
        raise InputError(f"cannot list {kind!r}{hint or ':'} there are {', '.join(there)}")
    module, _, attribute = _TABLES[kind].partition(":")
    table: Table = getattr(import_module(module), attribute)
    return table


def _exists(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a bare folder has no origin


def _show(table: "Table") -> None:
    """Names and help, as `Text`: rich would read the brackets of a name as markup."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    grid.add_column(no_wrap=True)
    for name in table.names():
        grid.add_row(Text(name, style="bold"), Text(table.help(name)))
    console = Console()
    console.print(grid)
    if table.kind == "attack":  # the only kind whose groups can be asked for by name
        console.print(Text("\nGroups, for --attacks:"))
        for group in table.groups():
            console.print(Text(f"{group}: {', '.join(table.group(group))}"))
        console.print(Text("\nAttacks of other packages: robench list adapters"))
