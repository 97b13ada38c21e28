"""A checkpoint to hand on: half the bytes, and everything that it says of itself."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch

from robench.core.errors import InputError
from robench.core.references import portable
from robench.defenses.defense import Defense
from robench.models.weights import read_checkpoint, write_weights


def portable_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """A checkpoint's metadata without the absolute paths that earlier training runs wrote.

    Those of its teachers' files go: their names, hashes and fingerprints tell what they were.
    """
    said = dict(metadata)
    try:
        teachers = msgspec.json.decode(said.get("teachers", ""), type=dict[str, dict[str, str]])
    except msgspec.DecodeError:  # no teachers, or written by others in a form of their own
        return said
    for teacher in teachers.values():
        teacher.pop("path", None)
        ref = teacher.get("ref", "")
        if portable(ref) != ref:
            teacher["ref"] = portable(ref)
            said["recipe"] = said.get("recipe", "").replace(ref, portable(ref))
    return {**said, "teachers": json.dumps(teachers, sort_keys=True)}


def export_half(defense: Defense, path: Path) -> None:
    """The defense's checkpoint in half precision, with its metadata.

    Read again it is another defense, whose fingerprint and figures are its own: score the file.
    Raises: InputError for a defense that comes from no file, or weights that half precision cannot
    hold; RunError when the disk is full.
    """
    source = (defense.source or {}).get("path")
    if source is None:
        raise InputError(f"{defense.ref} comes from no checkpoint file: nothing to export")
    checkpoint = read_checkpoint(Path(source), (defense.source or {}).get("weights"))
    tensors = checkpoint.tensors
    half = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    for name, tensor in half.items():
        if not torch.equal(tensor.isfinite(), tensors[name].isfinite()):
            raise InputError(
                f"{name} of {source} has values beyond half precision (65504): keep it as it is"
            )
    write_weights(path, half, portable_metadata(checkpoint.metadata))
