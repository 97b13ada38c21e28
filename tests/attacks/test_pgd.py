"""PGD, FGSM and CW_inf: counters, starts, stop rules, batches, and what they leave untouched."""

import copy

import pytest
import torch

from robench.core.threat import ThreatModel
from tests.harness import attack, random_images, small_cnn
from tests.linear import Linear

EPS = ThreatModel("linf", 8 / 255)
ALL = ["fgsm", "pgd_sat", "pgd_trades", "cw_inf"]


@pytest.fixture(scope="module")
def cnn() -> torch.nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return random_images(24)


@pytest.fixture(scope="module")
def labels(cnn: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's own predictions, but for one wrong label."""
    labels = cnn(images).argmax(1)
    labels[5] = (labels[5] + 1) % 10
    return labels


@pytest.mark.parametrize(
    ("text", "steps"), [("fgsm", 1), ("pgd_sat", 20), ("pgd_trades", 20), ("cw_inf", 30)]
)
def test_pass_counters(cnn, images, labels, text: str, steps: int) -> None:
    """XREF-3: clean 1, search `steps` forward and backward, verification 1; clean-wrong 1 and 0."""
    out = attack(cnn, text, images, labels, EPS)
    for verdict in out.verdicts:
        expected = (1, 0) if verdict.id == 5 else (steps + 2, steps)
        assert (verdict.forward_passes, verdict.backward_passes) == expected
    assert out.verdicts[5].broken_by == "clean" and not out.verdicts[5].survived


@pytest.mark.parametrize("text", ALL)
def test_eps_zero_is_clean_accuracy(cnn, images, labels, text: str) -> None:
    out = attack(cnn, text, images, labels, ThreatModel("linf", 0.0))
    assert out.survived == [i != 5 for i in range(24)]
    assert torch.equal(out.candidates, images)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("stop", ["last", "any"])
def test_candidates_stay_inside(cnn, images, labels, text: str, stop: str) -> None:
    out = attack(cnn, text, images, labels, EPS, stop=stop)
    assert not any(f.startswith("rejected") for v in out.verdicts for f in v.flags)
    assert (out.candidates - images).abs().max() <= 8 / 255 + 1e-6
    assert out.candidates.min() >= 0 and out.candidates.max() <= 1


@pytest.mark.parametrize("text", ALL)
def test_any_breaks_at_least_what_last_breaks(cnn, images, labels, text: str) -> None:
    threat = ThreatModel("linf", 2 / 255)
    last = attack(cnn, text, images, labels, threat).survived
    hits = attack(cnn, text, images, labels, threat, stop="any").survived
    assert all(a <= b for a, b in zip(hits, last, strict=True))


def test_any_spends_nothing_on_settled_images(cnn, images, labels) -> None:
    out = attack(cnn, "pgd_sat", images, labels, EPS, stop="any")
    broken = [v for v in out.verdicts if v.broken_by == "pgd_sat"]
    assert broken and all(v.backward_passes < 20 for v in broken)
    assert all(v.backward_passes == 20 for v in out.verdicts if v.survived)


@pytest.mark.parametrize("stop", ["last", "any"])
def test_more_restarts_never_help_the_defense(cnn, images, labels, stop: str) -> None:
    threat = ThreatModel("linf", 2.5 / 255)
    one = attack(cnn, "pgd_sat[steps=3]", images, labels, threat, stop=stop)
    three = attack(cnn, "pgd_sat[steps=3,restarts=3]", images, labels, threat, stop=stop)
    assert all(a <= b for a, b in zip(three.survived, one.survived, strict=True))
    assert any(v.backward_passes == 9 for v in three.verdicts if v.survived)


def test_larger_balls_break_more(cnn, images, labels) -> None:
    """MONO, by construction of the union over iterates."""
    counts = [
        sum(
            attack(cnn, "cw_inf", images, labels, ThreatModel("linf", e / 255), stop="any").survived
        )
        for e in (0, 1, 2, 4, 8, 16)
    ]
    assert counts == sorted(counts, reverse=True) and counts[0] == 23 and counts[-1] < 5


@pytest.mark.parametrize("stop", ["last", "any"])
@pytest.mark.parametrize("text", ALL)
def test_verdicts_do_not_depend_on_batch_or_order(cnn, images, labels, text, stop) -> None:
    """RNG-1: one by one, in sevens, shuffled: the same verdicts, candidates and counters."""
    whole = attack(cnn, text, images, labels, EPS, stop=stop)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    for size in (1, 7):
        pieces = [order[i : i + size] for i in range(0, 24, size)]
        outs = [attack(cnn, text, images[p], labels[p], EPS, stop=stop, ids=p) for p in pieces]
        again = {v.id: v for out in outs for v in out.verdicts}
        assert [again[i] for i in range(24)] == whole.verdicts
        candidates = torch.cat([out.candidates for out in outs])
        assert torch.equal(candidates, whole.candidates[torch.cat(pieces)])


@pytest.mark.parametrize("text", ALL)
def test_nothing_is_changed(cnn, images, labels, text: str) -> None:
    """MUT: inputs, parameters, buffers, mode and the global random state."""
    before = copy.deepcopy(cnn.state_dict())
    given, state = images.clone(), torch.get_rng_state()
    attack(cnn, text, images, labels, EPS, stop="any")
    assert torch.equal(given, images) and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in cnn.state_dict().items())
    assert not cnn.training and all(p.requires_grad for p in cnn.parameters())


@pytest.mark.parametrize(
    ("start", "low", "high"), [("uniform", 6 / 255, 8 / 255), ("gauss1e-3", 0.001, 0.006)]
)
def test_starts_have_their_size(start: str, low: float, high: float) -> None:
    flat = Linear(torch.zeros(2, 192), torch.tensor([1.0, 0.0]))
    images = torch.full((4, 3, 8, 8), 0.5)
    out = attack(flat, f"pgd_sat[start={start}]", images, torch.zeros(4, dtype=torch.long), EPS)
    size = (out.candidates - images).abs().amax(dim=(1, 2, 3))
    assert (size > low).all() and (size <= high).all()
    assert all("zero_gradient" in v.flags for v in out.verdicts)


def test_saturated_logits_are_attacked_all_the_same(cnn, images, labels) -> None:
    """Logits times 1e5 saturate float32 cross-entropy; ours sees the same directions as before."""

    class Sharp(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e5 * cnn(x)

    def count(model: torch.nn.Module, text: str) -> int:
        return sum(attack(model, text, images, labels, ThreatModel("linf", 4 / 255)).survived)

    assert count(Sharp(), "cw_inf") == count(cnn, "cw_inf")
    assert count(Sharp(), "pgd_sat") <= count(cnn, "pgd_sat")
    assert count(Sharp(), "pgd_sat[loss=cross_entropy_float32]") > count(cnn, "pgd_sat") + 3
