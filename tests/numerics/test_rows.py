"""Which rows go on, and sums by a fixed number of rows."""

import pytest
import torch
from torch import Tensor

from robench.attacks.apgd import values_of
from robench.numerics.hyperplane import dual_norm, move_onto, row_sum
from robench.numerics.losses import log_odds
from robench.numerics.projections import row_l2
from robench.numerics.rows import FIXED_ROWS, FIXED_VALUES, going_on, in_fixed_rows
from tests.pretend_cuda import pretended


def test_who_goes_on() -> None:
    kept = going_on(torch.tensor([True, False, True, False]))
    assert kept is not None and kept.tolist() == [1, 3]
    none_left = going_on(torch.tensor([True]))
    assert none_left is not None and len(none_left) == 0
    assert going_on(torch.tensor([False, False])) is None and going_on(None) is None


@pytest.mark.parametrize("n", [0, 1, 5, FIXED_ROWS, FIXED_ROWS + 1, 2 * FIXED_ROWS + 7])
def test_a_reduction_always_has_as_many_rows(n: int) -> None:
    values, shapes = torch.rand(n, 3, dtype=torch.float64), []

    def summed(rows: Tensor) -> Tensor:
        shapes.append(tuple(rows.shape))
        return rows.sum(dim=1)

    found = in_fixed_rows(summed, values)
    assert set(shapes) == {(FIXED_ROWS, 3)} and len(shapes) == max(1, -(-n // FIXED_ROWS))
    torch.testing.assert_close(found, values.sum(dim=1), rtol=1e-15, atol=0)


def test_large_rows_go_by_fewer() -> None:
    shapes = []
    d = FIXED_VALUES // 3
    in_fixed_rows(lambda rows: shapes.append(tuple(rows.shape)) or rows[:, 0], torch.zeros(4, d))
    assert shapes == [(3, d)] * 2


@pytest.mark.parametrize("n", [1, 3, FIXED_ROWS + 1])
def test_sums_on_a_gpu_are_by_fixed_rows(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of the CPU: here they are the same kernels."""
    shapes = set()

    def noted(reduce, *values):
        return in_fixed_rows(lambda *r: shapes.add(r[0].shape[0]) or reduce(*r), *values)

    for module in ("projections", "hyperplane"):
        monkeypatch.setattr(f"robench.numerics.{module}.in_fixed_rows", noted)
    monkeypatch.setattr("robench.attacks.apgd.in_fixed_rows", noted)
    x = torch.randn(n, 40)
    own = torch.arange(n) % 40
    sums = (
        row_l2,
        row_sum,
        lambda z: dual_norm(z, "l2"),
        lambda z: values_of(log_odds, z, own.to(z.device)),
    )
    for summed in sums:
        here = summed(x)
        assert not shapes
        with pretended():
            assert torch.equal(summed(x.to("cuda")).cpu(), here)
        assert shapes == {FIXED_ROWS}
        shapes.clear()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_newton_steps_than_go_unchecked(norm: str) -> None:
    """Breakpoints so far apart that each step of Newton's finds one of them."""
    d = 40
    weights = 4.0 ** -torch.arange(d).double()
    points, normal = torch.zeros(1, d).double(), weights[None]
    gap = (weights * torch.where(torch.arange(d) < d - 1, 1.0, 0.5)).sum()[None]
    here = move_onto(points, normal, gap, norm)
    with pretended() as cuda:
        there = move_onto(*(t.to("cuda") for t in (points, normal, gap)), norm)
        assert torch.equal(there.cpu(), here)
        assert cuda.sites and cuda.syncs >= 2
