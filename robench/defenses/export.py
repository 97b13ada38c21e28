"""A checkpoint to hand on: half the bytes, and everything that it says of itself."""

from pathlib import Path

import torch

from robench.core.errors import InputError
from robench.defenses.defense import Defense
from robench.models.weights import read_weights, write_weights


def export_half(defense: Defense, path: Path) -> None:
    """The defense's checkpoint in half precision, with its metadata.

    Read again it is another defense, whose fingerprint and figures are its own: score the file.
    Raises: InputError for a defense that comes from no file, or weights that half precision cannot
    hold; RunError when the disk is full.
    """
    source = (defense.source or {}).get("path")
    if source is None:
        raise InputError(f"{defense.ref} comes from no checkpoint file: nothing to export")
    tensors, metadata = read_weights(Path(source))
    half = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    for name, tensor in half.items():
        if not torch.equal(tensor.isfinite(), tensors[name].isfinite()):
            raise InputError(
                f"{name} of {source} has values beyond half precision (65504): keep it as it is"
            )
    write_weights(path, half, metadata)
