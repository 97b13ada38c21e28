"""G8, G12: do queries without gradients find what gradients do not?"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robench.attacks.apgd import apgd_ce, apgd_t
from robench.attacks.square import square_5000
from robench.audit.finding import Finding, not_run, share
from robench.audit.iterations import pgd
from robench.audit.subject import Subject
from robench.core.protocols import Draws, LogitsView, Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.projections import feasible_box

SQUARE_SHARE = 0.002
NOISE_SHARE = 0.02


def white_box(subject: Subject) -> Tensor:
    """(N,) bool: broken by PGD, APGD on cross-entropy or APGD on targets."""
    budget = subject.budget
    broken = pgd(subject).broken.clone()
    for name, attack in (
        ("apgd_ce", replace(apgd_ce, steps=budget.apgd_steps)),
        ("apgd_t", replace(apgd_t, steps=budget.apgd_steps, targets=budget.targets)),
    ):
        left = (~broken).nonzero()[:, 0]
        if len(left):
            broken[left] = subject.attack_some(name, attack, left).broken
    return broken


def black_box(subject: Subject) -> Finding:
    """Images that Square breaks and white-box searches do not. Source: AutoAttack's checks.py."""
    broken = white_box(subject)
    left = (~broken).nonzero()[:, 0]
    if not len(left):
        return not_run("gradients broke every image: queries have nothing left to show")
    search = replace(square_5000, queries=subject.budget.square_queries, rescale=True)
    hits = subject.attack_some("square", search, left).broken
    return share(
        int(hits.sum()),
        len(subject),
        SQUARE_SHARE,
        means="queries alone break what gradients cannot: the gradients are masked",
        remedy="an adaptive attack: BPDA through the layer that hides them, EOT, other losses",
        white_box_broken=int(broken.sum()),
        tried=len(left),
        queries=subject.budget.square_queries,
    )


@dataclass(frozen=True)
class RandomNoise:
    """Independent points of the ball: U(-eps, eps) in each pixel, linf."""

    queries: int

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any",)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", self.queries, 0, self.run, sees="logits")]

    def run(
        self,
        view: LogitsView,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        """The last point tried on each image (B, C, H, W)."""
        low, high = feasible_box(images, threat)
        rows, result = torch.arange(len(ids), device=ids.device), images.clone()
        for step in range(self.queries):
            noise = draws.uniform(ids[rows], images.shape[1:], -1, 1, purpose="start", step=step)
            x = torch.clamp(images[rows] + threat.eps * noise, low[rows], high[rows])
            result[rows] = x
            settled = view.offer(ids[rows], x, view.logits(x, ids[rows]))
            if settled is not None:
                rows = rows[~settled]
            if not len(rows):
                break
        return result


def random_noise(subject: Subject) -> Finding:
    """Images that random noise breaks and PGD does not. Source: Athalye et al. 2018."""
    left = (~pgd(subject).broken).nonzero()[:, 0]
    if not len(left):
        return not_run("PGD broke every image: noise has nothing left to show")
    hits = subject.attack_some("random_noise", RandomNoise(subject.budget.noise), left).broken
    return share(
        int(hits.sum()),
        len(subject),
        NOISE_SHARE,
        means="random points break what gradients cannot: the gradients are masked",
        remedy="an adaptive attack; look at the loss along the gradient and along noise",
        tried=len(left),
        points=subject.budget.noise,
    )
