"""The caller's world neither changes a verdict nor is changed."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robench
from robench.core.errors import InputError
from robench.core.record import Record
from robench.data.evalset import EvalSet
from robench.evaluation.reverify import reverify
from tests.evaluation.worlds import WORLDS, seeded, state
from tests.harness import random_images, small_cnn

ATTACKS = "fgsm,square[queries=5],foolbox:LinfFastGradientAttack"


class Branching(nn.Module):
    """A network that cannot be traced: its path depends on its input. It draws numbers as well."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn(4)

    def forward(self, x: Tensor) -> Tensor:
        _ = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return self.network(x) if x.sum() > 0 else self.network(-x)


def networks() -> list[nn.Module]:
    """A traced one and an untraced one, with all that evaluation must leave alone."""
    found = [small_cnn(4), Branching()]
    for network in found:
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # frozen, the rest is being trained
        for number, parameter in enumerate(network.parameters()):
            parameter.requires_grad_(number % 2 == 0)
            parameter.grad = torch.full_like(parameter, 0.5)
        network.register_forward_hook(lambda *_: None)
        network.register_full_backward_hook(lambda *_: None)
    return found


def belongings(network: nn.Module) -> list[Any]:
    """What must come back as it was given."""
    return [
        [module.training for module in network.modules()],
        [
            (p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist())
            for p in network.parameters()
        ],
        [buffer.tolist() for buffer in network.buffers()],
        [
            [dict(getattr(module, name)) for name in ("_forward_hooks", "_backward_hooks")]
            for module in network.modules()
        ],
    ]


def images() -> EvalSet:
    """Six, of which the networks answer the last otherwise."""
    pixels = random_images(6)
    with torch.no_grad():
        labels = small_cnn(4)(pixels).argmax(1)
    labels[-1] = (labels[-1] + 1) % 4
    levels = (pixels * 255).round().byte().numpy()
    return EvalSet("mine", levels, labels.numpy(), np.arange(6), tuple("abcd"))


DATA = images()


def facts(record: Record) -> dict[str, Any]:
    """What a record says, without when and how fast it was made."""
    found = msgspec.to_builtins(record)
    del found["cost"], found["hardware"]["threads"]
    return {k: v for k, v in found.items() if k != "components"} | {
        "components": [{k: v for k, v in c.items() if k != "seconds"} for c in found["components"]]
    }


def scored(network: list[nn.Module], out: Path) -> list[dict[str, Any]]:
    result = robench.evaluate(network, ATTACKS, dataset=DATA, out=out)
    assert {row.status for row in result.rows} == {"done"}
    return [facts(record) for record in result.records]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of a world in which nothing is set."""
    return scored(networks(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("world", WORLDS)
def test_no_world_changes_a_record_or_is_changed(
    world: str, plain: list[dict[str, Any]], tmp_path: Path
) -> None:
    given = networks()
    before = [belongings(network) for network in given]
    with seeded(), WORLDS[world]():
        was = state()
        found = scored(given, tmp_path)
        assert state() == was
    assert found == plain
    assert [belongings(network) for network in given] == before


def test_networks_made_in_inference_mode_are_scored_like_others(
    plain: list[dict[str, Any]], tmp_path: Path
) -> None:
    with torch.inference_mode():
        made = [small_cnn(4), Branching().eval()]
        found = scored(made, tmp_path)
        assert all(p.is_inference() for network in made for p in network.parameters())
    for one, other in zip(found, plain, strict=True):
        # The others have hooks, which are part of a fingerprint.
        fingerprint = one["defense"]["fingerprint"]
        assert one == {**other, "defense": {**other["defense"], "fingerprint": fingerprint}}


def interrupts(progress: object) -> None:
    raise KeyboardInterrupt


class Failing(Branching):
    """A network that fails after twenty calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 20:
            raise ValueError("no more")
        return super().forward(x)


ENDS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], type[BaseException] | None]] = {
    "refused": (lambda: small_cnn(3), {}, InputError),
    "no such attack": (lambda: small_cnn(4), {"attacks": "fgms"}, InputError),
    "its code raises": (Failing, {}, None),
    "interrupted": (lambda: small_cnn(4), {"progress": interrupts}, KeyboardInterrupt),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_world_comes_back_however_an_evaluation_ends(end: str, tmp_path: Path) -> None:
    make, options, raised = ENDS[end]
    given = make().train()
    before = belongings(given)
    arguments: dict[str, Any] = {"attacks": "fgsm", "dataset": DATA, "out": tmp_path, **options}
    with seeded(), WORLDS["everything"]():
        was = state()
        if raised:
            with pytest.raises(raised):
                robench.evaluate(given, **arguments)
        else:
            assert robench.evaluate(given, **arguments).rows[0].status == "failed"
        assert state() == was
    assert belongings(given) == before


SEEN: list[object] = []


def factory() -> nn.Module:
    """A network that notes what world it is made in, and runs in."""

    def note(*_: object) -> None:
        new, products = torch.zeros(1), torch.get_float32_matmul_precision()
        modes = torch.is_autocast_enabled("cpu"), torch.is_anomaly_enabled()
        deterministic = torch.are_deterministic_algorithms_enabled()
        SEEN.append((new.dtype, new.device.type, products, *modes, deterministic))

    note()
    SEEN.append(torch.is_grad_enabled() and not torch.is_inference_mode_enabled())
    network = small_cnn(4)
    network.register_forward_hook(note)
    return network


def test_code_of_others_is_run_in_the_plain_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stranger", sys.modules[__name__])
    SEEN.clear()
    with WORLDS["everything"](), torch.inference_mode():
        robench.evaluate("python:stranger:factory", "fgsm", dataset=DATA, out=tmp_path)
    assert len(SEEN) > 3
    assert set(SEEN) == {(torch.float32, "cpu", "highest", False, False, False), True}


def test_verifying_is_not_led_astray_by_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stranger", sys.modules[__name__])
    options: dict[str, Any] = {"dataset": "cifar10-sample", "n": 8, "out": tmp_path}
    done = robench.evaluate("python:stranger:small_cnn", "fgsm", save_adversarial=True, **options)
    with seeded(), WORLDS["everything"]():
        was = state()
        found = reverify(Path(done.rows[0].record or ""))
        assert state() == was
    assert found.checked == 8 and not found.differ
