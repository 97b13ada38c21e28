"""SAT: standard adversarial training."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from robench.numerics.losses import cross_entropy
from robench.training.method import Method, Step, Terms


@dataclass
class SAT(Method):
    """Cross-entropy on the images that maximise it. Source: Madry et al. 2018, Eq. 2.1."""

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        return Terms({"adv": F.cross_entropy(step.student(adversarial), step.labels)})

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": 1.0}


sat = SAT()
