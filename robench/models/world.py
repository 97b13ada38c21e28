"""The caller's world: what a program has set in PyTorch must neither change a verdict nor change.

Everything that is measured runs within `own_world`; a network that a caller gave runs within
`given_back` as well.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from robench.models.global_rng import kept_global_rng
from robench.models.passes import exact_float32


@contextmanager
def own_world() -> Iterator[None]:
    """PyTorch as it is when a program has just started, whatever the caller has made of it.

    Gradients on, no inference mode, float32 and the CPU where code names no type or device, no
    autocast, exact float32 products, neither deterministic mode nor anomaly detection. The caller's
    settings, number of threads and global generators are given back.
    """
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.enter_context(kept_global_rng())
        stack.enter_context(torch.inference_mode(False))  # it turns gradients on as well
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        stack.enter_context(exact_float32())
        stack.enter_context(_any_algorithm())
        # Entered only where it is needed: it costs every call of PyTorch some microseconds.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Deterministic mode off: it raises where a foreign network has no deterministic algorithm."""
    if not torch.are_deterministic_algorithms_enabled():
        yield  # the switch is not touched: that loads PyTorch's compiler, which takes a second
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)


@contextmanager
def given_back(things: Iterable[object]) -> Iterator[None]:
    """Modules among `things` come back as they were given: the mode of each submodule, gradients.

    Layers that a network makes at its first pass get the network's mode. A search of another
    package may call `backward`; the gradients that a caller is collecting are put aside and not
    added to.
    """
    networks = [thing for thing in things if isinstance(thing, nn.Module)]
    modes = {
        id(module): module.training
        for network in networks
        for module in network.modules()
        if hasattr(module, "training")  # a frozen TorchScript module has none
    }
    roots = [(network, getattr(network, "training", False)) for network in networks]
    parameters = [parameter for network in networks for parameter in network.parameters()]
    gradients = [(parameter, parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for network, training in roots:
            for module in network.modules():
                if hasattr(module, "training"):
                    # Not train(): a network's own may do more than that.
                    module.training = modes.get(id(module), training)
        for parameter, gradient in gradients:
            parameter.grad = gradient
