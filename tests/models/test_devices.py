"""Devices: the chosen one is asked and current, networks are on it, a full one is recognised."""

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from robench.core.errors import InputError
from robench.evaluation.doctor import examine
from robench.models.devices import current, let_go, on_device
from robench.models.passes import (
    device_kind,
    hardware,
    out_of_memory,
    resolve_device,
    resolve_precision,
)
from tests.pretend_cuda import pretended

CPU = torch.device("cpu")


def test_a_gpu_always_has_its_index() -> None:
    with pretended():
        assert [str(resolve_device(text)) for text in ("auto", "cuda", "cuda:1")] == [
            "cuda:0",
            "cuda:0",
            "cuda:1",
        ]
        torch.cuda.set_device(1)
        assert str(resolve_device("cuda")) == str(resolve_device("auto")) == "cuda:1"
        with pytest.raises(InputError, match="'cuda:2' is not there: 2 CUDA devices"):
            resolve_device("cuda:2")
    assert resolve_device("cpu:0") == CPU


def test_the_chosen_gpu_is_asked_and_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    second = torch.device("cuda", 1)
    with pretended():
        with monkeypatch.context() as patch:
            old = {"is_bf16_supported": lambda **more: torch.cuda.current_device() == 1}
            patch.setattr(torch.cuda, "is_bf16_supported", old["is_bf16_supported"])
            assert resolve_precision("auto", second) == "bf16"
            assert resolve_precision("auto", torch.device("cuda", 0)) == "fp32"
            found = {finding.what: finding.found for finding in examine()}
        assert hardware(second)["gpu"] == "Pretended GPU 1"
        assert "gpu" not in hardware(CPU)  # one that is there and was not used
        assert device_kind(second, "fp32").startswith("cuda/Pretended-GPU-1/")
        assert torch.cuda.current_device() == 0
    assert found["cuda:0"] == "Pretended GPU 0, fp32"
    assert found["cuda:1"] == "Pretended GPU 1, bf16"


def test_the_chosen_gpu_is_current_within_the_block_and_the_old_one_after() -> None:
    with pretended() as cuda:
        with current(CPU):
            assert not cuda.started
        with pytest.raises(ValueError, match="inside"), current(torch.device("cuda", 1)):
            # Started: only then do its generators have a state that can be kept.
            assert cuda.started and torch.cuda.current_device() == 1
            raise ValueError("inside")
        assert torch.cuda.current_device() == 0


def test_a_network_is_copied_from_one_gpu_to_another() -> None:
    with pretended():
        network = nn.Linear(2, 2).to("cuda:0")
        first, second = torch.device("cuda", 0), torch.device("cuda", 1)
        assert on_device(network, first) is network
        for device in (second, CPU):
            assert {p.device for p in on_device(network, device).parameters()} == {device}
        assert {p.device for p in network.parameters()} == {first}


def test_a_network_on_the_cpu_is_taken_as_it_is() -> None:
    network = nn.Linear(2, 2)
    assert on_device(network, CPU) is network
    with torch.inference_mode():
        frozen = nn.Linear(2, 2)
    assert on_device(frozen, CPU) is not frozen


FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "Unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
    "GET was unable to find an engine to execute this computation",
    "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 68719476736 bytes.",
)
OTHER = (
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
)


@pytest.mark.parametrize("text", FULL)
def test_a_full_memory_is_recognised(text: str) -> None:
    assert out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("text", OTHER)
def test_other_failures_are_not_taken_for_a_full_memory(text: str) -> None:
    assert not out_of_memory(RuntimeError(text))


def test_a_full_memory_is_recognised_by_its_class() -> None:
    assert out_of_memory(torch.OutOfMemoryError("")) and out_of_memory(MemoryError())


def fails(keep: Callable[[torch.Tensor], None]) -> None:
    large = torch.zeros(4)
    keep(large)
    raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize("device", [CPU, torch.device("cuda", 1)])
def test_what_a_failed_pass_holds_goes_back_to_a_gpu(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(held[0]() is None))
    try:
        fails(lambda large: held.append(weakref.ref(large)))
    except RuntimeError as error:
        let_go(error, device)
    assert emptied == ([] if device == CPU else [True])
