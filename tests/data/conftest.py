"""Small data sets in the official layouts, and the real ones where this machine has them."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from robench.core.folders import data_folder

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"
TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def pytest_configure(config):
    config.addinivalue_line("markers", "shared_data: needs real data beside the repository")
    config.addinivalue_line("markers", "full_cifar10: needs CIFAR-10 in the user's data folder")


@pytest.fixture(scope="session")
def tiny_zip():
    path = SHARED_DATA / "tiny-imagenet-200-subset.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not in ../shared/data, beside the repository")
    return path


@pytest.fixture(scope="session")
def full_cifar10():
    folder = data_folder() / "cifar10"
    if not (folder / "test_batch.bin").exists():
        pytest.skip("CIFAR-10 is not on this machine: run `robench data fetch cifar10`")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of the user, so no test sees or changes the real one."""
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def write_cifar10():
    """Writes six binary batches of `count` images; what they hold, in the order of the files."""

    def write(folder, count=3, seed=0):
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(seed)
        written = {}
        for name in [*TRAIN_BATCHES, "test_batch"]:
            labels = draw.integers(0, 10, count, dtype=np.uint8)
            pixels = draw.integers(0, 256, (count, 3072), dtype=np.uint8)
            records = b"".join(
                bytes([label]) + image.tobytes()
                for label, image in zip(labels, pixels, strict=True)
            )
            (folder / f"{name}.bin").write_bytes(records)
            written[name] = (pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64))
        return written

    return write


@pytest.fixture
def sums():
    """File names of a folder with their SHA-256, as a layout lists them."""

    def of(folder):
        return {
            path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            for path in sorted(folder.iterdir())
        }

    return of


@pytest.fixture
def python2_batch():
    """A pickle opcode by opcode as Python 2 and its numpy wrote the official batches."""

    def text(value):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value

    def integer(value):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    def array(pixels):
        rows, columns = pixels.shape
        return (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85"
            b"U\x01b\x87Rq\x07(K\x01" + integer(rows) + integer(columns) + b"\x86"
            b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNN"
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(pixels.tobytes()) + b"tb"
        )

    def batch(pixels, labels, key=b"labels"):
        listed = b"]q\x03(" + b"".join(map(integer, labels)) + b"e"
        entries = text(b"batch_label") + text(b"testing batch 1 of 1") + text(key) + listed
        return b"\x80\x02}q\x01(" + entries + text(b"data") + array(pixels) + b"u."

    return batch
