"""The caller's generators on every GPU are left alone, and a CUDA that was not started unseeded."""

from collections.abc import Callable

import pytest
import torch

from robench.attacks.adapters.global_draws import global_draws
from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge
from robench.evaluation.run import evaluate
from robench.models.global_rng import kept_global_rng, seeded_global_rng
from robench.training.features import adapter
from robench.training.student import new_network
from tests.gpu.short import short
from tests.harness import random_images, small_cnn
from tests.pretend_cuda import DEVICES, Cuda
from tests.scored import small_set
from tests.training.test_engine import recipe

NETWORK = small_cnn()  # here, since it is made by a seed of its own


def judged() -> None:
    """Several passes an image, each under a seed of its own."""
    Judge(NETWORK, ThreatModel(), rows=8, repeats=2).logits(random_images(2))


def foreign() -> None:
    with global_draws(5):
        torch.rand(3)


def seeded() -> None:
    with seeded_global_rng():
        torch.rand(3)


BY_SEED: dict[str, Callable[[], object]] = {
    "student": lambda: new_network(recipe(), 4),
    "adapter": lambda: adapter(8, 4, seed=3),
    "judge": judged,
    "foreign attack": foreign,
    "foreign network": seeded,
}


def states() -> list[list[int]]:
    return [torch.cuda.get_rng_state(number).tolist() for number in range(DEVICES)]


@pytest.mark.parametrize("build", BY_SEED.values(), ids=BY_SEED)
def test_generators_are_as_before(cuda: Cuda, build: Callable[[], object]) -> None:
    torch.cuda.manual_seed_all(99)
    torch.cuda.init()
    before = states()
    build()
    assert states() == before


@pytest.mark.parametrize("name", [name for name in BY_SEED if name != "judge"])
def test_a_cuda_that_somebody_starts_later_is_not_seeded(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)  # PyTorch keeps it for then
    BY_SEED[name]()
    assert not seeds and not cuda.started


def test_one_seed_gives_one_network_whatever_is_started(cuda: Cuda) -> None:
    first = new_network(recipe(), 4).state_dict()
    torch.cuda.init()
    second = new_network(recipe(), 4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_evaluation_leaves_the_generators_of_every_gpu_alone(
    cuda: Cuda, tmp_path: object
) -> None:
    images = small_set(12)
    torch.cuda.manual_seed_all(99)
    torch.cuda.init()
    before = states()
    evaluate(NETWORK, short("pgd_sat"), out=tmp_path, dataset=images, device="cuda:1")
    assert states() == before


def test_states_come_back_on_every_started_gpu(cuda: Cuda) -> None:
    torch.cuda.init()
    before = states()
    with kept_global_rng():
        torch.rand(3, device="cuda:0"), torch.rand(3, device="cuda:1")
        assert states() != before
    assert states() == before
