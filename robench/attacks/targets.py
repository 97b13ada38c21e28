"""Targets of a search: which classes are tried on an image, and which of them together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robench.core.protocols import View

TOGETHER = 3
"""Targets tried in lockstep: always the same ones, because what an image gets must not depend on
how many others are left. More would fill small passes better, fewer would lose less when cut."""


@dataclass(frozen=True)
class Turn:
    """Targets of one restart that are tried together, by rank: 1 is the likeliest other class."""

    restart: int
    ranks: range

    def label(self, restarts: int) -> str:
        """What people read: "restart 2 of 5, targets 1-3"."""
        first, last = self.ranks[0], self.ranks[-1]
        targets = f"target {first}" if first == last else f"targets {first}-{last}"
        return targets if restarts == 1 else f"restart {self.restart + 1} of {restarts}, {targets}"

    def pairs(self, view: View, labels: Tensor, ids: Tensor) -> Tensor:
        """(T B, 2) label and target of each row, target by target; ranks by the clean logits."""
        others = likeliest_others(view.clean_logits(ids), labels)
        targets = others[:, self.ranks[0] - 1 : self.ranks[-1]]
        return torch.stack([labels.repeat(len(self.ranks)), targets.T.flatten()], dim=1)


def turns(targets: int, restarts: int, classes: int) -> list[Turn]:
    """All turns of a search, in their order; at most classes - 1 targets."""
    ranks = range(1, min(targets, classes - 1) + 1)
    groups = [ranks[first : first + TOGETHER] for first in range(0, len(ranks), TOGETHER)]
    return [Turn(restart, group) for restart in range(restarts) for group in groups]


def remarks(targets: int, classes: int) -> list[str]:
    """What few classes change."""
    if targets <= classes - 1:
        return []
    return [f"{classes - 1} of {targets} targets: there are no more classes"]


def likeliest_others(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K - 1) classes but the label, largest logit first; first index on ties."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]
