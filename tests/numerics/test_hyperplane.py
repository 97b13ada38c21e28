"""Moves onto a hyperplane inside the box: by hand, against bisection, against the authors' code."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_projections import projection_l2, projection_linf
from torch import Tensor

from robench.numerics.hyperplane import dual_norm, move_onto, row_sum

REFERENCE = {"linf": projection_linf, "l2": projection_l2}


def move(points: list[float], normal: list[float], gap: float, norm: str) -> Tensor:
    t, w = torch.tensor([points]), torch.tensor([normal])
    return move_onto(t, w, torch.tensor([gap]), norm)[0]


@pytest.mark.parametrize(
    ("points", "gap", "linf", "l2"),
    [
        ([0.5, 0.5, 0.5], 0.3, [0.1, -0.1, 0], [0.06, -0.12, 0]),
        ([0.5, 0.5, 0.5], -0.3, [-0.1, 0.1, 0], [-0.06, 0.12, 0]),
        ([0.95, 0.5, 0.5], 0.3, [0.05, -0.125, 0], [0.05, -0.125, 0]),  # stopped by the box
        ([0.95, 0.1, 0.5], 0.25, [0.05, -0.1, 0], [0.05, -0.1, 0]),  # just reached in a corner
        ([0.95, 0.1, 0.5], 9.0, [0.05, -0.1, 0], [0.05, -0.1, 0]),  # out of reach
        ([1.0, 0.0, 0.5], 0.3, [0, 0, 0], [0, 0, 0]),  # no room at all
        ([0.2, 0.7, 0.5], 0.0, [0, 0, 0], [0, 0, 0]),  # already there
    ],
)
def test_by_hand(points: list[float], gap: float, linf: list[float], l2: list[float]) -> None:
    """w = (1, -2, 0): the third coordinate does not help, so it stays."""
    for norm, expected in (("linf", linf), ("l2", l2)):
        found = move(points, [1.0, -2.0, 0.0], gap, norm)
        torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_coordinate_without_a_finite_gradient_stays(norm: str, bad: float) -> None:
    found = move([0.5, 0.5, 0.5], [1.0, -2.0, bad], 0.3, norm)
    torch.testing.assert_close(found, move([0.5, 0.5, 0.5], [1.0, -2.0, 0.0], 0.3, norm))
    assert move([0.5], [1.0], torch.nan, norm).item() == 0
    assert move([0.5, 0.2], [0.0, 0.0], 1.0, norm).tolist() == [0, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_tiny_gradients_move_like_large_ones(norm: str) -> None:
    """Squares of 1e-30 are 0 in float32; the direction is as good as any."""
    large, tiny = (move([0.5, 0.5], [s, -2 * s], 0.3 * s, norm) for s in (1.0, 1e-30))
    torch.testing.assert_close(large, tiny)


def by_bisection(t: Tensor, w: Tensor, gap: float, norm: str) -> Tensor:
    """FAB-2: one row (d,) in float64, the multiplier halved in between 200 times."""
    towards = w.sign() * (1 if gap > 0 else -1)
    room = torch.where(towards > 0, 1 - t, t)
    speed = w.abs() if norm == "l2" else (w != 0).double()

    def at(multiplier: float) -> Tensor:
        return towards * torch.minimum(multiplier * speed, room)

    low, high = 0.0, 1.0
    while (w * at(high)).sum().abs() < abs(gap) and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if (w * at(middle)).sum().abs() < abs(gap):
            low = middle
        else:
            high = middle
    return at(high)


def rough_case(seed: int, rows: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 points and normals with points on the box, equal and vanishing coordinates."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(rows, d, generator=generator, dtype=torch.float64)
    t = torch.where(torch.rand(rows, d, generator=generator) < 0.3, t.round(), t)
    w = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    kind = torch.rand(rows, d, generator=generator)
    w = torch.where(kind < 0.2, 0.0, torch.where(kind < 0.5, w.sign(), w))
    room = torch.maximum(w * (1 - t), -w * t).sum(1)
    share = 1.3 * torch.rand(rows, generator=generator, dtype=torch.float64)  # some out of reach
    return t, w, share * room


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), norm=st.sampled_from(["linf", "l2"]), down=st.booleans())
def test_fab_2_bisection(seed: int, norm: str, down: bool) -> None:
    t, w, gap = rough_case(seed, rows=4, d=50)
    if down:
        w, gap = -w, -gap
    found = move_onto(t, w, gap, norm)
    expected = torch.stack([by_bisection(*row, norm) for row in zip(t, w, gap, strict=True)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert ((t + found > -1e-12) & (t + found < 1 + 1e-12)).all()
    up = w * gap[:, None] > 0
    most = (w.abs() * torch.where(up, 1 - t, t)).sum(1)
    missing = (gap - (w * found).sum(1)).abs()
    torch.testing.assert_close(missing, (gap.abs() - most).clamp(min=0), atol=1e-9, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_equals_the_authors_projection(norm: str, scale: float) -> None:
    """On float32 input to 1e-6; theirs runs in float64, or its own rounding would be measured."""
    t, w, gap = (part.float() for part in rough_case(0, rows=300, d=300))
    w, gap = scale * w, scale * gap
    for sign in (1, -1):
        there = (w.double() * t.double()).sum(1) + sign * gap.double()
        expected = REFERENCE[norm](t.double(), w.double(), there)
        found = move_onto(t, w, sign * gap, norm)
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_breakpoints_that_fill_up_one_at_a_time(norm: str) -> None:
    """Rooms that double: Newton needs many of its steps, and still ends on the plane."""
    d = 40
    room = 2.0 ** -torch.arange(d, dtype=torch.float64)
    w = 0.5 ** torch.arange(d, 0, -1, dtype=torch.float64)  # the more room, the less weight
    gap = 0.999 * (w * room).sum()
    found = move_onto((1 - room)[None], w[None], gap[None], norm)[0]
    torch.testing.assert_close(found, by_bisection(1 - room, w, gap.item(), norm))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("d", [192, 3072, 65537])
def test_a_row_does_not_depend_on_the_others(norm: str, d: int) -> None:
    torch.manual_seed(d)
    n = 43
    t, w, gap = torch.rand(n, d), torch.randn(n, d), 0.1 * d * torch.randn(n)
    whole = move_onto(t, w, gap, norm)
    for size in (1, 3):
        for part in (slice(0, size), slice(n - size, n)):
            assert torch.equal(move_onto(t[part], w[part], gap[part], norm), whole[part])


def test_a_sum_does_not_depend_on_the_other_rows() -> None:
    """Two threads would share the sum of a single row, and round it differently."""
    torch.manual_seed(0)
    values = torch.randn(3, 50_000, dtype=torch.float64)
    torch.set_num_threads(2)
    whole, norms = row_sum(values), dual_norm(values, "l2")
    for i in range(3):
        assert row_sum(values[i : i + 1]) == whole[i]
        assert dual_norm(values[i : i + 1], "l2") == norms[i]


def test_rounding_at_a_breakpoint_does_not_go_round_for_ever() -> None:
    """All four arrive at 0.1 together; the quotients of Newton's steps round below it and above."""
    t = torch.tensor([[0.1, 0.3, 0.1, 0.1]], dtype=torch.float64)
    w = -torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    found = move_onto(t, w, torch.tensor([0.1], dtype=torch.float64), "linf")
    torch.testing.assert_close(found, torch.full_like(t, -0.1))


def test_dual_norms_and_row_sums_by_hand() -> None:
    w = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert dual_norm(w, "linf").tolist() == [7, 0]
    assert dual_norm(w, "l2").tolist() == [5, 0]
    assert row_sum(w).tolist() == [-1, 0]
    assert row_sum(torch.tensor([[1.0, 1e-9]])).item() == 1 + torch.tensor(1e-9).double().item()


def test_no_rows() -> None:
    nothing = torch.zeros(0, 5)
    assert move_onto(nothing, nothing, torch.zeros(0), "linf").shape == (0, 5)
