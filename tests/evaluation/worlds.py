"""Worlds: what a program may have set in PyTorch around a call of ours."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

World = Callable[[], AbstractContextManager[Any]]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def older_switches(precision: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def allow_tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def newer_switch(value: str, backend: str, operation: str) -> Iterator[None]:
    """Below `torch.backends`, whose setter of mkldnn sets the whole of PyTorch."""
    torch._C._set_fp32_precision_setter(backend, operation, value)
    try:
        yield
    finally:
        torch._C._set_fp32_precision_setter(backend, operation, "none")


@contextmanager
def deterministic(warn_only: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded() -> Iterator[None]:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    yield


@contextmanager
def unseeded() -> Iterator[None]:
    random.seed()
    np.random.seed()  # noqa: NPY002
    torch.seed()
    yield


@contextmanager
def everything() -> Iterator[None]:
    with ExitStack() as stack:
        for world in (
            torch.no_grad,
            lambda: default_dtype(torch.float64),
            default_device,
            lambda: older_switches("medium"),
            lambda: torch.autocast("cpu", torch.bfloat16),
            lambda: deterministic(warn_only=False),
            lambda: torch.autograd.set_detect_anomaly(True),
        ):
            stack.enter_context(world())
        yield


WORLDS: dict[str, World] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": default_device,
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float32 products high": lambda: older_switches("high"),
    "float32 products medium": lambda: older_switches("medium"),
    "allow_tf32": allow_tf32,
    "fp32_precision tf32": lambda: newer_switch("tf32", "generic", "all"),
    "mkldnn matmul bf16": lambda: newer_switch("bf16", "mkldnn", "matmul"),
    "mkldnn conv bf16": lambda: newer_switch("bf16", "mkldnn", "conv"),
    "deterministic": lambda: deterministic(warn_only=False),
    "deterministic, warnings only": lambda: deterministic(warn_only=True),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "4 threads": lambda: threads(4),
    "seeded": seeded,
    "unseeded": unseeded,
    "everything": everything,
}


def state() -> list[Any]:
    """All that a program can have set, as it reads now."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    return [
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        *(_or_error(read) for read in _OLDER),
        *(torch._C._get_fp32_precision_getter(*name) for name in _NEWER),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state],
    ]


_OLDER = (
    torch.get_float32_matmul_precision,
    lambda: torch.backends.cudnn.allow_tf32,
    lambda: torch.backends.cuda.matmul.allow_tf32,
)
_NEWER = [("generic", "all")] + [
    (backend, operation)
    for backend in ("cuda", "mkldnn")
    for operation in ("all", "matmul", "conv", "rnn")
]


def _or_error(read: Callable[[], object]) -> object:
    try:
        return read()
    except RuntimeError as error:
        return str(error)
