"""Adversarial training with one step: from strong noise, or projected as first proposed."""

from dataclasses import dataclass

from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.method import Step
from robench.training.methods.sat import SAT


@dataclass
class FastAT(SAT):
    """Cross-entropy on images one signed-gradient step from noise.

    start_radius: noise, uniform in +-start_radius eps. step_factor: step size in eps. project:
    keep the start in [0, 1] and the result in the eps ball, too; without, the result is up to
    (start_radius + step_factor) eps from the image and only in [0, 1].

    The defaults are N-FGSM: the noise is not clipped, which is what prevents catastrophic
    overfitting (de Jorge et al. 2022, "Make some noise"). start_radius=1,
    step_factor=1.25, project=true is RS-FGSM (Wong et al. 2020, "Fast is better than free",
    Algorithm 3), which overfits at larger eps. The recipe's steps, step size and start go unused.
    """

    start_radius: float = 2.0
    step_factor: float = 1.0
    project: bool = False

    def __post_init__(self) -> None:
        if self.start_radius < 0 or self.step_factor <= 0:
            raise InputError(
                f"start_radius={self.start_radius}, step_factor={self.step_factor}: expected a "
                "radius of at least 0 and a positive step, in eps"
            )

    def inner(self, step: Step) -> Tensor:
        eps = step.inner.radius
        radius = self.start_radius * eps
        noise = step.draws.uniform(
            step.ids, step.images.shape[1:], -radius, radius, purpose="start"
        )
        start = step.images + noise
        return step.ascend(
            cross_entropy,
            step.labels,
            start=start.clamp(0, 1) if self.project else start,
            within_ball=self.project,
            step_sizes=[self.step_factor * eps],
        )


fast_at = FastAT()
