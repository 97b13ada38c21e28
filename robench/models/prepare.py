"""The search copy: the same function, made cheap to differentiate. It costs strength, never truth.

Parameters frozen, batch norm folded into convolutions, additions and ReLUs fused with them,
channels-last, convolutions in bf16 where asked for. What a foreign network cannot take is found out
on a few images, left out, and said. The judge never sees this copy.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robench.models.global_rng import seeded_global_rng
from robench.models.graph import search_graph
from robench.models.layout import padded_chunks, with_channels_last
from robench.models.passes import out_of_memory

FOLDED_TOLERANCE = 1e-4
"""Largest logit difference of the float32 copy, relative to max(1, max|logit|)."""
FOLDED_COSINE = 0.99
"""Least cosine of the copy's input gradients: rounding flips single ReLUs of deep networks."""
BF16_AGREEMENT = 0.8
"""Share of the probe images on which a bf16 copy must give the float32 prediction."""

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SearchModel:
    """forward: images (B, C, H, W) float32 -> logits (B, K) float32, differentiable in the images.

    precision: what it really runs in. note: how it was prepared, and what could not be done.
    traced: it is a graph of PyTorch's own layers, so passes may run in several threads.
    channels_last: the memory format of its passes. no_gradient: why its logits have no gradient in
    the images; None where they have one, be it zero.
    """

    forward: Forward
    precision: str
    note: str
    traced: bool = False
    channels_last: bool = True
    no_gradient: str | None = None


def prepare(
    model: nn.Module, images: Tensor, precision: str, *, rows: int | None = None
) -> SearchModel:
    """A search copy of `model`, checked against it on images (n, C, H, W) float32.

    precision: "fp32" or "bf16". rows: of the passes that it is for, None: n. Falls back to a
    plainer copy where a step fails or changes the function, and says so in the note.
    Raises: what the model raises, unless it does so for a gradient only.
    """
    probe = Probe(images, rows or len(images))
    reference = probe.reference(model)
    frozen = _frozen_copy(model)
    if frozen is None:
        note = "unmodified defense: it cannot be copied"
        return as_it_is(model, model, note, probe, traced=False)
    folded, why_not = _folded(frozen, probe, reference)
    if folded is None:
        plain = as_it_is(frozen, frozen, f"frozen; not folded: {why_not}", probe, traced=False)
    else:
        note = "frozen, batch norm folded, convolutions fused, channels-last"
        plain = SearchModel(folded, "fp32", note, True, no_gradient=probe.no_gradient)
    if precision == "fp32":
        return plain
    low, how = _low(frozen, plain)
    agreement = probe.agreement(low, reference, plain.channels_last)
    if agreement >= BF16_AGREEMENT:
        return replace(plain, forward=low, precision="bf16", note=f"{plain.note}; {how}")
    left_out = f"bf16 left out: it agrees on {agreement:.0%} of the probe images only"
    return replace(plain, note=f"{plain.note}; {left_out}")


def as_it_is(
    network: nn.Module, forward: Forward, note: str, probe: "Probe", *, traced: bool
) -> SearchModel:
    """A network that is searched as it is: in the memory format that it takes, on images of its own
    where it writes to those that it is given.

    forward: a pass of the network.
    """
    if probe.logits(network)[1]:
        note, forward = f"{note}; it works in place: on copies of the images", _OnCopies(forward)
    channels_last = probe.takes_channels_last(network)
    if not channels_last:
        note = f"{note}; channels-last left out: it does not take it"
    return SearchModel(forward, "fp32", note, traced, channels_last, probe.no_gradient)


def reason(error: BaseException) -> str:
    """What foreign code raised, as the start of one line."""
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


@dataclass(frozen=True)
class _OnCopies:
    """Passes of a network that writes to its input."""

    forward: Forward

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x.clone())


class Probe:
    """A few images (n, C, H, W) on which copies are compared, at passes of `rows` rows.

    no_gradient: why the defense's logits have no gradient in them; None where they have.
    """

    def __init__(self, images: Tensor, rows: int, no_gradient: str | None = None) -> None:
        _, self.images = next(padded_chunks(images[:rows], rows))
        self.n, self.no_gradient = min(len(images), rows), no_gradient

    def reference(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The outputs of the defense itself; whether it has a gradient is found out on the way."""
        try:
            logits, gradient = self._differentiated(model, self.images)
        except Exception as error:  # foreign code may raise anything
            if out_of_memory(error):
                raise
            self.no_gradient = reason(error)
            return self.outputs(model)  # raises, where the gradient was not at fault
        if gradient is None:
            self.no_gradient = "autograd finds no way from its logits back to the images"
            gradient = torch.zeros_like(self.images)
        return logits, gradient

    def outputs(self, forward: Forward, channels_last: bool = False) -> tuple[Tensor, Tensor]:
        """Logits (n, K), and the input gradient of their sum of squares: both must survive."""
        x = with_channels_last(self.images) if channels_last else self.images
        if self.no_gradient is not None:
            return self.logits(forward, channels_last)[0], torch.zeros_like(x)
        logits, gradient = self._differentiated(forward, x)
        return logits, torch.zeros_like(x) if gradient is None else gradient

    def _differentiated(self, forward: Forward, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits = forward(x.clone())[: self.n].float()  # a clone: some work in place
            if not logits.requires_grad:
                return logits, None
            (gradient,) = torch.autograd.grad(logits.square().sum(), x, allow_unused=True)
        return logits.detach(), gradient

    def logits(self, forward: Forward, channels_last: bool = False) -> tuple[Tensor, bool]:
        """Logits (n, K) of a pass without gradient, and whether it wrote to its images."""
        x = with_channels_last(self.images) if channels_last else self.images
        x = x.clone()
        version = x._version
        with torch.no_grad():
            logits = forward(x)[: self.n].float()
        return logits, x._version != version or not torch.equal(x, self.images)

    def agreement(
        self, forward: Forward, reference: tuple[Tensor, Tensor], channels_last: bool
    ) -> float:
        """Share of the images with the reference's prediction; 0 where anything is not finite."""
        try:
            logits, gradient = self.outputs(forward, channels_last)
        except Exception as error:  # a layer that bf16 does not have, code that cannot take it
            if out_of_memory(error):
                raise
            return 0.0
        if not (logits.isfinite().all() and gradient.isfinite().all()):
            return 0.0
        return float((logits.argmax(1) == reference[0].argmax(1)).float().mean())

    def takes_channels_last(self, network: nn.Module) -> bool:
        """Whether the network computes the same on images in that memory format."""
        try:
            with seeded_global_rng():
                plain = self.outputs(network)
            with seeded_global_rng():
                found = self.outputs(network, channels_last=True)
        except Exception as error:  # foreign code may raise anything
            if out_of_memory(error):
                raise
            return False
        difference, cosine = _difference(found, plain)
        return difference <= FOLDED_TOLERANCE and cosine >= FOLDED_COSINE


def _low(frozen: nn.Module, plain: SearchModel) -> tuple[Forward, str]:
    """The bf16 copy: its graph where it could be traced, else under autocast."""
    if plain.traced:
        return search_graph(frozen, torch.bfloat16), "bf16 convolutions"

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return plain.forward(x)

    return forward, "bf16 autocast"


def _frozen_copy(model: nn.Module) -> nn.Module | None:
    try:
        with torch.no_grad():  # or a TorchScript module's copies would be results of an operation
            frozen = copy.deepcopy(model)
    except Exception:  # foreign modules may hold locks, files or graph tensors, and refuse at will
        return None
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return _unwrapped(frozen)


def _unwrapped(network: nn.Module) -> nn.Module:
    """Without what only spreads its passes over devices or compiles them: that cannot be traced."""
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrapped(network.module)
    if hasattr(network, "_orig_mod") and isinstance(network._orig_mod, nn.Module):
        return _unwrapped(network._orig_mod)
    for name, child in network.named_children():
        inner = _unwrapped(child)
        if inner is not child:
            setattr(network, name, inner)
    return network


def _folded(
    frozen: nn.Module, probe: Probe, reference: tuple[Tensor, Tensor]
) -> tuple[nn.Module | None, str]:
    """The traced, folded, channels-last copy, or None with the reason."""
    try:
        graph = search_graph(frozen, torch.float32)
        difference, cosine = _difference(probe.outputs(graph, channels_last=True), reference)
        # Without gradient as well: tracing loses a network's own enable_grad.
        logits, works_in_place = probe.logits(graph, channels_last=True)
        plain, _ = _difference((logits, reference[1]), reference)
    except Exception as error:  # tracing runs foreign code, which may raise anything
        if out_of_memory(error):
            raise
        return None, reason(error)
    if not (difference <= FOLDED_TOLERANCE and plain <= FOLDED_TOLERANCE):  # NaN is no agreement
        return None, f"logits would move by {max(difference, plain):.1e}"
    if not cosine >= FOLDED_COSINE:
        return None, f"gradients would turn (cosine {cosine:.2f})"
    return (None, "it works in place") if works_in_place else (graph, "")


def _difference(
    outputs: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]
) -> tuple[float, float]:
    """Largest logit difference relative to max(1, max|logit|); cosine of the input gradients."""
    logits, exact = outputs[0], reference[0]
    moved = (logits - exact).abs().max() / exact.abs().max().clamp(min=1.0)
    # In C order: the gradients of passes in different memory formats lie differently.
    gradients = (outputs[1].contiguous().flatten(), reference[1].contiguous().flatten())
    same = bool(torch.equal(*gradients))  # two zero gradients have no cosine
    return float(moved), 1.0 if same else float(torch.cosine_similarity(*gradients, dim=0))
