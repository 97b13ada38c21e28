"""The first 500 CIFAR-10 test images, in the package: something to score without a download.

One PNG, so that it can be looked at: 20 rows of 25 images, the labels as a text entry. PNG is a
quarter smaller here than a compressed .npz (1.08 against 1.41 MB).
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from robench.core.errors import InputError
from robench.data.class_names import CIFAR10_CLASSES
from robench.data.dataset import Dataset, Layout
from robench.data.evalset import EvalSet
from robench.data.pixels import decode_image

_FILE = "cifar10_sample.png"
_HASH = "sha256:6088360fb50300cad9fb404dea6ce0fd670d8b1a5337e4f4a575879f075aa283"
_ROWS, _COLUMNS, _SIDE = 20, 25, 32
_COUNT = _ROWS * _COLUMNS


def encode_sample(cifar10: EvalSet) -> bytes:
    """The bundled file, made from the CIFAR-10 test part."""
    chosen = cifar10.first(_COUNT)
    grid = chosen.images.reshape(_ROWS, _COLUMNS, 3, _SIDE, _SIDE).transpose(0, 3, 1, 4, 2)
    sheet = Image.fromarray(np.ascontiguousarray(grid).reshape(_ROWS * _SIDE, _COLUMNS * _SIDE, 3))
    entry = PngImagePlugin.PngInfo()
    entry.add_text("labels", "".join(map(str, chosen.labels.tolist())))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True, pnginfo=entry)
    return file.getvalue()


def read_sample(root: Path, part: str) -> EvalSet:
    """The sample as an EvalSet; ids are 0 .. 499, the places in the CIFAR-10 test part."""
    path = root / _FILE
    if not path.is_file():
        raise InputError(f"{path} is not there: install robench again")
    content = path.read_bytes()
    pixels = decode_image(content, _FILE)
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        labels = np.array([int(digit) for digit in image.info["labels"]], dtype=np.int64)
    grid = pixels.reshape(3, _ROWS, _SIDE, _COLUMNS, _SIDE).transpose(1, 3, 0, 2, 4)
    return EvalSet(
        name="cifar10-sample",
        images=grid.reshape(_COUNT, 3, _SIDE, _SIDE),
        labels=labels,
        ids=np.arange(_COUNT, dtype=np.int64),
        class_names=CIFAR10_CLASSES,
    )


CIFAR10_SAMPLE = Dataset(
    name="cifar10-sample",
    base="cifar10",
    read=read_sample,
    layouts=(Layout({_FILE: _HASH}),),
    parts=("test",),
    bundled=Path(__file__).parent,
)
