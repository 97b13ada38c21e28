"""Square: schedule, start, windows, budget, stages, batches, and AutoAttack's as its peer."""

import statistics
from itertools import groupby
from typing import ClassVar

import pytest
import torch
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from robench.attacks.resolve import resolve_attacks
from robench.attacks.square import Square, bump, square_5000
from robench.core.threat import ThreatModel
from robench.numerics.losses import margin_of
from robench.numerics.projections import feasible_box
from robench.numerics.random import ImageDraws
from tests.harness import Outcome, attack, random_images, small_cnn
from tests.linear import Linear, two_class, worst_margin

LINF, L2 = ThreatModel("linf", 8 / 255), ThreatModel("l2", 0.5)
BOTH = pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
SQUARE_100 = Square(queries=100, rescale=True)


class Recorded(nn.Module):
    """A model and everything that it was asked: the clean images, the queries, the verification."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked = model, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.clone())
        return self.model(x)  # type: ignore[no-any-return]

    @property
    def queries(self) -> Tensor:
        """(queries, B, C, H, W), where nothing broke and a pass held all images."""
        return torch.stack(self.asked[1:-1])


def constant(images: Tensor, classes: int = 2) -> nn.Module:
    """Class 0, whatever it sees."""
    return Linear(torch.zeros(classes, images[0].numel()), -torch.arange(classes).float())


def run(model: nn.Module, images: Tensor, threat: ThreatModel, search: Square, **more) -> Outcome:
    """On the model's own predictions."""
    return attack(model, "square", images, model(images).argmax(1), threat, search=search, **more)


def record(images: Tensor, threat: ThreatModel, search: Square) -> Tensor:
    """What a constant model is asked: the start, then proposals that all begin there."""
    model = Recorded(constant(images))
    labels = torch.zeros(len(images), dtype=torch.long)
    attack(model, "square", images, labels, threat, search=search, rows=len(images))
    return model.queries


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(24)


# The schedule.


@pytest.mark.parametrize(
    ("search", "size", "expected"),
    [
        (Square(100), 32, [(29, 11), (20, 40), (14, 48)]),
        (
            SQUARE_100,
            32,
            [(29, 1), (14, 2), (10, 3), (7, 5), (5, 10), (4, 20), (3, 20), (2, 20), (1, 18)],
        ),
        (
            SQUARE_100,
            64,
            [(57, 1), (29, 2), (20, 3), (14, 5), (10, 10), (7, 20), (5, 20), (4, 20), (3, 18)],
        ),
    ],
)
def test_sides_of_100_queries(search: Square, size: int, expected: list[tuple[int, int]]) -> None:
    """attacks.md 7.7: a start and 99 proposals; (side, how many in a row)."""
    sides = [search.side(k, size, size, "linf") for k in range(99)]
    assert [(side, len(list(run))) for side, run in groupby(sides)] == expected


@BOTH
@pytest.mark.parametrize("rescale", [False, True])
def test_sides_are_autoattacks(threat: ThreatModel, rescale: bool) -> None:
    """All 5000, from the peer's own schedule of p and the side it makes of it."""
    peer = SquareAttack(None, n_queries=5000, resc_schedule=rescale)
    search = Square(5001, rescale=rescale, compat=True)
    least = 1 if threat.norm == "linf" else 3
    for k in range(5000):
        side = max(round((peer.p_selection(k) * 32 * 32) ** 0.5), least)
        side += threat.norm == "l2" and side % 2 == 0
        assert search.side(k, 32, 32, threat.norm) == side
    assert search.side(0, 32, 8, threat.norm) == 8


def test_square_5000_asks_for_its_start_on_top_of_5000_proposals() -> None:
    (named,) = resolve_attacks("square_5000")
    assert named.attack == square_5000
    stages = named.attack.stages("square_5000", 10)
    assert {stage.sees for stage in stages} == {"logits"}
    assert sum(stage.forward_passes for stage in stages) == 5001
    assert [stage.label for stage in stages[:2]] == ["queries 1-501", "queries 502-1001"]
    assert stages[-1].label == "queries 4502-5001"
    assert {(s.component, s.backward_passes, s.width) for s in stages} == {("square_5000", 0, 1)}


# The budget.


@BOTH
@pytest.mark.parametrize("queries", [1, 2, 100, 502])
def test_a_robust_image_costs_exactly_the_budget(threat: ThreatModel, queries: int) -> None:
    """SQ-1: clean check and verification come on top; nothing is broken."""
    images = random_images(3, size=6)
    out = run(constant(images), images, threat, Square(queries, rescale=True))
    assert out.survived == [True] * 3
    assert {(v.forward_passes, v.backward_passes) for v in out.verdicts} == {(queries + 2, 0)}
    assert sum(part.forward_passes for part in out.components) == 3 * queries


def test_the_peer_takes_as_many_passes(images) -> None:
    """APGD-3: 103 of AutoAttack's Square-100, the clean check included."""
    model = Recorded(constant(images))
    labels = torch.zeros(len(images), dtype=torch.long)
    SquareAttack(model, n_queries=100, eps=8 / 255, resc_schedule=False).perturb(images, labels)
    assert len(model.asked) == 103
    out = run(constant(images), images, LINF, Square(101, compat=True))
    assert {v.forward_passes for v in out.verdicts} == {103}


@BOTH
def test_a_settled_image_costs_nothing_more(cnn, images, threat: ThreatModel) -> None:
    out = run(cnn, images, threat, SQUARE_100)
    spent = {v.forward_passes for v in out.verdicts if v.broken_by == "square"}
    assert len(spent) > 3 and max(spent) < 102
    assert {v.forward_passes for v in out.verdicts if v.survived} == {102}


@BOTH
def test_all_may_be_beaten_at_the_start(threat: ThreatModel) -> None:
    """One query each; nothing is left to search on."""
    images = random_images(3)

    class OnlyClean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            clean = (x[:, None] == images).flatten(2).all(dim=2).any(dim=1)
            return torch.stack([clean.float(), 1 - clean.float()], dim=1)

    out = run(OnlyClean(), images, threat, Square(501))
    assert [(v.survived, v.forward_passes) for v in out.verdicts] == [(False, 3)] * 3


# The moves.


def test_the_linf_start_is_stripes() -> None:
    """SQ-2: plus or minus eps, clipped, the same down a column; columns and channels differ."""
    images = random_images(50, size=8)
    start = record(images, LINF, Square(1))[0]
    low, high = feasible_box(images, LINF)
    upper = start == high
    assert (upper | (start == low)).all() and (low < high).all()
    assert (upper == upper[:, :, :1]).all()
    stripes = upper[:, :, 0].float().flatten(1)  # (50, 24): image by channel and column
    assert stripes.mean() == pytest.approx(0.5, abs=0.06)  # 4 standard errors of 1200 coins
    assert stripes.T.corrcoef().fill_diagonal_(0).abs().max() < 0.6  # 4.2 of 50 coins
    assert stripes.corrcoef().fill_diagonal_(0).abs().max() < 0.95


def changed(images: Tensor, threat: ThreatModel, search: Square) -> Tensor:
    """(proposals, B, C, H, W) bool: where a proposal is not the start."""
    queries = record(images, threat, search)
    return queries[1:] != queries[0]


@pytest.mark.parametrize("compat", [False, True])
def test_census_of_single_pixels(compat: bool) -> None:
    """SQ-3: 10^5 windows of side 1 reach every pixel alike; AutoAttack's not the last ones."""
    images = random_images(200, size=16, channels=1)
    search = Square(501, p_init=1e-6, compat=compat)
    census = changed(images, LINF, search).sum(dim=(0, 1, 2))
    reached = census[:15, :15] if compat else census
    assert census.sum() == reached.sum()
    # A window changes nothing with chance 1/2; two redraws leave 1/8 of them. 5 standard errors.
    hits = 1e5 * (1 / 2 if compat else 7 / 8)
    assert census.sum() == pytest.approx(hits, abs=5 * 160)
    each = hits / reached.numel()
    assert (reached - each).abs().max() < 5 * each**0.5


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (20, 12)])
def test_a_linf_proposal_is_one_window_with_one_bound_a_channel(shape: tuple[int, int]) -> None:
    height, width = shape
    images = torch.rand(16, 3, height, width, generator=torch.Generator().manual_seed(0))
    search = Square(61)
    queries = record(images, LINF, search)
    _, high = feasible_box(images, LINF)
    far = torch.zeros(2, dtype=torch.bool)
    for k, proposal in enumerate(queries[1:]):
        side = search.side(k, height, width, "linf")
        upper = proposal == high
        for image in range(16):
            new = proposal[image] != queries[0, image]
            for channel in range(3):
                assert len(upper[image, channel][new[channel]].unique()) <= 1
            places = new.any(dim=0).nonzero()
            assert (places.amax(0) - places.amin(0) < side).all()
            far |= places.amax(0) == torch.tensor(shape) - 1
    assert far.all()


def test_a_linf_proposal_by_slices() -> None:
    """Of three tries, each with its own window and bounds, the first that changes the point."""
    images = random_images(8, size=7, channels=2)
    search, ids, tried = Square(201, p_init=0.05), torch.arange(8), []
    queries = record(images, LINF, search)
    low, high = feasible_box(images, LINF)
    draws = ImageDraws(0, "square")
    unit = draws.uniform(ids, (200, 3, 2), 0.0, 1.0, purpose="window")
    signs = draws.signs(ids, (200, 3, 2), purpose="sign")
    for k in range(200):
        side = search.side(k, 7, 7, "linf")
        for image in range(8):
            start = expected = queries[0, image]
            for number in range(3):
                top, left = (int(u * (8 - side)) for u in unit[image, k, number])
                window = torch.zeros(7, 7, dtype=torch.bool)
                window[top : top + side, left : left + side] = True
                upper = signs[image, k, number][:, None, None] > 0
                bound = torch.where(upper, high[image], low[image])
                expected = torch.where(window, bound, start)
                if not torch.equal(expected, start):
                    break
            tried.append(number)
            assert torch.equal(queries[k + 1, image], expected)
    assert tried.count(1) > 20 and tried.count(2) > 2


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 7, 12, 29])
def test_bumps_are_autoattacks(side: int) -> None:
    expected = SquareAttack(None, norm="L2", device="cpu").eta(side)
    ours = bump(side).float()
    alike = [torch.allclose(expected, eta, atol=1e-6) for eta in (ours, ours.T)]
    assert any(alike)


def test_the_bump_of_side_3_by_hand() -> None:
    """A row of (1, 5, 1) / 4 up, two rows down, the second like the first; halves of norm 1."""
    up, down = (1 / 8 + 25 / 16) ** 0.5, (5 / 16 + 25 / 16) ** 0.5
    rows = torch.tensor([[1, 5, 1], [-1, -1, -1], [-1, -5, -1]]) / 4
    expected = rows / torch.tensor([[up], [down], [down]]) / 2**0.5
    torch.testing.assert_close(bump(3).float(), expected)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_the_l2_start_is_autoattacks_but_for_signs(size: int) -> None:
    """The same magnitudes; in each tile either the peer's or their transpose."""
    grey = torch.full((6, 3, size, size), 0.5)
    peer = SquareAttack(constant(grey), norm="L2", eps=0.5, n_queries=0)
    peer.init_hyperparam(grey)
    expected = peer.attack_single_run(grey, torch.zeros(6, dtype=torch.long))[1] - grey
    delta = record(grey, L2, Square(1))[0] - grey
    torch.testing.assert_close(
        delta.abs().flatten(1).sort().values, expected.abs().flatten(1).sort().values
    )
    assert torch.equal(delta.abs()[:, 0] > 0, expected.abs()[:, 0] > 0)
    assert len({tuple(d.flatten().tolist()) for d in delta.sign()}) == 6
    side, rim = size // 5, size % 5 // 2
    tiles = delta[:, 0, rim:, rim:].unfold(1, side, side).unfold(2, side, side).flatten(0, 2)
    # The first row of an upright bump is of one sign, that of a lying one is not.
    upright = tiles[:, 0].sign().sum(dim=1).abs() == side
    assert 0.3 < upright.float().mean() < 0.7


def test_an_l2_proposal_by_slices() -> None:
    """attacks.md 7.6 in one image's slices: the second window is empty, the first takes it all."""
    # Near black, so that clipping leaves some of the budget unused.
    images = torch.full((8, 3, 10, 10), 0.01)
    search = Square(301)
    queries = (record(images, L2, search) - images).double()
    assert (queries[0].flatten(1).norm(dim=1) < 0.45).all()
    ids, apart, lying = torch.arange(8), 0, []
    draws = ImageDraws(0, "square")
    unit = draws.uniform(ids, (300, 2, 2), 0.0, 1.0, purpose="window")
    signs = draws.signs(ids, (300, 3), purpose="sign").double()
    for k in range(0, 300, 20):
        side = search.side(k, 10, 10, "l2")
        for image in range(8):
            start = queries[0, image]
            first, second = (
                tuple(slice(int(u * (11 - side)), int(u * (11 - side)) + side) for u in corner)
                for corner in unit[image, k]
            )
            one, either = torch.zeros(2, 10, 10, dtype=torch.bool)
            one[first] = either[first] = either[second] = True
            held = (start * either).square().sum(dim=(1, 2))
            old = start[(slice(None), *first)]
            old = old / old.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-12)
            fits = []
            for eta in (bump(side), bump(side).T):
                new = signs[image, k][:, None, None] * eta + old
                unused = max(0.25 - float(start.square().sum()), 0.0) / 3
                new *= ((held + unused) / new.square().sum(dim=(1, 2))).sqrt()[:, None, None]
                expected = start * ~either
                expected[(slice(None), *first)] = new
                expected *= 0.5 / expected.square().sum().sqrt()
                fits.append(torch.allclose(queries[k + 1, image], expected.clamp(-0.01), atol=1e-6))
            assert any(fits)
            apart += bool((either & ~one).any())
            lying.append(fits[1] and not fits[0])
    assert apart > 30 and 30 < sum(lying) < len(lying) - 30


@BOTH
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 8, 13), (3, 13, 8), (3, 4, 4)])
def test_every_iterate_is_in_the_ball_and_the_box(
    threat: ThreatModel, shape: tuple[int, ...]
) -> None:
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    model = small_cnn(num_classes=2, channels=shape[0])
    sure = nn.Sequential(model, Linear(torch.eye(2), torch.tensor([1e3, 0.0])))
    asked, labels = Recorded(sure), torch.zeros(5, dtype=torch.long)
    out = attack(asked, "square", images, labels, threat, search=SQUARE_100, rows=5)
    assert all(out.survived)  # so that rows are images
    points = asked.queries
    delta = (points - images).double().flatten(2)
    if threat.norm == "linf":
        assert delta.abs().max() <= threat.eps + 1e-6
    else:
        assert delta.norm(dim=2).max() <= threat.eps * (1 + 1e-6)
        assert delta.norm(dim=2).max() > threat.eps * (1 - 1e-6)
    assert points.min() == 0 and points.max() == 1
    assert len({model(x)[0].tolist()[0] for x in points}) > 50


@BOTH
@pytest.mark.parametrize("compat", [False, True])
def test_eps_zero_is_clean_accuracy(cnn, images, threat: ThreatModel, compat: bool) -> None:
    search = Square(60, compat=compat)
    out = run(cnn, images, ThreatModel(threat.norm, 0.0), search)
    assert all(out.survived) and torch.equal(out.candidates, images)


# The search.


@pytest.mark.parametrize(("eps", "robust"), [(0.0714, True), (0.0715, False)])
def test_lin_1_edge(eps: float, robust: bool) -> None:
    model, grey = Linear(*two_class(0.0)), torch.full((1, 1, 2, 2), 0.5)
    out = attack(
        model, "square", grey, torch.tensor([1]), ThreatModel("linf", eps), search=Square(300)
    )
    assert out.survived == [robust]


def test_lin_4_no_square_beats_the_closed_form_and_few_are_missed() -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(5, 12), torch.randn(5), torch.rand(200, 12)
    images, model = x.reshape(200, 3, 2, 2), Linear(weight, bias)
    exact = worst_margin(weight, bias, images, model(images).argmax(1), 0.05) > 0
    out = run(model, images, ThreatModel("linf", 0.05), Square(400), rows=64)
    assert (torch.tensor(out.survived) >= exact).all()
    assert exact.sum() == 133 and sum(out.survived) <= 135


class Unmoved:
    """A view whose judge confirms nothing. It notes points and margins."""

    def __init__(self, model: nn.Module, labels: Tensor) -> None:
        self.model, self.labels, self.points, self.margins = model, labels, [], []

    def logits(self, x: Tensor, ids: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.model(x)
        self.points.append(x)
        self.margins.append(margin_of(logits, self.labels))
        return logits  # type: ignore[no-any-return]

    def near(self, x: Tensor, ids: Tensor, side: int | None) -> "Near":
        return Near(self)

    def offer(self, ids: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        return torch.zeros(len(ids), dtype=torch.bool)


class Near:
    def __init__(self, view: Unmoved) -> None:
        self.view = view

    def logits(self, z: Tensor, ids: Tensor, corners: Tensor) -> Tensor:
        return self.view.logits(z, ids)

    def keep(self, kept: Tensor) -> None:
        pass


@BOTH
def test_an_unconfirmed_hit_goes_on_to_lower_margins(cnn, images, threat: ThreatModel) -> None:
    labels = cnn(images).argmax(1)
    view, ids = Unmoved(cnn, labels), torch.arange(len(images))
    (stage,) = SQUARE_100.stages("square", 10)
    end = stage.run(view, images, labels, ids, threat, ImageDraws(0, "square"))
    margins = torch.stack(view.margins)
    hit = (margins < 0).any(dim=0)
    first = margins.gather(0, (margins < 0).float().argmax(0)[None])[0]
    final = margin_of(cnn(end), labels)
    assert hit.sum() > 5
    torch.testing.assert_close(final, margins.amin(dim=0))
    assert (final[hit] < 1.5 * first[hit]).float().mean() > 0.5


def test_logits_that_are_not_finite_do_not_freeze_an_image(images) -> None:
    class Broken(nn.Module):
        calls: ClassVar[list[int]] = []

        def forward(self, x: Tensor) -> Tensor:
            self.calls.append(0)
            z = torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], dim=1)
            return z * torch.nan if len(self.calls) % 2 else z

    labels = torch.zeros(len(images), dtype=torch.long)
    view, ids = Unmoved(Broken(), labels), torch.arange(len(images))
    (stage,) = SQUARE_100.stages("square", 2)
    end = stage.run(view, images, labels, ids, LINF, ImageDraws(0, "square"))
    low, _ = feasible_box(images, LINF)
    assert end.isfinite().all() and (end == low).float().mean() > 0.6  # the start: 0.5


# Stages and batches.


class InShortStages(Square):
    per_stage: ClassVar[int] = 50


@BOTH
@pytest.mark.parametrize("queries", [100, 101, 230])
def test_stages_are_one_search(cnn, images, threat: ThreatModel, queries: int) -> None:
    long, short = Square(queries, p_init=0.1), InShortStages(queries, p_init=0.1)
    assert len(short.stages("square", 10)) == -(-(queries - 1) // 50)
    threat = ThreatModel(threat.norm, threat.eps / 2)
    one, many = (run(cnn, images, threat, search) for search in (long, short))
    assert 3 < sum(one.survived) < 21
    assert many.verdicts == one.verdicts
    assert torch.equal(many.candidates, one.candidates)


@BOTH
def test_fewer_queries_are_the_beginning_of_more(cnn, images, threat: ThreatModel) -> None:
    """Under the raw schedule, across a stage as well: a draw knows the query, not the budget."""
    threat = ThreatModel(threat.norm, threat.eps / 1000)
    images, labels = images[:4], cnn(images[:4]).argmax(1)
    asked = []
    for search in (Square(60), InShortStages(140)):
        model = Recorded(cnn)
        attack(model, "square", images, labels, threat, search=search, rows=4)
        assert len(model.queries) == search.queries
        asked.append(model.queries)
    assert torch.equal(asked[0], asked[1][:60])


@BOTH
def test_each_segment_draws_anew(threat: ThreatModel) -> None:
    """Proposals 501 to 1000 are not proposals 1 to 500 once more."""
    queries = record(random_images(2, size=5), threat, Square(1001, p_init=1e-6))
    again = (queries[1:501] == queries[501:]).flatten(2).all(dim=2)
    assert 0 < again.float().mean() < 0.1


@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_verdicts_do_not_depend_on_batch_or_order(threat: ThreatModel, channels: int) -> None:
    """RNG-1: one by one, in threes, shuffled: verdicts, candidates and counters bit for bit."""
    model, images = small_cnn(channels=channels), random_images(12, channels=channels)
    threat = ThreatModel(threat.norm, threat.eps / 2)
    whole = run(model, images, threat, SQUARE_100)
    assert 1 < sum(whole.survived) < 11
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for size in (1, 3):
        pieces = [order[i : i + size] for i in range(0, 12, size)]
        outs = [run(model, images[p], threat, SQUARE_100, ids=p) for p in pieces]
        again = {v.id: v for out in outs for v in out.verdicts}
        assert [again[i] for i in range(12)] == whole.verdicts
        candidates = torch.cat([out.candidates for out in outs])
        assert torch.equal(candidates, whole.candidates[order])


@BOTH
def test_nothing_is_changed(cnn, images, threat: ThreatModel) -> None:
    given, state = images.clone(), torch.get_rng_state()
    assert run(cnn, images, threat, SQUARE_100).unchanged
    assert torch.equal(given, images) and torch.equal(state, torch.get_rng_state())


# The peer.

SEEDS = 4


@BOTH
def test_it_is_as_strong_as_autoattacks(threat: ThreatModel) -> None:
    """XREF-2: survivors and mean margin of 100 images after 200 proposals, over seeds.

    Both draw afresh for each seed, so the difference of the means over seeds is held to 4 of its
    standard errors (and half an image, for the discreteness of counts).
    """
    model, images = small_cnn(seed=1), random_images(100, size=10, seed=1)
    labels = model(images).argmax(1)
    name = {"linf": "Linf", "l2": "L2"}[threat.norm]
    ours, theirs = [], []
    for seed in range(SEEDS):
        search = Square(201, compat=True)
        out = run(model, images, threat, search, seed=seed, rows=100)
        ours.append(out.candidates)
        peer = SquareAttack(
            model, norm=name, n_queries=200, eps=threat.eps, seed=seed, resc_schedule=False
        )
        peer.init_hyperparam(images)
        torch.manual_seed(seed)
        theirs.append(peer.attack_single_run(images, labels)[1])
    with torch.no_grad():
        found = [[margin_of(model(x), labels).clamp(min=0) for x in xs] for xs in (ours, theirs)]
    for measure, slack in ((lambda m: float((m > 0).sum()), 0.5), (lambda m: float(m.mean()), 0)):
        a, b = ([measure(m) for m in margins] for margins in found)
        error = ((statistics.variance(a) + statistics.variance(b)) / SEEDS) ** 0.5
        assert abs(statistics.mean(a) - statistics.mean(b)) <= 4 * error + slack
