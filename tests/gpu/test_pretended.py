"""The pretended CUDA itself: what it refuses, what it counts, and that it leaves nothing behind."""

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from tests.pretend_cuda import DEVICES, Cuda, CudaTensor, TwoDevices, pretended

Pair = tuple[Tensor, Tensor]


def pair(one: str, other: str) -> Pair:
    return torch.ones(4, 3, device=one), torch.ones(4, 3, device=other)


MIXED: dict[str, Callable[[], object]] = {
    "cuda + cpu": lambda: torch.add(*pair("cuda", "cpu")),
    "cpu + cuda": lambda: torch.add(*pair("cpu", "cuda")),
    "cuda:0 + cuda:1": lambda: torch.add(*pair("cuda:0", "cuda:1")),
    "no dimensions of another GPU": lambda: (
        torch.ones(4, device="cuda:0") + torch.ones((), device="cuda:1")
    ),
    "in place": lambda: pair("cpu", "cuda")[0].add_(torch.ones((), device="cuda")),
    "cat": lambda: torch.cat(pair("cuda", "cpu")),
    "stack of numbers": lambda: torch.stack([torch.ones((), device="cuda"), torch.ones(())]),
    "where": lambda: torch.where(torch.ones(4, 3, dtype=torch.bool), *pair("cuda", "cuda")),
    "cpu[cuda]": lambda: torch.ones(4)[torch.zeros(2, dtype=torch.int64, device="cuda")],
    "cuda:0[cuda:1]": lambda: torch.ones(4, device="cuda")[
        torch.zeros(2, dtype=torch.int64, device="cuda:1")
    ],
    "values of another device": lambda: torch.ones(4, device="cuda").index_put_(
        (torch.zeros(2, dtype=torch.int64),), torch.ones(2)
    ),
    "network": lambda: nn.Linear(3, 2)(torch.ones(4, 3, device="cuda")),
    "images": lambda: nn.Linear(3, 2).to("cuda")(torch.ones(4, 3)),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_two_devices_do_not_meet(mix: Callable[[], object]) -> None:
    with pretended() as cuda:
        with pytest.raises(TwoDevices):
            mix()
        assert len(cuda.met) == 1
        cuda.met.clear()


def test_code_that_catches_everything_hides_no_meeting() -> None:
    with (
        pytest.raises(TwoDevices, match="some code has caught"),
        pretended(),
        contextlib.suppress(Exception),
    ):
        torch.add(*pair("cuda", "cpu"))


def test_what_pytorch_allows_is_allowed() -> None:
    with pretended():
        x = torch.arange(12.0, device="cuda").reshape(4, 3)
        index = torch.tensor([2, 0])
        assert (x + torch.tensor(1.0)).sum().item() == 78
        assert x[index].cpu().tolist() == [[6, 7, 8], [0, 1, 2]]
        x[index] = x[index] + 1
        x.copy_(torch.zeros(4, 3))
        there = torch.ones(4, 3)
        there.copy_(x)
        assert x.device == torch.device("cuda", 0) and there.sum() == 0
        assert x.to("cuda:1").device == torch.device("cuda", 1)
        with pytest.raises(TypeError, match="can't convert"):
            x.numpy()


def ones() -> Tensor:
    return torch.ones(4, device="cuda")


SYNCS: dict[str, tuple[Callable[[Tensor], object], int]] = {
    "item": (lambda x: x[0].item(), 1),
    "float": (lambda x: float(x.sum()), 1),
    "bool": (lambda x: bool((x > 0).any()), 1),
    "if": (lambda x: 1 if x[0] else 0, 1),
    "tolist": (lambda x: x.tolist(), 1),
    "cpu": (lambda x: x.cpu(), 1),
    "to": (lambda x: x.to("cpu"), 1),
    "copy_": (lambda x: torch.zeros(4).copy_(x), 1),
    "nonzero": (lambda x: x.nonzero(), 1),
    "unique": (lambda x: x.unique(), 1),
    "masked_select": (lambda x: x.masked_select(x > 0), 1),
    "mask as index": (lambda x: x[x > 0], 1),
    "tensor under a mask": (lambda x: x.__setitem__(x > 0, x[:1]), 1),
    "number under a mask": (lambda x: x.__setitem__(x > 0, 2.0), 0),
    "equal": (lambda x: torch.equal(x, x), 1),
    "one_hot": (lambda x: F.one_hot(x.long()), 1),
    "one_hot of known classes": (lambda x: F.one_hot(x.long(), 3), 0),
    "synchronize": (lambda x: torch.cuda.synchronize(), 1),
    "numbers": (lambda x: x[x.long()] + x.argsort() * 2, 0),
    "where": (lambda x: torch.where(x > 0, x, 0.0), 0),
    "to another GPU": (lambda x: x.to("cuda:1"), 0),
}


@pytest.mark.parametrize(("ask", "expected"), SYNCS.values(), ids=SYNCS)
def test_waits_for_the_device_are_counted(ask: Callable[[Tensor], object], expected: int) -> None:
    with pretended() as cuda:
        x = ones()
        cuda.reset()
        ask(x)
        assert cuda.syncs == expected, cuda.sites


UPLOADS: dict[str, tuple[Callable[[Tensor], object], int]] = {
    "tensor": (lambda x: torch.tensor([1, 2], device="cuda"), 1),
    "new_tensor": (lambda x: x.new_tensor([1, 2]), 1),
    "to": (lambda x: torch.ones(2).to(x), 1),
    "cuda": (lambda x: torch.ones(2).cuda(), 1),
    "index": (lambda x: x[torch.tensor([0])], 1),
    "made there": (lambda x: torch.zeros(2, device="cuda") + torch.zeros_like(x)[:2], 0),
}


@pytest.mark.parametrize(("send", "expected"), UPLOADS.values(), ids=UPLOADS)
def test_uploads_are_counted(send: Callable[[Tensor], object], expected: int) -> None:
    with pretended() as cuda:
        x = ones()
        cuda.reset()
        assert isinstance(send(x), CudaTensor)
        assert cuda.uploads == expected, cuda.sites


def test_launches_are_counted_and_views_are_none() -> None:
    with pretended() as cuda:
        x = ones()
        cuda.reset()
        x.reshape(2, 2).T[0].detach()
        assert cuda.launches == 0
        x.mul(2).add_(1)
        assert cuda.launches == 2


def test_a_place_in_the_package_is_named() -> None:
    from robench.numerics.random import ImageDraws

    with pretended() as cuda:
        ImageDraws(0, "test").words(torch.arange(2, device="cuda"), 4, purpose="start")
        ((kind, site),) = [found for found in cuda.sites if found[0].startswith("sync")]
        assert kind == "sync: tolist" and site.startswith("numerics/random.py:")


def test_a_network_learns_there_as_on_the_cpu() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    images = torch.rand(5, 3, 6, 6)
    found = []
    for device in ("cpu", "cuda:1"):
        with pretended():
            copied = copy.deepcopy(network).to(device)
            assert {str(p.device) for p in copied.parameters()} == {device}
            x = images.clone().to(device).requires_grad_()
            copied(x).square().sum().backward()
            torch.optim.SGD(copied.parameters(), lr=0.1).step()
            moved = [p.detach().cpu() for p in copied.parameters()]
            assert x.grad is not None and str(x.grad.device) == device
            found.append([x.grad.cpu(), *moved, copied[1].running_mean.cpu()])
    assert all(map(torch.equal, *found))


def test_gradients_pass_from_device_to_device() -> None:
    with pretended():
        x = torch.ones(3, requires_grad=True)
        (x.cuda(0) * 2).cuda(1).square().sum().backward()
        assert x.grad is not None and x.grad.device.type == "cpu" and x.grad.tolist() == [8] * 3


def test_every_device_has_a_generator_of_its_own() -> None:
    before = torch.get_rng_state()
    with pretended():
        torch.cuda.manual_seed_all(3)
        first, again = (torch.rand(4, device="cuda:1").cpu() for _ in range(2))
        other = torch.rand(4, device="cuda:0").cpu()
        assert not torch.equal(first, again) and torch.equal(first, other)
        state = torch.cuda.get_rng_state(1)
        with torch.random.fork_rng([1]):
            noise = ones().to("cuda:1").normal_()
            assert noise.std() > 0 and not torch.equal(torch.cuda.get_rng_state(1), state)
        assert torch.equal(torch.cuda.get_rng_state(1), state)
    assert torch.equal(torch.get_rng_state(), before)


def world() -> dict[str, object]:
    """Everything that the block replaces, and more."""
    return {
        **vars(torch.cuda),
        "autocast": torch.autocast,
        "overwrites": torch.__future__.get_overwrite_module_params_on_conversion(),
        "modes": len(_get_current_function_mode_stack()),
        "generator": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_nothing_is_left_behind(error: type[BaseException] | None) -> None:
    before = world()
    assert not before["overwrites"] and before["modes"] == 0
    kept: list[Tensor] = []

    def inside(cuda: Cuda) -> None:
        during = world()
        assert before.keys() == during.keys()
        assert sum(during[name] is not before[name] for name in during) > 20
        assert torch.cuda.is_available() and torch.cuda.device_count() == DEVICES
        kept.append(torch.rand(2, device="cuda"))
        torch.cuda.set_device(1)
        if error is not None:
            raise error

    if error is None:
        with pretended() as cuda:
            inside(cuda)
    else:
        with pytest.raises(error), pretended() as cuda:
            inside(cuda)
    after = world()
    assert before.keys() == after.keys()
    changed = [name for name in before if before[name] is not after[name]]
    assert all(before[name] == after[name] for name in changed), changed
    with pytest.raises(RuntimeError, match="outlived"):
        kept[0] + 1
    with pretended() as cuda:
        assert cuda.current == 0 and not torch.cuda.is_initialized()


def test_devices_are_chosen_as_in_pytorch() -> None:
    with pretended():
        assert ones().device.index == 0
        with torch.cuda.device(1):
            assert ones().device.index == torch.cuda.current_device() == 1
        torch.cuda.set_device("cuda:1")
        assert ones().device.index == 1
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.ones(1, device="cuda:2")
        assert torch.cuda.get_device_name(0) != torch.cuda.get_device_name(1)
