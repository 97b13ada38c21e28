"""Natural training: no defense, and how clean teachers are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from robench.training.method import Method, Step, Terms


@dataclass
class Natural(Method):
    """Cross-entropy on clean images."""

    adversarial: ClassVar[bool] = False

    def inner(self, step: Step) -> Tensor:
        return step.images

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        return Terms({"nat": F.cross_entropy(step.student(step.images), step.labels)})

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"nat": 1.0}


natural = Natural()
