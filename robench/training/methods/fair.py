"""Fair-ARD and Fair-RSLAD: classes that yield early to the inner maximisation weigh more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import Loss, cross_entropy, kl_divergence
from robench.training.classes import added, class_sums, row_values
from robench.training.losses import soft_targets
from robench.training.method import Method, Step
from robench.training.methods.ard import ARD
from robench.training.methods.rslad import RSLAD

LEAST, MOST = 5 / 6, 5 / 2
"""The range of a class's weight."""
GUARD = 1e-5
"""Added to kappa: a class that yields at once has a weight, too."""


@dataclass
class Fair(Method):
    """What both methods share: a class weighs the more, the less it resists.

    kappa of an image: at how many iterates of the inner maximisation, its start included and its
    result not, the image is still classified correctly, 0 to inner.steps. kappa_c of a class: their
    sum over an epoch / (N / K), N images and K classes. In the next epoch each image's losses are
    multiplied by v_c = (1 / (kappa_c + 1e-5))^beta of its class, scaled to the sum K, then clamped
    to [5/6, 5/2] and not scaled again. The first epoch multiplies by 1.
    Source: Yue et al. 2023, "Revisiting adversarial robustness distillation from the perspective of
    robust fairness", and its released code, which leaves out the 1e-5 in Fair-RSLAD.
    """

    beta: float = 2.0

    class_weights: list[float] = field(init=False, default_factory=list)
    kappa: list[float] = field(init=False, default_factory=list)
    count: list[float] = field(init=False, default_factory=list)

    gathered: ClassVar[tuple[str, ...]] = ("kappa", "count")

    def _require_exponent(self) -> None:
        if self.beta < 0:
            raise InputError(f"beta={self.beta}: expected an exponent of at least 0")

    def _ascend(self, step: Step, loss: Loss, targets: Tensor) -> Tensor:
        """The inner maximisation; its iterates are counted where they are still correct."""
        kappa = torch.zeros_like(step.labels)

        def watch(rows: Tensor, logits: Tensor) -> None:
            kappa[rows] += logits.argmax(dim=1) == step.labels[rows]

        adversarial = step.ascend(loss, targets, watch=watch)
        classes = step.teacher_logits("robust").shape[1]
        self.kappa = added(self.kappa, class_sums(kappa, step.labels, classes))
        self.count = added(self.count, [float(len(kappa))])
        return adversarial

    def row_weights(self, step: Step) -> Tensor:
        """(B,) v of each image's class."""
        return row_values(self.class_weights, step.labels, step.teacher_logits("robust"))

    def readings(self, values: Mapping[str, float]) -> dict[str, float]:
        """The extremes over classes, as this epoch has them."""
        weights = self.class_weights or [1.0]
        return {"weight_min": min(weights), "weight_max": max(weights)}

    def end_epoch(self) -> None:
        images_per_class = sum(self.count) / len(self.kappa)
        kappa = [total / images_per_class for total in self.kappa]
        self.class_weights = weights_of(kappa, self.beta)
        self.kappa, self.count = [], []


def weights_of(kappa: Sequence[float], beta: float) -> list[float]:
    """The weight of each class of a mean resistance kappa >= 0."""
    # Relative to the least resistance, which the scaling cancels: (1 / 1e-5)^beta may overflow.
    least = min(kappa) + GUARD
    raw = [(least / (own + GUARD)) ** beta for own in kappa]
    return [min(max(v * len(raw) / sum(raw), LEAST), MOST) for v in raw]


@dataclass
class FairARD(Fair, ARD):
    """ARD, both of its losses weighted by class. With alpha = 1 there is only the divergence."""

    def __post_init__(self) -> None:
        ARD.__post_init__(self)
        self._require_exponent()

    def inner(self, step: Step) -> Tensor:
        return self._ascend(step, cross_entropy, step.labels)


@dataclass
class FairRSLAD(Fair, RSLAD):
    """RSLAD, both of its divergences weighted by class; the one that x' maximises is not."""

    def __post_init__(self) -> None:
        RSLAD.__post_init__(self)
        self._require_exponent()

    def inner(self, step: Step) -> Tensor:
        return self._ascend(step, kl_divergence, soft_targets(step.teacher_logits("robust")))


fair_ard = FairARD()
fair_rslad = FairRSLAD()
