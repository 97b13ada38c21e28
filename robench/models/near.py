"""Passes near a point: what a window of pixels cannot have changed is not computed again.

Each convolution that a window reaches in part (robench.models.near_plan) is computed from a patch
that is cut out of what the layer before gave at the point, with the new values pasted in; every
other output is the point's own.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from robench.models.convolution import split_halves
from robench.models.near_plan import Convolved, Plan, node_values, plan_windows


def plan_near(graph: fx.GraphModule, images: Tensor, side: int) -> Plan | None:
    """A plan for windows of `side` pixels in images like `images` (B, C, H, W); None: no gain.

    None as well for a network that it is not true of, such as one that works in place.
    """
    plan = plan_windows(graph, images, side)
    return plan if plan is not None and _holds(graph, plan, images) else None


def _holds(graph: fx.GraphModule, plan: Plan, like: Tensor) -> bool:
    """Whether windows in the four corners give what whole passes give, on a made-up image."""
    last, side = len(plan.spans[plan.image][0]) - 1, plan.spans[plan.image][1]
    corners = torch.tensor([[0, 0], [0, last], [last, 0], [last, last]])
    grey = torch.arange(like[0].numel()).remainder(251).div(250).reshape(like[0].shape)
    x = grey.to(like.dtype).repeat(4, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    z = x.clone()
    for image, (down, across) in zip(z, corners.tolist(), strict=True):
        image[:, down : down + side, across : across + side].neg_().add_(1)
    around, rows = Surroundings(graph, plan, 4), torch.arange(4)
    around.hold(rows, x)
    near = around.logits(rows, z, corners).logits
    with torch.no_grad():
        whole, before = graph(z).float(), graph(x).float()
    # Where a window of another pass is rounded otherwise, that is far less than what it does.
    return bool((near - whole).abs().max() <= 0.1 * (whole - before).abs().max())


@dataclass(frozen=True)
class News:
    """What windows in the images at `rows` (B,) gave: node -> new values (B, n, n, C), and logits.

    corners: (B, 2) of the windows.
    """

    rows: Tensor
    corners: Tensor
    values: dict[fx.Node, Tensor]
    logits: Tensor


class _Squares:
    """Flat places of squares in arrays (N, H, W): several squares for each window, all at once.

    starts: (T,) of each square by the window's first row (or column); shapes: (H, W) of its array;
    sizes: its rows.
    """

    def __init__(
        self, starts: list[Tensor], shapes: list[tuple[int, int]], sizes: list[int]
    ) -> None:
        widths = torch.tensor([width for _, width in shapes])
        self.across = torch.stack(starts)
        self.down = self.across * widths[:, None]
        self.areas = torch.tensor([height * width for height, width in shapes])[:, None]
        self.within = [
            (torch.arange(size)[:, None] * width + torch.arange(size)).flatten()
            for size, (_, width) in zip(sizes, shapes, strict=True)
        ]

    def places(self, rows: Tensor, corners: Tensor) -> list[Tensor]:
        """(B size^2,) for each square, in the entries `rows` (B,) of its array."""
        firsts = rows * self.areas + self.down[:, corners[:, 0]] + self.across[:, corners[:, 1]]
        pairs = zip(firsts[:, :, None], self.within, strict=True)
        return [(first + within).flatten() for first, within in pairs]


class _Cut(NamedTuple):
    """A patch of a node's values: where it begins by the window's place, and its rows."""

    node: fx.Node
    origins: Tensor
    rows: int


class Surroundings:
    """Points of N images, what the layers of a plan give there, and logits of windows in them.

    Values lie channels-last, (N, H', W', C), with a margin that the convolutions' padding is cut
    from. Several threads may ask at once about different images.
    """

    def __init__(self, graph: fx.GraphModule, plan: Plan, images: int) -> None:
        self.graph, self.plan, self.images = graph, plan, images
        self.cuts: list[_Cut] = []
        for step in plan.steps:
            if not isinstance(step, Convolved):
                continue
            self.cuts.append(_Cut(step.node.args[0], step.origins, step.patch + step.slack))  # type: ignore[arg-type]
            if len(step.node.args) > 1:
                self.cuts.append(_Cut(step.node.args[1], step.starts, step.size))  # type: ignore[arg-type]
        read = [cut.node for cut in self.cuts]
        self.nodes = list(dict.fromkeys([*read, *plan.ends]))
        self._held: dict[fx.Node, Tensor] = {}
        self._inner: dict[fx.Node, slice] = {}

    def hold(self, rows: Tensor, x: Tensor) -> None:
        """Take x (B, C, H, W) as the points of the images at `rows` (B,): one pass over all."""
        values = node_values(self.graph, x)
        if not self._held:
            self._allocate(values)
        for node in self.nodes:
            inner = self._inner[node]
            value = self._entering(node, values[node]).permute(0, 2, 3, 1)
            self._held[node][rows, inner, inner] = value

    def _allocate(self, values: dict[fx.Node, Any]) -> None:
        for node in self.nodes:
            value = self._entering(node, values[node])
            cuts = [cut for cut in self.cuts if cut.node is node]
            before = max((-int(cut.origins.min()) for cut in cuts), default=0)
            end = max((int(cut.origins.max()) + cut.rows for cut in cuts), default=0)
            frame, before = value.shape[2], max(before, 0)
            whole = before + max(frame, end)
            shape = (self.images, whole, whole, value.shape[1])
            self._held[node] = torch.zeros(shape, dtype=value.dtype)
            self._inner[node] = slice(before, before + frame)
        self._taken = self._squares([(c.node, c.origins, c.rows) for c in self.cuts])
        self._written = self._squares([(n, *self.plan.spans[n]) for n in self.nodes])
        starts, shapes, sizes = [], [], []
        for cut in self.cuts:
            span, size = self.plan.spans[cut.node]
            starts.append(span - cut.origins)
            shapes.append((cut.rows, cut.rows))
            sizes.append(size)
        for node in self.plan.ends:
            span, size = self.plan.spans[node]
            frame = values[node].shape[2]
            starts.append(span)
            shapes.append((frame, frame))
            sizes.append(size)
        self._pasted = _Squares(starts, shapes, sizes)

    def _squares(self, squares: list[tuple[fx.Node, Tensor, int]]) -> _Squares:
        """Squares in what is held of their nodes."""
        starts = [start + self._inner[node].start for node, start, _ in squares]
        shapes = [(self._held[node].shape[1], self._held[node].shape[2]) for node, _, _ in squares]
        return _Squares(starts, shapes, [size for _, _, size in squares])

    def _entering(self, node: fx.Node, value: Tensor) -> Tensor:
        """Values (B, C, H, W) as the convolution behind the node takes them."""
        return split_halves(value) if node in self.plan.halved else value

    def logits(self, rows: Tensor, z: Tensor, corners: Tensor) -> News:
        """Of z (B, C, H, W), which differ from the points at `rows` (B,) in windows alone."""
        plan = self.plan
        along = torch.arange(plan.spans[plan.image][1])
        down, across = (corners[:, 0, None] + along)[:, :, None], corners[:, 1, None] + along
        window = z[torch.arange(len(z))[:, None, None], :, down, across[:, None]]
        entering = self._entering(plan.image, window.permute(0, 3, 1, 2))
        news = {plan.image: entering.permute(0, 2, 3, 1)}
        taken = iter(self._taken.places(rows, corners))
        pasted = iter(self._pasted.places(torch.arange(len(rows)), corners))
        cuts = iter(self.cuts)

        def patch() -> Tensor:
            """The next of `cuts` with what is new in it."""
            cut = next(cuts)
            channels = self._held[cut.node].shape[3]
            found = self._held[cut.node].view(-1, channels).index_select(0, next(taken))
            found.index_copy_(0, next(pasted), news[cut.node].reshape(-1, channels))
            return found.view(-1, cut.rows, cut.rows, channels)

        with torch.no_grad():
            for step in plan.steps:
                if not isinstance(step, Convolved):
                    y = step.run(news[step.source].permute(0, 3, 1, 2))
                    news[step.node] = self._entering(step.node, y).permute(0, 2, 3, 1)
                    continue
                x = patch()
                x = x[:, : step.patch, : step.patch].contiguous() if step.slack else x
                other = patch().permute(0, 3, 1, 2) if len(step.node.args) > 1 else None
                y = step.layer.inside(x.permute(0, 3, 1, 2), other)
                news[step.node] = y.permute(0, 2, 3, 1)
            ends = []
            for node in plan.ends:
                inner = self._inner[node]
                whole = self._held[node][rows, inner, inner]
                channels = whole.shape[3]
                new = news[node].reshape(-1, channels)
                whole.view(-1, channels).index_copy_(0, next(pasted), new)
                ends.append(whole.permute(0, 3, 1, 2))
            logits: Tensor = plan.rest(*ends).float()
        return News(rows, corners, news, logits)

    def keep(self, news: News, which: Tensor) -> None:
        """The points of those at `which` (A,) of the news are their images' from now on."""
        places = self._written.places(news.rows[which], news.corners[which])
        for node, at in zip(self.nodes, places, strict=True):
            channels = self._held[node].shape[3]
            values = news.values[node][which].reshape(-1, channels)
            self._held[node].view(-1, channels).index_copy_(0, at, values)
