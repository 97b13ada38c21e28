"""PyTorch's switches for float32 products: all off, whichever of its two generations set them.

The older switches (`set_float32_matmul_precision`, `cudnn.allow_tf32`) and the newer ones
(`fp32_precision` of each backend and operation) describe the same kernels, and PyTorch raises when
it is asked for an older one that the newer contradict. So the older are used where they can be
read, and the newer for what is left; code that runs within finds both in agreement.

A newer switch that was never set follows its parent: conv follows its backend, that follows the
whole of PyTorch. Reading gives the parent's value, so what follows is found by moving the parent.
It must be given back as following, or a caller who moves the parent later would move nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
_SWITCHES = [
    _Switch(backend, operation, _Switch(backend, "all", _WHOLE))
    for backend in ("cuda", "mkldnn")
    for operation in ("matmul", "conv", "rnn")
]


@contextmanager
def float32_products() -> Iterator[None]:
    """Float32 products and convolutions in float32; every switch is given back as it was."""
    matmul = _readable(torch.get_float32_matmul_precision)
    tf32 = _readable(lambda: torch.backends.cudnn.allow_tf32)
    moved: list[tuple[_Switch, str]] = []
    try:
        if matmul not in (None, "highest"):
            torch.set_float32_matmul_precision("highest")
        if tf32:
            torch.backends.cudnn.allow_tf32 = False
        for switch in _SWITCHES:
            if switch.value not in _EXACT:
                moved.append((switch, switch.own))
                switch.set("ieee")
        yield
    finally:
        for switch, value in moved:
            switch.set(value)
        if tf32:
            torch.backends.cudnn.allow_tf32 = True
        if matmul not in (None, "highest"):
            torch.set_float32_matmul_precision(matmul)


def _readable(read: Callable[[], Any]) -> Any:
    """What an older switch says, or None where the newer ones contradict it."""
    try:
        return read()
    except RuntimeError:
        return None
