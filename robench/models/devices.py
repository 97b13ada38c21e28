"""The device that computes: current within a block, with a network on it, its memory given back."""

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    """Within the block, what asks for a GPU without an index gets `device`; before it starts, CUDA
    is started, so that the states of its generators can be kept. A CPU changes nothing.
    """
    if device.type != "cuda":
        yield
        return
    # First of all: whatever else touches CUDA makes a context on the GPU that is current.
    with torch.cuda.device(device):
        torch.cuda.init()  # type: ignore[no-untyped-call]
        yield


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The module itself where it already is on the device, else a copy: the user's stays put.

    A copy as well where its tensors were made in inference mode: no gradient goes through those.
    """
    tensors = [*model.parameters(), *model.buffers()]
    there = all(tensor.device == device for tensor in tensors)
    if there and not any(tensor.is_inference() for tensor in tensors):
        return model
    return copy.deepcopy(model).to(device)


def let_go(error: BaseException, device: torch.device) -> None:
    """What a pass that failed still holds on a GPU goes back to it, where cuBLAS and cuDNN ask."""
    if device.type == "cuda":
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
