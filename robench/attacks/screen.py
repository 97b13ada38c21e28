"""Screen: the strongest cheap search we know; an upper bound of robust accuracy, not AutoAttack."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robench.attacks.pgd import starting_points
from robench.attacks.targets import likeliest_others
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
            Stage(PROBE, "", self.steps, self.steps, self.probe),
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
        """Untargeted; keeps the latest logits (B, K) of each image, which rank the targets."""
        latest = view.clean_logits(ids).clone()

        def note(rows: Tensor, logits: Tensor) -> None:
            latest[rows] = logits

        starts = starting_points("uniform", images, ids, threat, draws)
        x = _ascend(view, margin, starts, self.steps, images, labels, ids, threat, note)
        view.keep("screen_logits", ids, latest)
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
        pairs = torch.stack([labels.repeat(targets), nearest.T.flatten()], dim=1)
        starts = [
            starting_points("uniform", images, ids, threat, draws, restart)
            for restart in range(targets)
        ]
        x = _ascend(
            view,
            margin_targeted,
            torch.cat(starts),
            self.target_steps,
            torch.cat([images] * targets),
            pairs,
            ids.repeat(targets),
            threat,
        )
        return x[: len(ids)]


def _ascend(
    view: View,
    loss: Loss,
    starts: Tensor,
    steps: int,
    images: Tensor,
    labels: Tensor,
    ids: Tensor,
    threat: ThreatModel,
    note: Callable[[Tensor, Tensor], None] = lambda rows, logits: None,
) -> Tensor:
    """Last iterates (R, C, H, W) from starts. note: told rows (A,) and their logits (A, K)."""

    def settled(z: Tensor, rows: Tensor, logits: Tensor) -> Tensor | None:
        note(rows, logits)
        return view.offer(ids[rows], z, logits)

    return signed_ascent(
        lambda z, rows: view.loss_gradient(loss, z, labels[rows], ids[rows]),
        starts,
        *feasible_box(images, threat),
        step_sizes=cosine(threat.eps, steps),
        settled=settled,
    )


screen = Screen()
