"""Searches on the pretended GPU: how often a step waits for it, and that verdicts are the CPU's."""

import copy

import pytest
import torch
from torch import Tensor, nn

from robench.core.threat import ThreatModel
from tests.harness import Outcome, attack, random_images, small_cnn
from tests.pretend_cuda import Cuda, pretended

N = 24
TINY, LINF, L2 = ThreatModel(eps=1e-7), ThreatModel(eps=4 / 255), ThreatModel("l2", 0.25)
SYNCS = {
    "pgd_sat[steps={}]": 0,
    "apgd_ce[steps={}]": 1,
    "apgd_t[steps={},targets=3]": 1,
    "fab_t[steps={},targets=3]": 2,
    "fab[steps={}]": 2,
    "square[queries={}]": 1,
    "rays[queries={}]": 1,
}
"""Times that a step on images that nothing breaks waits for the GPU: they may only fall."""
ALL_LINF = (
    "pgd_sat",
    "cw_inf",
    "apgd_ce[steps=15]",
    "apgd_t[steps=8,targets=4]",
    "fab[steps=4]",
    "fab_t[steps=8,targets=4]",
    "fab_t[steps=6,targets=4,stop_at_eps=false]",
    "square[queries=40]",
    "rays[queries=60]",
    "rays[compat=true,queries=40]",
    "screen",
    "gradient_estimation[schedule=4x20]",
)
ALL_L2 = ("apgd_ce[steps=15]", "fab_t[steps=8,targets=4]", "square[queries=40]")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_cnn()


def run_there(model: nn.Module, text: str, threat: ThreatModel, n: int = N) -> Outcome:
    """On the device, images labelled by the model but for the first two."""
    images, there = random_images(n), copy.deepcopy(model).to("cuda")
    ids = torch.arange(n, device="cuda")
    return attack(there, text, images.to("cuda"), labels(model, n).to("cuda"), threat, ids=ids)


def labels(model: nn.Module, n: int) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(random_images(n)).argmax(dim=1)
    found[:2] = (found[:2] + 1) % 10
    return found


def waits(cuda: Cuda, model: nn.Module, text: str, threat: ThreatModel = TINY, n: int = 12) -> int:
    cuda.reset()
    outcome = run_there(model, text, threat, n)
    if threat is TINY:
        assert sum(outcome.survived) == n - 2
    return cuda.syncs


@pytest.mark.parametrize("text", SYNCS)
def test_a_step_seldom_waits(model: nn.Module, text: str) -> None:
    with pretended() as cuda:
        short, long = (waits(cuda, model, text.format(n)) for n in (4, 9))
        assert long - short <= 5 * SYNCS[text], cuda.sites


@pytest.mark.parametrize("text", ["apgd_ce[steps=10]", "apgd_t[steps=10,targets=3]"])
def test_a_step_with_hits_waits_three_times_more(model: nn.Module, text: str) -> None:
    """For the judge, for what is kept of its answer, and for how many images go on."""
    with pretended() as cuda:
        few = waits(cuda, model, text, n=N)
        loud = waits(cuda, model, text, LINF, n=N)
        hits = sum(k for (_, at), k in cuda.sites.items() if at.startswith("numerics/rows.py"))
        assert 0 < hits < 8
        assert loud - few <= 3 * hits + 1, "the one is of a column of the verdicts"


@pytest.mark.parametrize(
    ("text", "threat"),
    [(text, LINF) for text in ALL_LINF] + [(text, L2) for text in ALL_L2],
    ids=[f"{text}-linf" for text in ALL_LINF] + [f"{text}-l2" for text in ALL_L2],
)
def test_verdicts_are_those_of_the_cpu(model: nn.Module, text: str, threat: ThreatModel) -> None:
    """Passes, queries and candidates as well, while some images break and others do not."""
    here = attack(model, text, random_images(N), labels(model, N), threat)
    with pretended():
        there = run_there(model, text, threat)
        assert there.verdicts == here.verdicts
        assert there.components == here.components
        assert torch.equal(there.candidates.cpu(), here.candidates)
    assert there.unchanged
    assert 0 < sum(here.survived) < N - 2
