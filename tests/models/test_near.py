"""Passes near a point are whole passes: only what a window cannot have changed is left out."""

import pytest
import torch
from torch import Tensor, fx, nn

from robench.models import near
from robench.models.build import build
from robench.models.near import Surroundings, plan_near
from robench.models.prepare import prepare

ROWS, SIZE = 6, 32


@pytest.fixture(autouse=True)
def small_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "LEAST_WORK", 0.0)


def graph_of(network: nn.Module, precision: str) -> fx.GraphModule:
    forward = prepare(network.eval(), torch.rand(ROWS, 3, SIZE, SIZE), precision).forward
    assert isinstance(forward, fx.GraphModule)
    return forward


def network(architecture: str = "resnet18") -> nn.Module:
    torch.manual_seed(0)
    return build(architecture, 10, 4)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def moved(x: Tensor, corners: Tensor, side: int) -> Tensor:
    z = x.clone()
    for row, (down, across) in enumerate(corners.tolist()):
        window = torch.rand(3, side, side)
        z[row, :, down : down + side, across : across + side] = window
    return channels_last(z)


def corners_of(side: int) -> Tensor:
    """The four corners of the image, an odd and an even place."""
    last = SIZE - side
    return torch.tensor([[0, 0], [0, last], [last, 0], [last, last], [7, 12], [10, 3]])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("architecture", "side"),
    [("resnet18", 1), ("resnet18", 4), ("resnet18", 7), ("resnet56", 1), ("resnet56b", 3)],
)
def test_logits_and_what_is_held_are_those_of_whole_passes(
    architecture: str, side: int, precision: str
) -> None:
    graph = graph_of(network(architecture), precision)
    x, corners, rows = channels_last(torch.rand(ROWS, 3, SIZE, SIZE)), corners_of(side), order()
    plan = plan_near(graph, x, side)
    assert plan is not None and len(plan.steps) >= 9
    around = Surroundings(graph, plan, ROWS)
    around.hold(rows, x)
    for _ in range(3):  # the next windows begin at the points that were kept
        z = moved(x, corners, side)
        news = around.logits(rows, z, corners)
        with torch.no_grad():
            whole, before = graph(z), graph(x)
        scale = whole.abs().max()
        torch.testing.assert_close(news.logits / scale, whole / scale, rtol=0, atol=1e-6)
        assert ((whole - before).abs().amax(dim=1) > 1e-5 * scale).any()
        kept = torch.tensor([0, 3, 4])
        around.keep(news, kept)
        x = x.clone()
        x[kept] = z[kept]
        x, corners = channels_last(x), corners.roll(1, 0)
    fresh = Surroundings(graph, plan, ROWS)
    fresh.hold(rows, x)
    for node in around.nodes:
        torch.testing.assert_close(around._held[node], fresh._held[node], rtol=1e-5, atol=1e-5)


def order() -> Tensor:
    return torch.tensor([5, 0, 3, 1, 4, 2])


def test_a_change_beside_the_window_is_not_seen() -> None:
    graph = graph_of(network(), "fp32")
    x, corners = channels_last(torch.rand(ROWS, 3, SIZE, SIZE)), torch.full((ROWS, 2), 2)
    plan = plan_near(graph, x, 4)
    assert plan is not None
    around = Surroundings(graph, plan, ROWS)
    around.hold(order(), x)
    elsewhere = x.clone()
    elsewhere[:, :, 20:24, 20:24] = 0
    with torch.no_grad():
        at_x, there = graph(x), graph(elsewhere)
    assert not torch.equal(there, at_x)
    torch.testing.assert_close(around.logits(order(), elsewhere, corners).logits, at_x)


def test_no_plan_where_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(network(), "fp32")
    assert plan_near(graph, torch.rand(1, 3, SIZE, SIZE), 4) is not None
    assert plan_near(graph, torch.rand(1, 3, SIZE, SIZE), 24) is None, "a window like the image"
    assert plan_near(graph, torch.rand(1, 3, SIZE, 40), 4) is None, "no square image"
    norms_first = graph_of(network("preactresnet18"), "fp32")
    assert plan_near(norms_first, torch.rand(1, 3, SIZE, SIZE), 4) is None
    depthwise = graph_of(network("mobilenet_v2"), "fp32")
    assert plan_near(depthwise, torch.rand(1, 3, SIZE, SIZE), 4) is None
    monkeypatch.setattr(near, "LEAST_WORK", 1e12)
    assert plan_near(graph, torch.rand(1, 3, SIZE, SIZE), 4) is None, "cutting costs more"


class InPlace(nn.Module):
    """What its first convolution gave is changed before the second reads it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        a = nn.functional.relu_(y) if self.in_place else nn.functional.relu(y)
        return self.second(y).mean((2, 3)) + a.mean()  # type: ignore[no-any-return]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_network_that_works_in_place_runs_whole(in_place: bool) -> None:
    torch.manual_seed(0)
    graph = graph_of(InPlace(in_place), "fp32")
    plan = plan_near(graph, torch.rand(1, 3, SIZE, SIZE), 4)
    assert (plan is None) == in_place
