"""The search copy's graph: batch norm folded, convolutions fused, bf16 between two casts."""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robench.models.convolution import SearchConvolution

FOLDED = "folded batch norms"
"""Key in the graph's `meta`: name of a convolution -> name of the batch norm that went into it."""
_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Linear)
_POOL_FUNCTIONS = (F.avg_pool2d, F.adaptive_avg_pool2d, F.linear, torch.mean)
_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
_ADDS = (operator.add, operator.iadd, torch.add)


def search_graph(frozen: nn.Module, dtype: torch.dtype) -> fx.GraphModule:
    """The graph of a network with its convolutions folded and fused, in float32 or bf16.

    frozen: without gradients for its parameters; it is not changed. In bf16 pooling and the
    classifier head stay in float32. Raises: whatever foreign code does when it is traced.
    """
    graph = fx.symbolic_trace(copy.deepcopy(frozen))
    _views_as_reshapes(graph)
    graph.meta[FOLDED] = _fold_batch_norm(graph)
    fused = _fuse(graph, dtype)
    if dtype is torch.bfloat16:
        _Casts(graph, fused).insert()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _views_as_reshapes(graph: fx.GraphModule) -> None:
    """Views of shapes as reshapes: the same values, whatever the memory format of what is seen."""
    for node in graph.graph.nodes:
        sees_bits = any(isinstance(arg, torch.dtype) for arg in [*node.args, *node.kwargs.values()])
        if node.op == "call_method" and node.target == "view" and not sees_bits:
            node.target = "reshape"


def _modules(graph: fx.GraphModule, kind: type[nn.Module]) -> dict[fx.Node, nn.Module]:
    """Nodes that call a module of this kind, for modules called from one place only."""
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    targets = [node.target for node in calls]
    found = {node: graph.get_submodule(str(node.target)) for node in calls}
    return {n: m for n, m in found.items() if type(m) is kind and targets.count(n.target) == 1}


def _fold_batch_norm(graph: fx.GraphModule) -> dict[str, str]:
    """Fold each batch norm that alone follows a convolution into its weights; see `FOLDED`."""
    folded: dict[str, str] = {}
    convolutions = _modules(graph, nn.Conv2d)
    for node, norm in _modules(graph, nn.BatchNorm2d).items():
        source = node.args[0]
        convolution = convolutions.get(source) if isinstance(source, fx.Node) else None
        if convolution is None or len(source.users) != 1 or norm.running_mean is None:  # type: ignore[union-attr]
            continue
        graph.set_submodule(source.target, fuse_conv_bn_eval(convolution, norm))  # type: ignore
        node.replace_all_uses_with(source)  # type: ignore[arg-type]
        graph.graph.erase_node(node)
        folded[str(source.target)] = str(node.target)  # type: ignore[union-attr]
    return folded


def _fuse(graph: fx.GraphModule, dtype: torch.dtype) -> list[fx.Node]:
    """Put each convolution, the addition and the ReLU that alone follow it into one module."""
    fused: list[fx.Node] = []
    for node, convolution in _modules(graph, nn.Conv2d).items():
        if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            continue
        # The images come in float32 and enter in halves; everything else is bf16 already.
        split = dtype is torch.bfloat16 and not fused
        last, inputs = node, [node.args[0]]
        add = _only_user(node)
        other = _other_addend(add, node)
        if add is not None and other is not None and not split:
            last, inputs = add, [node.args[0], other]
        activation = _only_user(last)
        relu = activation is not None and _is_relu(graph, activation)
        last = activation if relu and activation is not None else last
        module = SearchConvolution(convolution, relu=relu, dtype=dtype, split=split)  # type: ignore[arg-type]
        fused.append(_replace(graph, node, last, inputs, module))
    return fused


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _other_addend(add: fx.Node | None, node: fx.Node) -> fx.Node | None:
    """What is added to `node`, when `add` is a plain addition of two values."""
    if add is None or add.op != "call_function" or add.target not in _ADDS:
        return None
    others = [arg for arg in add.args if arg is not node]
    plain = len(add.args) == 2 and len(others) == 1 and not add.kwargs
    return others[0] if plain and isinstance(others[0], fx.Node) else None


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))) is nn.ReLU
    return node.target in _RELUS


def _replace(
    graph: fx.GraphModule, node: fx.Node, last: fx.Node, inputs: list[Any], module: nn.Module
) -> fx.Node:
    """One call of `module` in the place of everything from `node` to `last`."""
    name = str(node.target)
    graph.set_submodule(name, module)
    with graph.graph.inserting_after(last):
        call = graph.graph.call_module(name, tuple(inputs))
    last.replace_all_uses_with(call)
    current = last
    while current is not node:
        before = next(n for n in current.all_input_nodes if n is node or _leads(n, node))
        graph.graph.erase_node(current)
        current = before
    graph.graph.erase_node(node)
    return call


def _leads(candidate: fx.Node, node: fx.Node) -> bool:
    return node in candidate.all_input_nodes


class _Casts:
    """Casts between float32 and bf16, one per value, placed by following the types."""

    def __init__(self, graph: fx.GraphModule, low: list[fx.Node]) -> None:
        self.module, self.graph = graph, graph.graph
        self.first, self.low_calls = low[:1], set(low)
        self.is_low: dict[fx.Node, bool] = {}
        self.done: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}

    def insert(self) -> None:
        for node in list(self.graph.nodes):
            sources = [n for n in node.all_input_nodes if n in self.is_low]
            if node in self.low_calls:
                # The first splits its own input, and wants it in float32.
                kind = torch.float32 if node in self.first else torch.bfloat16
                self._cast(node, sources, kind)
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
