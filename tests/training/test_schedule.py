"""Learning rates by hand."""

import itertools

import pytest

from robench.training.recipe import Optimizer
from robench.training.schedule import Schedule

PAPER = Optimizer(lr=0.1, milestones=[215 / 300, 260 / 300, 285 / 300])


@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 0.1), (215, 0.1), (216, 0.01), (260, 0.01), (261, 1e-3), (300, 1e-4)]
)
def test_steps_drop_after_the_milestone_epoch(epoch: int, rate: float) -> None:
    schedule = Schedule(PAPER, epochs=300, steps=391)
    assert schedule.rate(epoch, 1) == pytest.approx(rate, rel=1e-12)
    assert schedule.rate(epoch, 391) == schedule.rate(epoch, 1)


def test_milestones_are_passed_at_the_end_of_their_epochs_under_any_schedule() -> None:
    for kind in ("steps", "one-cycle"):
        settings = Optimizer(lr=0.1, schedule=kind, milestones=PAPER.milestones)  # type: ignore[arg-type]
        schedule = Schedule(settings, epochs=10, steps=3)
        passed = {epoch: schedule.milestones_at(epoch) for epoch in range(1, 11)}
        assert {epoch for epoch, count in passed.items() if count} == {7, 9, 10}
        assert schedule.first_milestone() == 7
    assert Schedule(Optimizer(), epochs=10, steps=3).first_milestone() == 10


def test_one_cycle_rises_linearly_to_its_peak_and_falls_to_nearly_zero() -> None:
    schedule = Schedule(Optimizer(lr=0.2, schedule="one-cycle", peak=0.25), epochs=4, steps=10)
    rates = [schedule.rate(epoch, step) for epoch in range(1, 5) for step in range(1, 11)]
    assert rates[0] == pytest.approx(0.2 * 0.5 / 10)
    assert rates[9] == pytest.approx(0.2 * 9.5 / 10)
    assert rates[-1] == pytest.approx(0.2 * 0.5 / 30)
    assert max(rates) == pytest.approx(rates[9], rel=0.06)
    rises = [b > a for a, b in itertools.pairwise(rates)]
    assert rises == sorted(rises, reverse=True)
