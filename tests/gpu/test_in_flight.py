"""Images in flight, and the shape of passes, on a GPU."""

import pytest
import torch

from robench.core.record import PassShape
from robench.evaluation.in_flight import (
    COPIES,
    MOST_ON_CPU,
    MOST_ON_CUDA,
    SHARE,
    most_in_flight,
)
from robench.models.passes import pass_shape
from tests.pretend_cuda import pretended

CUDA = torch.device("cuda", 0)
VALUES = 3 * 32 * 32


def memory(monkeypatch: pytest.MonkeyPatch, free: int, reserved: int = 0, used: int = 0) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: used)


def test_a_gpu_holds_as_many_as_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    need = int(4 * COPIES * VALUES / SHARE)
    with pretended():
        memory(monkeypatch, free=100 * need)
        assert most_in_flight(CUDA, VALUES) == 100
        assert most_in_flight(CUDA, 2 * VALUES) == 50
        memory(monkeypatch, free=100 * need, reserved=30 * need, used=20 * need)
        assert most_in_flight(CUDA, VALUES) == 110
        memory(monkeypatch, free=need // 2)
        assert most_in_flight(CUDA, VALUES) == 1
        memory(monkeypatch, free=10**6 * need)
        assert most_in_flight(CUDA, VALUES) == MOST_ON_CUDA


def test_the_cpu_holds_a_constant() -> None:
    assert most_in_flight(torch.device("cpu"), VALUES) == MOST_ON_CPU == 1024


def test_the_judge_has_smaller_passes_than_the_search() -> None:
    assert pass_shape(CUDA, VALUES) == PassShape(256, 64)
    assert pass_shape(CUDA, 3 * 224 * 224) == PassShape(64, 16)
    assert pass_shape(torch.device("cpu"), VALUES) == PassShape(32, 16)
