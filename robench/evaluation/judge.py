"""The judge: the only code that says *broken*."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robench.core.threat import ThreatModel
from robench.models.global_rng import seed_torch, started_devices
from robench.models.passes import all_threads, exact_float32
from robench.models.view import forward_padded
from robench.numerics.losses import margin_of
from robench.numerics.projections import distance, per_row

LINF_TOLERANCE = 1e-6
"""Absolute: float32(x +- eps) leaves the exact ball by up to 2.8e-8, a strict test loses hits."""
L2_TOLERANCE = 1e-6
"""Relative, with the norm measured in float64."""
FRAGILE = 1e-5
"""|margin| below this times max(1, max|logit|): another rounding could decide otherwise."""


@dataclass(frozen=True)
class Judgement:
    """What the judge found of (B,) candidates; a refused one is judged as its clean image.

    broken: (B,) bool. prediction: (B,) int64. margin, distance: (B,) float64. logits: (B, K).
    findings: name -> (B,) bool of what a reader should know.
    """

    broken: Tensor
    prediction: Tensor
    margin: Tensor
    distance: Tensor
    logits: Tensor
    findings: dict[str, Tensor]

    def at(self, rows: Tensor) -> "Judgement":
        """The judgement of some rows: (A,) positions or (B,) bool."""
        return Judgement(
            self.broken[rows],
            self.prediction[rows],
            self.margin[rows],
            self.distance[rows],
            self.logits[rows],
            {name: mark[rows] for name, mark in self.findings.items()},
        )


class Judge:
    """Float32 verdicts on one unmodified defense.

    model: the defense, eval mode. rows: rows of every pass (kernels round by shape). repeats: a
    randomised defense is judged by its mean logits over so many passes with fixed seeds.
    """

    def __init__(self, model: nn.Module, threat: ThreatModel, rows: int, repeats: int = 1) -> None:
        self.model, self.threat, self.rows, self.repeats = model, threat, rows, repeats
        self._double: nn.Module | None = None

    def logits(self, images: Tensor) -> Tensor:
        """(B, K) float32 logits of images (B, C, H, W)."""
        with exact_float32(), all_threads():
            if self.repeats == 1:
                return forward_padded(self.model, images, self.rows)
            return self._mean_logits(images)

    def _mean_logits(self, images: Tensor) -> Tensor:
        with torch.random.fork_rng(started_devices()):
            total = torch.zeros(())
            for repeat in range(self.repeats):
                seed_torch(repeat)
                total = total.to(images.device) + forward_padded(self.model, images, self.rows)
        return total / self.repeats

    def verify(self, images: Tensor, candidates: Tensor, labels: Tensor) -> Judgement:
        """Which candidates break the defense. The only place that decides it.

        images, candidates: (B, C, H, W) float32, labels: (B,). Nothing that the search believes
        is trusted: ball, box and finiteness are checked, then a fresh forward decides.
        """
        delta = candidates.double() - images.double()
        size = distance(delta, self.threat.norm)
        finite = candidates.flatten(1).isfinite().all(dim=1)
        # NaN fails every comparison, so both tests also refuse non-finite candidates.
        in_box = ((candidates >= 0) & (candidates <= 1)).flatten(1).all(dim=1)
        in_ball = size <= self._reach()
        allowed = finite & in_box & in_ball
        judged = torch.where(per_row(allowed, images), candidates, images)
        logits = self.logits(judged)
        # argmax returns the index of a NaN: without this a NaN would count as a success.
        sound = logits.isfinite().all(dim=1)
        prediction, margin = logits.argmax(dim=1), margin_of(logits, labels).double()
        margin = torch.where(sound, margin, torch.zeros_like(margin))
        scale = logits.abs().amax(dim=1).clamp(min=1.0)
        fragile = sound & (margin.abs() < FRAGILE * scale)
        findings = {
            "rejected_not_finite": ~finite,
            "rejected_box": finite & ~in_box,
            "rejected_ball": finite & in_box & ~in_ball,
            "rejected_logits": allowed & ~sound,
            "tie": sound & (margin == 0),
            "fragile": fragile,
            "float64_disagrees": self._float64_disagrees(judged, labels, prediction, fragile),
        }
        return Judgement(
            broken=allowed & sound & (prediction != labels),
            prediction=prediction,
            margin=margin,
            distance=torch.where(allowed, size, torch.zeros_like(size)),
            logits=logits,
            findings=findings,
        )

    def _reach(self) -> float:
        if self.threat.norm == "linf":
            return self.threat.eps + LINF_TOLERANCE
        return self.threat.eps * (1 + L2_TOLERANCE)

    def _float64_disagrees(
        self, judged: Tensor, labels: Tensor, prediction: Tensor, fragile: Tensor
    ) -> Tensor:
        """Fragile rows whose float64 verdict differs: reported, the float32 verdict stands."""
        result = torch.zeros_like(fragile)
        if not bool(fragile.any()):
            return result
        try:
            if self._double is None:
                self._double = copy.deepcopy(self.model).double()
            logits = forward_padded(
                self._double, judged[fragile].double(), self.rows, torch.float64
            )
        except (RuntimeError, TypeError):
            return result  # a foreign network may be bound to float32: fragile itself is reported
        wrong = prediction[fragile] != labels[fragile]
        result[fragile] = (logits.argmax(dim=1) != labels[fragile]) != wrong
        return result
