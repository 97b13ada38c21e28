"""XREF-1: with random starts off, FGSM and PGD equal foolbox's and torchattacks' to rounding."""

import foolbox
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from robench.attacks.adapters.foolbox import adapt
from robench.core.errors import InputError
from robench.core.threat import ThreatModel
from robench.models.passes import exact_float32
from tests.harness import ROWS, attack, random_images, small_cnn

EPS, STEP = 8 / 255, 2 / 255
THREAT = ThreatModel("linf", EPS)
N = 64


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(N, size=16)


@pytest.fixture(scope="module")
def labels(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argmax(1)


def ours(model: nn.Module, images: Tensor, labels: Tensor, text: str) -> Tensor:
    return attack(model, text, images, labels, THREAT).candidates


def by_foolbox(model: nn.Module, images: Tensor, labels: Tensor, search: object) -> Tensor:
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    pieces = [
        search(wrapped, images[i : i + ROWS], labels[i : i + ROWS], epsilons=EPS)[1]
        for i in range(0, N, ROWS)
    ]
    return torch.cat(pieces)


def by_torchattacks(images: Tensor, labels: Tensor, search: object) -> Tensor:
    pieces = [search(images[i : i + ROWS], labels[i : i + ROWS]) for i in range(0, N, ROWS)]
    return torch.cat(pieces)


def assert_same(model: nn.Module, labels: Tensor, found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-6 but for coordinates whose gradient rounds to another sign; equal verdicts."""
    apart = (found - expected).abs() > 1e-6
    assert apart.float().mean() < 2e-4
    assert torch.equal(model(found).argmax(1) == labels, model(expected).argmax(1) == labels)
    assert not torch.equal(model(found).argmax(1), labels)  # there is something to agree on


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_float32"])
def test_fgsm(model: nn.Module, images: Tensor, labels: Tensor, loss: str) -> None:
    found = ours(model, images, labels, f"fgsm[loss={loss}]")
    peer = by_foolbox(model, images, labels, foolbox.attacks.FGSM(random_start=False))
    assert_same(model, labels, found, peer)
    assert_same(
        model, labels, found, by_torchattacks(images, labels, torchattacks.FGSM(model, eps=EPS))
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_float32"])
def test_pgd_20(model: nn.Module, images: Tensor, labels: Tensor, loss: str) -> None:
    found = ours(model, images, labels, f"pgd_sat[start=none,loss={loss}]")
    search = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=20, random_start=False)
    assert_same(model, labels, found, by_foolbox(model, images, labels, search))
    other = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=20, random_start=False)
    assert_same(model, labels, found, by_torchattacks(images, labels, other))


def test_the_adapter_gives_what_foolbox_gives(
    model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    text = "foolbox:LinfPGD[steps=20,abs_stepsize=2/255,random_start=false]"
    state = torch.get_rng_state()
    out = attack(model, text, images[:ROWS], labels[:ROWS], THREAT)
    assert torch.equal(state, torch.get_rng_state())
    search = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=20, random_start=False)
    with exact_float32():
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        expected = search(wrapped, images[:ROWS], labels[:ROWS], epsilons=EPS)[1]
    torch.testing.assert_close(out.candidates, expected)
    assert {v.backward_passes for v in out.verdicts} == {20}


def test_the_adapter_offers_iterates_under_any(model, images, labels) -> None:
    text = "foolbox:LinfPGD[steps=20,abs_stepsize=2/255]"
    threat = ThreatModel("linf", 2 / 255)
    last = attack(model, text, images, labels, threat)
    hits = attack(model, text, images, labels, threat, stop="any")
    assert all(a <= b for a, b in zip(hits.survived, last.survived, strict=True))
    assert all(v.broken_by in (None, text.split("[")[0]) for v in hits.verdicts)


def test_l2_attacks_of_foolbox_are_judged_in_l2(model, images, labels) -> None:
    out = attack(model, "foolbox:L2PGD[steps=10]", images, labels, ThreatModel("l2", 0.5))
    assert not any(f.startswith("rejected") for v in out.verdicts for f in v.flags)
    assert 0 < sum(out.survived) < N
    assert max(v.distance for v in out.verdicts) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LinfPDG", {}, "did you mean 'LinfPGD'"),
        ("L1PGD", {}, "no linf or l2 distance"),
        ("SpatialAttack", {}, "no linf or l2 distance"),
        ("GenAttack", {}, "needs a target class"),
        ("DatasetAttack", {}, "needs images to draw from"),
        ("VirtualAdversarialAttack", {}, "needs steps"),
        ("LinfPGD", {"step": "3"}, "did you mean 'steps'"),
        ("LinfPGD", {"steps": "many"}, "cannot read 'many'"),
    ],
)
def test_what_the_adapter_refuses(name: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(name, arguments)
