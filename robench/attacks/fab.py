"""FAB: steps onto the linearised decision boundary that stay close to the image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from robench.attacks import targets
from robench.attacks.apgd import starting_points
from robench.attacks.targets import Turn
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.hyperplane import dual_norm, move_onto, row_sum
from robench.numerics.losses import margin_targeted
from robench.numerics.projections import distance, per_row
from robench.numerics.rows import going_on

CLASSES_TOGETHER = 9
"""Classes that the untargeted search differentiates in one call; no result depends on it."""


class Plane(NamedTuple):
    """The linearised boundary around points u (A, C, H, W): difference + w (v - u) = 0.

    difference: (A,) z_t - z_y at u. normal: (A, C, H, W) its gradient w.
    """

    difference: Tensor
    normal: Tensor


CACHED = 2**16
"""Values of iterates that a step moves together on a CPU: in its cache they take half the time."""

Linearise = Callable[[Tensor, Tensor], Plane]
"""(points (A, C, H, W), rows (A,)) -> their planes; the rows index the batch of the stage."""


class Part(NamedTuple):
    """Which stage of a search it is."""

    restart: int
    first: bool
    last: bool


class Found(NamedTuple):
    """The adversarial iterates nearest to the images (B, C, H, W), and how far they are.

    reach: (B,) float64, infinite where there is none.
    """

    closest: Tensor
    reach: Tensor


@dataclass(frozen=True)
class FAB:
    """Fast adaptive boundary attack: the smallest perturbation, judged against eps; untargeted.

    At each of `steps` steps the classifier is linearised at u; d1 and d2 are the moves of u and of
    the image x onto the boundary nearest to u, and
    u <- clamp((1 - a)(u + eta d1) + a (x + eta d2), 0, 1), a = min(|d1|/(|d1| + |d2|), alpha_max).
    Where that is misclassified it is kept if it is the closest yet, and u <- x + beta (u - x).
    restarts: the first starts from the image, the others at random at a distance of eps / 2.
    stop_at_eps: an image is done with its first verified candidate within eps; otherwise all steps
    are made and the closest candidate of the whole search is returned, beyond eps as well.

    Differs from the reference: stopping at eps, which changes no verdict; l2 moves coordinates with
    gradients below 1e-8 as well; each class costs a pass of its own. As in the reference, there is
    no final line search. Source: Croce & Hein 2020, "Minimally distorted adversarial examples with
    a fast adaptive boundary attack", algorithm 1.
    """

    steps: int = 100
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    stop_at_eps: bool = True

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [
            Stage(
                component,
                "" if self.restarts == 1 else f"restart {restart + 1} of {self.restarts}",
                self.steps * classes,
                self.steps * (classes - 1),
                partial(self.run, part=Part(restart, restart == 0, restart + 1 == self.restarts)),
                width=min(classes - 1, CLASSES_TOGETHER),
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
        part: Part,
    ) -> Tensor | None:
        """The closest candidates (B, C, H, W) of one restart; see `outcome`."""

        def linearise(u: Tensor, rows: Tensor) -> Plane:
            return nearest_plane(view, u, labels[rows], ids[rows], threat.norm)

        start = self.start(images, ids, threat, draws, part.restart)
        found = self.descend(view, linearise, start, images, labels, ids, threat)
        return self.outcome(view, images, ids, found, threat, part)

    def start(
        self,
        images: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
        restart: int,
        target: int = 0,
    ) -> Tensor:
        if restart == 0:
            return images
        half = ThreatModel(threat.norm, threat.eps / 2)
        return starting_points(images, ids, half, draws, restart, target)

    def descend(
        self,
        view: View,
        linearise: Linearise,
        start: Tensor,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
    ) -> Found:
        """All rows (R, ...) from their starts towards the boundary.

        Each iterate is seen by a forward pass of its own, though a gradient pass there would show
        the prediction as well: it would be of use only at an iterate that is not adversarial, and
        those are 7 % (linf) to 14 % (l2) on a robust network, 30 % and less after another one.
        Below 61 % a gradient pass at once costs more (it takes 2.6 forward passes).
        """
        found = Found(images.clone(), torch.full_like(ids, torch.inf, dtype=torch.float64))
        rows, x, u = torch.arange(len(ids), device=ids.device), images, start
        for _ in range(self.steps):
            u = self.step(u, x, linearise(u, rows), threat.norm)
            logits = view.logits(u, ids[rows])
            hit = misclassified(logits, labels[rows])
            reach = distance(u - x, threat.norm).masked_fill(~hit, torch.inf)
            nearer = reach < found.reach[rows]
            found.closest[rows] = torch.where(per_row(nearer, u), u, found.closest[rows])
            found.reach[rows] = torch.where(nearer, reach, found.reach[rows])
            kept = going_on(self.settled(view, ids[rows], u, logits, reach <= threat.eps))
            u = torch.where(per_row(hit, u), x + self.beta * (u - x), u)
            if kept is not None:
                rows, x, u = rows[kept], x[kept], u[kept]
                if not len(rows):
                    break
        return found

    def step(self, u: Tensor, images: Tensor, plane: Plane, norm: Norm) -> Tensor:
        """The next iterates from u (A, C, H, W), whose plane is given."""
        n = max(1, CACHED // u[0].numel()) if u.device.type == "cpu" else len(u)
        parts = [slice(first, first + n) for first in range(0, len(u), n)]
        planes = [Plane(plane.difference[part], plane.normal[part]) for part in parts]
        moved = [self._step(u[p], images[p], w, norm) for p, w in zip(parts, planes, strict=True)]
        return torch.cat(moved)

    def _step(self, u: Tensor, images: Tensor, plane: Plane, norm: Norm) -> Tensor:
        w, here, home = plane.normal.flatten(1), u.flatten(1), images.flatten(1)
        gap = -plane.difference.double()
        gaps = torch.cat([gap, gap + row_sum(w * (here - home))])
        moves = move_onto(torch.cat([here, home]), torch.cat([w, w]), gaps, norm)
        length1, length2 = distance(moves, norm).clamp(min=1e-8).chunk(2)
        d1, d2 = moves.chunk(2)
        a = (length1 / (length1 + length2)).clamp(max=self.alpha_max).to(u.dtype)[:, None]
        following = (1 - a) * (here + self.eta * d1) + a * (home + self.eta * d2)
        return following.clamp(0, 1).reshape(u.shape)

    def settled(
        self, view: View, ids: Tensor, u: Tensor, logits: Tensor, near: Tensor
    ) -> Tensor | None:
        """Offer the hits within eps, `near` (A,) bool: (A,) bool of rows of images now settled."""
        if not self.stop_at_eps:
            return None
        # A NaN logit is no belief: the others are not judged.
        return view.offer(ids, u, logits.masked_fill(~near[:, None], torch.nan))

    def outcome(
        self,
        view: View,
        images: Tensor,
        ids: Tensor,
        found: Found,
        threat: ThreatModel,
        part: Part,
    ) -> Tensor | None:
        """What a stage returns: the closest candidates within eps, the image where there is none.

        Without stop_at_eps the closest of all stages, whatever their distance, after the last one:
        an image that is broken within eps would not be attacked further.
        """
        if self.stop_at_eps:
            return torch.where(per_row(found.reach <= threat.eps, images), found.closest, images)
        if not part.first:
            before = Found(view.recall("closest", ids), view.recall("reach", ids))
            found = nearest_of([before, found])
        view.keep("closest", ids, found.closest)
        view.keep("reach", ids, found.reach)
        return found.closest if part.last else None


@dataclass(frozen=True)
class TargetedFAB(FAB):
    """FAB towards each of the classes that are likeliest on the clean image, one at a time.

    targets: how many, at most all other classes. Success is any other class, not the target.
    Three targets are tried together, whatever is left open: what an image gets must not depend on
    the others. Differs from the reference, beyond what FAB does: the label is never a target, and
    all targets of an image end with its first verified candidate.
    """

    targets: int = 9

    def remarks(self, classes: int) -> list[str]:
        """What is done otherwise on so few classes."""
        return targets.remarks(self.targets, classes)

    def stages(self, component: str, classes: int) -> list[Stage]:
        turns = targets.turns(self.targets, self.restarts, classes)
        return [
            Stage(
                component,
                turn.label(self.restarts),
                2 * self.steps * len(turn.ranks),
                self.steps * len(turn.ranks),
                partial(
                    self.run_targets,
                    part=Part(turn.restart, number == 0, number + 1 == len(turns)),
                    turn=turn,
                ),
                width=len(turn.ranks),
            )
            for number, turn in enumerate(turns)
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
        part: Part,
        turn: Turn,
    ) -> Tensor | None:
        """The closest candidates (B, C, H, W) over the targets of a turn; see `outcome`."""
        n, pairs = len(turn.ranks), turn.pairs(view, labels, ids)
        row_ids = ids.repeat(n)

        def linearise(u: Tensor, rows: Tensor) -> Plane:
            return plane_between(view, u, pairs[rows], row_ids[rows])

        starts = [self.start(images, ids, threat, draws, part.restart, rank) for rank in turn.ranks]
        origins = torch.cat([images] * n)
        found = self.descend(
            view, linearise, torch.cat(starts), origins, pairs[:, 0], row_ids, threat
        )
        by_target = zip(found.closest.chunk(n), found.reach.chunk(n), strict=True)
        nearest = nearest_of([Found(*target) for target in by_target])
        return self.outcome(view, images, ids, nearest, threat, part)


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """(A,) bool. A NaN logit is no hit, though argmax would return its index."""
    return logits.isfinite().all(dim=1) & (logits.argmax(dim=1) != labels)


def nearest_of(founds: list[Found]) -> Found:
    """Row by row the nearest of several finds; the first on ties."""
    best = founds[0]
    for found in founds[1:]:
        nearer = found.reach < best.reach
        closest = torch.where(per_row(nearer, found.closest), found.closest, best.closest)
        best = Found(closest, torch.where(nearer, found.reach, best.reach))
    return best


def plane_between(view: View, u: Tensor, pairs: Tensor, ids: Tensor) -> Plane:
    """The boundary between label and target, pairs (A, 2), around u (A, C, H, W)."""
    logits, normal = view.loss_gradient(margin_targeted, u, pairs, ids, exact=True)
    # A pixel whose gradient is not a number counts as one that does not matter.
    return Plane(margin_targeted(logits, pairs)[0], normal.nan_to_num(0, 0, 0))


def nearest_plane(view: View, u: Tensor, labels: Tensor, ids: Tensor, norm: Norm) -> Plane:
    """Of the boundaries between the label and each other class the nearest one, row by row."""
    others = view.clean_logits(ids[:1]).shape[1] - 1
    difference, normal = torch.zeros_like(u[:, 0, 0, 0]), torch.zeros_like(u)
    away = torch.full_like(ids, torch.inf, dtype=torch.float64)
    for first in range(0, others, CLASSES_TOGETHER):
        n = min(CLASSES_TOGETHER, others - first)
        number = torch.arange(first, first + n, device=u.device).repeat_interleave(len(ids))
        own = labels.repeat(n)
        pairs = torch.stack([own, number + (number >= own)], dim=1)  # the label is left out
        plane = plane_between(view, torch.cat([u] * n), pairs, ids.repeat(n))
        length = dual_norm(plane.normal.flatten(1), norm) + 1e-12
        distances = (plane.difference.double().abs() / length).chunk(n)
        for part in zip(distances, plane.difference.chunk(n), plane.normal.chunk(n), strict=True):
            nearer = part[0] < away  # not where a gradient is not a number
            away = torch.where(nearer, part[0], away)
            difference = torch.where(nearer, part[1], difference)
            normal = torch.where(per_row(nearer, u), part[2], normal)
    return Plane(difference, normal)


fab = FAB()
fab_t = TargetedFAB()
