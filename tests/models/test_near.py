"""Passes near a point are whole passes: only what a window cannot have changed is left out."""

import pytest
import torch
from torch import Tensor, fx, nn

from robench.models import near_plan
from robench.models.build import build
from robench.models.near import Surroundings, plan_near
from robench.models.near_plan import Convolved, Pointwise
from robench.models.normalize import normalized, parse_normalization
from robench.models.prepare import prepare

ROWS, SIZE = 6, 32


@pytest.fixture(autouse=True)
def small_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_plan, "LEAST_WORK", 0.0)


def graph_of(network: nn.Module, precision: str) -> fx.GraphModule:
    forward = prepare(network.eval(), torch.rand(ROWS, 3, SIZE, SIZE), precision).forward
    assert isinstance(forward, fx.GraphModule)
    return forward


def network(architecture: str = "resnet18", normalization: str = "none") -> nn.Module:
    torch.manual_seed(0)
    built = build(architecture, 10, 1 if architecture == "wrn34_10" else 4)
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d):
            used(norm)
    return normalized(built, parse_normalization(normalization))


def used(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """With numbers that training could have left in it."""
    assert norm.running_mean is not None and norm.running_var is not None
    for values in (norm.weight, norm.running_var):
        nn.init.uniform_(values, 0.5, 1.5)
    for values in (norm.bias, norm.running_mean):
        nn.init.normal_(values, 0.0, 0.1)
    return norm


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
    ("architecture", "normalization", "side"),
    [
        ("resnet18", "none", 1),
        ("resnet18", "cifar10", 4),
        ("resnet18", "none", 7),
        ("resnet56", "none", 1),
        ("resnet56b", "0.5/0.25", 3),
        ("preactresnet18", "none", 3),
        ("wrn34_10", "cifar10", 1),
    ],
)
def test_logits_and_what_is_held_are_those_of_whole_passes(
    architecture: str, normalization: str, side: int, precision: str
) -> None:
    graph = graph_of(network(architecture, normalization), precision)
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
    depthwise = graph_of(network("mobilenet_v2"), "fp32")
    assert plan_near(depthwise, torch.rand(1, 3, SIZE, SIZE), 4) is None
    monkeypatch.setattr(near_plan, "LEAST_WORK", 1e12)
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


@pytest.mark.parametrize("inplace", [False, True])
def test_what_works_on_each_value_alone_is_computed_where_it_is_new(inplace: bool) -> None:
    torch.manual_seed(0)
    layers = norm_between_convolutions(used(nn.BatchNorm2d(8)), inplace)
    plan = plan_near(graph_of(layers, "fp32"), torch.rand(1, 3, SIZE, SIZE), 4)
    assert plan is not None
    assert [type(s) for s in plan.steps] == [Convolved, Pointwise, Pointwise, Convolved]


def test_a_norm_over_the_batch_runs_whole() -> None:
    torch.manual_seed(0)
    layers = norm_between_convolutions(nn.BatchNorm2d(8, track_running_stats=False), False)
    plan = plan_near(graph_of(layers, "fp32"), torch.rand(1, 3, SIZE, SIZE), 4)
    assert plan is None or [type(s) for s in plan.steps] == [Convolved]


def norm_between_convolutions(norm: nn.BatchNorm2d, inplace: bool) -> nn.Module:
    """The ReLU keeps the norm from being folded."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), norm, nn.ReLU(inplace=inplace)),
        *(nn.Conv2d(8, 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def test_constants_that_differ_from_pixel_to_pixel_run_whole() -> None:
    class Mask(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)
            self.network = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x - self.mask)  # type: ignore[no-any-return]

    images = torch.rand(1, 3, SIZE, SIZE)
    assert plan_near(graph_of(Mask(torch.rand(1, 3, 1, 1)), "fp32"), images, 4) is not None
    assert plan_near(graph_of(Mask(torch.rand(3, SIZE, SIZE)), "fp32"), images, 4) is None


class TwoEyes(nn.Module):
    """Two convolutions read the image; in bf16 only the first takes it in halves."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Conv2d(3, 8, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(8, 10, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.left(x) * 0.5 + self.right(x)).mean((2, 3))  # type: ignore[no-any-return]


def test_an_image_that_several_layers_read_runs_whole_in_halves() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, SIZE, SIZE)
    assert plan_near(graph_of(TwoEyes(), "fp32"), images, 4) is not None
    assert plan_near(graph_of(TwoEyes(), "bf16"), images, 4) is None
