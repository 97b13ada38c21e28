"""VFD-Adv-style: adversarial training whose features stay near a clean teacher's. Reconstructed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.method import Method, Step, Terms


@dataclass
class VFDAdvStyle(Method):
    """CE(S(x'), y) + a [|f_S(x') - f_T(x)|^2 + |f_S(x) - f_T(x)|^2], x' the maximiser of CE.

    f: features in front of the last linear layer, scaled to length 1, the student's after a linear
    adapter where its width is another. The teacher sees clean images only. feature_weight: a.

    A reconstruction from an abstract (arXiv 2206.02158), not a reproduction: no code was found, and
    the base loss, the weight and the adapter are ours.
    """

    feature_weight: float = 1.0

    roles: ClassVar[tuple[str, ...]] = ("clean",)
    follows: ClassVar[str | None] = "clean"

    def __post_init__(self) -> None:
        if self.feature_weight < 0:
            raise InputError(f"feature_weight={self.feature_weight}: expected at least 0")

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        wanted = step.teacher_features()
        logits, features_adv = step.student_and_features(adversarial)
        _, features_nat = step.student_and_features(step.images)
        return Terms(
            {
                "adv": F.cross_entropy(logits, step.labels),
                "feature_adv": _apart(features_adv, wanted),
                "feature_nat": _apart(features_nat, wanted),
            }
        )

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {
            "adv": 1.0,
            "feature_adv": self.feature_weight,
            "feature_nat": self.feature_weight,
        }


def _apart(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared distance of rows scaled to length 1."""
    return (F.normalize(features, dim=1) - F.normalize(wanted, dim=1)).square().sum(dim=1).mean()


vfd_adv_style = VFDAdvStyle()
