"""Fair-ARD and Fair-RSLAD on F1: what counts as resistance, the weights, and where they act."""

import json
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import Loss, cross_entropy, kl_divergence
from robench.numerics.random import BatchDraws
from robench.training.inner import starting_points
from robench.training.losses import KLScale
from robench.training.method import restore_state, state_of
from robench.training.methods import fair
from robench.training.methods.ard import ard
from robench.training.methods.fair import FairARD, FairRSLAD, fair_ard, fair_rslad, weights_of
from robench.training.methods.rslad import rslad
from robench.training.plan import resolve_recipe
from robench.training.recipe import Inner, Recipe
from tests.training.fixture import SA, SN, TR, FixedStep, Y, advance
from tests.training.test_engine import recipe, trainer

W = [0.833333, 1.770490, 0.833333]
"""F1's class weights, of kappa 8, 4, 6."""
METHODS = [fair_ard, fair_rslad]


def _after_f1(method: FairARD | FairRSLAD) -> FairARD | FairRSLAD:
    """In its second epoch, the first of which gave kappa 8, 4, 6 with one image a class."""
    fresh = replace(method)
    fresh.kappa, fresh.count = [8.0, 4.0, 6.0], [3.0]
    fresh.end_epoch()
    return fresh


@dataclass
class ShownStep(FixedStep):
    """Shows the iterates 1 and 0 of image 2, then 0 to 2 of the others: threads keep no order."""

    correct: list[list[int]] = field(default_factory=lambda: [[1, 1, 0], [0, 0, 1], [0, 1, 0]])
    """By image: which iterates are classified correctly."""

    def ascend(self, loss: Loss, targets: Tensor, **settings: object) -> Tensor:
        watch = settings["watch"]
        assert callable(watch)
        for rows, iterate in [([2], 1), ([2], 0), ([0, 1], 0), ([0, 1], 1), ([2], 2), ([1, 0], 2)]:
            places = torch.tensor(rows)
            right = torch.tensor([self.correct[row][iterate] for row in rows])
            predicted = (self.labels[places] + 1 - right) % 3
            watch(places, torch.nn.functional.one_hot(predicted, 3).float())
        return super().ascend(loss, targets, **settings)


def test_the_weights_of_f1(monkeypatch: pytest.MonkeyPatch) -> None:
    """1/64, 1/16, 1/36 scaled to the sum 3; two are too light and rise."""
    assert weights_of([8.0, 4.0, 6.0], 2.0) == pytest.approx(W, abs=1e-6)
    assert _after_f1(fair_ard).class_weights == pytest.approx(W, abs=1e-6)
    monkeypatch.setattr(fair, "LEAST", 0.0)
    raw = [0.442624, 1.770490, 0.786886]
    assert weights_of([8.0, 4.0, 6.0], 2.0) == pytest.approx(raw, abs=1e-6)


def test_weights_scale_before_they_are_clamped() -> None:
    """(1, 1/2, 1/2, 1/2) scaled to the sum 4 is 1.6, .8, .8, .8: then the light ones rise."""
    assert weights_of([2.0, 4.0, 4.0, 4.0], 1.0) == pytest.approx([1.6] + [5 / 6] * 3, abs=1e-5)
    # 4 of 5 in one class is above 5/2; nothing is scaled again.
    clamped = weights_of([1.0] + [16.0] * 4, 1.0)
    assert clamped == [5 / 2] + [5 / 6] * 4
    assert weights_of([7.0, 3.0], 0.0) == [1.0, 1.0]


@pytest.mark.parametrize("beta", [2.0, 100.0])
def test_a_class_that_never_resists_has_a_weight(beta: float) -> None:
    """1 / 1e-5 to the power 100 has no float64; both weights are limits here."""
    assert weights_of([0.0, 5.0, 5.0], beta) == [5 / 2, 5 / 6, 5 / 6]
    assert weights_of([0.0, 0.0, 0.0], beta) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("scale", "total"), [("batchmean/C", 0.131838), ("batchmean", 3 * 0.131838)]
)
def test_total_of_f1_for_fair_ard(scale: KLScale, total: float) -> None:
    """T = 30, alpha = 1."""
    found, _, weights = advance(_after_f1(replace(fair_ard, kl_scale=scale)), FixedStep())
    assert found.item() == pytest.approx(total, abs=3e-6)
    assert weights == {"adv": 1.0}


def test_total_of_f1_for_fair_ard_with_labels() -> None:
    """The cross-entropies of SN are .241311, .680270, .599574."""
    method = _after_f1(replace(fair_ard, alpha=0.5))
    found, values, weights = advance(method, FixedStep())
    nat = (W[0] * 0.241311 + W[1] * 0.680270 + W[2] * 0.599574) / 3
    assert values["nat"] == pytest.approx(nat, abs=1e-6)
    assert weights == {"adv": 0.5, "nat": 0.5}
    assert found.item() == pytest.approx((0.131838 + nat) / 2, abs=1e-6)


@pytest.mark.parametrize(("scale", "total"), [("batchmean", 0.292806), ("batchmean/10", 0.0292806)])
def test_total_of_f1_for_fair_rslad(scale: KLScale, total: float) -> None:
    found, _, weights = advance(_after_f1(replace(fair_rslad, kl_scale=scale)), FixedStep())
    assert found.item() == pytest.approx(total, abs=1e-6)
    assert weights == {"adv": 5 / 6, "nat": pytest.approx(1 / 6)}


def test_defaults_are_the_reductions_of_the_bases() -> None:
    assert (fair_ard.kl_scale, fair_ard.temperature, fair_ard.alpha) == ("batchmean/C", 30.0, 1.0)
    assert (fair_rslad.kl_scale, fair_rslad.kl_eps) == ("batchmean/10", 0.0)


@pytest.mark.parametrize(
    ("method", "base"), [(fair_ard, ard), (fair_rslad, rslad)], ids=["ard", "rslad"]
)
def test_the_first_epoch_is_the_base_s_bit_for_bit(
    method: FairARD | FairRSLAD, base: FairARD
) -> None:
    alike = {"alpha": 0.75} if method is fair_ard else {"kl_eps": 1e-5}
    ours, theirs = replace(method, **alike), replace(base, **alike)  # type: ignore[arg-type]
    assert advance(ours, FixedStep())[1:] == advance(theirs, FixedStep())[1:]
    assert ours.readings({}) == {"weight_min": 1.0, "weight_max": 1.0}


def test_resistance_is_the_number_of_correct_iterates() -> None:
    """By image 2, 1, 1 of 3; an image that comes back from an error counts again."""
    method = replace(fair_ard)
    method.inner(ShownStep())
    assert (method.kappa, method.count) == ([2.0, 1.0, 1.0], [3.0])
    second = ShownStep()
    second.labels = torch.tensor([2, 2, 0])
    method.inner(second)
    assert (method.kappa, method.count) == ([3.0, 1.0, 4.0], [6.0])


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_s_end_turns_resistance_into_weights(method: FairARD | FairRSLAD) -> None:
    """kappa 2, 1, 1 over N / K = 1: 1/4, 1, 1 scaled to the sum 3 are 1/3, 4/3, 4/3."""
    fresh = replace(method)
    advance(fresh, ShownStep())
    assert fresh.class_weights == []
    fresh.end_epoch()
    assert fresh.class_weights == pytest.approx([5 / 6, 4 / 3, 4 / 3], abs=1e-4)
    assert fresh.readings({}) == {
        "weight_min": fresh.class_weights[0],
        "weight_max": max(fresh.class_weights),
    }
    advance(fresh, ShownStep(correct=[[1, 0, 0], [1, 1, 0], [1, 1, 0]]))
    assert (fresh.kappa, fresh.count) == ([1.0, 2.0, 2.0], [3.0])


def test_resistance_is_per_image_of_an_average_class() -> None:
    """The guard 1e-5 is absolute: kappa 0 and 2e-5 weigh 3 : 1 with beta 1, whatever N is."""
    method = replace(fair_rslad, beta=1.0)
    method.kappa, method.count = [0.0, 2e-5 * 500], [400.0 + 600.0]
    method.end_epoch()
    assert method.class_weights == pytest.approx([1.5, 5 / 6], abs=1e-9)
    method.kappa, method.count = [0.0, 1e-5 * 500], [1000.0]
    method.end_epoch()
    assert method.class_weights == pytest.approx([4 / 3, 5 / 6], abs=1e-9)


def test_passes_and_inner_losses_are_the_bases() -> None:
    ours, theirs = FixedStep(), FixedStep()
    advance(replace(fair_ard, alpha=0.5), ours)
    assert ours.passes == ["ascend", "Ta(x)", "S(x')", "S(x)"]
    [(loss, targets, settings)] = ours.ascents
    assert loss is cross_entropy and torch.equal(targets, Y) and set(settings) == {"watch"}
    advance(replace(fair_rslad), theirs)
    assert theirs.passes == ["Ta(x)", "ascend", "S(x')", "S(x)"]
    [(loss, targets, settings)] = theirs.ascents
    assert loss is kl_divergence and set(settings) == {"watch"}
    assert loss(SA, targets)[0].tolist() == pytest.approx([0.253385, 0.323228, 0.278007], abs=1e-6)


def test_the_gradient_is_weighted_by_class_and_reaches_the_student_only() -> None:
    step = FixedStep()
    step.labels = torch.tensor([1, 0, 1])
    advance(_after_f1(replace(fair_rslad, kl_scale="batchmean")), step)[0].backward()
    assert step.reached() == {"sn", "sa"}
    assert step.sn.grad is not None and step.sa.grad is not None
    weights = torch.tensor([[W[1]], [W[0]], [W[1]]], dtype=torch.float64)
    adv, nat = SA.softmax(1) - TR.softmax(1), SN.softmax(1) - TR.softmax(1)
    for grad, expected in ((step.sa.grad, 5 / 6 * adv), (step.sn.grad, 1 / 6 * nat)):
        torch.testing.assert_close(3 * grad, weights * expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("method", METHODS)
def test_state_in_the_middle_of_an_epoch_survives_json_bit_for_bit(
    method: FairARD | FairRSLAD,
) -> None:
    one = _after_f1(method)
    advance(one, ShownStep())
    other = replace(method)
    restore_state(other, json.loads(json.dumps(state_of(one))))
    rest = ShownStep(correct=[[1, 1, 1], [0, 1, 1], [0, 0, 1]])
    for each in (one, other):
        advance(each, rest)
        each.end_epoch()
    assert state_of(one) == state_of(other)
    assert advance(one, ShownStep())[1:] == advance(other, ShownStep())[1:]


@pytest.mark.parametrize("method", METHODS)
def test_two_devices_that_share_an_epoch_gather_what_one_gathers(
    method: FairARD | FairRSLAD,
) -> None:
    steps = [ShownStep(), ShownStep(correct=[[1, 1, 1], [0, 0, 0], [1, 0, 1]])]
    # beta = 1/2 leaves two of three weights free, so that the guard, which needs N, shows.
    one, *two = (replace(method, beta=0.5) for _ in range(3))
    for each, step in zip(two, steps, strict=True):
        advance(one, step)
        advance(each, step)
    for name in method.gathered:
        parts = zip(*(getattr(each, name) for each in two), strict=True)
        setattr(two[0], name, [sum(part) for part in parts])
    one.end_epoch()
    two[0].end_epoch()
    assert state_of(one) == state_of(two[0])


def test_what_a_state_was_does_not_move_with_the_method() -> None:
    method = replace(fair_ard)
    method.inner(ShownStep())
    before = state_of(method)
    method.inner(ShownStep())
    method.end_epoch()
    assert before == {"class_weights": [], "kappa": [2.0, 1.0, 1.0], "count": [3.0]}
    assert state_of(replace(method)) == {"class_weights": [], "kappa": [], "count": []}


def test_the_engine_shows_the_start_of_its_first_step() -> None:
    method = replace(fair_ard)
    run = trainer(method, recipe("fair-ard", inner=Inner(steps=1)))
    rows, draws = run.batches(1)[0], BatchDraws(0, 1)
    images = run.images.batch(rows, draws, augment=True)
    start = starting_points(Inner(steps=1), images, run.images.ids[rows], draws)
    labels = run.images.labels[rows]
    right = run.network(start).argmax(dim=1) == labels
    run.step(rows, 1, 1)
    assert method.kappa == [float(right[labels == label].sum()) for label in range(4)]
    assert 0 < sum(method.kappa) < len(rows)


def test_an_epoch_of_the_engine_counts_every_image_at_every_step() -> None:
    """20 images of 4 classes, 2 steps: kappa_c is at most 2 x 5."""
    method = replace(fair_rslad)
    run = trainer(method, recipe("fair-rslad"))
    for number, rows in enumerate(run.batches(1), start=1):
        values = run.step(rows, 1, number)
    assert values["weight_min"] == 1.0
    assert method.count == [20.0] and len(method.kappa) == 4
    assert 0 < sum(method.kappa) < 40 and max(method.kappa) <= 10
    kappa = [total / 5 for total in method.kappa]
    run.end_epoch(1)
    assert method.class_weights == weights_of(kappa, 2.0)
    assert run.step(run.batches(2)[0], 2, 1)["weight_max"] == max(method.class_weights) > 1


def _recipe(method: str, dataset: str, preset: str = "paper") -> Recipe:
    return resolve_recipe(method, dataset, preset=preset, teachers=["robust=x.safetensors"])


def test_recipes_of_fair_ard() -> None:
    paper, released = (_recipe("fair-ard", "cifar10", name) for name in ("paper", "released"))
    assert (paper.epochs, paper.optimizer.milestones) == (200, [0.5, 0.75])
    assert (paper.inner.start, paper.inner.craft_mode) == ("uniform", "eval")
    assert (released.epochs, released.optimizer.milestones) == (200, [0.5])
    assert (released.inner.start, released.inner.craft_mode) == ("uniform", "train")
    assert paper.parameters == released.parameters
    tiny = _recipe("fair-ard", "tiny-imagenet")
    assert (tiny.epochs, tiny.batch_size, tiny.optimizer.milestones) == (100, 32, [0.75, 0.9])


def test_recipes_of_fair_rslad() -> None:
    paper, released = (_recipe("fair-rslad", "cifar10", name) for name in ("paper", "released"))
    assert paper.epochs == released.epochs == 300
    assert paper.inner == released.inner == Inner()
    assert (paper.parameters["kl_eps"], released.parameters["kl_eps"]) == (0.0, 1e-5)
    assert released.selection.part == "validation"


@pytest.mark.parametrize("method", ["fair-ard", "fair-rslad"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny-imagenet"])
@pytest.mark.parametrize("preset", ["paper", "released", "small"])
def test_momentum_is_nesterov_s(method: str, dataset: str, preset: str) -> None:
    assert _recipe(method, dataset, preset).optimizer.nesterov is True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"kl_scale": "batchmean/c"}])
def test_parameters_without_sense_are_refused(
    method: FairARD | FairRSLAD, wrong: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(method, **wrong)  # type: ignore[arg-type]
