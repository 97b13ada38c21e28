"""What of a network has to be computed again when a window of pixels changes.

A convolution carries a window to the outputs around it; what works on each value alone leaves it
where it is. Once most of a layer is reached, the rest of the network runs in full.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robench.models.convolution import SearchConvolution

MOST_REACHED = 0.8
"""Share of a layer's outputs from which on all are computed: cutting and pasting costs as much."""
LEAST_SAVED = 0.15
"""Share of a pass's multiplications that must be saved: below it whole passes are as fast."""
LEAST_WORK = 5e6
"""Multiplications an image that must be saved: cutting and pasting takes the time of about 3e6."""
_POINTWISE_MODULES = (nn.BatchNorm2d, nn.ReLU, nn.SiLU)
_POINTWISE_FUNCTIONS = (
    *(F.relu, F.silu, torch.relu),
    *(operator.add, operator.sub, operator.mul, operator.truediv),
)
_POINTWISE_METHODS = ("to", "relu")


@dataclass(frozen=True)
class Convolved:
    """A convolution computed again on `size` x `size` of its outputs.

    starts: (T,) first of them by the window's first row (or column). The patch of the source that
    they need begins at `origins` (T,) and has `patch` rows; `slack` of them only hold what the
    source's own new values overlap it by.
    """

    node: fx.Node
    layer: SearchConvolution
    starts: Tensor
    size: int
    origins: Tensor
    patch: int
    slack: int


@dataclass(frozen=True)
class Pointwise:
    """A node whose values each follow from one value of `source`. run: on any part of it."""

    node: fx.Node
    source: fx.Node
    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How logits follow from windows of one size.

    image: the graph's input. spans: node -> (first outputs (T,), how many) of what is new at it.
    halved: what enters its convolution as two halves. rest: the remaining graph, from `ends`, the
    last nodes that are new in part.
    """

    image: fx.Node
    steps: list[Convolved | Pointwise]
    spans: dict[fx.Node, tuple[Tensor, int]]
    halved: set[fx.Node]
    ends: list[fx.Node]
    rest: fx.GraphModule


def plan_windows(graph: fx.GraphModule, images: Tensor, side: int) -> Plan | None:
    """A plan for windows of `side` pixels in images like `images` (B, C, H, W); None: no gain."""
    height, width = images.shape[2:]
    values = node_values(graph, images[:1])
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    if height != width or side >= height or len(inputs) != 1:
        return None
    image = inputs[0]
    reach = {image: [(t, t + side - 1) for t in range(height - side + 1)]}
    steps: list[Convolved | Pointwise] = []
    saved = total = 0.0
    for node in graph.graph.nodes:
        layer = _layer(graph, node)
        if layer is None:
            pointwise = _pointwise(graph, node, values)
            if pointwise is not None and pointwise.source in reach:
                reach[node] = reach[pointwise.source]
                steps.append(pointwise)
            continue
        frame = values[node].shape[2]
        work = values[node][0].numel() * layer.weight[0].numel()
        total += work
        if not _square(layer, values[node]) or any(n not in reach for n in node.all_input_nodes):
            continue
        span = _reached(layer, [reach[n] for n in node.all_input_nodes], frame)
        size = span[0][1] - span[0][0] + 1
        if size**2 > MOST_REACHED * frame**2:
            continue
        saved += work * (1 - size**2 / frame**2)
        reach[node] = span
        steps.append(_convolved(node, layer, span, reach[node.args[0]]))
    if saved < max(LEAST_SAVED * total, LEAST_WORK):
        return None
    convolved = [step for step in steps if isinstance(step, Convolved)]
    halved = {step.node.all_input_nodes[0] for step in convolved if step.layer.split}
    done = {step.node for step in steps}
    if any(user not in done for user in image.users) or any(len(n.users) > 1 for n in halved):
        return None
    spans = {n: (torch.tensor([s for s, _ in r]), r[0][1] - r[0][0] + 1) for n, r in reach.items()}
    ends = [step.node for step in steps if any(user not in done for user in step.node.users)]
    return Plan(image, steps, spans, halved, ends, _rest(graph, done, ends))


def _layer(graph: fx.GraphModule, node: fx.Node) -> SearchConvolution | None:
    if node.op != "call_module":
        return None
    module = graph.get_submodule(str(node.target))
    return module if isinstance(module, SearchConvolution) else None


def _pointwise(
    graph: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]
) -> Pointwise | None:
    """The node as a function of the one value before it, where it works on each number alone."""
    function: Any = None
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        of_batch = isinstance(module, nn.BatchNorm2d) and module.running_mean is None
        function = module if type(module) in _POINTWISE_MODULES and not of_batch else None
    elif node.op == "call_function" and node.target in _POINTWISE_FUNCTIONS:
        function = node.target
    elif node.op == "call_method" and node.target in _POINTWISE_METHODS:
        function = getattr(Tensor, str(node.target))
    constants = {n: values[n] for n in node.all_input_nodes if n.op == "get_attr"}
    sources = [n for n in node.all_input_nodes if n not in constants]
    if function is None or len(sources) != 1 or not all(map(_one_a_channel, constants.values())):
        return None
    (source,) = sources
    in_place = node.kwargs.get("inplace") or getattr(function, "inplace", False)
    if in_place and len(source.users) > 1:
        return None

    def run(x: Tensor) -> Tensor:
        given = (node.args, dict(node.kwargs))
        args, kwargs = fx.map_arg(given, lambda n: x if n is source else constants[n])
        y: Tensor = function(*args, **kwargs)
        return y

    return Pointwise(node, source, run)


def _one_a_channel(constant: Any) -> bool:
    """Whether it is the same for all pixels of (B, C, H, W)."""
    return isinstance(constant, Tensor) and {*constant.shape[-2:]} <= {1}


def _square(layer: SearchConvolution, output: Tensor) -> bool:
    """Whether rows and columns go through the layer alike, in one group."""
    alike = {*layer.weight.shape[2:]}, {*layer.stride}, {*layer.padding}, {*output.shape[2:]}
    return all(len(s) == 1 for s in alike) and layer.groups == 1 and {*layer.dilation} == {1}


def _reached(
    layer: SearchConvolution, inputs: list[list[tuple[int, int]]], frame: int
) -> list[tuple[int, int]]:
    """First and last output that each window reaches, all as far apart, inside the layer's frame.

    Enough of them that the source's own part lies in the patch that they need.
    """
    kernel, stride, padding = layer.weight.shape[2], layer.stride[0], layer.padding[0]
    spans = []
    for place, (low, high) in enumerate(inputs[0]):
        reached = -((kernel - 1 - padding - low) // stride)
        first = min(reached, (low + padding) // stride)
        last = (high + padding) // stride
        for other in inputs[1:]:
            first, last = min(first, other[place][0]), max(last, other[place][1])
        spans.append((max(first, 0), min(last, frame - 1)))
    size = max(last - first for first, last in spans)
    firsts = [min(first, frame - 1 - size) for first, _ in spans]
    return [(first, first + size) for first in firsts]


def _convolved(
    node: fx.Node,
    layer: SearchConvolution,
    span: list[tuple[int, int]],
    source: list[tuple[int, int]],
) -> Convolved:
    kernel, stride, padding = layer.weight.shape[2], layer.stride[0], layer.padding[0]
    size = span[0][1] - span[0][0] + 1
    origins = [first * stride - padding for first, _ in span]
    patch = stride * (size - 1) + kernel
    over = max(
        last - (origin + patch - 1) for origin, (_, last) in zip(origins, source, strict=True)
    )
    assert all(origin <= first for origin, (first, _) in zip(origins, source, strict=True))
    starts = torch.tensor([first for first, _ in span])
    return Convolved(node, layer, starts, size, torch.tensor(origins), patch, max(over, 0))


class _Values(fx.Interpreter):
    """Keeps what every node gave."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def node_values(graph: fx.GraphModule, images: Tensor) -> dict[fx.Node, Any]:
    """What every node of the graph gives on images (B, C, H, W)."""
    interpreter = _Values(graph)
    with torch.no_grad():
        interpreter.run(images)
    return interpreter.values


def _rest(graph: fx.GraphModule, done: set[fx.Node], ends: list[fx.Node]) -> fx.GraphModule:
    """The graph without `done`, a function of `ends`."""
    rest, copies = fx.Graph(), {}
    for node in ends:
        copies[node] = rest.placeholder(node.name)
    for node in graph.graph.nodes:
        if node not in done and node.op != "placeholder":
            copies[node] = rest.node_copy(node, lambda n: copies[n])
    return fx.GraphModule(graph, rest)
