"""FGSM: one signed-gradient step of the size of the ball."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robench.attacks.pgd import PGD, Start
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.numerics.losses import loss_named


@dataclass(frozen=True)
class FGSM:
    """z = Proj(x + eps sign(gradient of cross-entropy at the start)).

    start: "none" (the image itself), "gauss1e-3" or "uniform". Source: Goodfellow et al. 2015,
    section 4.
    """

    start: Start = "none"
    loss: str = "cross_entropy"

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("last", "any")
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    def __post_init__(self) -> None:
        loss_named(self.loss)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", 1, 1, self.run)]

    def run(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        one_step = PGD(steps=1, step_size=threat.eps, loss=self.loss, start=self.start)
        return one_step.run(view, images, labels, ids, threat, draws)


fgsm = FGSM()
