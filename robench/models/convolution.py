"""SearchConvolution: convolution, optional addition and ReLU in one, differentiable in its inputs.

On CPU the fused oneDNN kernels run on weights packed once, and the gradient of a stride-1
convolution is a convolution with the turned weights, packed as well. Elsewhere, or where those
kernels are missing, the same module runs on ordinary PyTorch calls.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Shape = tuple[int, ...]


def fused_kernels_available() -> bool:
    """Whether this PyTorch has the oneDNN kernels that its own compiler uses (CPU only)."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


class SearchConvolution(nn.Module):
    """relu(convolution(x) + other), frozen; `relu` and `other` are optional.

    split: x (B, C, H, W) float32 enters a bf16 convolution as two bf16 halves that add up to it,
    so that pixels, spaced 1/256 in bf16 near 1, keep their float32 value.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, source: nn.Conv2d, *, relu: bool, dtype: torch.dtype, split: bool = False
    ) -> None:
        super().__init__()
        self.dtype, self.split = dtype, split
        self._packed: dict[tuple[str, Shape], Tensor] = {}
        self.register_buffer("weight", None)
        self.register_buffer("bias", None)
        self.load(source.weight.detach(), None if source.bias is None else source.bias.detach())
        assert not isinstance(source.padding, str), "named paddings are not fused"
        self.stride, self.padding, self.dilation = source.stride, source.padding, source.dilation
        self.groups, self.relu = source.groups, relu

    def load(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take these weights, in the shape of the source's own."""
        weight = torch.cat([weight, weight], dim=1) if self.split else weight
        self.weight = weight.to(self.dtype).contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.to(self.dtype)
        self._packed.clear()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if self.split:
            x = _Split.apply(x)  # type: ignore[no-untyped-call]
        if x.device.type == "cpu" and fused_kernels_available():
            return _Fused.apply(x.contiguous(memory_format=torch.channels_last), other, self)  # type: ignore[no-any-return,no-untyped-call]
        return self._plain(x, other, self.padding)

    def inside(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The same without padding and without gradient, of an x that is split already."""
        if x.device.type == "cpu" and fused_kernels_available():
            return self.fused(x, other, (0, 0))
        return self._plain(x, other, (0, 0))

    def _plain(self, x: Tensor, other: Tensor | None, padding: Any) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        y = y if other is None else y.add_(other)
        return F.relu_(y) if self.relu else y

    def fused(self, x: Tensor, other: Tensor | None, padding: Any) -> Tensor:
        """The oneDNN kernel on channels-last inputs."""
        activation = "relu" if self.relu else "none"
        geometry = (padding, self.stride, self.dilation, self.groups)
        arguments = (self.packed(x, padding), self.bias, *geometry)
        kernels = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return kernels(x, *arguments, activation, [], "")  # type: ignore[no-any-return]
        relu = "relu" if self.relu else None
        return kernels.binary(x, other, *arguments, "add", 1.0, relu, [], "")  # type: ignore[no-any-return]

    def packed(self, x: Tensor, padding: Any) -> Tensor:
        """The weights in the kernel's own order for inputs of this shape."""
        key = ("forward", (*x.shape, *padding))
        if key not in self._packed:
            self._packed[key] = self._pack(self.weight, padding, self.stride, x)
        return self._packed[key]

    def packed_turned(self, gradient: Tensor) -> Tensor:
        """The weights of the gradient's convolution: turned by 180 degrees, channels exchanged."""
        key = ("backward", tuple(gradient.shape))
        if key not in self._packed:
            turned = self.weight.flip(2, 3).transpose(0, 1)
            turned = turned.contiguous(memory_format=torch.channels_last)
            self._packed[key] = self._pack(turned, self.turned_padding, (1, 1), gradient)
        return self._packed[key]

    @property
    def turned_padding(self) -> tuple[int, ...]:
        """Padding of the gradient's convolution."""
        kernel = self.weight.shape[2:]
        return tuple(
            d * (k - 1) - p for d, k, p in zip(self.dilation, kernel, self.padding, strict=True)
        )

    @property
    def turns(self) -> bool:
        """Whether the input gradient is itself a plain convolution."""
        return self.stride == (1, 1) and self.groups == 1 and min(self.turned_padding) >= 0

    def _pack(self, weight: Tensor, padding: Any, stride: Any, x: Tensor) -> Tensor:
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # its stub lacks the input shape
        return reorder(  # type: ignore[no-any-return]
            weight.to_mkldnn(), padding, stride, self.dilation, self.groups, tuple(x.shape)
        )


def split_halves(x: Tensor) -> Tensor:
    """x (B, C, H, W) float32 -> (B, 2C, H, W) bf16: its rounding to bf16, and what that lost."""
    high = x.to(torch.bfloat16)
    low = (x - high.float()).to(torch.bfloat16)
    return torch.cat([high, low], dim=1).contiguous(memory_format=torch.channels_last)


class _Split(torch.autograd.Function):
    """`split_halves`, differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return split_halves(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Both halves carry the same weights, so either half's gradient is that of x.
        return gradient[:, : gradient.shape[1] // 2].float()


class _Fused(torch.autograd.Function):
    """The oneDNN path of `SearchConvolution`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor | None, layer: SearchConvolution) -> Tensor:
        ctx.layer = layer
        if other is not None:
            other = other.contiguous(memory_format=torch.channels_last)
        y = layer.fused(x, other, layer.padding)
        ctx.save_for_backward(x, y if layer.relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        layer: SearchConvolution = ctx.layer
        x, y = ctx.saved_tensors
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        own = _input_gradient(layer, x, gradient) if ctx.needs_input_grad[0] else None
        return own, gradient if ctx.needs_input_grad[1] else None, None


def _input_gradient(layer: SearchConvolution, x: Tensor, gradient: Tensor) -> Tensor:
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if layer.turns:
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
            gradient,
            layer.packed_turned(gradient),
            None,
            layer.turned_padding,
            (1, 1),
            layer.dilation,
            1,
            "none",
            [],
            "",
        )
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient,
        x,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        (0, 0),
        layer.groups,
        (True, False, False),
    )[0]
