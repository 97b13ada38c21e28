"""`robench init`: a commented robench.toml to begin with."""

from pathlib import Path

import typer

from robench.cli.options import Json
from robench.core.errors import InputError


def init(json: Json = False) -> None:
    """Write a robench.toml into this folder in which everything is explained and nothing set.

    A file that is there stays as it is, with exit code 2.

    Example: robench init
    """
    import msgspec

    from robench.core.files import atomic_write
    from robench.core.project import FILE, TEMPLATE

    path = Path(FILE)
    if path.exists():
        raise InputError(f"{FILE} is there already: nothing was written")
    atomic_write(path, TEMPLATE.encode())
    typer.echo(msgspec.json.encode({"files": [FILE]}) if json else f"wrote {FILE}")
