"""EvalSet: the images a defense is scored on, with labels and official places."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robench.core.errors import InputError

_Kind = TypeVar("_Kind", np.uint8, np.int64)

_SHOWN = 3  # how many offending ids an error names


@dataclass(frozen=True, eq=False)
class EvalSet:
    """Images with their labels, checked on construction. The arrays are not to be written to.

    Arrays that torch cannot share (turned round by [::-1], or read-only) are copied, once.

    name: the data set's name, the same for its parts and subsets.
    images: (N, C, H, W) uint8. labels: (N,) int64, 0 .. num_classes - 1.
    ids: (N,) int64, each image's place in the official order of its part; unique, kept by subsets.
    class_names: one per label. notes: what a reader should know of how the labels came about.
    class_order: the file that `--class-order` named, of an image folder.
    Raises: InputError when one of these does not hold.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    class_order: str | None = None

    def __post_init__(self) -> None:
        self._check_arrays()
        for what in ("images", "labels", "ids"):
            object.__setattr__(self, what, _shareable(getattr(self, what)))
        self._check_values()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 that two sets share only with the same images, labels and ids in one order.

        Hashed: N, C, H, W as four little-endian int64; the image bytes in C order; the labels, then
        the ids, as little-endian int64. Names are left out: renaming a set changes no verdict.
        """
        sha = hashlib.sha256(np.array(self.images.shape, dtype="<i8").tobytes())
        # .data, not tobytes(): the full Tiny-ImageNet training part would be copied, 1.2 GB.
        sha.update(np.ascontiguousarray(self.images).data)
        sha.update(self.labels.astype("<i8").tobytes())
        sha.update(self.ids.astype("<i8").tobytes())
        return sha.hexdigest()

    def first(self, n: int) -> "EvalSet":
        """The first n images.

        Raises: InputError when there are fewer, or n is below 1.
        """
        if not 1 <= n <= len(self):
            raise InputError(
                f"{self.name} has {len(self)} images: n must be 1 to {len(self)}, not {n}"
            )
        return self._take(slice(n))

    def select(self, ids: Sequence[int] | NDArray[np.int64]) -> "EvalSet":
        """The images with these ids, in the order given.

        Raises: InputError for no ids, ids that are not in the set, or ids given twice.
        """
        place = {image_id: row for row, image_id in enumerate(self.ids.tolist())}
        wanted = [int(image_id) for image_id in ids]
        if not wanted:
            raise InputError(f"no image ids given: {self.name} has {len(self)} images")
        if unknown := [image_id for image_id in wanted if image_id not in place]:
            raise InputError(f"{self.name} has no image with id {_named(unknown)}")
        if twice := _repeated(np.array(wanted)):
            raise InputError(f"image ids given twice: {_named(twice)}")
        return self._take(np.array([place[image_id] for image_id in wanted]))

    def _take(self, rows: slice | NDArray[np.int64]) -> "EvalSet":
        return replace(self, images=self.images[rows], labels=self.labels[rows], ids=self.ids[rows])

    def _check_arrays(self) -> None:
        for what in ("images", "labels", "ids"):
            if not isinstance(given := getattr(self, what), np.ndarray):
                kind = type(given).__name__
                raise InputError(f"{self.name}: {what} must be a numpy array, not {kind}")
        images, count = self.images, len(self.images) if self.images.ndim else 0
        if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
            raise InputError(
                f"{self.name}: images must be a non-empty uint8 array (N, C, H, W), "
                f"not {images.dtype} {images.shape}"
            )
        for what, values in (("labels", self.labels), ("ids", self.ids)):
            if values.dtype != np.int64 or values.shape != (count,):
                raise InputError(
                    f"{self.name}: {what} must be int64 ({count},), "
                    f"not {values.dtype} {values.shape}"
                )

    def _check_values(self) -> None:
        bad = self.labels[(self.labels < 0) | (self.labels >= self.num_classes)]
        if len(bad):
            raise InputError(
                f"{self.name}: label {_named(bad.tolist())} is outside 0 .. {self.num_classes - 1}"
            )
        if (self.ids < 0).any():
            raise InputError(f"{self.name}: ids must not be negative")
        if twice := _repeated(self.ids):
            raise InputError(f"{self.name}: ids must be unique, but {_named(twice)} is there twice")


def _shareable(values: NDArray[_Kind]) -> NDArray[_Kind]:
    """The array itself where torch can read it in place, else a plain copy."""
    turned = any(stride < 0 for stride in values.strides)
    plain = type(values) is np.ndarray and values.flags.writeable and not turned
    return values if plain else np.array(values, order="C", subok=False)


def _repeated(ids: NDArray[np.int64]) -> list[int]:
    values, counts = np.unique(ids, return_counts=True)
    repeated: list[int] = values[counts > 1].tolist()
    return repeated


def _named(ids: list[int]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(map(str, ids[:_SHOWN])) + more
