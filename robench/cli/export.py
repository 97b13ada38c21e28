"""`robench export`: a checkpoint to hand on, or the JSON of a submission to RobustBench."""

from pathlib import Path
from typing import Annotated

import typer

from robench.cli.options import Json, read_records
from robench.core.errors import InputError

_ENDINGS = {"weights": ".safetensors", "robustbench": ".json"}


def export(
    defense: Annotated[
        str,
        typer.Argument(help="A method's name or a checkpoint file; for JSON, a name on records."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write, ending in .safetensors, or .json.")],
    format_: Annotated[
        str,
        typer.Option("--format", help="weights: in half precision; robustbench: a submission."),
    ] = "weights",
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Where the figures of a submission are.  [default: your records]"),
    ] = None,
    json: Json = False,
) -> None:
    """Write a defense's checkpoint in half precision, or the JSON that RobustBench asks for.

    The JSON has the clean and AutoAttack accuracy of the records; an existing file keeps what
    people filled in.

    Example: robench export bmtard --out leaderboards/checkpoints/cifar10/bmtard.safetensors

    Example: robench export bmtard --format robustbench --out Zhao2024Mitigating.json
    """
    import msgspec

    from robench.core.names import did_you_mean

    if format_ not in _ENDINGS:
        hint = did_you_mean(format_, _ENDINGS) or f": there are {', '.join(_ENDINGS)}"
        raise InputError(f"unknown format {format_!r}{hint}")
    if out.suffix != _ENDINGS[format_]:
        raise InputError(f"--out {out}: expected a name that ends in {_ENDINGS[format_]}")
    if format_ == "robustbench":
        _write_submission(defense, records, out)
    elif records:
        raise InputError("--records goes with --format robustbench: weights need no figures")
    else:
        _write_weights(defense, out)
    if json:
        typer.echo(msgspec.json.encode({"files": [str(out)]}).decode())


def _write_weights(defense: str, out: Path) -> None:
    from robench.defenses.export import export_half
    from robench.defenses.reference import load_defense

    found = load_defense(defense)
    export_half(found, out)
    for note in found.notes:
        typer.echo(note, err=True)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", err=True)


def _write_submission(defense: str, records: list[Path] | None, out: Path) -> None:
    from robench.boards.submission import model_info, open_fields, read_earlier, render
    from robench.core.files import atomic_write

    info = model_info(read_records(records), defense)
    text = render(info, read_earlier(out))
    atomic_write(out, text.encode())
    typer.echo(f"wrote {out}", err=True)
    if info.footnote:
        typer.echo(f"not yet a submission, which needs all test images: {info.footnote}", err=True)
    if missing := open_fields(text):
        typer.echo(f"to be filled in by hand: {', '.join(missing)}", err=True)
