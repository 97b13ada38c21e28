"""Passes of eight rows on every device, so that the CPU and the pretended GPU round alike."""

from collections.abc import Iterator

import pytest
import torch

from robench.audit import subject
from robench.core.record import PassShape
from robench.evaluation import target
from tests.pretend_cuda import Cuda, pretended

ROWS = 8


@pytest.fixture(autouse=True)
def small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding to a GPU's 256 rows is work without a finding."""

    def shape(device: torch.device, elements: int) -> PassShape:
        return PassShape(ROWS, ROWS)

    monkeypatch.setattr(target, "pass_shape", shape)
    monkeypatch.setattr(subject, "pass_shape", shape)


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    """The pretended devices, for the whole of a test."""
    with pretended() as devices:
        yield devices
