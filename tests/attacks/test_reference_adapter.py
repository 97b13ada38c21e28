"""`reference:`: the authors' code gives what it gives by itself, is judged, and leaves no trace."""

import logging
import random
import sys

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robench.attacks.adapters.global_draws import seed_for
from robench.attacks.adapters.reference import ReferenceAttack, adapt
from robench.attacks.resolve import resolve_attack
from robench.core.errors import InputError, RunError
from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge
from robench.models.passes import exact_float32
from robench.models.prepare import SearchModel
from robench.models.view import ModelView
from robench.numerics.random import ImageDraws
from tests.harness import ROWS, attack, random_images, small_cnn

N = 6
THREAT = ThreatModel("linf", 2 / 255)
STRONG = ThreatModel("linf", 0.5)
"""Nothing survives the first attack, so that all of AutoAttack is over in a moment."""


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(N)


@pytest.fixture(scope="module")
def labels(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argmax(1)


def ours(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, search: ReferenceAttack
) -> tuple[Tensor, ModelView]:
    """What the adapter returns, unjudged, and the view with its counters."""
    ids, copy = torch.arange(len(images)), SearchModel(model, "fp32", "the model itself")
    logits = Judge(model, threat, ROWS).logits(images)
    view = ModelView(copy, model, ROWS, ids, logits, lambda *_: None, {})
    found = search.run(view, images, labels, ids, threat, ImageDraws(0, search.name))
    return found, view


def theirs(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    name: str,
    **settings: int,
) -> Tensor:
    """What pyautoattack returns with the seed that the adapter draws."""
    seed = seed_for(ImageDraws(0, name), torch.arange(len(images)))
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    attacks = {} if name == "autoattack" else {"attacks": [name], "version": "custom"}
    suite = AutoAttack(model, norm=norm, eps=threat.eps, seed=seed, **attacks)
    if attacks:
        suite.apgd.n_restarts = 1
        suite.square.n_queries = settings.get("n_queries", 5000)
    with torch.random.fork_rng([]), exact_float32():
        return suite.run_standard_evaluation(images, labels)[0]


@pytest.mark.parametrize("threat", [THREAT, ThreatModel("l2", 0.15)], ids=["linf", "l2"])
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr"])
def test_one_attack_gives_what_pyautoattack_gives(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, name: str
) -> None:
    found, _ = ours(model, images, labels, threat, adapt(name, {}))
    expected = theirs(model, images, labels, threat, name)
    assert torch.equal(found, expected)
    robust = (found == images).flatten(1).all(1)
    assert 0 < int(robust.sum()) < N  # there is something to agree on
    assert attack(model, f"reference:{name}", images, labels, threat).survived == robust.tolist()


def test_the_number_of_queries_reaches_square(
    model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    threat = ThreatModel("linf", 8 / 255)
    found, view = ours(model, images, labels, threat, adapt("square", {"queries": "40"}))
    expected = theirs(model, images, labels, threat, "square", n_queries=40)
    assert torch.equal(found, expected) and not torch.equal(found, images)
    assert view.forward_passes.tolist() == [8 + 2 + 1 + 40 + 1] * N


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_a_version_runs_its_attacks_in_order(
    model: nn.Module, images: Tensor, labels: Tensor, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of their searches is replaced by a note of what it would have run with."""
    ran = []

    def note(search: object, x: Tensor, y: Tensor) -> Tensor:
        name = type(search).__name__.removesuffix("_PT")
        targets = getattr(search, "n_target_classes", None)
        ran.append((name, search.n_restarts, getattr(search, "eot_iter", None), targets))
        return x

    for place in ("APGDAttack", "APGDAttack_targeted", "FABAttack_PT", "SquareAttack"):
        monkeypatch.setattr(f"pyautoattack.autoattack.{place}.perturb", note)
    ours(model, images, labels, THREAT, adapt("autoattack", {"version": version}))
    targeted = ("APGDAttack_targeted", 1, 1, 9), ("FABAttack", 1, None, 9)
    square = ("SquareAttack", 1, None, None)
    assert (
        ran
        == {
            "standard": [("APGDAttack", 1, 1, None), *targeted, square],
            "plus": [
                ("APGDAttack", 5, 1, None),
                ("APGDAttack", 5, 1, None),
                ("FABAttack", 5, None, 9),
                square,
                *targeted,
            ],
            "rand": [("APGDAttack", 1, 20, None)] * 2,
        }[version]
    )


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_all_of_autoattack_under_our_judge(
    model: nn.Module, images: Tensor, labels: Tensor, version: str
) -> None:
    few, wrong = images[:3], labels[:3].clone()
    wrong[1] = (wrong[1] + 1) % 10
    out = attack(model, f"reference:autoattack[version={version}]", few, wrong, STRONG)
    assert not any(out.survived)
    by = "reference:autoattack"
    assert [v.broken_by for v in out.verdicts] == [by, "clean", by]
    assert out.verdicts[1].backward_passes == 0
    limit = STRONG.eps + 1e-6
    assert all(0 < v.distance <= limit for v in out.verdicts if v.broken_by != "clean")


@pytest.mark.parametrize(
    ("text", "forward", "backward"),
    [
        # attacks.md 8.1, plus clean predictions and seven passes of checks.
        ("autoattack", 7857 + 7, 1910),
        ("apgd-ce", 8 + 102 + 1, 101),
        ("apgd-t", 8 + 1 + 9 * 102 + 1, 9 * 101),
        ("fab-t", 8 + 1 + 9 * 203 + 1, 9 * 100),
        ("fab", 8 + 1 + 202 + 1, 10 * 100),
        ("square", 8 + 5004, 0),
    ],
)
def test_bounds_by_hand(text: str, forward: int, backward: int) -> None:
    (stage,) = adapt(text, {}).stages(text, 10)
    assert (stage.forward_passes, stage.backward_passes) == (forward, backward)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab"])
def test_a_robust_image_costs_the_bound(model: nn.Module, images: Tensor, name: str) -> None:
    one, search = images[:1], adapt(name, {})
    _, view = ours(model, one, model(one).argmax(1), ThreatModel("linf", 0), search)
    (stage,) = search.stages(name, 10)
    assert view.forward_passes.tolist() == [stage.forward_passes]
    assert view.backward_passes.tolist() == [stage.backward_passes]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_a_robust_image_costs_the_bound_of_the_suite(version: str) -> None:
    """XREF-3."""
    model, one = small_cnn(), random_images(1, size=4)
    search = adapt("autoattack", {"version": version})
    _, view = ours(model, one, model(one).argmax(1), ThreatModel("linf", 0), search)
    (stage,) = search.stages("c", 10)
    assert view.forward_passes.tolist() == [stage.forward_passes]
    assert view.backward_passes.tolist() == [stage.backward_passes]


def test_five_classes_have_four_targets() -> None:
    model, images = small_cnn(5), random_images(2)
    search, threat = adapt("apgd-t", {}), ThreatModel("linf", 0)
    _, view = ours(model, images, model(images).argmax(1), threat, search)
    assert view.backward_passes.tolist() == [4 * 101] * 2
    assert search.stages("c", 5)[0].backward_passes == 4 * 101


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["autoattack", "apgd-t"])
def test_below_four_classes_it_fails_with_advice(classes: int, name: str) -> None:
    model, images = small_cnn(classes), random_images(2)
    with pytest.raises(RunError, match=rf"fails on {classes} classes .* reference:fab-t"):
        attack(model, f"reference:{name}", images, model(images).argmax(1), ThreatModel("linf", 0))


def test_other_index_errors_are_not_explained_away(images: Tensor) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                raise IndexError("of the defense")
            return x.flatten(1)[:, :10]

    labels = Broken()(images).argmax(1)
    with pytest.raises(IndexError, match="of the defense"):
        attack(Broken(), "reference:apgd-ce", images, labels, THREAT)


def numpy_state() -> list[int]:
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_nothing_of_the_caller_changes(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    def trace(frame: object, event: str, argument: object) -> None:
        return None

    torch.rand(1), np.random.rand()  # noqa: NPY002 - not where an equal run has left them
    before, kept = sys.gettrace(), [p.clone() for p in model.state_dict().values()]
    states = torch.get_rng_state(), random.getstate(), numpy_state()
    sys.settrace(trace)
    try:
        out = attack(model, "reference:apgd-ce", images, labels, THREAT)
        tracer = sys.gettrace()
    finally:
        sys.settrace(before)
    assert tracer is trace
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == numpy_state()
    assert out.unchanged and not model.training
    assert all(torch.equal(a, b) for a, b in zip(kept, model.state_dict().values(), strict=True))


def test_draws_follow_the_seed_and_not_the_global_state(
    model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    found = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        out = attack(model, "reference:apgd-ce", images, labels, THREAT, seed=seed)
        found.append(out.candidates)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_it_prints_nothing_and_its_warnings_are_logged(
    images: Tensor, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A defense that looks like probabilities is what their checks warn about."""
    model = nn.Sequential(small_cnn(), nn.Softmax(dim=1)).eval()
    attack(model, "reference:apgd-ce", images, model(images).argmax(1), THREAT)
    assert capsys.readouterr().out == ""
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("probability distribution" in message for message in warnings)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("autoatack", {}, "did you mean 'autoattack'"),
        ("apgd_ce", {}, "did you mean 'apgd-ce'"),
        ("rays", {}, "it has autoattack, apgd-ce"),
        ("autoattack", {"versoin": "plus"}, "did you mean 'version'"),
        ("autoattack", {"restarts": "3"}, "it takes version, batch_size"),
        ("autoattack", {"version": "standrad"}, "did you mean 'standard'"),
        ("square", {"queries": "0"}, r"square\[queries=0\]: expected a whole number above 0"),
        ("apgd-ce", {"restarts": "1.5"}, "expected a whole number"),
        ("apgd-ce", {"restarts": "many"}, "cannot read 'many'"),
    ],
)
def test_what_cannot_be_read(name: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(name, arguments)


def test_the_record_gets_every_parameter() -> None:
    named = resolve_attack("reference:square", {"queries": "100"})
    assert named.info.name == "reference:square"
    assert named.info.parameters == {"restarts": 1, "batch_size": 250, "queries": 100}
    named = resolve_attack("reference:autoattack", {"version": "rand"})
    assert named.info.parameters == {"version": "rand", "batch_size": 250}
    assert named.attack.verification_passes == 20


def test_a_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(
        InputError, match=r"^pyautoattack cannot .*'robench\[reference\]'$"
    ) as error:
        adapt("autoattack", {})
    assert "\n" not in str(error.value)
