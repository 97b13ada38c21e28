"""A search copy that follows a network in training: folded anew when the weights have moved."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from robench.models.convolution import SearchConvolution
from robench.models.graph import FOLDED, search_graph


class FollowingCopy:
    """The network in evaluation mode, as fast as the attacks' own search copy.

    network: of PyTorch's own layers, traceable; it is only read. dtype: of the convolutions.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        frozen = copy.deepcopy(network).eval().requires_grad_(False)
        self.graph = search_graph(frozen, dtype)
        self._folded: dict[str, str] = self.graph.meta[FOLDED]

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) float32 -> logits (B, K) float32, differentiable in the images."""
        logits: Tensor = self.graph(x)
        return logits.float()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the network's weights and running statistics as they are now."""
        for name, module in self.graph.named_modules():
            if isinstance(module, SearchConvolution):
                module.load(*self._weights(name))
            elif name and not list(module.children()):
                module.load_state_dict(self.network.get_submodule(name).state_dict())

    def _weights(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a convolution with the batch norm that was folded into it."""
        source = self.network.get_submodule(name)
        assert isinstance(source, nn.Conv2d)
        if name not in self._folded:
            return source.weight, source.bias
        norm = self.network.get_submodule(self._folded[name])
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        return fuse_conv_bn_weights(
            source.weight,
            source.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
