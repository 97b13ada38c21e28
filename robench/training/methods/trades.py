"""TRADES: clean accuracy, and a divergence that holds adversarial predictions to the clean ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import kl_divergence
from robench.training.losses import KLScale, divergence, require_kl_scale, soft_targets
from robench.training.method import Method, Step, Terms


@dataclass
class TRADES(Method):
    """CE(S(x), y) + lam KL(S(x) || S(x')), x' the maximiser of the same divergence.

    lam: the paper's 1 / lambda, 6 in its tables. double_forward: forward x a second time for
    the target of the divergence, so that batch norm sees it twice, as released code does.
    kl_scale: training-methods.md 0. The target is not detached, in the paper and here.
    Source: Zhang et al. 2019, Algorithm 1.
    """

    lam: float = 6.0
    double_forward: bool = False
    kl_scale: KLScale = "batchmean"

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if self.lam < 0:
            raise InputError(f"lam={self.lam}: expected a weight of at least 0")

    def inner(self, step: Step) -> Tensor:
        return step.ascend(kl_divergence, soft_targets(step.frozen_student(step.images)))

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        clean = step.student(step.images)
        student = step.student(adversarial)
        target = step.student(step.images) if self.double_forward else clean
        return Terms(
            {
                "nat": F.cross_entropy(clean, step.labels),
                "adv": divergence(target, student, scale=self.kl_scale),
            }
        )

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"nat": 1.0, "adv": self.lam}


trades = TRADES()
