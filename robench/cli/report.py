"""`robench report`: one page on one defense, as HTML and as Markdown."""

import re
from pathlib import Path
from typing import Annotated

import typer

from robench.cli.options import Json, RecordPlaces, read_records
from robench.cli.plot import pixels


def report(
    defense: Annotated[str, typer.Argument(help="A defense's name on the records.")],
    records: RecordPlaces = None,
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("report"),
    json: Json = False,
) -> None:
    """Write what is known of a defense: figures, comparison, audit, and how to repeat it.

    DEFENSE.html needs no other file; DEFENSE.md stands beside its pictures.

    Example: robench report bmtard --records leaderboards/records --out report
    """
    import msgspec

    from robench.boards.plots.plot import Records
    from robench.boards.report import html, markdown
    from robench.boards.report.content import report as content_of
    from robench.core.files import atomic_write, check_writable

    check_writable(out)
    found = content_of(Records(found=read_records(records), pixels=pixels), defense)
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", found.title)
    files = {f"{name}.html": html.render(found).encode(), **markdown.files(found, name)}
    for file, content in files.items():
        atomic_write(out / file, content)
    if json:
        typer.echo(msgspec.json.encode({"files": [str(out / file) for file in files]}).decode())
    else:
        typer.echo(f"wrote {out / name}.html and {out / name}.md")
