"""RSLAD: the soft labels of a robust teacher, and no others, wherever a label would stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.losses import KLScale, require_kl_scale, soft_targets, teacher_kl
from robench.training.method import Method, Step, Terms


@dataclass
class RSLAD(Method):
    """5/6 KL(T(x) || S(x')) + 1/6 KL(T(x) || S(x)), x' the maximiser of the first divergence.

    adv_weight: 5/6, the clean divergence has the rest. kl_scale, kl_eps: training-methods.md 0;
    released code takes a tenth of the divergence and kl_eps=1e-5. The teacher sees clean images
    only, once a step. Source: Zi et al. 2021, and its released code.
    """

    adv_weight: float = 5 / 6
    kl_scale: KLScale = "batchmean/10"
    kl_eps: float = 0.0

    roles: ClassVar[tuple[str, ...]] = ("robust",)

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if not 0 <= self.adv_weight <= 1:
            raise InputError(f"adv_weight={self.adv_weight}: expected a share from 0 to 1")

    def inner(self, step: Step) -> Tensor:
        return step.ascend(kl_divergence, soft_targets(step.teacher_logits("robust")))

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        teacher, weights = step.teacher_logits("robust"), self.row_weights(step)
        # x' before x, as released: batch norm's running statistics end on clean images.
        student_adv = step.student(adversarial)
        student_nat = step.student(step.images)
        return Terms(
            {
                "adv": self._kl(teacher, student_adv, weights),
                "nat": self._kl(teacher, student_nat, weights),
            }
        )

    def row_weights(self, step: Step) -> Tensor | None:
        """(B,) what each image's losses are multiplied by; None: all alike."""
        return None

    def _kl(self, teacher: Tensor, student: Tensor, weights: Tensor | None = None) -> Tensor:
        return teacher_kl(teacher, student, scale=self.kl_scale, eps=self.kl_eps, weights=weights)

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": self.adv_weight, "nat": 1 - self.adv_weight}


rslad = RSLAD()
