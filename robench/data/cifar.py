"""CIFAR-10 and CIFAR-100, from the official binary batches or the python ones.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robench.core.errors import InputError
from robench.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from robench.data.dataset import Archive, Dataset, Layout, missing
from robench.data.evalset import EvalSet
from robench.data.npm import unpack_cifar10
from robench.data.unpickle import read_batch

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_COARSE_CLASSES = 20
_MAX_BATCH_BYTES = 1 << 30  # six times the largest official file
_HOST = "https://www.cs.toronto.edu/~kriz"

# Images (N, 3, 32, 32) and labels (N,).
_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Variant:
    """What tells CIFAR-10 from CIFAR-100. label_bytes: per binary record; the last one counts.

    label_key: of a python batch. parts: part -> names of the binary files; the python files have
    the same names without ".bin".
    """

    name: str
    class_names: tuple[str, ...]
    label_bytes: int
    label_key: bytes
    parts: dict[str, tuple[str, ...]]


_TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR10 = _Variant(
    "cifar10",
    CIFAR10_CLASSES,
    label_bytes=1,
    label_key=b"labels",
    parts={"test": ("test_batch.bin",), "train": _TRAIN_BATCHES},
)
_CIFAR100 = _Variant(
    "cifar100",
    CIFAR100_CLASSES,
    label_bytes=2,
    label_key=b"fine_labels",
    parts={"test": ("test.bin",), "train": ("train.bin",)},
)


def _read(variant: _Variant, root: Path, part: str) -> EvalSet:
    """A part of CIFAR-10 or CIFAR-100; ids count through the batches in their official order."""
    paths, read_file = _find(variant, root, part)
    images, labels = zip(*(read_file(variant, path) for path in paths), strict=True)
    count = sum(map(len, labels))
    return EvalSet(
        name=variant.name,
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        ids=np.arange(count, dtype=np.int64),
        class_names=variant.class_names,
    )


def _find(
    variant: _Variant, root: Path, part: str
) -> tuple[list[Path], Callable[[_Variant, Path], _Batch]]:
    """The files of a part, and what reads one; only this part's files need to be there."""
    binary = variant.parts[part]
    python = tuple(name.removesuffix(".bin") for name in binary)
    for names, read_file in ((binary, _read_binary), (python, _read_python)):
        if folder := Layout(dict.fromkeys(names)).find(root):
            return [folder / name for name in names], read_file
    raise missing(variant.name, root)


def _read_binary(variant: _Variant, path: Path) -> _Batch:
    record = variant.label_bytes + _PIXELS
    content = _content(path)
    if not content or len(content) % record:
        raise InputError(
            f"{path} has {len(content)} bytes, which is no whole number of "
            f"{variant.name} records of {record} bytes: the file is cut short or of another kind"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    labels = records[:, variant.label_bytes - 1].astype(np.int64)
    _check_labels(labels, len(variant.class_names), path)
    if variant.label_bytes == 2:
        _check_labels(records[:, 0].astype(np.int64), _COARSE_CLASSES, path)
    return records[:, variant.label_bytes :].reshape(-1, *_SHAPE), labels


def _read_python(variant: _Variant, path: Path) -> _Batch:
    batch = read_batch(_content(path), str(path))
    pixels, given = batch.get(b"data"), batch.get(variant.label_key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InputError(f"{path} has no uint8 array under 'data': not a {variant.name} batch")
    labels = _label_array(given, path, variant)
    if pixels.shape != (len(labels), _PIXELS) or not len(labels):
        raise InputError(
            f"{path} holds {len(labels)} labels and pixels of shape {pixels.shape}: "
            f"expected (labels, {_PIXELS})"
        )
    _check_labels(labels, len(variant.class_names), path)
    return pixels.reshape(-1, *_SHAPE), labels


def _label_array(given: Any, path: Path, variant: _Variant) -> NDArray[np.int64]:
    if isinstance(given, np.ndarray) and given.dtype == np.int64 and given.ndim == 1:
        return given.astype(np.int64)
    if isinstance(given, list) and all(map(_small_int, given)):
        return np.array(given, dtype=np.int64)
    key = variant.label_key.decode()
    raise InputError(f"{path} has no list of labels under {key!r}: not a {variant.name} batch")


def _small_int(value: object) -> bool:
    # Beyond int64 numpy would raise an OverflowError; any label is far below 2 ** 16.
    return type(value) is int and abs(value) < 1 << 16


def _check_labels(labels: NDArray[np.int64], classes: int, path: Path) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, outside 0 .. {classes - 1}: "
            "the file is damaged or of another kind"
        )


def _content(path: Path) -> bytes:
    if path.stat().st_size > _MAX_BATCH_BYTES:
        raise InputError(f"{path} is larger than any official batch: not a CIFAR file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


CIFAR10 = Dataset(
    name="cifar10",
    base="cifar10",
    read=partial(_read, _CIFAR10),
    # Taken from files whose SHA-1 are those that MXNet's gluon data sets list.
    layouts=(
        Layout(
            {
                "data_batch_1.bin": "sha256:"
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "data_batch_2.bin": "sha256:"
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "data_batch_3.bin": "sha256:"
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "data_batch_4.bin": "sha256:"
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "data_batch_5.bin": "sha256:"
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                "test_batch.bin": "sha256:"
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            }
        ),
        Layout(
            {
                "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
                "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
                "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "md5:40351d587109b95175f43aff81a1287e",
            }
        ),
    ),
    archives=(
        Archive(f"{_HOST}/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
        Archive(f"{_HOST}/cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a"),
    ),
    fallback=unpack_cifar10,
)

CIFAR100 = Dataset(
    name="cifar100",
    base="cifar100",
    read=partial(_read, _CIFAR100),
    layouts=(
        # As MXNet's gluon data sets list them.
        Layout(
            {
                "train.bin": "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
                "test.bin": "sha1:8fb6623e830365ff53cf14adec797474f5478006",
            }
        ),
        Layout(
            {
                "train": "md5:16019d7e3df5f24257cddd939b257f8d",
                "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
            }
        ),
    ),
    archives=(
        Archive(f"{_HOST}/cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),
        Archive(f"{_HOST}/cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85"),
    ),
)
