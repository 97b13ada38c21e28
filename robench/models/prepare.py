"""The search copy: the same function, made cheap to differentiate. It costs strength, never truth.

Parameters frozen, batch norm folded into convolutions, additions and ReLUs fused with them,
channels-last, convolutions in bf16 where asked for. What cannot be done to a foreign network is
left out and said. The judge never sees this copy.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from robench.models.graph import search_graph

FOLDED_TOLERANCE = 1e-4
"""Largest logit difference of the float32 copy, relative to max(1, max|logit|)."""
FOLDED_COSINE = 0.99
"""Least cosine of the copy's input gradients: rounding flips single ReLUs of deep networks."""
BF16_AGREEMENT = 0.8
"""Share of the probe images on which a bf16 copy must give the float32 prediction."""


@dataclass(frozen=True)
class SearchModel:
    """forward: images (B, C, H, W) float32 -> logits (B, K) float32, differentiable in the images.

    precision: what it really runs in. note: how it was prepared, and what could not be done.
    traced: it is a graph of PyTorch's own layers, so passes may run in several threads.
    """

    forward: Callable[[Tensor], Tensor]
    precision: str
    note: str
    traced: bool = False


def prepare(model: nn.Module, probe: Tensor, precision: str) -> SearchModel:
    """A search copy of `model`, checked against it on `probe` (n, C, H, W) float32.

    precision: "fp32" or "bf16". Falls back to a plainer copy where a step fails or changes the
    function, and says so in the note.
    """
    reference = _outputs(model, probe)
    frozen = _frozen_copy(model)
    if frozen is None:
        return SearchModel(model, "fp32", "unmodified defense: it cannot be copied")
    folded, notes = _folded(frozen, probe, reference)
    traced = isinstance(folded, fx.GraphModule)
    if precision == "fp32":
        return SearchModel(folded, "fp32", "; ".join(notes), traced)
    low, how = _low(frozen, traced)
    agreement = _agreement(low, probe, reference)
    if agreement >= BF16_AGREEMENT:
        return SearchModel(low, "bf16", "; ".join([*notes, how]), traced)
    notes.append(f"bf16 left out: it agrees on {agreement:.0%} of the probe images only")
    return SearchModel(folded, "fp32", "; ".join(notes), traced)


def _low(frozen: nn.Module, traced: bool) -> tuple[Callable[[Tensor], Tensor], str]:
    """The bf16 copy: its graph where it could be traced, else under autocast."""
    if traced:
        return search_graph(frozen, torch.bfloat16), "bf16 convolutions"

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return frozen(x)  # type: ignore[no-any-return]

    return forward, "bf16 autocast"


def _frozen_copy(model: nn.Module) -> nn.Module | None:
    try:
        frozen = copy.deepcopy(model)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError):
        return None  # foreign modules may hold locks, files or graph tensors
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return frozen.eval()


def _outputs(forward: Callable[[Tensor], Tensor], probe: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the input gradient of their sum of squares: both must survive preparation."""
    x = probe.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = forward(x).float()
        if not logits.requires_grad:
            return logits, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x, allow_unused=True)
    return logits.detach(), torch.zeros_like(x) if gradient is None else gradient


def _folded(
    frozen: nn.Module, probe: Tensor, reference: tuple[Tensor, Tensor]
) -> tuple[nn.Module, list[str]]:
    """The traced, folded, channels-last copy, or the frozen one with the reason."""
    try:
        graph = search_graph(frozen, torch.float32)
        difference, cosine = _difference(_outputs(graph, probe), reference)
        with torch.no_grad():  # tracing loses a network's own enable_grad
            plain, _ = _difference((graph(probe), reference[1]), reference)
    except Exception as error:  # tracing runs foreign code, which may raise anything
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        return frozen, [f"frozen; not folded: {reason}"]
    if not (difference <= FOLDED_TOLERANCE and plain <= FOLDED_TOLERANCE):  # NaN is no agreement
        moved = max(difference, plain)
        return frozen, [f"frozen; not folded: logits would move by {moved:.1e}"]
    if not cosine >= FOLDED_COSINE:
        return frozen, [f"frozen; not folded: gradients would turn (cosine {cosine:.2f})"]
    return graph, ["frozen, batch norm folded, convolutions fused, channels-last"]


def _difference(
    outputs: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]
) -> tuple[float, float]:
    """Largest logit difference relative to max(1, max|logit|); cosine of the input gradients."""
    logits, exact = outputs[0], reference[0]
    moved = (logits - exact).abs().max() / exact.abs().max().clamp(min=1.0)
    gradients = (outputs[1].flatten(), reference[1].flatten())
    same = bool(torch.equal(*gradients))  # two zero gradients have no cosine
    return float(moved), 1.0 if same else float(torch.cosine_similarity(*gradients, dim=0))


def _agreement(
    forward: Callable[[Tensor], Tensor], probe: Tensor, reference: tuple[Tensor, Tensor]
) -> float:
    try:
        logits, gradient = _outputs(forward, probe)
    except RuntimeError:  # a layer that bf16 does not have
        return 0.0
    if not (logits.isfinite().all() and gradient.isfinite().all()):
        return 0.0
    return float((logits.argmax(1) == reference[0].argmax(1)).float().mean())
