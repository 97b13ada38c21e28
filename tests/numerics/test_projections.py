"""Geometry: inside, rim, outside, zero; float32 rounding at the edge."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robench.core.threat import ThreatModel
from robench.numerics.projections import distance, feasible_box, project, row_l2


@pytest.mark.parametrize(("norm", "expected"), [("linf", [[1.0, 1.0]]), ("l2", [[0.6, 0.8]])])
def test_project_keeps_the_inside(norm: str, expected: list[list[float]]) -> None:
    threat = ThreatModel(norm, eps=1.0)
    inside, outside = torch.tensor([[0.3, 0.4]]), torch.tensor([[3.0, 4.0]])
    assert torch.equal(project(inside, threat), inside)
    torch.testing.assert_close(project(outside, threat), torch.tensor(expected))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_project_of_zero_and_at_eps_zero(norm: str) -> None:
    zero, some = torch.zeros(2, 3), torch.ones(2, 3)
    assert torch.equal(project(zero, ThreatModel(norm, 1.0)), zero)
    assert torch.equal(project(some, ThreatModel(norm, 0.0)), zero)


@given(
    eps=st.one_of(st.just(0.0), st.floats(1e-6, 1)),
    seed=st.integers(0, 2**31),
    scale=st.floats(0.01, 100),
)
def test_projected_rows_pass_the_judge(eps: float, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    delta = scale * torch.randn(4, 3, 5, 5, generator=generator)
    for norm in ("linf", "l2"):
        moved = project(delta, ThreatModel(norm, eps))
        assert (distance(moved, norm) <= eps * (1 + 1e-6) + 1e-12).all()
        twice = project(moved, ThreatModel(norm, eps))
        torch.testing.assert_close(twice, moved, atol=0, rtol=3e-7)


def test_feasible_box_is_within_rounding_of_ball_and_box() -> None:
    images = (torch.arange(256) / 255).reshape(1, 1, 16, 16)
    low, high = feasible_box(images, ThreatModel("linf", 8 / 255))
    assert low.min() >= 0 and high.max() <= 1
    reach = torch.maximum((images.double() - low).max(), (high - images.double()).max())
    assert reach <= 8 / 255 + 2.9e-8


def test_row_norms_do_not_depend_on_the_number_of_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 3, 224, 224, generator=generator)
    together = row_l2(rows)
    assert all(torch.equal(row_l2(rows[i : i + 1])[0], together[i]) for i in range(5))
