"""APGD: ascent with momentum whose step size adapts to each image, on one loss or on targets."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robench.attacks import targets
from robench.attacks.targets import Turn
from robench.core.errors import InputError
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics import losses
from robench.numerics.auto_pgd import auto_pgd
from robench.numerics.losses import Loss, loss_named, margin_of
from robench.numerics.projections import distance, feasible_box, per_row, project
from robench.numerics.rows import in_fixed_rows

TARGETED: dict[str, Loss] = {
    "dlr_targeted": losses.dlr_targeted,
    "margin_targeted": losses.margin_targeted,
}
FEWEST_CLASSES = {"dlr": (3, "margin"), "dlr_targeted": (4, "margin_targeted")}
"""Classes that a loss needs, and what takes its place below."""


def starting_points(
    images: Tensor, ids: Tensor, threat: ThreatModel, draws: Draws, restart: int, target: int = 0
) -> Tensor:
    """Random points on the sphere, cut to the box. images: (B, C, H, W)."""
    draw = partial(draws.uniform, low=-1.0, high=1.0) if threat.norm == "linf" else draws.normal
    noise = draw(ids, images.shape[1:], purpose="start", restart=restart, target=target)
    length = distance(noise, threat.norm).clamp(min=1e-12).to(noise.dtype)
    delta = project(threat.eps * (noise / per_row(length, noise)), threat)
    return torch.clamp(images + delta, *feasible_box(images, threat))


def values_of(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """(A,) the losses that steps are compared by, rounded the same however many rows there are."""
    if logits.device.type == "cpu":
        return loss(logits, labels)[0]
    return in_fixed_rows(lambda z, own: loss(z, own)[0], logits, labels)


@dataclass(frozen=True)
class APGD:
    """Auto-PGD on a loss from random starts; no step size to choose.

    steps; restarts: an image broken by one is not attacked by the next; rho: share of improving
    steps below which a step size is halved; loss: a name of `numerics.losses`; eot: passes that
    gradient, loss and logits are averaged over at each step, for randomised defenses.

    Differs from the reference: cross-entropy is compared and differentiated as log-odds, which
    never saturate (compat and eot take it as it is, in float32); a search ends at its first
    verified candidate; eot averages the loss as well, not only the gradient; `dlr` on two classes
    is the margin loss. compat: see `auto_pgd`.
    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness", sections 3 and 4.
    """

    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    loss: str = "cross_entropy"
    eot: int = 1
    compat: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    def __post_init__(self) -> None:
        loss_named(self.loss)

    @property
    def verification_passes(self) -> int:
        """Passes over which the judge averages logits: as many as the search does."""
        return self.eot

    def remarks(self, classes: int) -> list[str]:
        """What is done otherwise on so few classes."""
        fewest, instead = FEWEST_CLASSES.get(self.loss, (0, ""))
        if classes >= fewest:
            return []
        return [f"the {self.loss} loss needs {fewest} classes: {instead} took its place"]

    def loss_for(self, classes: int) -> Loss:
        """The loss that the search runs on."""
        fewest, instead = FEWEST_CLASSES.get(self.loss, (0, ""))
        name = self.loss if classes >= fewest else instead
        if name == "cross_entropy":
            plain = self.compat or self.eot > 1  # rows of any scale cannot be averaged
            return losses.cross_entropy_float32 if plain else losses.log_odds
        return TARGETED[name] if name in TARGETED else loss_named(name)

    def stages(self, component: str, classes: int) -> list[Stage]:
        passes, loss = (self.steps + 1) * self.eot, self.loss_for(classes)
        return [
            Stage(
                component,
                "" if self.restarts == 1 else f"restart {restart + 1} of {self.restarts}",
                passes,
                passes,
                partial(self.run, loss=loss, restart=restart),
            )
            for restart in range(self.restarts)
        ]

    def run(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        *,
        loss: Loss,
        restart: int,
    ) -> Tensor:
        """The iterates of smallest margin (B, C, H, W) of one restart."""
        start = starting_points(images, ids, threat, draws, restart)
        return self.nearest(view, loss, images, labels, ids, start, threat)[0]

    def nearest(
        self,
        view: View,
        loss: Loss,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        start: Tensor,
        threat: ThreatModel,
    ) -> tuple[Tensor, Tensor]:
        """The iterates of smallest margin (R, C, H, W) from `start`, and their margins (R,).

        Not those of largest loss: what breaks an image, and what its verdict reports, is the
        margin; a loss may rise without it. labels: (R,), or (R, 2) with a target.
        """
        nearest = start.clone()
        margins = torch.full(ids.shape, torch.inf, device=ids.device)
        own = labels.reshape(len(labels), -1)[:, 0]

        def evaluate(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            logits, gradient, values = self.mean_pass(view, loss, x, labels[rows], ids[rows])
            margin = margin_of(logits, own[rows])
            nearer = margin < margins[rows]
            # Of every row: to pick the nearer ones, a GPU has to be asked how many they are.
            nearest[rows] = torch.where(per_row(nearer, x), x, nearest[rows])
            margins[rows] = torch.where(nearer, margin, margins[rows])
            return values, gradient, view.offer(ids[rows], x, logits)

        auto_pgd(
            evaluate, start, images, threat, steps=self.steps, rho=self.rho, compat=self.compat
        )
        return nearest, margins

    def mean_pass(
        self, view: View, loss: Loss, x: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (A, K), gradient (A, C, H, W) and loss (A,), averaged over `eot` passes."""
        exact = self.compat or self.eot > 1
        logits, gradient = view.loss_gradient(loss, x, labels, ids, exact=exact)
        values = values_of(loss, logits, labels)
        if self.eot == 1:
            return logits, gradient, values
        for _ in range(self.eot - 1):
            more, slope = view.loss_gradient(loss, x, labels, ids, exact=True)
            logits, gradient = logits + more, gradient + slope
            values = values + values_of(loss, more, labels)
        return logits / self.eot, gradient / self.eot, values / self.eot


@dataclass(frozen=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards each of the classes that are likeliest on the clean image.

    targets: how many, at most all other classes. Success is any other class, not the target.
    Three targets are tried together, whatever is left open: what an image gets must not depend on
    the others. Differs from the reference, beyond what APGD does: the label is never a target, and
    all targets of an image end with its first verified candidate; below four classes the loss is
    z_t - z_y.
    """

    loss: str = "dlr_targeted"
    targets: int = 9

    def __post_init__(self) -> None:
        if self.loss not in TARGETED:
            expected = " or ".join(TARGETED)
            raise InputError(f"unknown targeted loss {self.loss!r}: expected {expected}")

    def remarks(self, classes: int) -> list[str]:
        return [*super().remarks(classes), *targets.remarks(self.targets, classes)]

    def stages(self, component: str, classes: int) -> list[Stage]:
        passes, loss = (self.steps + 1) * self.eot, self.loss_for(classes)
        return [
            Stage(
                component,
                turn.label(self.restarts),
                passes * len(turn.ranks),
                passes * len(turn.ranks),
                partial(self.run_targets, loss=loss, turn=turn),
                width=len(turn.ranks),
            )
            for turn in targets.turns(self.targets, self.restarts, classes)
        ]

    def run_targets(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        *,
        loss: Loss,
        turn: Turn,
    ) -> Tensor:
        """The iterates of smallest margin (B, C, H, W) over the targets of a turn."""
        n, pairs = len(turn.ranks), turn.pairs(view, labels, ids)
        starts = [
            starting_points(images, ids, threat, draws, turn.restart, rank) for rank in turn.ranks
        ]
        nearest, margins = self.nearest(
            view, loss, torch.cat([images] * n), pairs, ids.repeat(n), torch.cat(starts), threat
        )
        which = margins.reshape(n, -1).argmin(dim=0)
        return nearest[which * len(ids) + torch.arange(len(ids), device=ids.device)]


apgd_ce = APGD()
apgd_dlr = APGD(loss="dlr")
apgd_t = TargetedAPGD()
