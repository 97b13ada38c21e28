"""FAB: norms by hand, the reference's iterates, counters, few classes, and what it leaves alone."""

import copy
from dataclasses import replace
from math import sqrt

import pytest
import torch
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor, nn

import robench.attacks.fab
from robench.attacks.fab import CACHED, FAB, Plane, fab, fab_t
from robench.core.threat import ThreatModel
from robench.numerics.projections import distance
from robench.numerics.random import ImageDraws
from tests.harness import attack, random_images, small_cnn
from tests.linear import Linear, two_class, worst_margin

BOTH = ["fab", "fab_t"]
SHORT = ["fab[steps=10]", "fab_t[steps=10]"]
LINF, L2 = ThreatModel("linf", 2 / 255), ThreatModel("l2", 0.06)
REFERENCE_NORM = {"linf": "Linf", "l2": "L2"}
EDGE = {"linf": 1 / 14, "l2": 0.25 / sqrt(5.25)}


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(24)


@pytest.fixture(scope="module")
def labels(cnn: nn.Module, images: Tensor) -> Tensor:
    """The network's own predictions, but for one wrong label."""
    labels = cnn(images).argmax(1)
    labels[5] = (labels[5] + 1) % 10
    return labels


# --- closed forms -------------------------------------------------------------------------------


def _grey() -> tuple[Linear, Tensor, Tensor]:
    """LIN-1: margin 0.25, w = (1, -2, 0.5, 0)."""
    return Linear(*two_class(0.0)), torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("steps", "ratio"), [(1, 1.05), (2, 1.0052), (5, 1.0052), (50, 1.0052)])
def test_fab_1(name: str, norm: str, steps: int, ratio: float) -> None:
    """The first step goes 5 % too far, the next one from nine tenths of it half a percent."""
    out = attack(*_with(f"{name}[stop_at_eps=false,steps={steps}]"), ThreatModel(norm, 1.0))
    assert out.verdicts[0].distance / EDGE[norm] == pytest.approx(ratio, abs=1e-4)


def _with(text: str) -> tuple[nn.Module, str, Tensor, Tensor]:
    model, x, label = _grey()
    return model, text, x, label


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("u", "share"),
    [(0.2, 0.1), (0.59, 1 / 11), (0.7, 0.1), (0.6, 1e-8 / 0.1), (0.5, 0.1)],
)
def test_a_step_by_hand(norm: str, u: float, share: float) -> None:
    """One pixel, x = 0.5, the boundary at 0.6: both go 5 % too far, and x has a share of it."""
    here, x = torch.full((1, 1, 1, 1), u).double(), torch.full((1, 1, 1, 1), 0.5).double()
    plane = Plane(3 * (here.flatten() - 0.6), torch.full_like(x, 3.0))
    found = fab.step(here, x, plane, norm).item()
    onto, home = u + 1.05 * (0.6 - u), 0.5 + 1.05 * 0.1
    assert found == pytest.approx((1 - share) * onto + share * home, abs=1e-7)


def test_a_step_without_a_gradient_goes_towards_the_image() -> None:
    """Neither can move: the norms are floored, so the share of the image is a tenth, not 0 / 0."""
    u, x = torch.full((1, 1, 1, 1), 0.2), torch.full((1, 1, 1, 1), 0.5)
    found = fab.step(u, x, Plane(torch.ones(1), torch.zeros_like(x)), "linf")
    assert found.item() == pytest.approx(0.9 * 0.2 + 0.1 * 0.5, abs=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("side", [32, 160])
def test_a_step_does_not_depend_on_the_other_rows(norm: str, side: int) -> None:
    """Bit for bit, across the borders of what is moved together, and for images beyond it."""
    torch.manual_seed(side)
    u, x = torch.rand(2, 2 * max(1, CACHED // (3 * side**2)) + 1, 3, side, side).unbind()
    plane = Plane(torch.randn(len(u)) * side**2, torch.randn_like(u))
    whole = fab.step(u, x, plane, norm)
    assert not torch.equal(whole, u)
    for k in (0, len(u) // 2, len(u) - 1):
        own = Plane(*(part[k : k + 1] for part in plane))
        assert torch.equal(fab.step(u[k : k + 1], x[k : k + 1], own, norm)[0], whole[k])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("factor", "robust"), [(0.999, True), (1.001, True), (1.006, False)])
def test_an_image_is_robust_below_the_edge(
    name: str, norm: str, factor: float, robust: bool
) -> None:
    """Without a final search FAB stays half a percent above it: the reference's weakness too."""
    out = attack(*_with(name), ThreatModel(norm, factor * EDGE[norm]))
    assert out.survived == [robust]
    assert not any(flag.startswith("rejected") for flag in out.verdicts[0].flags)


@pytest.mark.parametrize("text", ["fab", "fab_t"])
def test_lin_4_no_attack_beats_the_closed_form(text: str) -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(5, 12), torch.randn(5), torch.rand(200, 12)
    images, model = x.reshape(200, 3, 2, 2), Linear(weight, bias)
    labels = model(images).argmax(1)
    exact = worst_margin(weight, bias, images, labels, 0.05) > 0
    out = attack(model, text + "[steps=10]", images, labels, ThreatModel("linf", 0.05))
    survived = torch.tensor(out.survived)
    assert (survived >= exact).all() and survived.sum() <= exact.sum() + 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_untargeted_search_goes_to_the_nearest_boundary(norm: str) -> None:
    """Class 1 has the smaller logit gap, class 2 the larger gradient: 0.2 / 1 against 0.3 / 3."""
    weight = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [0, 3, 0, 0]])
    model = Linear(weight, torch.tensor([0.0, -0.7, -1.8]))
    x = torch.full((1, 1, 2, 2), 0.5)
    out = attack(
        model, "fab[steps=1,stop_at_eps=false]", x, torch.tensor([0]), ThreatModel(norm, 1.0)
    )
    expected = torch.tensor([0, 1.05 * 0.1, 0, 0])
    torch.testing.assert_close((out.candidates - x).flatten(), expected, atol=1e-6, rtol=0)
    assert out.verdicts[0].prediction == 2


# --- the reference ------------------------------------------------------------------------------


class Recorder(nn.Module):
    """A network that remembers what it was asked without gradient: images and iterates."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            self.seen.append(x.clone())
        logits: Tensor = self.network(x)
        return logits


def by_reference(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, steps: int, targets: int = 0, eps: float = 1
) -> FABAttack_PT:
    return FABAttack_PT(
        model,
        norm=REFERENCE_NORM[norm],
        n_iter=steps,
        eps=eps,
        targeted=targets > 0,
        n_target_classes=targets,
        device="cpu",
    )


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_iterates_are_the_references(cnn, images, labels, name: str, norm: str) -> None:
    """The first one to 1e-6, ten of them to 1e-5."""
    steps, targeted = 10, name == "fab_t"
    for i in range(4):
        ours, theirs, x, y = Recorder(cnn), Recorder(cnn), images[i : i + 1], labels[i : i + 1]
        text = f"{name}[steps={steps},stop_at_eps=false{',targets=1' if targeted else ''}]"
        attack(ours.eval(), text, x, y, ThreatModel(norm, 1.0), rows=1)
        peer = by_reference(theirs, x, y, norm, steps, targets=int(targeted))
        peer.target_class = 2
        with torch.no_grad():
            peer.attack_single_run(x, y, is_targeted=targeted)
        found = torch.cat(ours.seen[1:-1])  # clean and verification are the judge's
        expected = torch.cat(theirs.seen[1 + targeted :])
        assert len(found) == len(expected) == steps
        torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert distance(found[-1:] - x, norm) > 1e-3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_xref_2_norms(cnn, norm: str) -> None:
    """Whole runs towards three targets: the median norms agree to 1e-4."""
    images = random_images(64, seed=3)
    labels = cnn(images).argmax(1)
    text = "fab_t[steps=30,targets=3,stop_at_eps=false]"
    out = attack(cnn, text, images, labels, ThreatModel(norm, 1e-6), rows=32)
    ours = distance(out.candidates - images, norm)
    theirs = torch.full((64,), torch.inf, dtype=torch.float64)
    peer = by_reference(cnn, images, labels, norm, 30, targets=3)
    for peer.target_class in (2, 3, 4):
        with torch.no_grad():
            found = peer.attack_single_run(images, labels, is_targeted=True)
        theirs = torch.minimum(theirs, distance(found - images, norm))
    assert ours.median() / theirs.median() == pytest.approx(1, abs=1e-4)
    assert ((ours / theirs - 1).abs() < 1e-3).float().mean() > 0.9


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_xref_2_verdicts(cnn, name: str, threat: ThreatModel) -> None:
    """Stopping at eps changes no verdict, and the reference agrees on all of 100 images but one."""
    images = random_images(100, seed=4)
    labels = cnn(images).argmax(1)
    text = f"{name}[steps=20{',targets=4' if name == 'fab_t' else ''}]"
    survived = torch.tensor(attack(cnn, text, images, labels, threat, rows=32).survived)
    targets = 4 if name == "fab_t" else 0
    peer = by_reference(cnn, images, labels, threat.norm, 20, targets, threat.eps)
    found = peer.perturb(images, labels)
    theirs = cnn(found).argmax(1) == labels
    assert (survived != theirs).sum() <= 1
    assert 20 < survived.sum() < 80


# --- passes and stop rules ----------------------------------------------------------------------


def test_apgd_3_pass_counters() -> None:
    """Constant logits: 2 passes forward and 1 backward a step and target, verification apart."""
    flat = Linear(torch.zeros(10, 192), torch.arange(10.0))
    images, labels = random_images(3), torch.full((3,), 9)
    for text, passes in (
        ("fab_t[targets=1]", (202, 100)),  # 204 in the reference: two more looks at the image
        ("fab_t", (1 + 3 * (600 + 1), 900)),  # three stages, each verified
        ("fab[steps=20]", (1 + 20 * 10 + 1, 20 * 9)),
    ):
        out = attack(flat, text, images, labels, LINF)
        assert {(v.forward_passes, v.backward_passes) for v in out.verdicts} == {passes}
        assert all(out.survived) and torch.equal(out.candidates, images)


@pytest.mark.parametrize("search", [fab, fab_t, replace(fab_t, targets=4, restarts=2)])
@pytest.mark.parametrize("classes", [2, 3, 10, 30])
def test_stages_promise_what_a_robust_image_costs(search: FAB, classes: int) -> None:
    search = replace(search, steps=2)
    flat = Linear(torch.zeros(classes, 12), torch.arange(classes).float())
    images, labels = random_images(1, size=2), torch.tensor([classes - 1])
    out = attack(flat, "fab", images, labels, LINF, search=search)
    stages = search.stages("fab", classes)
    assert out.components[0].forward_passes == sum(stage.forward_passes for stage in stages)
    assert out.components[0].backward_passes == sum(stage.backward_passes for stage in stages)
    assert all(1 <= stage.width <= 9 for stage in stages)


def test_the_stages_of_restarts_and_groups() -> None:
    labels = [stage.label for stage in replace(fab_t, targets=4, restarts=2).stages("fab_t", 10)]
    assert labels == [
        "restart 1 of 2, targets 1-3",
        "restart 1 of 2, target 4",
        "restart 2 of 2, targets 1-3",
        "restart 2 of 2, target 4",
    ]
    assert [stage.label for stage in fab_t.stages("fab_t", 3)] == ["targets 1-2"]
    assert [stage.label for stage in fab.stages("fab", 10)] == [""]
    assert fab_t.remarks(10) == [] and fab_t.remarks(3) == [
        "2 of 9 targets: there are no more classes"
    ]


def test_a_settled_image_costs_nothing_more() -> None:
    """Broken by the first step: one pass backward for each of its rows, then none."""
    model, x, label = _grey()
    out = attack(model, "fab", x, label, ThreatModel("linf", 0.1))
    verdict = out.verdicts[0]
    assert verdict.broken_by == "fab" and not verdict.survived
    assert (verdict.forward_passes, verdict.backward_passes) == (1 + 2 + 1, 1)
    weight = torch.cat([two_class(0.0)[0], torch.full((1, 4), -9.0)])
    three = Linear(weight, torch.zeros(3))  # the third class is out of reach, its row ends as well
    out = attack(three, "fab_t", x, label, ThreatModel("linf", 0.1))
    assert (out.verdicts[0].forward_passes, out.verdicts[0].backward_passes) == (1 + 4 + 1, 2)


@pytest.mark.parametrize("text", SHORT)
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_only_iterates_within_eps_are_offered(cnn, images, labels, text, threat) -> None:
    out = attack(cnn, text, images, labels, threat)
    assert not any(f.startswith(("rejected", "unconfirmed")) for v in out.verdicts for f in v.flags)
    assert 3 < sum(out.survived) < 20
    assert (distance(out.candidates - images, threat.norm) <= threat.eps).all()
    robust = torch.tensor(out.survived)
    assert torch.equal(out.candidates[robust], images[robust])


@pytest.mark.parametrize("name", BOTH)
def test_the_whole_run_finds_the_smallest_norm(cnn, images, labels, name: str) -> None:
    """Not stopping: as many broken, never farther away."""
    size = "steps=10,targets=6" if name == "fab_t" else "steps=10"
    early = attack(cnn, f"{name}[{size}]", images, labels, LINF)
    whole = attack(cnn, f"{name}[{size},stop_at_eps=false]", images, labels, LINF)
    assert whole.survived == early.survived
    pairs = zip(whole.verdicts, early.verdicts, strict=True)
    broken = [(w.distance, e.distance) for w, e in pairs if e.broken_by == name]
    assert broken and all(w <= e for w, e in broken) and any(w < e for w, e in broken)


@pytest.mark.parametrize("name", BOTH)
def test_the_closest_of_all_restarts_comes_back(cnn, images, labels, name: str) -> None:
    """The second restart takes nothing away, and towards one target it gets closer on some."""
    size = "steps=20,targets=1" if name == "fab_t" else "steps=20"
    norms = [
        distance(
            attack(cnn, text, images, labels, ThreatModel("linf", 0.002)).candidates - images,
            "linf",
        )
        for text in (f"{name}[{size},stop_at_eps=false,restarts={n}]" for n in (1, 2))
    ]
    assert (norms[1] <= norms[0]).all()
    assert name == "fab" or 0 < (norms[1] < norms[0]).sum() < 12


@pytest.mark.parametrize(("targets", "nearest"), [(1, 0.1), (3, 0.1), (4, 0.025), (9, 0.025)])
def test_the_closest_of_all_targets_comes_back(targets: int, nearest: float) -> None:
    """The fourth class by its logit is the nearest: gap 0.25, gradient 10. Two stages."""
    slopes, gaps = torch.tensor([1.0, 1, 1, 10]), torch.tensor([0.1, 0.15, 0.2, 0.25])
    weight = torch.cat([torch.zeros(1, 4), slopes.diag()])
    model = Linear(weight, torch.cat([torch.zeros(1), -gaps - slopes / 2]))
    x, text = torch.full((1, 1, 2, 2), 0.5), f"fab_t[stop_at_eps=false,steps=1,targets={targets}]"
    out = attack(model, text, x, torch.tensor([0]), ThreatModel("linf", 1.0))
    assert out.verdicts[0].distance == pytest.approx(1.05 * nearest, abs=1e-6)


# --- starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_later_restarts_begin_at_half_of_eps(norm: str) -> None:
    images, ids = torch.full((4, 3, 8, 8), 0.5), torch.arange(4)
    threat, draws = ThreatModel(norm, 0.1), ImageDraws(0, "fab_t")
    assert torch.equal(fab_t.start(images, ids, threat, draws, 0), images)
    first = fab_t.start(images, ids, threat, draws, 1, 1)
    size = distance(first - images, norm)
    torch.testing.assert_close(size, torch.full_like(size, 0.05), atol=1e-6, rtol=0)
    for others in ((2, 1), (1, 2)):
        assert not torch.equal(fab_t.start(images, ids, threat, draws, *others), first)


@pytest.mark.parametrize("name", BOTH)
def test_more_restarts_never_help_the_defense(cnn, images, labels, name: str) -> None:
    one = attack(cnn, f"{name}[steps=3]", images, labels, LINF)
    two = attack(cnn, f"{name}[steps=3,restarts=2]", images, labels, LINF)
    assert all(a <= b for a, b in zip(two.survived, one.survived, strict=True))
    pairs = zip(two.verdicts, one.verdicts, strict=True)
    assert any(v.backward_passes == 2 * w.backward_passes > 0 for v, w in pairs)


# --- company ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["fab[steps=6,restarts=2]", "fab_t[steps=6,restarts=2]"])
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_verdicts_do_not_depend_on_batch_or_order(cnn, images, labels, text, threat) -> None:
    """RNG-1: one by one, in threes, shuffled: the same verdicts, candidates and counters."""
    whole = attack(cnn, text, images, labels, threat)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    for size in (1, 3):
        pieces = [order[i : i + size] for i in range(0, 24, size)]
        outs = [attack(cnn, text, images[p], labels[p], threat, ids=p) for p in pieces]
        again = {v.id: v for out in outs for v in out.verdicts}
        assert [again[i] for i in range(24)] == whole.verdicts
        candidates = torch.cat([out.candidates for out in outs])
        assert torch.equal(candidates, whole.candidates[torch.cat(pieces)])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", BOTH)
def test_norms_do_not_depend_on_batch(cnn, images, labels, name: str, norm: str) -> None:
    text, threat = f"{name}[steps=6,stop_at_eps=false]", ThreatModel(norm, 1e-6)
    whole = attack(cnn, text, images, labels, threat).candidates
    for size in (1, 3):
        parts = [torch.arange(i, i + size) for i in range(0, 24, size)]
        outs = [attack(cnn, text, images[p], labels[p], threat, ids=p) for p in parts]
        assert torch.equal(torch.cat([out.candidates for out in outs]), whole)


def test_it_does_not_matter_how_many_classes_go_together(monkeypatch, images) -> None:
    model = small_cnn(12)
    labels = model(images).argmax(1)
    found = []
    for together in (9, 2, 100):
        monkeypatch.setattr(robench.attacks.fab, "CLASSES_TOGETHER", together)
        found.append(attack(model, "fab[steps=4]", images, labels, L2))
    assert found[0].verdicts == found[1].verdicts == found[2].verdicts
    assert torch.equal(found[0].candidates, found[1].candidates)


@pytest.mark.parametrize("text", SHORT)
def test_nothing_is_changed(cnn, images, labels, text: str) -> None:
    """MUT: inputs, parameters, buffers, mode and the global random state."""
    before = copy.deepcopy(cnn.state_dict())
    given, state = images.clone(), torch.get_rng_state()
    assert attack(cnn, text, images, labels, LINF).unchanged
    assert torch.equal(given, images) and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in cnn.state_dict().items())
    assert not cnn.training and all(p.requires_grad for p in cnn.parameters())


# --- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", SHORT)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_zero_is_clean_accuracy(cnn, images, labels, text: str, norm: str) -> None:
    out = attack(cnn, text, images, labels, ThreatModel(norm, 0.0))
    assert out.survived == [i != 5 for i in range(24)]
    assert torch.equal(out.candidates, images)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("classes", [2, 3, 4, 200])
def test_any_number_of_classes(name: str, classes: int) -> None:
    model, images = small_cnn(classes), random_images(6)
    labels = model(images).argmax(1)
    tight, wide = (
        attack(model, f"{name}[steps=5]", images, labels, ThreatModel("linf", eps))
        for eps in (1e-6, 0.3)
    )
    assert all(tight.survived) and not any(wide.survived)


@pytest.mark.parametrize("text", SHORT)
@pytest.mark.parametrize("n", [1, 5])
def test_images_that_are_not_square(cnn, text: str, n: int) -> None:
    images = random_images(n, size=12)[:, :, :7]
    labels = cnn(images).argmax(1)
    out = attack(cnn, text, images, labels, ThreatModel("linf", 0.3))
    assert not any(out.survived) and out.candidates.shape == (n, 3, 7, 12)


class Broken(nn.Module):
    """A linear network whose gradient, or whose logits away from the image, are not numbers."""

    def __init__(self, gradient: bool) -> None:
        super().__init__()
        self.linear, self.gradient = Linear(*two_class(0.0)), gradient

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.linear(x)
        if self.gradient:  # 0 forward, 0 * inf backward for the last pixel
            return z + (0 * x[..., 1, 1]).sqrt().reshape(-1, 1) * torch.tensor([1.0, 0.0])
        return torch.where((x != 0.5).flatten(1).any(1, keepdim=True), torch.nan, z)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_and_logits_that_are_not_numbers(name: str, norm: str) -> None:
    """A pixel without a gradient stays and the others do; a NaN logit is neither hit nor crash."""
    _, x, label = _grey()
    threat = ThreatModel(norm, 1.0)
    out = attack(Broken(True), name, x, label, threat)
    assert out.survived == [False] and out.candidates.flatten()[3] == 0.5
    assert out.verdicts[0].distance / EDGE[norm] == pytest.approx(1.05, abs=1e-4)
    out = attack(Broken(False), name, x, label, threat)
    assert out.survived == [True] and torch.equal(out.candidates, x)
    assert "unconfirmed_hit" not in out.verdicts[0].flags


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("stop", ["true", "false"])
def test_zero_gradients_leave_the_image_where_it_is(name: str, stop: str) -> None:
    flat = Linear(torch.zeros(3, 4), torch.tensor([1.0, 0.0, 0.0]))
    x = random_images(2, size=2, channels=1)
    text = f"{name}[steps=5,stop_at_eps={stop},restarts=2]"
    out = attack(flat, text, x, torch.zeros(2, dtype=torch.long), LINF)
    assert all(out.survived) and torch.equal(out.candidates, x)
    assert all("zero_gradient" in v.flags for v in out.verdicts)


def test_the_label_is_never_a_target(cnn, images) -> None:
    """A tie at the top: the reference's second rank is the label itself, ours is the other one."""
    weight = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    x = torch.full((1, 1, 2, 2), 0.5)
    model = Linear(weight, torch.tensor([0.0, 0.0, -0.1]))
    text = "fab_t[steps=1,targets=2,stop_at_eps=false]"
    out = attack(model, text, x, torch.tensor([0]), ThreatModel("linf", 1.0))
    assert out.verdicts[0].prediction == 2
    assert out.verdicts[0].distance == pytest.approx(1.05 * 0.05, abs=1e-6)
