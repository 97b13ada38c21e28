"""Gradient estimation: its estimate, draws, budgets, stages, batches, and foolbox's as its peer."""

import dataclasses
import math
from collections.abc import Callable

import foolbox
import pytest
import torch
from torch import Tensor, nn

from robench.attacks import gradient_estimation as module
from robench.attacks.gradient_estimation import (
    GradientEstimation,
    estimate,
    gradient_estimation,
    phases,
)
from robench.attacks.resolve import with_arguments
from robench.core.errors import InputError
from robench.core.threat import ThreatModel
from robench.numerics.losses import margin_of
from robench.numerics.random import ImageDraws
from tests.harness import Outcome, attack, random_images, small_cnn
from tests.linear import Linear, two_class, worst_margin

EPS = 8 / 255
THREAT = ThreatModel("linf", EPS)
DRAWS = ImageDraws(0, "gradient_estimation")
SHORT = GradientEstimation("4x20+2x120")


def run(model: nn.Module, images: Tensor, search: GradientEstimation, **more) -> Outcome:
    """On the model's own predictions."""
    more = {"threat": THREAT, "labels": model(images).argmax(1)} | more
    return attack(model, "gradient_estimation", images, search=search, **more)


def constant(images: Tensor) -> nn.Module:
    """Class 0, whatever it sees."""
    return Linear(torch.zeros(2, images[0].numel()), torch.tensor([0.0, -1.0]))


def of(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The same f for every row."""
    return lambda points, rows: f(points.flatten(1))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))


def expected_cosine(queries: int, d: int) -> float:
    return math.sqrt(queries / 2 / (queries / 2 + d - 1))


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    return small_cnn()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(24)


# The estimate.


def test_one_coordinate_by_hand() -> None:
    """x^3 at 0.5 with sigma 0.1: (0.6^3 - 0.4^3) / 0.2 = 0.76, whichever sign is drawn."""
    x = torch.full((3, 1, 1, 1), 0.5, dtype=torch.float64)
    found = estimate(of(lambda z: z[:, 0] ** 3), x, torch.arange(3), DRAWS, queries=6, sigma=0.1)
    torch.testing.assert_close(found, torch.full_like(x, 0.76))


def test_one_pair_by_hand() -> None:
    """f = w x: one pair gives (w u) u."""
    x, w = random_images(4, 2, 1).double(), torch.tensor([1.0, -2.0, 0.5, 0.25]).double()
    u = DRAWS.signs(torch.arange(4), (4,), purpose="probe", step=7).double()
    found = estimate(of(lambda z: z @ w), x, torch.arange(4), DRAWS, queries=2, sigma=0.1, step=7)
    torch.testing.assert_close(found.flatten(1), (u @ w)[:, None] * u)


def test_pair_k_is_drawn_for_image_step_and_k() -> None:
    """q = 120: draws of 50, 50 and 20 pairs; each row's f and signs are its own."""
    ids, w = torch.tensor([5, 3, 9]), torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    x = random_images(3, size=2, channels=2)
    found = estimate(
        lambda z, rows: (z.flatten(1).double() * w[rows]).sum(1),
        x.double(),
        ids,
        DRAWS,
        queries=240,
        sigma=0.1,
        step=4,
    )
    for row, image in enumerate(ids):
        draws = [
            DRAWS.signs(image[None], (50, 8), purpose="probe", step=4, probe=probe)[0]
            for probe in range(3)
        ]
        u = torch.cat(draws)[:120].double()
        expected = ((u @ w[row].double())[:, None] * u).mean(dim=0)
        torch.testing.assert_close(found[row].flatten(), expected)


def test_the_sum_goes_from_pair_to_pair() -> None:
    """Bit for bit: a sum over a dimension may take another order at another batch size."""
    given: list[Tensor] = []

    def f(points: Tensor, rows: Tensor) -> Tensor:
        given.append(torch.randn(len(rows), generator=torch.Generator().manual_seed(len(given))))
        return given[-1]

    x, ids = random_images(2, size=3), torch.tensor([1, 2])
    found = estimate(f, x, ids, DRAWS, queries=120, sigma=0.25)
    expected = torch.zeros(2, 27)
    for probe, count in ((0, 50), (1, 10)):
        above, below = given[probe].reshape(2, 2, count)  # images, then pairs
        u = DRAWS.signs(ids, (count, 27), purpose="probe", probe=probe)
        for k in range(count):
            expected += ((above - below) / 0.5)[:, k, None] * u[:, k]
    assert torch.equal(found.flatten(1), expected / 60)


@pytest.mark.parametrize("queries", [200, 2000])
def test_cosine_on_a_linear_function(queries: int) -> None:
    """GE-1 at d = 3072: 0.178 of 100 pairs, 0.496 of 1000."""
    n, d = 8, 3072
    w = torch.randn(d, generator=torch.Generator().manual_seed(0))
    x = random_images(n, size=32)
    found = estimate(of(lambda z: z @ w), x, torch.arange(n), DRAWS, queries=queries, sigma=EPS)
    cosines = cosine(found, w.expand(n, -1))
    expected = expected_cosine(queries, d)
    assert cosines.mean() == pytest.approx(expected, abs=3 * d**-0.5 / n**0.5)
    assert (cosines - expected).abs().max() < 4 * d**-0.5


def test_scale_is_the_gradients() -> None:
    """attacks.md 11.5: the mean of g^ g / |g|^2 is 1; |g^| / |g| is sqrt(1 + (d - 1) / q)."""
    n, d, q = 200, 48, 50
    w = torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = random_images(1, size=4).double().expand(n, -1, -1, -1)
    found = estimate(of(lambda z: z @ w), x, torch.arange(n), DRAWS, queries=2 * q, sigma=EPS)
    along = found.flatten(1) @ w / w.square().sum()
    assert along.mean() == pytest.approx(1, abs=float(3 * along.std() / n**0.5))
    assert along.std() < 0.25  # so that the test can tell 1 from a half or 2
    length = found.flatten(1).square().sum(1).mean() / w.square().sum()
    assert length == pytest.approx(1 + (d - 1) / q, rel=0.1)


def test_unbiased_on_a_quadratic() -> None:
    """What is even in u cancels in a pair: the mean is A x + b, each coordinate to 4 errors."""
    n, d = 400, 12
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(d, d, dtype=torch.float64, generator=generator)
    a, b = a + a.T, torch.randn(d, dtype=torch.float64, generator=generator)
    x = random_images(1, size=2).double()
    found = estimate(
        of(lambda z: 0.5 * ((z @ a) * z).sum(1) + z @ b),
        x.expand(n, -1, -1, -1),
        torch.arange(n),
        DRAWS,
        queries=20,
        sigma=0.5,
    ).flatten(1)
    error = found.std(dim=0) / n**0.5
    gradient = x.flatten() @ a + b
    assert ((found.mean(dim=0) - gradient).abs() < 4 * error).all()
    assert (gradient.abs() > 8 * error).float().mean() > 0.5


def test_a_difference_that_is_not_finite_adds_nothing() -> None:
    x, w = random_images(2, 2, 1).double(), torch.tensor([3.0, 1.0, 1.0, 1.0]).double()

    def f(z: Tensor) -> Tensor:
        beyond = z[:, 0] > z[:, 1] + 0.5
        return torch.where(beyond, torch.nan, z @ w)

    x[:, 0, 0, 0], x[:, 0, 0, 1] = 0.8, 0.4
    u = DRAWS.signs(torch.arange(2), (50, 4), purpose="probe").double()
    differ = (u[:, :, 0] != u[:, :, 1])[:, :, None]  # one side of these pairs is beyond
    assert 0.3 < differ.double().mean() < 0.7
    expected = ((u @ w)[:, :, None] * u).masked_fill(differ, 0.0).mean(dim=1)
    found = estimate(of(f), x, torch.arange(2), DRAWS, queries=100, sigma=0.1)
    torch.testing.assert_close(found.flatten(1), expected)


# The schedule and the budget.


def test_presets() -> None:
    """attacks.md 11.5; mid is the default."""
    budgets = {"lite": 2_020, "mid": 22_040, "full": 1_222_100}
    assert set(GradientEstimation.presets) == set(budgets)
    for preset, budget in budgets.items():
        search = with_arguments("gradient_estimation", gradient_estimation, {"preset": preset})
        stages = search.stages("gradient_estimation", 10)
        assert sum(stage.forward_passes for stage in stages) == budget
        assert {(s.backward_passes, s.sees, s.width) for s in stages} == {(0, "logits", 1)}
    mid = with_arguments("gradient_estimation", gradient_estimation, {"preset": "mid"})
    assert mid == gradient_estimation


def test_stages_are_short() -> None:
    """At most 1000 probes an image, or one step."""
    stages = GradientEstimation("25x100+2x1000+2x20000+1x2").stages("ge", 10)
    assert [(s.label, s.forward_passes) for s in stages] == [
        ("steps 1-10", 1010),
        ("steps 11-20", 1010),
        ("steps 21-25", 505),
        ("steps 26-26", 1001),
        ("steps 27-27", 1001),
        ("steps 28-28", 20001),
        ("steps 29-29", 20001),
        ("steps 30-30", 3),
    ]


@pytest.mark.parametrize(
    "schedule", ["", "20", "20x", "x100", "0x100", "20x0", "20x101", "20x100+", "-1x2", "2x2,2x2"]
)
def test_a_schedule_that_is_none_is_refused(schedule: str) -> None:
    with pytest.raises(InputError, match="expected steps x probes"):
        GradientEstimation(schedule)
    assert phases(" 3x4 + 5x6") == [(3, 4), (5, 6)]


@pytest.mark.parametrize(
    ("search", "queries"),
    [
        (GradientEstimation("20x100"), 2_020),
        (gradient_estimation, 22_040),
        (GradientEstimation("1x2"), 3),
        (SHORT, 326),
    ],
)
def test_a_robust_image_costs_exactly_the_budget(search: GradientEstimation, queries: int) -> None:
    images = random_images(2, size=2)
    out = run(constant(images), images, search, rows=100)
    assert [(v.survived, v.queries) for v in out.verdicts] == [(True, queries)] * 2
    assert torch.equal(out.candidates, images)  # no slope, no step


def test_a_settled_image_costs_nothing_more(cnn, images) -> None:
    out = run(cnn, images, SHORT)
    charged = sorted({v.queries for v in out.verdicts if not v.survived})
    # Broken images were seen after so many whole steps: 21 queries each, then 121.
    assert charged and set(charged) <= {21, 42, 63, 84, 205, 326} and len(charged) > 2
    assert {v.queries for v in out.verdicts if v.survived} == {326}


def test_probes_are_not_offered(cnn, images) -> None:
    """Only points of the ball reach the judge, though probes leave the ball and the box."""
    asked: list[Tensor] = []

    class Recorded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(x)
            return cnn(x)  # type: ignore[no-any-return]

    out = run(Recorded(), images, SHORT, labels=cnn(images).argmax(1))
    assert min(float(x.min()) for x in asked) < -0.02
    assert not any(v.flags for v in out.verdicts)
    delta = (out.candidates - images).double().abs()
    assert 0.9 * EPS < delta.max() < EPS + 1e-6
    assert out.candidates.min() == 0 and out.candidates.max() == 1


# The search.


def test_one_step_by_hand() -> None:
    """One step of 0.01 to the smaller margin; black and white pixels stay in the box."""
    model, x = Linear(*two_class(0.0)), torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]])
    search = GradientEstimation("1x400")
    label = model(x).argmax(1)
    assert label.item() == 1  # f = -(x0 - 2 x1 + x2 / 2): down is (+, -, +, none)
    delta = (run(model, x, search).candidates - x).flatten()
    assert delta[3].abs() <= 0.01 + 1e-7
    torch.testing.assert_close(delta[:3], torch.tensor([0.01, -0.01, 0.01]))


@pytest.mark.parametrize(("eps", "robust"), [(0.0714, True), (0.0715, False)])
def test_lin_1_edge(eps: float, robust: bool) -> None:
    model, grey = Linear(*two_class(0.0)), torch.full((1, 1, 2, 2), 0.5)
    labels, threat = torch.tensor([1]), ThreatModel("linf", eps)
    out = run(model, grey, GradientEstimation("20x400"), labels=labels, threat=threat)
    assert out.survived == [robust]


def test_lin_4_meets_the_closed_form() -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(5, 12), torch.randn(5), torch.rand(200, 12)
    images, model = x.reshape(200, 3, 2, 2), Linear(weight, bias)
    exact = worst_margin(weight, bias, images, model(images).argmax(1), 0.05) > 0
    threat = ThreatModel("linf", 0.05)
    out = run(model, images, GradientEstimation("20x200"), threat=threat, rows=1000)
    assert (torch.tensor(out.survived) >= exact).all()
    assert exact.sum() == 133 and sum(out.survived) <= 135


def test_more_probes_a_step_are_stronger(cnn, images) -> None:
    few, many = (sum(run(cnn, images, GradientEstimation(s)).survived) for s in ("9x4", "9x200"))
    assert many < few - 2


def test_gradients_that_are_zero_do_not_hide_an_image(cnn, images) -> None:
    """Behind 32 grey levels PGD is blind; the probes see through them."""

    class Quantised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return cnn((x * 31).round() / 31)  # type: ignore[no-any-return]

    model = Quantised()
    labels = model(images).argmax(1)
    blind = attack(model, "pgd_sat", images, labels, THREAT)
    assert sum(blind.survived) >= 23 and all("zero_gradient" in v.flags for v in blind.verdicts)
    assert sum(run(model, images, GradientEstimation("10x100")).survived) <= 12


def test_eps_zero_is_clean_accuracy(cnn, images) -> None:
    out = run(cnn, images, GradientEstimation("2x20"), threat=ThreatModel("linf", 0.0))
    assert all(out.survived) and torch.equal(out.candidates, images)


# Stages and batches.


@pytest.mark.parametrize("most", [20, 60])
def test_stages_are_one_search(cnn, images, most: int, monkeypatch) -> None:
    one = run(cnn, images, SHORT)
    assert len(SHORT.stages("ge", 10)) == 2
    monkeypatch.setattr(module, "QUERIES_PER_STAGE", most)
    assert len(SHORT.stages("ge", 10)) == {20: 6, 60: 4}[most]
    many = run(cnn, images, SHORT)
    assert 3 < sum(one.survived) < 21
    assert many.verdicts == one.verdicts and torch.equal(many.candidates, one.candidates)


def test_a_longer_schedule_begins_like_a_shorter_one(cnn, images) -> None:
    """lite breaks nothing that mid does not: the same draws, step by step."""
    short, long = (run(cnn, images, GradientEstimation(s)) for s in ("3x20", "3x20+2x60"))
    for a, b in zip(short.verdicts, long.verdicts, strict=True):
        assert a.survived or (a.queries, a.margin) == (b.queries, b.margin)
    assert sum(long.survived) < sum(short.survived) < len(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("values", [1, 2**23])
def test_verdicts_do_not_depend_on_batch_or_order(channels: int, values: int, monkeypatch) -> None:
    """RNG-1, GE-2: one by one, in threes, shuffled, in other pieces: all bit for bit."""
    model, images = small_cnn(channels=channels), random_images(12, channels=channels)
    whole = run(model, images, SHORT)
    assert 1 < sum(whole.survived) < 11
    monkeypatch.setattr(module, "VALUES_AT_ONCE", values)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for size in (1, 3, 12):
        pieces = [order[i : i + size] for i in range(0, 12, size)]
        outs = [run(model, images[p], SHORT, ids=p) for p in pieces]
        again = {v.id: v for out in outs for v in out.verdicts}
        assert [again[i] for i in range(12)] == whole.verdicts
        candidates = torch.cat([out.candidates for out in outs])
        assert torch.equal(candidates, whole.candidates[order])


@pytest.mark.parametrize("size", [1, 5])
def test_an_estimate_does_not_depend_on_company(size: int) -> None:
    """GE-2: of 64 images, some with losses a million times larger; the same bits alone."""
    x, ids = random_images(64, size=5), torch.arange(64)
    w = torch.randn(64, 75, generator=torch.Generator().manual_seed(0))
    w *= torch.where(ids % 2 > 0, 1e6, 1.0)[:, None]

    def estimates(which: Tensor) -> Tensor:
        def f(z: Tensor, rows: Tensor) -> Tensor:
            products = (z.flatten(1) * w[which[rows]]).double()
            return products.cumsum(1)[:, -1].float()  # row by row, at every batch size

        return estimate(f, x[which], ids[which], DRAWS, queries=120, sigma=EPS)

    together = estimates(ids)
    for alone in ids.split(size):
        assert torch.equal(estimates(alone), together[alone])


def test_nothing_is_changed(cnn, images) -> None:
    given, state = images.clone(), torch.get_rng_state()
    assert run(cnn, images, SHORT).unchanged
    assert torch.equal(given, images) and torch.equal(state, torch.get_rng_state())


def test_seeds_differ(cnn, images) -> None:
    search = dataclasses.replace(SHORT, schedule="2x20")
    a, b = (run(cnn, images, search, seed=seed).candidates for seed in (0, 1))
    assert 0.2 < (a != b).float().mean() < 0.8


# The peer.


def by_foolbox(f: Callable[[Tensor], Tensor], x: Tensor, queries: int) -> Tensor:
    """foolbox's estimate at x (B, ...) of the sum of f (B,), with normal numbers."""
    import eagerpy

    attack = foolbox.gradient_estimators.es_gradient_estimator(
        foolbox.attacks.LinfBasicIterativeAttack,
        samples=queries,
        sigma=EPS,
        bounds=(0, 1),
        clip=False,
    )
    _, gradient = attack().value_and_grad(
        lambda z: eagerpy.astensor(f(z.raw).sum()), eagerpy.astensor(x)
    )
    return gradient.raw  # type: ignore[no-any-return]


def test_it_is_as_good_as_foolboxes_at_batch_1_and_better_at_more() -> None:
    """attacks.md 11.2: its loss is one sum over the batch, which is noise to each image."""
    n, d, queries = 16, 192, 100
    model, x = small_cnn(), random_images(n, seed=3)
    with torch.no_grad():
        labels = model(x).argmax(1)
        torch.manual_seed(0)
        alone = torch.cat(
            [
                by_foolbox(lambda z, y=labels[i]: margin_of(model(z), y[None]), x[i : i + 1], 100)
                for i in range(n)
            ]
        )
        together = by_foolbox(lambda z: margin_of(model(z), labels), x, queries)
        ours = estimate(
            lambda z, rows: margin_of(model(z), labels[rows]),
            x,
            torch.arange(n),
            DRAWS,
            queries=queries,
            sigma=EPS,
        )
    leaf = x.clone().requires_grad_()
    (exact,) = torch.autograd.grad(margin_of(model(leaf), labels).sum(), leaf)
    peer, mixed, own = (float(cosine(g, exact).mean()) for g in (alone, together, ours))
    assert own == pytest.approx(expected_cosine(queries, d), abs=4 * d**-0.5 / n**0.5)
    assert own == pytest.approx(peer, abs=6 * d**-0.5 / n**0.5)
    assert mixed < own / 2
