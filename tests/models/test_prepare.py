"""The search copy: the same function, or what could not be done is said; the original is kept."""

import copy

import pytest
import torch
from torch import Tensor, nn

from robench.models import ARCHITECTURES, passes
from robench.models.build import build
from robench.models.prepare import prepare
from tests.harness import random_images, small_cnn

WIDTHS = {"resnet18": 8, "mobilenet_v2": None, "preactresnet18": 8, "preactresnet34": 8}
SHALLOW = ["resnet18", "preactresnet18"]
SMALL = [*SHALLOW, "resnet56", "resnet56b"]
needs_bf16 = pytest.mark.skipif(
    passes.cpu_class() == "other", reason="this CPU has no bfloat16 instructions"
)


def gradient(forward, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(forward(x).float()[:, 0].sum(), x)
    return found


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        width = WIDTHS.get(name)
        model = build(name, 10, width) if width else build(name, 10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # take over the statistics of one batch
    with torch.no_grad():
        model.train()(random_images(16, 32, seed=9))
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_folded_copies_are_the_same_function(name: str) -> None:
    model, images = network(name), random_images(6, 32)
    search = prepare(model, images, "fp32")
    assert search.precision == "fp32" and "folded" in search.note
    with torch.no_grad():
        torch.testing.assert_close(search.forward(images), model(images), atol=1e-4, rtol=1e-4)
    ours, exact = gradient(search.forward, images), gradient(model, images)
    # Elementwise for shallow networks; rounding flips ReLUs of a random 56-layer one.
    assert torch.cosine_similarity(ours.flatten(1), exact.flatten(1)).min() > 0.99
    if name in SHALLOW:
        torch.testing.assert_close(ours, exact, atol=1e-4 * float(exact.abs().max()), rtol=1e-3)


@needs_bf16
@pytest.mark.parametrize("name", SHALLOW)
def test_bf16_copies_point_the_same_way(name: str) -> None:
    model, images = network(name), random_images(6, 32)
    search = prepare(model, images, "bf16")
    assert search.precision == "bf16" and "bf16 convolutions" in search.note
    ours, exact = gradient(search.forward, images), gradient(model, images)
    cosine = torch.cosine_similarity(ours.flatten(1), exact.flatten(1))
    assert search.forward(images).dtype == torch.float32 and cosine.min() > 0.85


def test_batch_norms_are_gone_from_a_folded_resnet() -> None:
    search = prepare(network("resnet18"), random_images(4, 32), "fp32")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in search.forward.modules())


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_the_defense_is_left_alone(precision: str) -> None:
    model, images = small_cnn(), random_images(8)
    before = copy.deepcopy(model.state_dict())
    prepare(model, images, precision)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(p.is_contiguous() for p in model.parameters())


class Branches(nn.Module):
    """Control flow on data: cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) if x.mean() > 0 else self.network(-x)


def test_what_cannot_be_traced_is_used_as_it_is_and_said() -> None:
    images = random_images(8)
    search = prepare(Branches().eval(), images, "fp32")
    assert "not folded" in search.note and search.precision == "fp32"
    with torch.no_grad():
        torch.testing.assert_close(search.forward(images), Branches().eval()(images))


@needs_bf16
def test_untraceable_networks_search_under_autocast() -> None:
    search = prepare(Branches().eval(), random_images(8), "bf16")
    assert search.precision == "bf16" and "autocast" in search.note


class ReadsItsShape(nn.Module):
    """Traceable, but what a trace bakes in differs by batch: the check must notice."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.calls = small_cnn(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x) * (1.0 if self.calls % 2 else 2.0)


def test_a_trace_that_changes_the_function_is_thrown_away() -> None:
    model = ReadsItsShape().eval()
    search = prepare(model, random_images(8), "fp32")
    assert "logits would move" in search.note


@needs_bf16
def test_a_copy_that_bf16_ruins_stays_in_float32() -> None:
    class Delicate(nn.Module):
        """Takes small differences of large numbers, which bf16 cannot hold."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 10, 1)
            nn.init.constant_(self.first.bias, 1e4)
            with torch.no_grad():  # the large number cancels, but for rounding
                self.second.weight -= self.second.weight.mean(1, keepdim=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)).mean((2, 3)) * 1e3

    search = prepare(Delicate().eval(), random_images(32), "bf16")
    assert search.precision == "fp32" and "bf16 left out" in search.note


def test_uncopyable_defenses_are_used_unmodified_and_said() -> None:
    import threading

    model = small_cnn()
    model.lock = threading.Lock()
    search = prepare(model, random_images(8), "fp32")
    assert search.forward is model and "cannot be copied" in search.note


def test_every_architecture_has_a_place_here() -> None:
    """A new architecture should trace: add it above, or say here why not."""
    too_large_for_a_fast_test = {
        "wrn34_10",
        "wrn22_6",
        "wrn70_16",
        "preactresnet34",
        "mobilenet_v2",
    }
    assert set(ARCHITECTURES.names()) == set(SMALL) | too_large_for_a_fast_test
