"""Which epoch is the best: W-Robust on images that training does not see."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robench.core.errors import RunError
from robench.data.evalset import EvalSet
from robench.evaluation.run import evaluate
from robench.training.recipe import Recipe
from robench.training.schedule import Schedule

OFTEN = 40
"""Runs of at most so many epochs are scored after each of them."""
SELDOM = 20
"""Epochs between scores of longer runs, until the first milestone."""


@dataclass(frozen=True)
class Score:
    """Accuracies as fractions of 1 on the selection images, the attack's final iterate judged."""

    clean: float
    robust: float

    @property
    def w_robust(self) -> float:
        """Half clean, half robust."""
        return (self.clean + self.robust) / 2


def due(recipe: Recipe, schedule: Schedule, epoch: int) -> bool:
    """Whether the epoch is scored; the last one always is. Source: training-methods.md 14."""
    if epoch == recipe.epochs:
        return True
    if recipe.selection.every is not None:
        return epoch % recipe.selection.every == 0
    if recipe.epochs <= OFTEN:
        return True
    return epoch % SELDOM == 0 or epoch > schedule.first_milestone()


def score(
    network: nn.Module,
    images: EvalSet,
    recipe: Recipe,
    device: torch.device,
    attack: str | None = None,
) -> Score:
    """The network, in evaluation mode, under an attack; seed 0 whatever the recipe's.

    attack: None, the recipe's selection attack.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(
            network,
            attack or recipe.selection.attack,
            dataset=images,
            eps=recipe.inner.radius,
            precision=recipe.precision,
            device=str(device),
            out=Path(folder),
        )
    row = result.rows[0]
    if row.clean_accuracy is None or row.robust_accuracy is None:
        raise RunError(f"scoring under {row.attack} failed: {row.reason}")
    return Score(row.clean_accuracy, row.robust_accuracy)
