"""MMARD-style: attack the teacher, too, and learn how its answers move. A reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy_float32, kl_divergence
from robench.training.losses import KLScale, require_kl_scale, soft_targets, teacher_kl
from robench.training.method import Method, Step, Terms


@dataclass
class MMARDStyle(Method):
    """a KL(T(x') || S(x')) + (1 - a) KL(T(x) || S(x)) + b |d_S - d_T|^2, d = p(x) - p(x').

    x' maximises CE(S(x'), y) + c KL(T(x) || T(x')): it seeks the teacher's boundary as well.
    adv_weight: a. shift_weight: b. teacher_weight: c. kl_scale: training-methods.md 0.

    A reconstruction from an abstract, not a reproduction: no code was found, and the weights b and
    c are ours.
    """

    adv_weight: float = 5 / 6
    shift_weight: float = 1.0
    teacher_weight: float = 1.0
    kl_scale: KLScale = "batchmean"

    roles: ClassVar[tuple[str, ...]] = ("robust",)

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if not 0 <= self.adv_weight <= 1 or min(self.shift_weight, self.teacher_weight) < 0:
            raise InputError(
                f"adv_weight={self.adv_weight}, shift_weight={self.shift_weight}, "
                f"teacher_weight={self.teacher_weight}: expected a share and weights of at least 0"
            )

    def inner(self, step: Step) -> Tensor:
        teacher = soft_targets(step.teacher_logits("robust"))
        targets = torch.cat([step.labels.double()[:, None], teacher], dim=1)
        return step.ascend(self._away_from_both, targets, beside="robust")

    def _away_from_both(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """logits: (B, 2K), the student's and the teacher's. targets: (B, 1 + K), the label and the
        teacher's log-probabilities on the clean image."""
        student, teacher = logits.chunk(2, dim=1)
        # Its true size, where cross-entropy alone needs a direction only: it is added to.
        error, slope = cross_entropy_float32(student.double(), targets[:, 0].long())
        shift, teacher_slope = kl_divergence(teacher.double(), targets[:, 1:])
        gradient = torch.cat([slope, self.teacher_weight * teacher_slope], dim=1)
        return error + self.teacher_weight * shift, gradient.to(logits.dtype)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        student_adv, student_nat = step.student(adversarial), step.student(step.images)
        teacher_adv, teacher_nat = (
            step.teachers["robust"](adversarial),
            step.teacher_logits("robust"),
        )
        apart = _shift(student_nat, student_adv) - _shift(teacher_nat, teacher_adv).detach()
        return Terms(
            {
                "adv": teacher_kl(teacher_adv, student_adv, scale=self.kl_scale),
                "nat": teacher_kl(teacher_nat, student_nat, scale=self.kl_scale),
                "shift": (apart**2).sum(dim=1).mean(),
            }
        )

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": self.adv_weight, "nat": 1 - self.adv_weight, "shift": self.shift_weight}


def _shift(clean: Tensor, adversarial: Tensor) -> Tensor:
    """How far the probabilities move, (B, K)."""
    return F.softmax(clean, dim=1) - F.softmax(adversarial, dim=1)


mmard_style = MMARDStyle()
