"""PGD on a loss: pgd_sat, pgd_trades and cw_inf are three settings of one search."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.ascent import signed_ascent
from robench.numerics.losses import loss_named
from robench.numerics.projections import feasible_box

Start = Literal["uniform", "gauss1e-3", "none"]


def starting_points(
    start: Start, images: Tensor, ids: Tensor, threat: ThreatModel, draws: Draws, restart: int = 0
) -> Tensor:
    """Where a linf search begins: U(-eps, eps), 0.001 N(0, 1) or the image; inside the box."""
    shape = images.shape[1:]
    low, high = feasible_box(images, threat)
    if start == "uniform":
        noise = draws.uniform(ids, shape, -1.0, 1.0, purpose="start", restart=restart)
        return torch.clamp(images + threat.eps * noise, low, high)
    if start == "gauss1e-3":
        noise = draws.normal(ids, shape, purpose="start", restart=restart)
        return torch.clamp(images + 0.001 * noise, low, high)
    return images


@dataclass(frozen=True)
class PGD:
    """Signed gradient ascent on a loss, linf; the last iterate of each restart.

    steps; step_size in pixel units; loss: a name of `numerics.losses`; start: "uniform" in the
    ball, "gauss1e-3" or "none"; restarts: an image broken by one is not attacked by the next.
    Source: Madry et al. 2018, section 2.1.
    """

    steps: int = 20
    step_size: float = 2 / 255
    loss: str = "cross_entropy"
    start: Start = "uniform"
    restarts: int = 1

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("last", "any")
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    def __post_init__(self) -> None:
        loss_named(self.loss)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [
            Stage(
                component,
                "" if self.restarts == 1 else f"restart {restart + 1} of {self.restarts}",
                self.steps,
                self.steps,
                partial(self.run, restart=restart),
            )
            for restart in range(self.restarts)
        ]

    def travel(self, threat: ThreatModel) -> tuple[float, float]:
        """How far the iterates can move, and how far they may have to, in pixel units."""
        needed = threat.eps if self.start == "none" else 2 * threat.eps
        return self.steps * self.step_size, needed

    def run(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        restart: int = 0,
    ) -> Tensor:
        """The last iterates (B, C, H, W) of one restart."""
        loss = loss_named(self.loss)
        low, high = feasible_box(images, threat)
        return signed_ascent(
            lambda z, rows: view.loss_gradient(loss, z, labels[rows], ids[rows]),
            starting_points(self.start, images, ids, threat, draws, restart),
            low,
            high,
            step_sizes=[self.step_size] * self.steps,
            settled=lambda z, rows, logits: view.offer(ids[rows], z, logits),
        )


@dataclass(frozen=True)
class TradesPGD(PGD):
    """PGD with the published TRADES evaluation settings and their variants as presets."""

    step_size: float = 0.003

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "trades-nostart": {"start": "none"},
        "trades-gauss": {"start": "gauss1e-3"},
    }


@dataclass(frozen=True)
class CarliniWagnerPGD(PGD):
    """PGD on the unclipped margin: what the papers call CW_inf, not the penalty method."""

    steps: int = 30
    loss: str = "margin"

    presets: ClassVar[dict[str, dict[str, object]]] = {"cw-003": {"step_size": 0.003}}


pgd_sat = PGD()
pgd_trades = TradesPGD()
cw_inf = CarliniWagnerPGD()
