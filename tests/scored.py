"""A small defense and image set for tests of whole evaluations."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from robench.core.record import Record
from robench.data.evalset import EvalSet
from robench.evaluation.result import Result
from robench.evaluation.run import evaluate
from tests.harness import random_images, small_cnn

FREE = ("seconds", "started", "sittings", "passes_redone")
"""Fields in which a resumed record may differ from an uninterrupted one."""


def small_set(n: int = 64, wrong: int = 4) -> EvalSet:
    """Random images labelled by the small network, but for the first `wrong` ones."""
    images = random_images(n)
    labels = small_cnn()(images).argmax(1).numpy().astype(np.int64)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    levels = (images * 255).round().to(torch.uint8).numpy()
    ids = np.arange(100, 100 + n, dtype=np.int64)
    return EvalSet("small", levels, labels, ids, tuple("abcdefghij"))


def score(
    folder: Path, attacks: str = "pgd_sat", model: nn.Module | None = None, **options: Any
) -> Result:
    """Evaluate the small network (or another) on the small set, records under `folder`."""
    options.setdefault("dataset", small_set())
    options.setdefault("precision", "fp32")
    return evaluate(model or small_cnn(), attacks, out=folder, **options)


def comparable(record: Record) -> dict[str, Any]:
    """The record without what a resume may change."""
    fields = msgspec.to_builtins(record)
    for name in FREE:
        del fields["cost"][name]
    for component in fields["components"]:
        del component["seconds"]
    return fields
