"""LMTN-style: two teachers speak with one voice, the average of their logits. A reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale, require_kl_scale, teacher_kl
from robench.training.method import Method, Step, Terms

Inputs = Literal["student", "own-domain"]


@dataclass
class LMTNStyle(Method):
    """w_adv KL(z(x') || S(x')) + w_nat KL(z(x) || S(x)), x' the maximiser of CE.

    z(u) = (1 - s) Tn(u) + s Ta(u), logits of the clean and the robust teacher.

    robust_share: s. adv_weight: w_adv, and w_nat is the rest. inputs: student, both teachers see
    what the student sees; own-domain, each sees its own kind of images, and (1 - s) Tn(x) + s
    Ta(x') guides both. kl_scale: training-methods.md 0.

    A reconstruction of a row in a table, not a reproduction: Zhao et al. 2023 (B-MTARD) compare
    with averaged logits after You et al. 2017, "Learning from multiple teacher networks", without
    its term on inner layers, and give neither the weights, nor what the teachers see, nor code.
    The halves and the inputs here are ours.
    """

    robust_share: float = 0.5
    adv_weight: float = 0.5
    inputs: Inputs = "student"
    kl_scale: KLScale = "batchmean/10"

    roles: ClassVar[tuple[str, ...]] = ("clean", "robust")

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if not (0 <= self.robust_share <= 1 and 0 <= self.adv_weight <= 1):
            raise InputError(
                f"robust_share={self.robust_share}, adv_weight={self.adv_weight}: expected shares "
                "from 0 to 1"
            )
        if self.inputs not in get_args(Inputs):
            hint = did_you_mean(self.inputs, get_args(Inputs))
            raise InputError(f"unknown inputs {self.inputs!r}{hint}: expected student, own-domain")

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        student_adv, student_nat = step.student(adversarial), step.student(step.images)
        target_adv, target_nat = self._targets(step, adversarial)
        return Terms(
            {
                "adv": teacher_kl(target_adv, student_adv, scale=self.kl_scale),
                "nat": teacher_kl(target_nat, student_nat, scale=self.kl_scale),
            }
        )

    def _targets(self, step: Step, adversarial: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) that guide the student on adversarial and on clean images."""
        clean_nat, robust_adv = step.teacher_logits("clean"), step.teachers["robust"](adversarial)
        if self.inputs == "own-domain":
            voice = self._average(clean_nat, robust_adv)
            return voice, voice
        clean_adv, robust_nat = step.teachers["clean"](adversarial), step.teacher_logits("robust")
        return self._average(clean_adv, robust_adv), self._average(clean_nat, robust_nat)

    def _average(self, clean: Tensor, robust: Tensor) -> Tensor:
        return (1 - self.robust_share) * clean + self.robust_share * robust

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": self.adv_weight, "nat": 1 - self.adv_weight}


lmtn_style = LMTNStyle()
