"""What a record was measured on, found again: its images, and the candidates kept beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robench.core.errors import InputError
from robench.core.record import Record, Verdict, parse_ids
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.evaluation.store import read_adversarial
from robench.numerics.projections import distance, per_row

_TOLERANCE = 1e-6
"""Between a distance in a record and here, absolute below 1: devices round pixels differently."""


@dataclass(frozen=True)
class JudgedImages:
    """Images of a record and what the judge saw of each, in the layout in which they are drawn.

    clean, adversarial: (N, H, W, C) little-endian float32 in [0, 1]. refused: the judge refused the
    candidate, and its verdict is of the clean image; adversarial then is that. class_names: one per
    label.
    """

    clean: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    refused: tuple[bool, ...]
    class_names: tuple[str, ...]


def images_of(record: Record, path: Path, ref: str | None = None) -> EvalSet:
    """The images that the record at `path` was measured on.

    ref: the data set as it is called, or lies, here; None: as the record says.
    Raises: InputError when the data set is not here, or is another one.
    """
    asked = record.images
    there = load_evalset(asked.ref if ref is None else ref, class_order=asked.class_order)
    images = there.select(parse_ids(asked.ids))
    if images.digest != record.images.digest:
        raise InputError(f"{record.images.dataset} is not the image set of {path}: digest differs")
    return images


def judged_images(path: Path, record: Record, ids: Sequence[int]) -> JudgedImages:
    """The images `ids` of the record at `path`, with the candidates saved beside it.

    ids: that have a verdict. No network is run: that the candidates are those of the verdicts is
    told by their distance.
    Raises: InputError for images that are not those of the record, and for candidates that are
    missing, damaged or others.
    """
    verdicts = {verdict.id: verdict for verdict in record.verdicts}
    candidates = _candidates(path, ids)
    images = images_of(record, path).select(ids)
    clean = torch.from_numpy(images.images).float() / 255
    if candidates.shape != clean.shape:
        expected, found = tuple(clean.shape[1:]), tuple(candidates.shape[1:])
        raise InputError(f"candidates beside {path} are {found}, its images {expected}")
    size = distance(candidates.double() - clean.double(), record.threat.norm).tolist()
    chosen = [verdicts[image_id] for image_id in ids]
    refused = [_refused(path, v, d) for v, d in zip(chosen, size, strict=True)]
    adversarial = torch.where(per_row(torch.tensor(refused), clean), clean, candidates)
    return JudgedImages(_drawn(clean), _drawn(adversarial), tuple(refused), images.class_names)


def _candidates(path: Path, ids: Sequence[int]) -> Tensor:
    kept, candidates = read_adversarial(path)
    place_of = {image_id: place for place, image_id in enumerate(kept.tolist())}
    if missing := [image_id for image_id in ids if image_id not in place_of]:
        raise InputError(
            f"no candidate of image {missing[0]} beside {path}: "
            "measure again with robench eval ... --save-adversarial"
        )
    return candidates[[place_of[image_id] for image_id in ids]].float()


def _refused(path: Path, verdict: Verdict, size: float) -> bool:
    """Whether the verdict is not of the candidate of that distance, since the judge refused it."""
    if abs(size - verdict.distance) <= _TOLERANCE * max(1.0, verdict.distance):  # NaN is not
        return False
    if verdict.distance == 0 and any(flag.startswith("rejected") for flag in verdict.flags):
        return True
    raise InputError(
        f"the candidate of image {verdict.id} beside {path} is not the judged one: its distance is "
        f"{size:.4g}, the record's {verdict.distance:.4g}: "
        "measure again with robench eval ... --save-adversarial"
    )


def _drawn(images: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy(), dtype="<f4")
