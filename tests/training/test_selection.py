"""Which epochs are scored."""

from typing import Any

import pytest

from robench.training.plan import resolve_recipe
from robench.training.schedule import Schedule
from robench.training.selection import due


def _scored(**options: Any) -> list[int]:
    recipe = resolve_recipe("sat", "cifar10", **options)
    schedule = Schedule(recipe.optimizer, recipe.epochs, steps=1)
    return [epoch for epoch in range(1, recipe.epochs + 1) if due(recipe, schedule, epoch)]


@pytest.mark.parametrize("epochs", [1, 40])
def test_short_runs_are_scored_after_each_epoch(epochs: int) -> None:
    assert _scored(changes=[f"epochs={epochs}"]) == list(range(1, epochs + 1))


def test_long_runs_are_scored_seldom_before_the_first_milestone() -> None:
    """300 epochs, the first milestone after 215."""
    assert _scored() == [*range(20, 201, 20), *range(216, 301)]


def test_the_last_epoch_is_always_scored() -> None:
    assert _scored(changes=["epochs=45", "optimizer.milestones=[]"]) == [20, 40, 45]
    assert _scored(changes=["epochs=50", "selection.every=20"]) == [20, 40, 50]
    assert _scored(changes=["epochs=50", "selection.every=50"]) == [50]
