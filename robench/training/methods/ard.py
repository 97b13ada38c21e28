"""ARD: the robust teacher's tempered answer to clean images is the label of adversarial ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale, require_kl_scale, teacher_kl
from robench.training.method import Method, Step, Terms


@dataclass
class ARD(Method):
    """alpha T^2 KL(T(x; T) || S(x'; T)) + (1 - alpha) CE(S(x), y), x' the maximiser of CE.

    temperature: T, of teacher and student both. alpha: share of the divergence. kl_scale:
    training-methods.md 0; released code takes the mean over rows and classes.

    Source: Goldblum et al. 2020, "Adversarially robust distillation", and its released code. That
    forwards the clean images with alpha=1, too, which moves nothing but batch norm: not here. Its
    schedule never reaches lr / 100: preset "released".
    """

    alpha: float = 1.0
    temperature: float = 30.0
    kl_scale: KLScale = "batchmean/C"

    roles: ClassVar[tuple[str, ...]] = ("robust",)

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if not 0 <= self.alpha <= 1 or self.temperature <= 0:
            raise InputError(
                f"alpha={self.alpha}, temperature={self.temperature}: expected a share from 0 to "
                "1 and a positive temperature"
            )

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        tau, weights = self.temperature, self.row_weights(step)
        student = step.student(adversarial) / tau
        teacher = step.teacher_logits("robust")
        kl = teacher_kl(teacher, student, temperature=tau, scale=self.kl_scale, weights=weights)
        losses = {"adv": tau**2 * kl}
        if self.alpha < 1:
            rows = F.cross_entropy(step.student(step.images), step.labels, reduction="none")
            losses["nat"] = (rows if weights is None else weights * rows).mean()
        return Terms(losses)

    def row_weights(self, step: Step) -> Tensor | None:
        """(B,) what each image's losses are multiplied by; None: all alike."""
        return None

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": self.alpha} | ({"nat": 1 - self.alpha} if self.alpha < 1 else {})


ard = ARD()
