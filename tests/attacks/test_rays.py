"""RayS: radii by hand, budgets, batches, and the published algorithm as a plain loop."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robench.attacks.rays import RayS, rays
from robench.core.threat import ThreatModel
from robench.models.view import forward_padded
from robench.numerics.projections import distance
from robench.numerics.random import ImageDraws
from tests.harness import ROWS, Outcome, attack, random_images, small_cnn
from tests.linear import Linear

EPS = ThreatModel("linf", 8 / 255)
ALL = ThreatModel("linf", 1.0)
"""Every hit is a candidate here."""
TOLERANCE = 1e-3
Predict = Callable[[Tensor], Tensor]


class Asked:
    """A view of `predict`, whose judge confirms everything or nothing. It notes what it is asked
    about each image, and what is offered for a hit: to offer the label claims nothing."""

    def __init__(self, predict: Predict, *, confirms: bool = False) -> None:
        self.predict, self.confirms = predict, confirms
        self.asked, self.offered = dict[int, list[Tensor]](), dict[int, list[Tensor]]()
        self.labels = torch.zeros(0, dtype=torch.int64)

    def predictions(self, x: Tensor, ids: Tensor) -> Tensor:
        self._note(self.asked, x, ids)
        return self.predict(x)

    def offer(self, ids: Tensor, x: Tensor, predictions: Tensor) -> Tensor:
        believed = predictions != self.labels[ids]
        if believed.any():
            self._note(self.offered, x[believed], ids[believed])
        return believed & self.confirms

    def _note(self, notes: dict[int, list[Tensor]], x: Tensor, ids: Tensor) -> None:
        assert len(ids.unique()) == len(ids) == len(x) > 0
        for i, point in zip(ids.tolist(), x, strict=True):
            notes.setdefault(i, []).append(point)

    def counts(self, n: int) -> list[int]:
        return [len(self.asked[i]) for i in range(n)]


def run_on(view: Asked, images: Tensor, search: RayS, threat: ThreatModel = ALL) -> Tensor:
    """Candidates for images that are classified right."""
    (stage,) = search.stages("rays", 2)
    labels, ids = view.predict(images), torch.arange(len(images))
    view.labels = labels
    out = stage.run(view, images, labels, ids, threat, ImageDraws(0, "rays"))
    assert max(view.counts(len(images))) <= stage.forward_passes
    return out  # type: ignore[no-any-return]


def run(model: nn.Module, images: Tensor, threat: ThreatModel, search: RayS, **more) -> Outcome:
    """Through the judge, on the model's own predictions."""
    return attack(model, "rays", images, model(images).argmax(1), threat, search=search, **more)


def way(candidates: Tensor, images: Tensor) -> list[float]:
    return distance(candidates - images, "linf").tolist()


def grey(n: int = 1, shape: tuple[int, ...] = (3, 32, 32)) -> Tensor:
    return torch.full((n, *shape), 0.5)


class OnlyAt(nn.Module):
    """Class 0 at one image only."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor) -> Tensor:
        same = (x == self.image).flatten(1).all(dim=1).float()
        return torch.stack([same, 1 - same], dim=1)


def lost_below(mean: float) -> Predict:
    """Class 1 where the pixels are less on average."""
    return lambda x: (x.double().flatten(1).mean(dim=1) < mean).long()


def padded(model: nn.Module) -> Predict:
    return lambda x: forward_padded(model, x, ROWS).argmax(1)


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(12)


# The published algorithm.


class OutOfQueries(Exception):
    pass


def by_the_paper(
    predict: Predict, image: Tensor, queries: int, *, hard: bool
) -> tuple[Tensor | None, int]:
    """One image by algorithms 1 to 3: its nearest hit, if any, and the queries that it took.

    hard: an exception ends everything before a query too many, and the shortest hit so far counts.
    """
    shape, d, label = image.shape, image.numel(), int(predict(image[None]))
    signs, norm = torch.ones(d), torch.tensor(float(d)).sqrt()
    radius, nearest, asked = torch.tensor(math.inf), None, 0

    def point(direction: Tensor, length: Tensor) -> Tensor:
        return (image + length * (direction / norm).view(shape)).clamp(0, 1)

    def hits(x: Tensor) -> bool:
        nonlocal asked
        if hard and asked == queries:
            raise OutOfQueries
        asked += 1
        return int(predict(x[None])) != label

    level, block = 0, 0
    try:
        while asked < queries:
            length = math.ceil(d / 2**level)
            begin, end = block * length, min(d, (block + 1) * length)
            turned = signs.clone()
            turned[begin:end] *= -1
            if hits(point(turned, radius)):
                low, high, before = torch.tensor(0.0), torch.minimum(radius, norm), radius
                if nearest is None:
                    signs, radius, nearest = turned, high, point(turned, high)
                while True:
                    middle = (low + high) / 2
                    if hits(point(turned, middle)):
                        high = middle
                        if high < before:
                            signs, radius, nearest = turned, high, point(turned, high)
                    else:
                        low = middle
                    if high - low <= TOLERANCE:
                        break
            block += 1
            if block == 2**level or end == d:
                level, block = level + 1, 0
    except OutOfQueries:
        pass
    return nearest, asked


@pytest.mark.parametrize("queries", [1, 2, 13, 40, 100])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9), (3, 7, 4)])
@pytest.mark.parametrize("compat", [False, True])
def test_it_is_the_published_algorithm(
    queries: int, shape: tuple[int, int, int], compat: bool
) -> None:
    """Bit for bit, on images that are in different places at a time."""
    generator = torch.Generator().manual_seed(queries)
    images = torch.randint(0, 256, (6, *shape), generator=generator).float() / 255
    view = Asked(padded(small_cnn(channels=shape[0])))
    search = RayS(queries, TOLERANCE, stop_at_eps=False, compat=compat)
    out = run_on(view, images, search)
    found, counts = 0, []
    for image, candidate in zip(images, out, strict=True):
        nearest, asked = by_the_paper(view.predict, image, queries, hard=not compat)
        counts.append(asked)
        found += nearest is not None
        assert torch.equal(candidate, image if nearest is None else nearest)
    assert view.counts(6) == counts
    assert queries < 13 or found >= 2


def test_images_take_different_ways(cnn, images) -> None:
    """What the comparison above would miss on images that all move alike."""
    view = Asked(padded(cnn))
    out = run_on(view, images, RayS(100, stop_at_eps=False))
    signs = (out - images).sign().flatten(1)
    assert len({tuple(row) for row in signs.tolist()}) > 6
    assert len({round(value, 4) for value in way(out, images)}) > 6


# By hand.


def test_ray_1_a_constant_model_takes_the_whole_budget() -> None:
    """Nothing is known of the point at an infinite radius, so it is no candidate either."""
    images = random_images(3)
    constant = Linear(torch.zeros(2, 192), torch.tensor([1.0, 0.0]))
    for threat in (EPS, ALL):
        out = run(constant, images, threat, rays)
        assert [(v.survived, v.queries, v.distance) for v in out.verdicts] == [(True, 100, 0.0)] * 3
        assert torch.equal(out.candidates, images)


def test_ray_2_label_at_the_image_only() -> None:
    """17 queries: one black image, and 16 halvings of sqrt(3072) to below 1e-3."""
    image = grey()
    view = Asked(padded(OnlyAt(image)))
    (found,) = way(run_on(view, image, RayS(18, stop_at_eps=False)), image)
    first, *_, sixteenth, seventeenth, next_ray = view.asked[0]
    assert first.max() == 0
    assert found == pytest.approx(2.0**-16, abs=1e-7) and found <= 2e-5
    assert way(torch.stack([sixteenth, seventeenth, next_ray]), image) == pytest.approx(
        [2.0**-15, found, found], abs=1e-7
    )
    # The bisection is over: the next ray is as long, with its first half turned.
    halves = (next_ray - image).sign().flatten().split(1536)
    assert [half.unique().tolist() for half in halves] == [[1.0], [-1.0]]


@pytest.mark.parametrize("c", [3.0, 30.0, 900.0])
def test_ray_3_a_linear_model_with_positive_weights(c: float) -> None:
    """y is lost where the sum falls by more than c: c / d by the first ray, to 1e-3 / sqrt(d)."""
    image, d = grey(), 3072
    view = Asked(lost_below(0.5 - c / d))
    (found,) = way(run_on(view, image, RayS(17, stop_at_eps=False)), image)
    assert c / d <= found <= c / d + 1.8e-5 + 1e-7


@pytest.mark.parametrize(
    ("queries", "radius"), [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.375), (5, 0.3125), (6, 0.3125)]
)
def test_ray_4_a_bisection_cut_short_keeps_its_last_hit(queries: int, radius: float) -> None:
    """A boundary at .3: black, .5 and then .25 (no hit), .375, .3125, .28125 (no hit)."""
    image = grey()
    view = Asked(lost_below(0.2))
    assert way(run_on(view, image, RayS(queries, stop_at_eps=False)), image) == pytest.approx(
        [radius], abs=1e-6
    )
    assert view.counts(1) == [queries]


def test_ray_4_budget_10() -> None:
    """Nine halvings of 1, through the judge; without a stop at eps."""
    image = grey()
    out = run(OnlyAt(image), image, EPS, RayS(10, stop_at_eps=False))
    (verdict,) = out.verdicts
    assert (verdict.survived, verdict.queries) == (False, 10)
    assert verdict.distance == pytest.approx(2.0**-9, abs=1e-7)


def test_blocks_halve_and_round_up() -> None:
    """Of 7 values without a hit: all, then 4 and 3, then 2, 2, 2, 1, then single ones for ever."""
    image = grey(shape=(1, 1, 7))
    view = Asked(lost_below(-1.0))
    run_on(view, image, RayS(22))
    turned = ["".join("+-"[int(v)] for v in (x == 0).flatten()) for x in view.asked[0]]
    ones = ["-++++++", "+-+++++", "++-++++", "+++-+++", "++++-++", "+++++-+", "++++++-"]
    twos = ["--+++++", "++--+++", "++++--+", "++++++-"]
    assert turned == ["-------", "----+++", "++++---", *twos, *ones, *ones, *ones[:1]]


def test_the_first_hit_may_be_beyond_the_first_ray() -> None:
    """White instead of black is never asked about, but the top half alone is."""
    image = grey(shape=(1, 2, 4))
    view = Asked(lambda x: (x[:, 0, 0].mean(dim=1) < x[:, 0, 1].mean(dim=1) - 0.1).long())
    out = run_on(view, image, RayS(40, stop_at_eps=False))
    top, bottom = out[0, 0] - 0.5
    assert (top < 0).all() and (bottom > 0).all()
    assert way(out, image) == pytest.approx([0.05], abs=TOLERANCE / math.sqrt(8))


# The budget.


def test_no_budget_is_exceeded_and_none_is_left_over(cnn, images) -> None:
    images = images[:6]
    for queries in range(1, 41):
        out = run(cnn, images, ThreatModel("linf", 0.05), RayS(queries))
        assert all(v.queries == queries for v in out.verdicts if v.survived)
        assert all(1 <= v.queries <= queries for v in out.verdicts if not v.survived)
        assert sum(part.forward_passes for part in out.components) == sum(
            v.queries for v in out.verdicts
        )
    assert {v.survived for v in out.verdicts} == {True, False}


def test_what_is_charged_is_what_was_asked(cnn, images) -> None:
    """Alone at one row a pass, every query is a call; besides, the clean check and the judge's."""

    class Counted(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return cnn(x)  # type: ignore[no-any-return]

    spent = set()
    for i in range(6):
        model, image = Counted(), images[i : i + 1]
        labels = cnn(image).argmax(1)
        out = attack(model, "rays", image, labels, ThreatModel("linf", 0.1), search=rays, rows=1)
        (verdict,) = out.verdicts
        assert model.calls == verdict.forward_passes == verdict.queries + 2
        spent.add(verdict.queries)
    assert len(spent) > 2


@pytest.mark.parametrize(("queries", "asked"), [(1, 17), (2, 17), (17, 17), (18, 19), (20, 21)])
def test_compat_ends_the_ray_that_the_budget_began(queries: int, asked: int) -> None:
    """1 + 16, then a test and a single halving a ray."""
    image = grey()
    view = Asked(padded(OnlyAt(image)))
    run_on(view, image, RayS(queries, compat=True))
    assert view.counts(1) == [asked]


def test_compat_is_declared_what_it_can_cost() -> None:
    """Over the budget by 26 at most: log2 of 2^16 / 1e-3; a coarse tolerance still halves once."""
    assert rays.most_queries == RayS(stop_at_eps=False).most_queries == 100
    assert RayS(compat=True).most_queries == 126
    assert RayS(tolerance=1e6, compat=True).most_queries == 101


def test_a_tolerance_below_rounding_ends_with_the_budget() -> None:
    """Where float32 has no number between low and high, halving never ends by itself."""
    image = grey(shape=(1, 2, 2))
    for compat in (False, True):
        search = RayS(150, tolerance=1e-30, stop_at_eps=False, compat=compat)
        view = Asked(lost_below(0.2))
        assert way(run_on(view, image, search), image) == pytest.approx([0.3], abs=1e-6)
        assert view.counts(1) == [search.most_queries]


# Stopping.


def test_an_image_is_done_with_its_first_verified_hit(cnn, images) -> None:
    """Only hits within eps are offered: one, when it is confirmed, and then nothing is asked."""
    threat = ThreatModel("linf", 0.1)
    view = Asked(padded(cnn), confirms=True)
    run_on(view, images, rays, threat)
    labels, counts = view.predict(images), view.counts(12)
    assert 2 < len(view.offered) < 12 and len(set(counts)) > 2
    for i, count in enumerate(counts):
        near = [way(x[None], images[i : i + 1])[0] <= threat.eps for x in view.asked[i]]
        wrong = [bool(view.predict(x[None]) != labels[i]) for x in view.asked[i]]
        hits = [x for x, n, w in zip(view.asked[i], near, wrong, strict=True) if n and w]
        assert len(hits) == len(view.offered.get(i, [])) == (count < 100)
        if hits:
            assert torch.equal(view.offered[i][0], hits[0]) and near[-1] and wrong[-1]


def test_an_unconfirmed_hit_goes_on(cnn, images) -> None:
    """As if nothing had been offered; the last and nearest hit is returned all the same."""
    threat = ThreatModel("linf", 0.1)
    refused, alone = Asked(padded(cnn)), Asked(padded(cnn))
    out = run_on(refused, images, rays, threat)
    assert torch.equal(out, run_on(alone, images, RayS(stop_at_eps=False), threat))
    assert max(map(len, refused.offered.values())) > 1
    assert alone.offered == {} and refused.counts(12) == alone.counts(12) == [100] * 12


@pytest.mark.parametrize("search", [RayS(stop_at_eps=False), RayS(compat=True)])
def test_only_the_default_stops_at_eps(cnn, images, search: RayS) -> None:
    """The others offer nothing, and every query of the budget is asked."""
    view = Asked(padded(cnn), confirms=True)
    out = run_on(view, images, search, ThreatModel("linf", 0.1))
    assert view.offered == {} and min(view.counts(12)) == 100
    assert (view.predict(out) != view.predict(images)).sum() > 6


@pytest.mark.parametrize("search", [rays, RayS(stop_at_eps=False), RayS(compat=True)])
def test_a_way_longer_than_eps_is_no_candidate(cnn, images, search: RayS) -> None:
    every = run_on(Asked(padded(cnn)), images, search)
    ways = torch.tensor(way(every, images))
    threat = ThreatModel("linf", ways.median().item())
    out = run(cnn, images, threat, search)
    assert out.survived == (ways > threat.eps).tolist() and 3 < sum(out.survived) < 9
    assert torch.equal(out.candidates[out.survived], images[out.survived])
    assert not any("rejected" in flag for v in out.verdicts for flag in v.flags)


@pytest.mark.parametrize("stop_at_eps", [False, True])
def test_the_edge_of_eps(stop_at_eps: bool) -> None:
    """Nine halvings are within eps or are not; just beyond it, nothing is offered or returned."""
    image, way_of_10 = grey(), 2.0**-9
    for eps, survives in ((way_of_10 + 1e-6, False), (way_of_10 - 1e-5, True)):
        search = RayS(10, stop_at_eps=stop_at_eps)
        out = run(OnlyAt(image), image, ThreatModel("linf", eps), search)
        assert out.survived == [survives] and torch.equal(out.candidates, image) == survives
        assert out.components[0].unconfirmed_hits == 0
        assert not any("rejected" in flag for flag in out.verdicts[0].flags)


@pytest.mark.parametrize("compat", [False, True])
def test_eps_zero_is_clean_accuracy(cnn, images, compat: bool) -> None:
    out = run(cnn, images, ThreatModel("linf", 0.0), RayS(60, compat=compat))
    assert all(out.survived) and torch.equal(out.candidates, images)


def test_its_stage_sees_labels_of_the_defense() -> None:
    (stage,) = rays.stages("rays", 10)
    assert (stage.sees, stage.forward_passes, stage.backward_passes) == ("labels", 100, 0)
    assert (stage.component, stage.width, rays.on_defense) == ("rays", 1, True)


# Batches.


@pytest.mark.parametrize("search", [rays, RayS(40, compat=True)], ids=["hard", "compat"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9)])
def test_verdicts_do_not_depend_on_batch_or_order(
    search: RayS, shape: tuple[int, int, int]
) -> None:
    """RNG-1: one by one, in threes, shuffled: verdicts, candidates and counters bit for bit."""
    generator = torch.Generator().manual_seed(0)
    model, images = small_cnn(channels=shape[0]), torch.rand(12, *shape, generator=generator)
    threat = ThreatModel("linf", 0.1)
    whole = run(model, images, threat, search)
    assert 1 < sum(whole.survived) < 11
    order = torch.randperm(12, generator=generator)
    for size in (1, 3):
        pieces = [order[i : i + size] for i in range(0, 12, size)]
        outs = [run(model, images[p], threat, search, ids=p) for p in pieces]
        again = {v.id: v for out in outs for v in out.verdicts}
        assert [again[i] for i in range(12)] == whole.verdicts
        candidates = torch.cat([out.candidates for out in outs])
        assert torch.equal(candidates, whole.candidates[order])


def test_nothing_is_changed(cnn, images) -> None:
    given, state = images.clone(), torch.get_rng_state()
    assert run(cnn, images, EPS, rays).unchanged
    assert torch.equal(given, images) and torch.equal(state, torch.get_rng_state())
