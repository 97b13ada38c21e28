"""SCORE: TRADES with squared errors of probabilities, which cost nothing once they are small."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.numerics.losses import squared_error
from robench.training.losses import soft_targets
from robench.training.method import Method, Step, Terms

Clip = Literal["sum", "robust"]


@dataclass
class SCORE(Method):
    """mean max(0, |p(x) - e_y|^2 + lam |p(x') - p(x)|^2 - b), x' the maximiser of |p(x') - p(x)|^2.

    p is the student's softmax, e_y the label; p(x) is detached in the inner maximisation only. The
    loss is "score"; "error_nat" and "error_adv" are the means of the two squared errors, "clipped"
    is the share of rows that the maximum sets to 0.

    slack: c of b = c^2 + c^2 / (K - 1), the squared error of a prediction that spreads the mass c
    evenly over the K - 1 wrong classes. clip: sum, row by row before the mean, or robust, as the
    released switch not_clip_clean has it: |p(x) - e_y|^2 + lam max(0, |p(x') - p(x)|^2 - b).
    Source: Pang et al. 2022, "Robustness and accuracy could be reconcilable by (proper)
    definition", TRADES with LSE, and its released code without generated data.
    """

    lam: float = 6.0
    slack: float = 0.3
    clip: Clip = "sum"

    def __post_init__(self) -> None:
        if self.lam < 0 or not 0 <= self.slack <= 1:
            raise InputError(
                f"lam={self.lam}, slack={self.slack}: expected a weight of at least 0 and a mass "
                "from 0 to 1"
            )
        if self.clip not in get_args(Clip):
            hint = did_you_mean(self.clip, get_args(Clip))
            raise InputError(f"unknown clip {self.clip!r}{hint}: expected sum or robust")

    def inner(self, step: Step) -> Tensor:
        return step.ascend(squared_error, soft_targets(step.frozen_student(step.images)))

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        # x' before x, as released: batch norm's running statistics end on clean images.
        p_adv = step.student(adversarial).softmax(dim=1)
        p_nat = step.student(step.images).softmax(dim=1)
        nat = _squared_distances(p_nat, F.one_hot(step.labels, p_nat.shape[1]))
        adv = _squared_distances(p_adv, p_nat)
        rows, clipped = self._clipped(nat, adv, self.bound(p_nat.shape[1]))
        measures = {"error_nat": nat, "error_adv": adv, "clipped": clipped.float()}
        return Terms(
            {"score": rows.mean()},
            {name: values.detach().mean() for name, values in measures.items()},
        )

    def bound(self, classes: int) -> float:
        """b, the squared error that costs nothing."""
        return self.slack**2 + self.slack**2 / (classes - 1)

    def _clipped(self, nat: Tensor, adv: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        """(loss, whether the maximum is 0) of each row, both (B,)."""
        if self.clip == "sum":
            rows = F.relu(nat + self.lam * adv - bound)
            return rows, rows == 0
        excess = F.relu(adv - bound)
        return nat + self.lam * excess, excess == 0

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"score": 1.0}


def _squared_distances(p: Tensor, q: Tensor) -> Tensor:
    return ((p - q) ** 2).sum(dim=1)


score = SCORE()
