"""A tensor of the pretended CUDA: what it refuses to meet, and what of its work is counted."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import robench

_PACKAGE = str(Path(robench.__file__).parent) + os.sep
CPU = torch.device("cpu")
_MAY_MEET = ("aten._to_copy.default", "aten.copy_.default", "aten.lift_fresh.default")
_NO_SCALARS = ("aten.cat", "aten.stack")
"""Elsewhere a CPU tensor without dimensions is an argument of the kernel."""
_INDEXING = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl")
_NO_LAUNCH = ("aten.empty", "aten.new_empty", "aten._unsafe_view", "aten.lift_fresh")


class TwoDevices(RuntimeError):
    """Tensors of different devices met."""


@dataclass(eq=False)
class Cuda:
    """What happened on the devices since the last `reset`.

    counts: of "launch", "sync" and "upload". sites: of ("sync: nonzero", "attacks/apgd.py:120").
    met: every meeting of devices that was refused; what is in it when the block ends is an error,
    or code that catches everything would hide it.
    """

    generators: list[torch.Generator]
    counts: Counter[str] = field(default_factory=Counter)
    sites: Counter[tuple[str, str]] = field(default_factory=Counter)
    met: list[str] = field(default_factory=list)
    current: int = 0
    started: bool = False

    @property
    def syncs(self) -> int:
        """Times that the host waited for a device."""
        return self.counts["sync"]

    @property
    def launches(self) -> int:
        """Kernels."""
        return self.counts["launch"]

    @property
    def uploads(self) -> int:
        """Copies from the host to a device."""
        return self.counts["upload"]

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()
        self.sites.clear()

    def note(self, kind: str, what: str = "") -> None:
        """Count one more, at the innermost line of the package."""
        self.counts[kind] += 1
        if kind != "launch":
            self.sites[f"{kind}: {what}", _site()] += 1

    def device(self, given: object = None) -> torch.device:
        """A device with its index, from what PyTorch's functions are given."""
        if given is None or (isinstance(given, int) and given < 0):
            return torch.device("cuda", self.current)
        if isinstance(given, int):
            return torch.device("cuda", given)
        device = torch.device(given)  # type: ignore[call-overload]
        return self.device() if device.index is None else device

    def seed(self, seed: int, device: object = None) -> None:
        """Seed one device's generator."""
        self.generators[self.device(device).index].manual_seed(seed)

    @contextmanager
    def drawing(self, device: torch.device) -> Iterator[None]:
        """The CPU's default generator stands in for that of the device."""
        own, default = self.generators[device.index], torch.default_generator
        before = default.get_state()
        default.set_state(own.get_state())
        try:
            yield
        finally:
            own.set_state(default.get_state())
            default.set_state(before)


active: list[Cuda] = []


def current_cuda() -> Cuda:
    if not active:
        raise RuntimeError("a tensor of the pretended device outlived it")
    return active[-1]


def _site() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return f"{name.removeprefix(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside the package"


class CudaTensor(torch.Tensor):
    """A tensor that says it is on `at`; `inner` holds its values on the CPU."""

    inner: Tensor
    at: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, at: torch.device) -> "CudaTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CPU,
        )
        made.inner, made.at = inner, at
        return made

    @property
    def device(self) -> torch.device:
        return self.at

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    def get_device(self) -> int:
        index: int = self.at.index
        return index

    def numpy(self, *args: object, **more: object) -> Any:
        raise TypeError(f"can't convert {self.at} device type tensor to numpy")

    def __array__(self, *args: object) -> Any:
        return self.numpy()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"CudaTensor({tuple(self.shape)}, {self.dtype}, {self.at})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        copied: Tensor = CudaTensor(self.inner.clone(), self.at)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """The values of a tensor on a device, without gradient; shared where both are on the CPU."""
    inner = tensor.inner if isinstance(tensor, CudaTensor) else tensor.detach()
    if device.type == "cpu":
        return inner
    return CudaTensor(inner, device)


def inner_of(value: Any) -> Any:
    """A value, or a list of values, with the CPU tensors within those of a device."""
    if isinstance(value, CudaTensor):
        return value.inner
    if isinstance(value, list | tuple):
        return type(value)([inner_of(item) for item in value])
    return value


def _on(device: torch.device, value: Any) -> Any:
    """What an operation gave, with its tensors on a device."""
    if isinstance(value, Tensor):
        return CudaTensor(value, device)
    if isinstance(value, list | tuple):
        return type(value)([_on(device, item) for item in value])
    return value


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


@dataclass(frozen=True)
class _Kind:
    """What is to be known of an operation."""

    name: str
    launches: bool
    waits: bool
    draws: bool
    writes: int | None
    """Which argument it writes to and returns."""


@cache
def _kind(func: Any) -> _Kind:
    name, returns = str(func), func._schema.returns
    indexes = name.startswith(_INDEXING)
    waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
    written = [
        number
        for number, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    first = returns[0].alias_info if returns else None
    return _Kind(
        name,
        launches=not (func.is_view or name.startswith(_NO_LAUNCH)),
        waits=bool(waits) and not indexes,
        draws=torch.Tag.nondeterministic_seeded in func.tags,
        writes=written[0] if written and first is not None and first.is_write else None,
    )


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    cuda, kind = current_cuda(), _kind(func)
    tensors = _tensors((*args, *kwargs.values()))
    device = next(value.at for value in tensors if isinstance(value, CudaTensor))
    if kind.name == "aten._to_copy.default" and kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": CPU}
    _refuse_meeting(cuda, kind, args, tensors)
    _count(cuda, kind, args)
    inner_args = [inner_of(value) for value in args]
    inner_kwargs = {name: inner_of(value) for name, value in kwargs.items()}
    if kind.draws:
        with cuda.drawing(device):
            out = func(*inner_args, **inner_kwargs)
    else:
        out = func(*inner_args, **inner_kwargs)
    if kind.writes is not None:
        return args[kind.writes] if kind.writes < len(args) else kwargs["out"]
    return _on(device, out)


def _refuse_meeting(cuda: Cuda, kind: _Kind, args: Sequence[Any], tensors: list[Tensor]) -> None:
    if kind.name in _MAY_MEET:
        return
    among = list(tensors)
    if kind.name.startswith(_INDEXING) and isinstance(args[0], CudaTensor):
        # CPU indices are copied to the device; a CPU tensor takes no index of a device.
        indices = [value for value in args[1] if isinstance(value, Tensor)]
        uploaded = [value for value in indices if not isinstance(value, CudaTensor)]
        for _ in uploaded:
            cuda.note("upload", "index")
        among = [value for value in among if not any(value is index for index in uploaded)]
    alone = not kind.name.startswith(_NO_SCALARS)
    devices = {
        str(value.device)
        for value in among
        if not (alone and value.dim() == 0 and not isinstance(value, CudaTensor))
    }
    if (
        kind.writes is not None
        and kind.writes < len(args)
        and isinstance(args[kind.writes], Tensor)
    ):
        devices.add(str(args[kind.writes].device))
    if len(devices) > 1:
        shown = ", ".join(f"{value.device}{tuple(value.shape)}" for value in tensors)
        message = f"{kind.name}: all tensors must be on one device, found {shown} at {_site()}"
        cuda.met.append(message)
        raise TwoDevices(message)


def _count(cuda: Cuda, kind: _Kind, args: Sequence[Any]) -> None:
    if kind.launches:
        cuda.note("launch")
    if kind.waits or (kind.name.startswith(_INDEXING) and _counts_rows(kind, args)):
        cuda.note("sync", kind.name.split(".")[1])
    if kind.name == "aten.copy_.default":
        to, source = args[0], args[1]
        if not isinstance(source, CudaTensor):
            cuda.note("upload", "copy_")
        elif not isinstance(to, CudaTensor):
            cuda.note("sync", "copy_")


def _counts_rows(kind: _Kind, args: Sequence[Any]) -> bool:
    """Whether an indexing has to know how many rows a mask holds."""
    masks = [v for v in args[1] if isinstance(v, Tensor) and v.dtype in (torch.bool, torch.uint8)]
    if not masks or kind.name.startswith("aten.index.Tensor"):
        return bool(masks)
    # One number under one mask is filled in.
    given = [v for v in args[1] if v is not None]
    return len(given) > 1 or isinstance(args[2], CudaTensor) or args[2].numel() != 1
