"""`robench verify`: judge stored adversarial examples again."""

from pathlib import Path
from typing import Annotated

import typer

from robench.cli.options import Device, Json
from robench.core.errors import RequirementNotMet


def verify(
    path: Annotated[Path, typer.Argument(help="A record written with --save-adversarial.")],
    defense: Annotated[
        str | None, typer.Option(help="Where the defense lies now.  [default: as recorded]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Where the images lie now.  [default: as recorded]")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Judge the stored adversarial examples of a record again, on the defense that it names.

    Exit code 1 when a verdict differs. Records hold no absolute paths: a checkpoint or an image
    folder outside the current folder is named with --defense or --dataset.

    Example:

      robench verify records/cifar10/natural-resnet18/pgd_sat-0123456789ab.json
    """
    import sys

    import msgspec

    from robench.evaluation.reverify import reverify

    found = reverify(path, device, defense, dataset)
    if json:
        content = {"checked": found.checked, "broken": found.broken, "differ": found.differ}
        sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
    else:
        sys.stdout.write(
            f"{found.record.defense.name} under {found.record.attack.name}: {found.checked} images "
            f"judged again, {found.broken} broken, {len(found.differ)} verdicts differ\n"
        )
    if found.differ:
        raise RequirementNotMet(f"{path}: verdicts differ for ids {found.differ[:10]}")
