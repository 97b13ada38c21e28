"""Which network a checkpoint belongs to, from the names and shapes of its tensors alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.models import ARCHITECTURES
from robench.models.build import Architecture, Layout, build_empty, layout
from robench.models.keys import canonical, differences, fit

_HINT = (
    "give --arch (robench list architectures), or python:package.module:function, which builds it"
)
_WIDEST = 4096
"""No network of ours is wider; larger numbers in a file are not worth building."""


@dataclass(frozen=True)
class Detected:
    """What the shapes say; width as the family counts it."""

    architecture: str
    width: int
    num_classes: int


def detect(tensors: Mapping[str, Tensor], architecture: str | None = None) -> Detected:
    """The one registered network that all tensors fit, of `architecture` where that is given.

    tensors: after `keys.clean`.
    Raises: InputError when none fits or several do.
    """
    names = ARCHITECTURES.names() if architecture is None else [architecture]
    tried = [_compare(tensors, found) for found in _candidates(tensors, names)]
    fitting = [attempt.found for attempt in tried if not attempt.differences]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = " or ".join(found.architecture for found in fitting)
        raise InputError(f"the tensors fit {several}: {_HINT}")
    nearest = min(tried, key=lambda attempt: attempt.distance, default=None)
    reason = "; ".join(nearest.differences) if nearest else "no first or last layer of it"
    if architecture is not None:
        raise InputError(f"the weights do not fit {architecture}: {reason}")
    near = f" (nearest: {nearest.found.architecture}; {reason})" if nearest else ""
    raise InputError(f"cannot tell the architecture from {len(tensors)} tensors{near}: {_HINT}")


def _candidates(tensors: Mapping[str, Tensor], names: Iterable[str]) -> list[Detected]:
    """Each architecture with the size that its telling tensors have, where they are there."""
    shapes = {canonical(name): tensor.shape for name, tensor in tensors.items()}
    read = (_size(shapes, name) for name in names)
    return [detected for detected in read if detected is not None]


def _size(shapes: Layout, name: str) -> Detected | None:
    chosen: Architecture = ARCHITECTURES.load(name)
    first = shapes.get(canonical(chosen.width_tensor), torch.Size())
    head = shapes.get(canonical(f"{chosen.head}.weight"), torch.Size())
    if len(first) != 4 or len(head) != 2 or first[0] % chosen.channels_per_width:
        return None
    width = first[0] // chosen.channels_per_width
    return Detected(name, width, head[0]) if width <= _WIDEST else None


@dataclass(frozen=True)
class _Attempt:
    """found against the file: how many names differ, and the first of what differs."""

    found: Detected
    distance: int
    differences: list[str]


def _compare(tensors: Mapping[str, Tensor], found: Detected) -> _Attempt:
    try:
        empty = build_empty(found.architecture, found.num_classes, found.width)
    except InputError as error:  # a size that the family cannot have
        return _Attempt(found, 2 * len(tensors), [str(error)])
    wanted = layout(empty)
    fitted = fit(tensors, wanted)[0]
    return _Attempt(found, len(wanted.keys() ^ fitted.keys()), differences(fitted, wanted))
