"""The training images on the device as uint8, their split, order and augmentation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.data.evalset import EvalSet
from robench.numerics.random import BatchDraws

PAD = 4
"""Zero pixels on each side before a crop of the original size (He et al. 2016, section 4.2)."""
_SPLIT_SEED = 0


@dataclass(frozen=True)
class TrainingImages:
    """images: (N, C, H, W) uint8, labels: (N,) int64, ids: (N,) int64; on one device."""

    images: Tensor
    labels: Tensor
    ids: Tensor

    @classmethod
    def of(cls, evalset: EvalSet, device: torch.device) -> "TrainingImages":
        """All of an EvalSet, copied to the device once."""
        arrays = (evalset.images, evalset.labels, evalset.ids)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def __len__(self) -> int:
        return len(self.ids)

    def order(self, draws: BatchDraws) -> Tensor:
        """(N,) rows in the epoch's order: sorted by a random word of each image's id."""
        words = draws.words(self.ids, 2, purpose="order")
        return (((words[:, 0] >> 1) << 32) | words[:, 1]).argsort(stable=True)

    def batch(self, rows: Tensor, draws: BatchDraws, *, augment: bool) -> Tensor:
        """(B, C, H, W) float32 in [0, 1], channels-last; shifted and mirrored where asked for."""
        pixels = self.images[rows]
        if augment:
            pixels = crop_and_flip(pixels, self.ids[rows], draws)
        return (pixels.float() / 255).contiguous(memory_format=torch.channels_last)


def crop_and_flip(pixels: Tensor, ids: Tensor, draws: BatchDraws) -> Tensor:
    """Zero-pad 4, crop at random, flip with chance 1/2; each image by its own draw.

    pixels: (B, C, H, W), any dtype.
    """
    _, channels, height, width = pixels.shape
    offsets = draws.integers(ids, 2, 2 * PAD + 1, purpose="crop")
    flip = draws.integers(ids, 1, 2, purpose="flip").bool()
    rows = offsets[:, :1] + torch.arange(height, device=ids.device)
    across = torch.arange(width, device=ids.device)
    columns = offsets[:, 1:] + torch.where(flip, width - 1 - across, across)
    padded = F.pad(pixels, (PAD, PAD, PAD, PAD))
    image = torch.arange(len(ids), device=ids.device)[:, None, None, None]
    channel = torch.arange(channels, device=ids.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def split(train: EvalSet, validation: int) -> tuple[EvalSet, EvalSet]:
    """(training images, validation images): as many of each class, the same for every run.

    validation: images in all, a multiple of the number of classes.
    Raises: InputError when the classes cannot give as many.
    """
    per_class, rest = divmod(validation, train.num_classes)
    labels, ids = torch.from_numpy(train.labels), torch.from_numpy(train.ids)
    fewest = int(torch.bincount(labels, minlength=train.num_classes).min())
    if rest or not 1 <= per_class < fewest:
        raise InputError(
            f"cannot take {validation} validation images of {train.name}: expected a multiple of "
            f"its {train.num_classes} classes, below {fewest} of each (selection.images)"
        )
    word = BatchDraws(_SPLIT_SEED).words(ids, 1, purpose="split")[:, 0]
    held = torch.zeros(len(ids), dtype=torch.bool)
    for label in range(train.num_classes):
        own = (labels == label).nonzero()[:, 0]
        held[own[word[own].argsort(stable=True)[:per_class]]] = True
    return train.select(ids[~held].tolist()), train.select(ids[held].tolist())
