"""PyTorch's switches for float32 products: all off, whichever of its two generations set them.

The older switches (`set_float32_matmul_precision`, `cudnn.allow_tf32`) and the newer ones
(`fp32_precision` of each backend and operation) describe the same kernels. Setting an older one
sets newer ones as well, and PyTorch raises when it is asked for an older one that the newer
contradict. So all of them are read first, then set to agree, older ones before newer ones.

A newer switch that was never set follows its parent: conv follows its backend, that follows the
whole of PyTorch. Reading gives the parent's value, so what follows is found by moving the parent.
It must be given back as following, or a caller who moves the parent later would move nothing.
Those of cuDNN are TF32 as long as they follow nothing, which nothing can set again: they are left
alone on a machine without CUDA, and come back as TF32 on another.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

_EXACT = ("ieee", "none")


@dataclass(frozen=True)
class _Switch:
    """The `fp32_precision` of an operation of a backend.

    Asked for below `torch.backends`: there the setter of mkldnn sets the whole of PyTorch
    (2.11 to 2.13).
    """

    backend: str
    operation: str
    parent: "_Switch | None" = None

    @property
    def value(self) -> str:
        return torch._C._get_fp32_precision_getter(self.backend, self.operation)

    def set(self, value: str) -> None:
        torch._C._set_fp32_precision_setter(self.backend, self.operation, value)

    @property
    def own(self) -> str:
        """Its value where it has one of its own, "none" where it follows its parent."""
        return "none" if self.parent is not None and self._follows(self.parent) else self.value

    def give_back(self, own: str, value: str) -> None:
        """Set to its `own` of before, when its value was `value`."""
        self.set(own)
        if self.value != value:  # of cuDNN, see above
            self.set(value)

    def _follows(self, parent: "_Switch") -> bool:
        before, seen = parent.own, []
        try:
            for value in ("ieee", "tf32"):
                parent.set(value)
                seen.append(self.value)
        finally:
            parent.set(before)
        return seen == ["ieee", "tf32"]


_WHOLE = _Switch("generic", "all")
_SWITCHES = {
    (backend, operation): _Switch(backend, operation, _Switch(backend, "all", _WHOLE))
    for backend in ("cuda", "mkldnn")
    for operation in ("matmul", "conv", "rnn")
}


@dataclass(frozen=True)
class _Older:
    """A switch of the older generation.

    exact: its value for float32 products. agreeing: for each of its values what the newer switches
    must say for it to be readable.
    """

    read: Callable[[], Any]
    set: Callable[[Any], None]
    exact: Any
    agreeing: tuple[dict[tuple[str, str], str], ...]

    def readable(self) -> Any:
        """Its value, or None where the newer switches contradict it."""
        try:
            return self.read()
        except RuntimeError:
            return None

    def found(self) -> Any:
        """Its value, also where it must be asked for with newer switches that agree.

        Those are left moved.
        """
        value = self.readable()
        for newer in self.agreeing:
            if value is not None:
                break
            for name, own in newer.items():
                _SWITCHES[name].set(own)
            value = self.readable()
        return value


def _set_cudnn(value: bool) -> None:
    torch.backends.cudnn.allow_tf32 = value


_MATMUL = _Older(
    torch.get_float32_matmul_precision,
    torch.set_float32_matmul_precision,
    "highest",
    (
        {("cuda", "matmul"): "ieee", ("mkldnn", "matmul"): "ieee"},
        {("cuda", "matmul"): "tf32", ("mkldnn", "matmul"): "tf32"},
        {("cuda", "matmul"): "tf32", ("mkldnn", "matmul"): "bf16"},
    ),
)
_CUDNN = _Older(
    lambda: torch.backends.cudnn.allow_tf32,
    _set_cudnn,
    False,
    (
        {("cuda", "conv"): "ieee", ("cuda", "rnn"): "ieee"},
        {("cuda", "conv"): "tf32", ("cuda", "rnn"): "tf32"},
    ),
)
_OF_CUDNN = [_SWITCHES["cuda", "conv"], _SWITCHES["cuda", "rnn"]]


@cache
def _has_cuda() -> bool:
    return torch.cuda.is_available()


@contextmanager
def float32_products() -> Iterator[None]:
    """Float32 products and convolutions in float32; every switch is given back as it was."""
    switches = [s for s in _SWITCHES.values() if _has_cuda() or s not in _OF_CUDNN]
    olders = [_MATMUL, _CUDNN] if _has_cuda() else [_MATMUL]
    if all(s.value in _EXACT for s in switches) and all(o.readable() == o.exact for o in olders):
        yield  # the usual case within a block like this one, many times an evaluation
        return
    newer = [(switch, switch.own, switch.value) for switch in switches]
    older = [(switch, switch.found()) for switch in olders]
    try:
        for each, _ in older:
            each.set(each.exact)
        for switch in switches:
            switch.set("ieee")
        yield
    finally:
        for each, value in older:
            if value is not None:
                each.set(value)
        for switch, own, before in newer:
            switch.give_back(own, before)
