"""A CIFAR-10 training part of 120 real images without its test part, and teachers for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robench.core.folders import data_folder
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.models.build import build
from robench.models.weights import write_weights


def write_train_part(images: EvalSet, folder: Path) -> None:
    """Five official binary batches; there is no test batch."""
    records = np.concatenate(
        [images.labels[:, None].astype(np.uint8), images.images.reshape(len(images), -1)], axis=1
    )
    folder.mkdir(parents=True)
    for number, batch in enumerate(np.array_split(records, 5), start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(batch.tobytes())


@pytest.fixture
def train_part(own_home: None) -> EvalSet:
    """12 images of each class, on disk as the training part of cifar10."""
    sample = load_evalset("cifar10-sample")
    places = [np.flatnonzero(sample.labels == label)[:12] for label in range(10)]
    chosen = sample.select(sample.ids[np.sort(np.concatenate(places))])
    write_train_part(chosen, data_folder() / "cifar10")
    return load_evalset("cifar10", "train")


@pytest.fixture
def teacher_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an untrained network as a checkpoint: teacher_file("clean", classes=10, ...)."""

    def write(name: str, classes: int = 10, **metadata: str) -> Path:
        with torch.random.fork_rng([]):
            torch.manual_seed(len(name))
            network = build("resnet18", classes, 2)
        path = tmp_path / f"{name}.safetensors"
        write_weights(path, network.state_dict(), metadata)
        return path

    return write
