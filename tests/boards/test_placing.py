"""Ranks as ranges and the Pareto front, on points that can be drawn."""

import pytest

from robench.boards.placing import Figure, dominates, front_state, pareto_front, rank_range


def exactly(value):
    return Figure(value, value, value)


@pytest.mark.parametrize(
    ("low", "high", "ranks"),
    [
        (0.55, 0.65, (2, 2)),
        (0.35, 0.65, (2, 4)),
        (0.0, 1.0, (1, 5)),
        (0.95, 0.99, (1, 1)),
        (0.1, 0.2, (5, 5)),
    ],
)
def test_a_rank_is_what_the_bounds_leave_open(low, high, ranks):
    others = [(p, p) for p in (0.9, 0.5, 0.4, 0.3)]
    found = rank_range(Figure((low + high) / 2, low, high), others)
    assert ((found.best, found.worst), found.of) == (ranks, 5)


def test_equal_figures_share_a_rank():
    others = [(p, p) for p in (0.9, 0.1 + 0.2, 0.3, 0.2)]
    found = rank_range(exactly(0.3), others)
    assert (found.best, found.worst) == (2, 2)


def test_a_figure_with_two_meanings_widens_the_rank():
    found = rank_range(exactly(0.5), [(0.4, 0.6), (0.7, 0.7)])
    assert (found.best, found.worst, found.of) == (2, 3, 3)


def test_differences_carry_our_bounds():
    assert Figure(0.5, 0.25, 0.75).minus(0.25) == Figure(0.25, 0.0, 0.5)
    assert Figure(0.5, 0.25, 0.75).minus(None) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.9, 0.5), (0.8, 0.4), True),
        ((0.9, 0.5), (0.9, 0.4), True),
        ((0.9, 0.5), (0.9, 0.5), False),
        ((0.9, 0.5), (0.8, 0.6), False),
    ],
)
def test_dominance(first, second, expected):
    assert dominates(first, second) is expected
    assert not dominates(second, first)


def test_the_front_keeps_equal_points_and_drops_dominated_ones():
    points = [
        ("inside", (0.8, 0.4)),
        ("robust", (0.7, 0.6)),
        ("clean", (0.9, 0.3)),
        ("both", (0.85, 0.5)),
        ("twin", (0.85, 0.5)),
    ]
    assert pareto_front(points) == ["clean", "both", "twin", "robust"]


@pytest.mark.parametrize(
    ("clean", "robust", "state"),
    [
        ((0.92, 0.94), (0.1, 0.2), "on"),  # above every clean accuracy, wherever it lies
        ((0.84, 0.88), (0.45, 0.55), "open"),
        ((0.70, 0.75), (0.30, 0.40), "off"),
    ],
)
def test_the_front_in_view_of_the_bounds(clean, robust, state):
    others = [(0.9, 0.3), (0.85, 0.5)]
    ours = [Figure(sum(bounds) / 2, *bounds) for bounds in (clean, robust)]
    assert front_state(*ours, others) == state
