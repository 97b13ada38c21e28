"""F1 of training-methods.md 0: logits one can compute by hand, and a step that returns them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robench.numerics.losses import Loss
from robench.numerics.random import BatchDraws
from robench.training.method import Method, Network, Step, Terms
from robench.training.recipe import Inner


def _logits(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


Y = torch.tensor([0, 1, 2])
SN = _logits([2, 0.5, -1], [0, 1, 0.5], [-0.5, 0.2, 0.8])
"""The student on clean images."""
SA = _logits([1, 0.8, -0.5], [0.6, 0.4, 0.2], [0.1, 0.3, 0.2])
"""The student on adversarial images."""
TN = _logits([6, 1, -2], [0, 5, 1], [-1, 0, 4])
"""The clean teacher on clean images."""
TX = _logits([3, 2, -1], [2, 2.5, 0], [0, 1, 2])
"""The clean teacher on adversarial images."""
TR = _logits([2.5, 0.8, -1.2], [0.2, 2, 0.6], [-0.2, 0.3, 1.6])
"""The robust teacher on clean images."""
TA = _logits([2, 1, -1], [0.5, 1.5, 0.5], [0, 0.4, 1.2])
"""The robust teacher on adversarial images."""


def single(row: int) -> "FixedStep":
    """F1 with one image only, so that a mean is its row."""
    own = {"sn": SN, "sa": SA, "tn": TN, "tr": TR, "ta": TA}
    step = FixedStep(**{k: v[row : row + 1].clone().requires_grad_() for k, v in own.items()})
    step.labels = Y[row : row + 1]
    return step


@dataclass
class FixedStep:
    """A Step whose networks give F1, whatever their weights would be; it notes every pass."""

    sn: Tensor = field(default_factory=lambda: SN.clone().requires_grad_())
    sa: Tensor = field(default_factory=lambda: SA.clone().requires_grad_())
    tn: Tensor = field(default_factory=lambda: TN.clone().requires_grad_())
    tr: Tensor = field(default_factory=lambda: TR.clone().requires_grad_())
    ta: Tensor = field(default_factory=lambda: TA.clone().requires_grad_())

    def __post_init__(self) -> None:
        self.images = torch.full((3, 1, 2, 2), 0.25)
        self.adversarial = self.images + 1 / 64
        self.labels, self.ids = Y, torch.arange(3)
        self.inner, self.draws, self.epoch = Inner(eps=0.125), BatchDraws(seed=0, epoch=1), 1
        self.passes: list[str] = []
        self.ascents: list[tuple[Loss, Tensor, dict[str, object]]] = []
        self._teacher_logits: dict[str, Tensor] = {}
        self.teachers: dict[str, Network] = {
            "clean": lambda x: self._pass("Tn", x, self.tn, TX),
            "robust": lambda x: self._pass("Ta", x, self.tr, self.ta),
        }

    def _pass(self, network: str, x: Tensor, clean: Tensor, adversarial: Tensor) -> Tensor:
        self.passes.append(f"{network}(x)" if x is self.images else f"{network}(x')")
        return clean if x is self.images else adversarial

    def student(self, x: Tensor) -> Tensor:
        return self._pass("S", x, self.sn, self.sa)

    def student_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F1 has no features: its logits stand in for them."""
        logits = self.student(x)
        return logits, logits

    def teacher_features(self) -> Tensor:
        return self.teacher_logits("clean")

    def frozen_student(self, x: Tensor) -> Tensor:
        return self._pass("frozen S", x, self.sn.detach(), self.sa.detach())

    def teacher_logits(self, role: str) -> Tensor:
        if role not in self._teacher_logits:
            self._teacher_logits[role] = self.teachers[role](self.images)
        return self._teacher_logits[role]

    def ascend(self, loss: Loss, targets: Tensor, **settings: object) -> Tensor:
        self.passes.append("ascend")
        self.ascents.append((loss, targets, settings))
        return self.adversarial

    def reached(self) -> set[str]:
        """The logits that a backward pass has reached."""
        names = ("sn", "sa", "tn", "tr", "ta")
        return {name for name in names if getattr(self, name).grad is not None}


def play(method: Method, step: Step) -> Terms:
    """What the engine does before weighing."""
    return method.outer(step, method.inner(step))


def values_of(terms: Terms) -> dict[str, float]:
    """Losses and measures as the numbers that `weigh` takes."""
    return {name: value.item() for name, value in (terms.losses | terms.measures).items()}


def advance(method: Method, step: Step) -> tuple[Tensor, dict[str, float], dict[str, float]]:
    """One step without an optimizer: (total loss, values, weights)."""
    terms = play(method, step)
    values = values_of(terms)
    weights = method.weigh(values)
    assert set(weights) == set(terms.losses)
    return sum_of(terms, weights), values, weights


def sum_of(terms: Terms, weights: dict[str, float]) -> Tensor:
    return torch.stack([weight * terms.losses[name] for name, weight in weights.items()]).sum()
