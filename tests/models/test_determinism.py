"""Deterministic searches on a GPU, without one: PyTorch's switches and its own warnings."""

import os
import warnings

import pytest
import torch
import torch.utils.deterministic

from robench.models.determinism import deterministic_search, reserve_cublas_workspace
from robench.models.passes import device_kind, resolve_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# As PyTorch 2.11 to 2.13 words them where there is a GPU.
MAX_POOL = (
    "max_pool2d_with_indices_backward_cuda does not have a deterministic implementation, but you "
    "set 'torch.use_deterministic_algorithms(True, warn_only=True)'. You can file an issue at ..."
)
ATTENTION = "Memory Efficient attention defaults to a non-deterministic algorithm. To explicitly .."
CUBLAS = (
    "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
    "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic "
    "because it uses CuBLAS and you have CUDA >= 10.2. To enable ..."
)


def settings() -> tuple[bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.is_warn_always_enabled(),
    )


def unsure() -> None:
    """An operator that warns on the CPU as well."""
    torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))


def test_a_search_on_a_gpu_is_deterministic_and_the_mode_before_comes_back() -> None:
    before = settings()
    with deterministic_search(CUDA):
        assert settings() == (True, True, False, True)
    assert settings() == before == (False, False, True, False)


def test_a_mode_of_the_user_comes_back() -> None:
    try:
        torch.use_deterministic_algorithms(True, warn_only=False)
        with deterministic_search(CUDA):
            unsure()  # the user's strict mode would raise here
        assert settings() == (True, False, True, False)
    finally:
        torch.use_deterministic_algorithms(False)


def test_on_the_cpu_nothing_is_changed() -> None:
    before, show, filters = settings(), warnings.showwarning, list(warnings.filters)
    with deterministic_search(CPU) as found:
        assert settings() == before
        assert warnings.showwarning is show and warnings.filters == filters
        unsure()
    assert found == []


def test_operators_without_a_deterministic_kernel_are_named_once() -> None:
    with deterministic_search(CUDA) as found:
        unsure()
        unsure()
        for text in (MAX_POOL, ATTENTION, CUBLAS, MAX_POOL):
            warnings.warn(text, UserWarning, stacklevel=1)
    names = ["put_", "max_pool2d_with_indices_backward_cuda", "Memory Efficient attention"]
    assert found == [*names, "cuBLAS"]


def test_other_warnings_go_where_they_always_go() -> None:
    with pytest.warns(UserWarning, match="something else"), deterministic_search(CUDA) as found:
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert found == []


def _no_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back where it was unset
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_cublas_is_told_before_cuda_is_used_and_what_the_user_said_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    _no_workspace(monkeypatch)
    resolve_device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    resolve_device("cuda:0")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    reserve_cublas_workspace()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_auto_tells_cublas_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    _no_workspace(monkeypatch)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_kind_of_a_cpu_is_the_text_that_records_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    monkeypatch.setattr("robench.models.passes.cpu_class", lambda: "avx512_bf16")
    assert device_kind(CPU, "bf16") == "cpu/avx512_bf16/2.13.0/bf16"


def test_the_kind_of_a_gpu_has_the_libraries_of_its_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    kinds = []
    for cuda in ("12.6", "13.0"):
        monkeypatch.setattr(torch, "__version__", f"2.11.0+cu{cuda.replace('.', '')}")
        monkeypatch.setattr(torch.version, "cuda", cuda)
        kinds.append(device_kind(CUDA, "bf16"))
    assert kinds[1] == "cuda/NVIDIA-H200/2.11.0/cuda13.0-cudnn91900/bf16"
    assert kinds[0] == "cuda/NVIDIA-H200/2.11.0/cuda12.6-cudnn91900/bf16"
