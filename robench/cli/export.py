"""`robench export`: a checkpoint to hand on."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    defense: Annotated[str, typer.Argument(help="A method's name, or a checkpoint file.")],
    out: Annotated[Path, typer.Option(help="The file to write, ending in .safetensors.")],
) -> None:
    """Write a defense's checkpoint in half precision, with all that it says of itself.

    Example: robench export bmtard --out leaderboards/checkpoints/cifar10/bmtard.safetensors
    """
    from robench.core.errors import InputError
    from robench.defenses.export import export_half
    from robench.defenses.reference import load_defense

    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: expected a name that ends in .safetensors")
    found = load_defense(defense)
    export_half(found, out)
    for note in found.notes:
        typer.echo(note, err=True)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", err=True)
