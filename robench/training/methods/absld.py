"""ABSLD: softer labels for the classes that a student finds easy, sharper ones for the hard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.classes import added, class_sums, row_values
from robench.training.losses import soft_targets
from robench.training.method import Step, Terms
from robench.training.methods.rslad import RSLAD

COOLEST, HOTTEST = 0.5, 5.0
"""The range of a class's temperature."""


@dataclass
class ABSLD(RSLAD):
    """RSLAD whose teacher has a temperature for each class, one for x' and one for x.

    adv_weight KL(T(x; tau_adv[y]) || S(x')) + (1 - adv_weight) KL(T(x; tau_nat[y]) || S(x)), x' the
    maximiser of the first divergence. All temperatures begin at 1; after each epoch those of a
    class fall with its share of the student's cross-entropy in that epoch, on x' and on x:
    tau <- tau - r_tau g / max |g|, g the class's sum minus the mean over classes, tau in [0.5, 5].
    Equal sums move nothing.

    temperature_rate: the first r_tau, which shrinks with the learning rate. alias_temps: divide all
    targets, those of the inner maximisation too, by tau_adv tau_nat, as the released code does by
    writing both into one tensor; published figures come from it.
    Source: Zhao et al. 2023, "Improving adversarial robust fairness via anti-bias soft label
    distillation", and its released code.
    """

    temperature_rate: float = 0.1
    alias_temps: bool = False

    tau_adv: list[float] = field(init=False, default_factory=list)
    tau_nat: list[float] = field(init=False, default_factory=list)
    ce_adv: list[float] = field(init=False, default_factory=list)
    ce_nat: list[float] = field(init=False, default_factory=list)
    r_tau: float = field(init=False)

    gathered: ClassVar[tuple[str, ...]] = ("ce_adv", "ce_nat")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature_rate < 0:
            raise InputError(
                f"temperature_rate={self.temperature_rate}: expected a rate of at least 0"
            )
        self.r_tau = self.temperature_rate

    def inner(self, step: Step) -> Tensor:
        return step.ascend(kl_divergence, soft_targets(self._tempered(step)[0]))

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        teacher_adv, teacher_nat = self._tempered(step)
        student_adv = step.student(adversarial)
        student_nat = step.student(step.images)
        self.ce_adv = added(self.ce_adv, _errors(student_adv, step.labels))
        self.ce_nat = added(self.ce_nat, _errors(student_nat, step.labels))
        return Terms(
            {"adv": self._kl(teacher_adv, student_adv), "nat": self._kl(teacher_nat, student_nat)}
        )

    def _tempered(self, step: Step) -> tuple[Tensor, Tensor]:
        """The teacher's logits (B, K) of x, each row over the temperature of its class."""
        teacher = step.teacher_logits("robust")
        tau_adv, tau_nat = (
            row_values(taus, step.labels, teacher)[:, None] for taus in (self.tau_adv, self.tau_nat)
        )
        if self.alias_temps:
            tau_adv = tau_nat = tau_adv * tau_nat
        return teacher / tau_adv, teacher / tau_nat

    def readings(self, values: Mapping[str, float]) -> dict[str, float]:
        """The extremes over classes, as this epoch has them."""
        adv, nat = self.tau_adv or [1.0], self.tau_nat or [1.0]
        return {
            "tau_adv_min": min(adv),
            "tau_adv_max": max(adv),
            "tau_nat_min": min(nat),
            "tau_nat_max": max(nat),
        }

    def decay(self, factor: float) -> None:
        self.r_tau *= factor

    def end_epoch(self) -> None:
        self.tau_adv = _moved(self.tau_adv, self.ce_adv, self.r_tau)
        self.tau_nat = _moved(self.tau_nat, self.ce_nat, self.r_tau)
        self.ce_adv, self.ce_nat = [], []


def _errors(student: Tensor, labels: Tensor) -> list[float]:
    """Each class's sum of cross-entropies in the batch."""
    rows = F.cross_entropy(student.detach(), labels, reduction="none")
    return class_sums(rows, labels, student.shape[1])


def _moved(taus: Sequence[float], sums: Sequence[float], rate: float) -> list[float]:
    before = taus or [1.0] * len(sums)
    if min(sums) == max(sums):  # the rounding of their mean would be a whole step
        return list(before)
    mean = sum(sums) / len(sums)
    gaps = [own - mean for own in sums]
    largest = max(map(abs, gaps))
    pairs = zip(before, gaps, strict=True)
    return [min(max(tau - rate * gap / largest, COOLEST), HOTTEST) for tau, gap in pairs]


absld = ABSLD()
