"""The search copy: the same function, made cheap to differentiate. It costs strength, never truth.

Parameters frozen, batch norm folded into convolutions, channels-last, in-place activations, and in
bf16 all convolutions but the first. What cannot be done to a foreign network is left out and said.
The judge never sees this copy.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FOLDED_TOLERANCE = 1e-4
"""Largest logit difference of the float32 copy, relative to max(1, max|logit|)."""
FOLDED_COSINE = 0.99
"""Least cosine of the copy's input gradients: rounding flips single ReLUs of deep networks."""
BF16_AGREEMENT = 0.8
"""Share of the probe images on which a bf16 copy must give the float32 prediction."""

_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Linear)
_POOL_FUNCTIONS = (F.avg_pool2d, F.adaptive_avg_pool2d, F.linear, torch.mean)
_RELUS = (F.relu, torch.relu)
_ADDS = (operator.add, torch.add)


@dataclass(frozen=True)
class SearchModel:
    """forward: images (B, C, H, W) float32 -> logits (B, K) float32, differentiable in the images.

    precision: what it really runs in. note: how it was prepared, and what could not be done.
    """

    forward: Callable[[Tensor], Tensor]
    precision: str
    note: str


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
    if precision == "fp32":
        return SearchModel(folded, "fp32", "; ".join(notes))
    low = _traced_bf16(folded) if isinstance(folded, fx.GraphModule) else _autocast(folded)
    agreement = _agreement(low, probe, reference)
    if agreement >= BF16_AGREEMENT:
        how = "bf16 convolutions" if isinstance(folded, fx.GraphModule) else "bf16 autocast"
        return SearchModel(low, "bf16", "; ".join([*notes, how]))
    notes.append(f"bf16 left out: it agrees on {agreement:.0%} of the probe images only")
    return SearchModel(folded, "fp32", "; ".join(notes))


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
        graph = _fold_batch_norm(fx.symbolic_trace(copy.deepcopy(frozen)))
        graph = _in_place(graph).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        difference, cosine = _difference(_outputs(graph, probe), reference)
    except Exception as error:  # tracing runs foreign code, which may raise anything
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        return frozen, [f"frozen; not folded: {reason}"]
    if not difference <= FOLDED_TOLERANCE:  # NaN is no agreement
        return frozen, [f"frozen; not folded: logits would move by {difference:.1e}"]
    if not cosine >= FOLDED_COSINE:
        return frozen, [f"frozen; not folded: gradients would turn (cosine {cosine:.2f})"]
    return graph, ["frozen, batch norm folded, channels-last"]


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
    logits, gradient = _outputs(forward, probe)
    if not (logits.isfinite().all() and gradient.isfinite().all()):
        return 0.0
    return float((logits.argmax(1) == reference[0].argmax(1)).float().mean())


def _modules(graph: fx.GraphModule, kind: type[nn.Module]) -> dict[fx.Node, nn.Module]:
    """Nodes that call a module of this kind, for modules called from one place only."""
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    targets = [node.target for node in calls]
    found = {node: graph.get_submodule(str(node.target)) for node in calls}
    return {n: m for n, m in found.items() if type(m) is kind and targets.count(n.target) == 1}


def _fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold each batch norm that alone follows a convolution into its weights."""
    convolutions = _modules(graph, nn.Conv2d)
    for node, norm in _modules(graph, nn.BatchNorm2d).items():
        source = node.args[0]
        convolution = convolutions.get(source) if isinstance(source, fx.Node) else None
        if convolution is None or len(source.users) != 1 or norm.running_mean is None:  # type: ignore[union-attr]
            continue
        graph.set_submodule(source.target, fuse_conv_bn_eval(convolution, norm))  # type: ignore
        node.replace_all_uses_with(source)  # type: ignore[arg-type]
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _in_place(graph: fx.GraphModule) -> fx.GraphModule:
    """relu_ and add_ on fresh convolution or addition outputs: their backward needs no input."""
    fresh = set(_modules(graph, nn.Conv2d))
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _ADDS and len(node.args) == 2:
            _add_in_place(node, fresh)
        elif node.op == "call_function" and node.target in _RELUS:
            if node.args[0] in fresh and len(node.args[0].users) == 1:
                node.target, node.args, node.kwargs = F.relu_, (node.args[0],), {}
    graph.recompile()
    return graph


def _add_in_place(node: fx.Node, fresh: set[fx.Node]) -> None:
    first, second = node.args
    if not (isinstance(first, fx.Node) and isinstance(second, fx.Node)):
        return
    fresh.add(node)
    for own, other in ((first, second), (second, first)):
        if own in fresh and own is not other and len(own.users) == 1:
            node.op, node.target, node.args, node.kwargs = "call_method", "add_", (own, other), {}
            return


class _BFloat16Convolution(nn.Module):
    """A convolution in bf16, whatever its input is in."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        low = copy.deepcopy(convolution).to(torch.bfloat16)
        self.convolution = low.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)  # type: ignore[no-any-return]


def _traced_bf16(folded: fx.GraphModule) -> nn.Module:
    """All convolutions but the first in bf16; pooling and the classifier head in float32.

    Pixels near 1 are spaced 1/256 in bf16, so the first convolution stays in float32.
    """
    graph = copy.deepcopy(folded)
    low = list(_modules(graph, nn.Conv2d))[1:]
    for node in low:
        convolution = graph.get_submodule(str(node.target))
        graph.set_submodule(str(node.target), _BFloat16Convolution(convolution))  # type: ignore
    _Casts(graph, set(low)).insert()
    graph.recompile()
    return graph


class _Casts:
    """Casts between float32 and bf16, one per value, placed by following the types."""

    def __init__(self, graph: fx.GraphModule, low: set[fx.Node]) -> None:
        self.module, self.graph = graph, graph.graph
        self.low_calls = low
        self.is_low: dict[fx.Node, bool] = {}
        self.done: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}

    def insert(self) -> None:
        for node in list(self.graph.nodes):
            sources = [n for n in node.all_input_nodes if n in self.is_low]
            if node in self.low_calls:
                self._cast(node, sources, torch.bfloat16)
                self.is_low[node] = True
            elif node.op == "output" or self._wants_float32(node):
                self._cast(node, sources, torch.float32)
                self.is_low[node] = False
            else:
                low = any(self.is_low[n] for n in sources)
                if low and len(sources) > 1:
                    self._cast(node, sources, torch.bfloat16)
                self.is_low[node] = low

    def _wants_float32(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.module.get_submodule(str(node.target)), _POOLS)
        return node.target in _POOL_FUNCTIONS or node.target == "mean"

    def _cast(self, node: fx.Node, sources: list[fx.Node], dtype: torch.dtype) -> None:
        for source in sources:
            if self.is_low[source] == (dtype is torch.bfloat16):
                continue
            if (source, dtype) not in self.done:
                with self.graph.inserting_after(source):
                    self.done[source, dtype] = self.graph.call_method("to", (source, dtype))
            node.replace_input_with(source, self.done[source, dtype])


def _autocast(frozen: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return frozen(x)  # type: ignore[no-any-return]

    return forward
