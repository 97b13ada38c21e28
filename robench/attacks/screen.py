"""Screen: the strongest cheap search we know; an upper bound of robust accuracy, not AutoAttack."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robench.attacks.apgd import likeliest_others
from robench.attacks.pgd import starting_points
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.ascent import signed_ascent
from robench.numerics.losses import Loss, margin, margin_targeted
from robench.numerics.projections import feasible_box

PROBE, TARGETED = "margin_pgd", "margin_targeted"


def cosine(eps: float, steps: int) -> list[float]:
    """Step sizes from 2 eps to nearly 0 along half a cosine. Source: Liu et al. 2022 (A3)."""
    return [eps * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


@dataclass(frozen=True)
class Screen:
    """Margin PGD, then z_t - z_y towards the classes that came nearest to the label in it.

    steps: of the probe; targets, target_steps: of the second part, each target from a random start
    of its own. Step sizes fall from 2 eps to 0. What survives may still be broken by AutoAttack.
    Source: minimum-margin attack, Gao et al. 2022; step sizes of Liu et al. 2022.
    """

    steps: int = 20
    targets: int = 3
    target_steps: int = 30

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    def stages(self, component: str, classes: int) -> list[Stage]:
        n = min(self.targets, classes - 1)
        passes = n * self.target_steps
        return [
            Stage(PROBE, "", self.steps + 1, self.steps, self.probe),
            Stage(TARGETED, "", passes, passes, partial(self.towards, targets=n), width=n),
        ]

    def remarks(self, classes: int) -> list[str]:
        """What a reader must not take it for."""
        return ["an upper bound of robust accuracy: AutoAttack may break more"]

    def probe(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        """Untargeted; keeps the logits (B, K) of the last iterates, which rank the targets."""
        x = _ascend(view, margin, self.steps, images, labels, ids, threat, draws, 0)
        view.keep("screen_logits", ids, view.logits(x, ids))
        return x

    def towards(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        *,
        targets: int,
    ) -> Tensor:
        """All targets in lockstep; the last iterates towards the nearest one."""
        nearest = likeliest_others(view.recall("screen_logits", ids), labels)[:, :targets]
        rows = torch.cat([images] * targets)
        pairs = torch.stack([labels.repeat(targets), nearest.T.flatten()], dim=1)
        x = _ascend(
            view,
            margin_targeted,
            self.target_steps,
            rows,
            pairs,
            ids.repeat(targets),
            threat,
            draws,
            targets,
        )
        return x[: len(ids)]


def _ascend(
    view: View,
    loss: Loss,
    steps: int,
    images: Tensor,
    labels: Tensor,
    ids: Tensor,
    threat: ThreatModel,
    draws: Draws,
    targets: int,
) -> Tensor:
    """Last iterates (R, C, H, W) of rows that are one image, or (target, image) pairs in turn."""
    low, high = feasible_box(images, threat)
    n = max(1, targets)
    each = len(ids) // n
    parts = [
        starting_points("uniform", images[:each], ids[:each], threat, draws, restart)
        for restart in range(n)
    ]
    return signed_ascent(
        lambda z, rows: view.loss_gradient(loss, z, labels[rows], ids[rows]),
        torch.cat(parts),
        low,
        high,
        step_sizes=cosine(threat.eps, steps),
        settled=lambda z, rows, logits: view.offer(ids[rows], z, logits),
    )


screen = Screen()
