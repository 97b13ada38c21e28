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

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

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
_OF_CUDNN = [_SWITCHES["cuda", "conv"], _SWITCHES["cuda", "rnn"]]


@cache
def _has_cuda() -> bool:
    return torch.cuda.is_available()


@contextmanager
def float32_products() -> Iterator[None]:
    """Float32 products and convolutions in float32; every switch is given back as it was."""
    cuda = _has_cuda()
    switches = [s for s in _SWITCHES.values() if cuda or s not in _OF_CUDNN]
    exact = all(switch.value in _EXACT for switch in switches)
    if exact and _matmul() == "highest" and not (cuda and _cudnn()):
        yield  # the usual case within a block like this one, many times an evaluation
        return
    before = [(switch, switch.own, switch.value) for switch in switches]
    try:
        _set_exact(switches)
        matmul, cudnn = _matmul(), _cudnn()  # now that no newer one contradicts them
        torch.set_float32_matmul_precision("highest")
        if cuda:
            torch.backends.cudnn.allow_tf32 = False  # lets them follow their parent again
        _set_exact(switches)
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        if cuda:
            torch.backends.cudnn.allow_tf32 = cudnn
        for switch, own, value in before:
            switch.give_back(own, value)


def _set_exact(switches: Iterable[_Switch]) -> None:
    for switch in switches:
        switch.set("ieee")


def _matmul() -> str:
    """The older switch of products; "" where the newer ones contradict it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return ""


def _cudnn() -> bool:
    """The older switch of cuDNN, where the newer ones are exact: on contradicts them."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return True
