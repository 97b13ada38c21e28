"""Device kinds, the fixed shape of every pass, and float32 that is float32."""

import platform
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeVar

import torch

from robench.core.errors import InputError
from robench.core.record import PassShape
from robench.models.determinism import reserve_cublas_workspace
from robench.models.float32 import float32_products

PRECISIONS = ("auto", "fp32", "bf16")

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cpu_class() -> str:
    """`amx`, `avx512_bf16` or `other`: the instruction class that decides how kernels round."""
    found = torch.cpu.get_capabilities()
    return next((name for name in ("amx_bf16", "avx512_bf16") if found.get(name)), "other")


def resolve_device(text: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`; a GPU always with its index, `cuda` is the current one.

    Raises: InputError for a device that is not there.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(text)
    except RuntimeError:
        raise InputError(f"unknown device {text!r}: expected auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {text!r} is not supported: expected auto, cpu or cuda")
    if device.type == "cpu":
        return torch.device("cpu")
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {text!r} is not there: {torch.cuda.device_count()} CUDA devices")
    reserve_cublas_workspace()
    return torch.device(
        "cuda", torch.cuda.current_device() if device.index is None else device.index
    )


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`: auto takes bf16 where the hardware gains from it.

    Raises: InputError for an unknown name.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: expected {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if _gains_from_bf16(device) else "fp32"


def _gains_from_bf16(device: torch.device) -> bool:
    if device.type != "cuda":
        return cpu_class() != "other"
    with torch.cuda.device(device):  # it is the current device that is asked
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def device_kind(device: torch.device, precision: str) -> str:
    """What verdicts may depend on beside their inputs, as one text: cpu/avx512_bf16/2.13.0/bf16.

    Of a GPU also the libraries that its kernels come from, which one version of PyTorch is built
    with several of: cuda/NVIDIA-H200/2.11.0/cuda13.0-cudnn91900/bf16.
    """
    version = torch.__version__.split("+")[0]
    if device.type != "cuda":
        return f"{device.type}/{cpu_class()}/{version}/{precision}"
    name = torch.cuda.get_device_name(device).replace(" ", "-")
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    libraries = f"cuda{torch.version.cuda}-cudnn{cudnn}"
    return f"cuda/{name}/{version}/{libraries}/{precision}"


def pass_shape(device: torch.device, elements: int) -> PassShape:
    """Rows of every search pass and every judge pass, for images of `elements` values.

    Fixed per device type and input size, never adapted to a run: kernels round by shape. Measured
    on CPU (benchmarks/pass_shape.py): 32 rows are as fast as more and 5 % faster than 16, which
    fewer padded rows do not win back; the judge is as fast with 16, and pads more often.

    On CUDA nothing is measured yet. 256 rows: the last layers of a ResNet are 4 x 4 pixels, and
    fewer would leave multiprocessors idle. The judge has a quarter of them: what it is asked on
    the way is a few images at a time, and float32 without TF32 is so much slower than bfloat16
    that a pass of 256 rows costs it as much as two or three of the search.
    """
    small = elements <= 3 * 64 * 64
    if device.type == "cuda":
        return PassShape(256, 64) if small else PassShape(64, 16)
    return PassShape(32, 16) if small else PassShape(16, 8)


_RESERVED: ContextVar[int] = ContextVar("threads reserved for passes side by side", default=0)


def _threads() -> int:
    return _RESERVED.get() or torch.get_num_threads()


def passes_at_once(device: torch.device) -> int:
    """How many passes `side_by_side` runs at a time."""
    return _threads() if device.type == "cpu" else 1


@contextmanager
def reserved_for_passes() -> Iterator[None]:
    """The caller's own operations on one CPU thread, passes side by side on as many as before.

    After an operation on several threads OpenMP's wait for the next one at full speed, for
    milliseconds: they took a quarter of their time from the passes of Square.
    """
    threads = torch.get_num_threads()
    outer = _RESERVED.set(_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _RESERVED.reset(outer)


def use_all_threads() -> None:
    """Within `reserved_for_passes`: the caller's operations on all threads again, to its end."""
    torch.set_num_threads(_threads())


@contextmanager
def all_threads() -> Iterator[None]:
    """Within `reserved_for_passes`: the caller's operations on all threads again, in the block."""
    threads = torch.get_num_threads()
    use_all_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    # OpenMP's thread count belongs to the thread that sets it: the caller keeps its own.
    return ThreadPoolExecutor(workers, "pass", initializer=torch.set_num_threads, initargs=(1,))


def side_by_side(run: Callable[[_In], _Out], inputs: Iterable[_In]) -> Iterator[_Out]:
    """run(input) for each, in order, on as many CPU threads as PyTorch has, one thread each.

    Faster than all threads on one pass after another (less waiting for each other), and no result
    depends on the number of threads. `run` must be safe to call from several threads.
    """
    workers = _threads()
    return map(run, inputs) if workers == 1 else _pool(workers).map(run, inputs)


def hardware(device: torch.device) -> dict[str, str]:
    """What a measurement on `device` ran on, for people."""
    found = {"machine": platform.machine(), "threads": str(torch.get_num_threads())}
    name = torch.cpu.get_capabilities().get("cpu_name")
    found["cpu"] = f"{name or platform.processor() or 'unknown'} ({cpu_class()})"
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32, no reduced-precision matrix products, no autotuned or nondeterministic kernels."""
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic)
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        with (
            float32_products(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


_NO_MEMORY = (
    "can't allocate memory",  # the CPU allocator raises a plain RuntimeError
    "not enough memory",
    "cuda error: out of memory",
    "cuda out of memory",
    "_alloc_failed",  # CUBLAS_STATUS_, CUDNN_STATUS_ and their like
    "_allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_, _HOST_
    "unable to find an engine",  # cuDNN: none fits into the workspace that is left
)
"""What libraries say in errors of a general class, in lower case."""


def out_of_memory(error: BaseException) -> bool:
    """Whether what was raised says that the device's or the machine's memory is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return any(said in text for said in _NO_MEMORY)
