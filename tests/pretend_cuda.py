"""A CUDA that is not there: found without a GPU is what would raise, or wait, on one.

Within `pretended()` there are two devices. Their tensors say `cuda:0` or `cuda:1`, hold real values
and compute on the CPU. They refuse to meet tensors of another device, as PyTorch does: CPU scalars
without dimensions and CPU indices are allowed. Launches, host syncs and uploads are counted, with
file and line of the package. Each device has a generator of its own.

What it cannot show: rounding, speed and memory of real kernels, cuDNN, NCCL, fused optimisers (the
plain loop runs). Only the thread that entered the block sees it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.pretend_tensor import (
    CPU,
    Cuda,
    CudaTensor,
    TwoDevices,
    active,
    current_cuda,
    inner_of,
    placed,
)

__all__ = ["DEVICES", "Cuda", "CudaTensor", "TwoDevices", "pretended"]

DEVICES = 2
MEMORY = 64 * 2**30
"""Bytes of a device; all of them are free."""


class _Moved(torch.autograd.Function):
    """A copy to another device that passes gradients back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, device: torch.device) -> Tensor:  # type: ignore[override]
        ctx.source = tensor.device
        return placed(tensor, device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return placed(gradient, ctx.source), None


class _Functions(TorchFunctionMode):
    """Creates tensors on the devices and moves them there; the rest goes to the tensors."""

    def __init__(self, cuda: Cuda) -> None:
        super().__init__()
        self.cuda = cuda

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return self._to(func, args[0], args[1:], kwargs)
        first = args[0] if args else None
        if isinstance(first, CudaTensor) and func in _OWN:
            return _OWN[func](self.cuda, first, args[1:], kwargs)
        if kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        return func(*args, **kwargs)

    def _to(self, func: Any, tensor: Tensor, rest: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if func is torch.Tensor.cpu:
            device, dtype, layout = CPU, None, kwargs.get("memory_format")
        elif func is torch.Tensor.cuda:
            device, dtype, layout = self.cuda.device(rest[0] if rest else None), None, None
        elif rest and isinstance(rest[0], Tensor):
            device, dtype, layout = rest[0].device, rest[0].dtype, kwargs.get("memory_format")
        else:
            copies = kwargs.pop("copy", False)
            device, dtype, _, layout = torch._C._nn._parse_to(*rest, **kwargs)
            tensor = tensor.clone() if copies else tensor
        if device is not None:
            tensor = self._moved(tensor, torch.device(device))
        if dtype is None and layout is None:
            return tensor
        more = {} if layout is None else {"memory_format": layout}
        return torch.Tensor.to(tensor, dtype=dtype or tensor.dtype, **more)

    def _moved(self, tensor: Tensor, device: torch.device) -> Tensor:
        device = self.cuda.device(device) if device.type == "cuda" else device
        if device == tensor.device:
            return tensor
        if device.type == "cpu":
            self.cuda.note("sync", "to the host")
        elif tensor.device.type == "cpu":
            self.cuda.note("upload", "to")
        self._start(device)
        if tensor.requires_grad and torch.is_grad_enabled():
            return _Moved.apply(tensor, device)  # type: ignore[no-any-return, no-untyped-call]
        with torch.no_grad():
            return placed(tensor.clone(), device)

    def _made(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        device = torch.device(kwargs["device"])
        if device.type not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        if device.type == "cpu":
            return func(*inner_of(list(args)), **{**kwargs, "device": CPU})
        device = self.cuda.device(device)
        self._start(device)
        if func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            return self._to(torch.Tensor.to, args[0], (device, kwargs.get("dtype")), {})
        uploads = func in (torch.tensor, torch.as_tensor, torch.asarray)
        self.cuda.note("upload" if uploads else "launch", func.__name__)
        learns = kwargs.pop("requires_grad", False)
        with ExitStack() as stack:
            if func.__name__.startswith(("rand", "normal")):
                stack.enter_context(self.cuda.drawing(device))
            made = func(*inner_of(list(args)), **{**kwargs, "device": CPU})
        return placed(made, device).requires_grad_(learns)

    def _start(self, device: torch.device) -> None:
        if device.type == "cuda":
            if not 0 <= device.index < DEVICES:
                raise RuntimeError(f"CUDA error: invalid device ordinal: {device}")
            self.cuda.started = True


def _tolist(cuda: Cuda, tensor: CudaTensor, args: Any, kwargs: Any) -> Any:
    cuda.note("sync", "tolist")
    return tensor.inner.tolist()


def _one_hot(cuda: Cuda, tensor: CudaTensor, args: Any, kwargs: Any) -> Tensor:
    cuda.note("launch")
    if not (args or "num_classes" in kwargs):
        cuda.note("sync", "one_hot")
    return placed(F.one_hot(tensor.inner, *args, **kwargs), tensor.at)


def _new_tensor(cuda: Cuda, tensor: CudaTensor, args: Any, kwargs: Any) -> Tensor:
    cuda.note("upload", "new_tensor")
    return placed(tensor.inner.new_tensor(*args, **kwargs), tensor.at)


_OWN: dict[Any, Callable[..., Any]] = {
    torch.Tensor.tolist: _tolist,
    F.one_hot: _one_hot,
    torch.Tensor.new_tensor: _new_tensor,
}
"""What PyTorch does without asking the tensor."""


class _Device:
    """torch.cuda.device: the current one within a block."""

    def __init__(self, device: object) -> None:
        self.index = current_cuda().device(device).index

    def __enter__(self) -> None:
        self.before, current_cuda().current = current_cuda().current, self.index

    def __exit__(self, *error: object) -> None:
        current_cuda().current = self.before


def _replacements(cuda: Cuda) -> dict[str, object]:
    """What `torch.cuda` is within the block."""

    def start() -> None:
        cuda.started = True

    def choose(device: object) -> None:
        cuda.current = cuda.device(device).index

    def properties(device: object = None) -> SimpleNamespace:
        return SimpleNamespace(
            name=name(device), total_memory=MEMORY, major=9, minor=0, multi_processor_count=132
        )

    def name(device: object = None) -> str:
        return f"Pretended GPU {cuda.device(device).index}"

    def state(device: object = "cuda") -> Tensor:
        return cuda.generators[cuda.device(device).index].get_state()

    def set_state(new: Tensor, device: object = "cuda") -> None:
        cuda.generators[cuda.device(device).index].set_state(new)

    def seed_all(seed: int) -> None:
        for generator in cuda.generators:
            generator.manual_seed(seed)

    return {
        "is_available": lambda: True,
        "device_count": lambda: DEVICES,
        "is_initialized": lambda: cuda.started,
        "init": start,
        "_lazy_init": start,
        "_is_in_bad_fork": lambda: False,
        "is_bf16_supported": lambda *args, **more: True,
        "is_current_stream_capturing": lambda: False,
        "current_device": lambda: cuda.current,
        "set_device": choose,
        "device": _Device,
        "get_device_name": name,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": properties,
        "synchronize": lambda device=None: cuda.note("sync", "synchronize"),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state": state,
        "set_rng_state": set_state,
        "get_rng_state_all": lambda: [generator.get_state() for generator in cuda.generators],
        "manual_seed": cuda.seed,
        "manual_seed_all": seed_all,
        "initial_seed": lambda: cuda.generators[cuda.current].initial_seed(),
    }


def _autocast(device_type: str, *args: Any, **more: Any) -> Any:
    """The CPU computes, so it is the CPU's autocast that has an effect."""
    return torch.amp.autocast_mode.autocast(
        "cpu" if device_type == "cuda" else device_type, *args, **more
    )


@contextmanager
def pretended() -> Iterator[Cuda]:
    """Two CUDA devices, until the block ends.

    Raises: TwoDevices at the end of the block for a refused meeting that some code has caught.
    """
    assert not active, "there is one pretended CUDA at a time"
    cuda = Cuda([torch.Generator().manual_seed(number) for number in range(DEVICES)])
    future = torch.__future__
    overwrites = future.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        stack.callback(future.set_overwrite_module_params_on_conversion, overwrites)
        for name, value in _replacements(cuda).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "autocast", _autocast))
        # A parameter on the CPU cannot become one of the device in place.
        future.set_overwrite_module_params_on_conversion(True)
        active.append(cuda)
        stack.callback(active.remove, cuda)
        stack.enter_context(_Functions(cuda))
        yield cuda
    if cuda.met:
        raise TwoDevices(f"some code has caught: {cuda.met[0]}")
