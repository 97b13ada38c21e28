"""The learning rate of every step, and when a milestone is passed."""

from dataclasses import dataclass

from robench.training.recipe import Optimizer


@dataclass(frozen=True)
class Schedule:
    """settings: of the recipe. epochs: of the run. steps: in an epoch."""

    settings: Optimizer
    epochs: int
    steps: int

    def rate(self, epoch: int, step: int) -> float:
        """Learning rate of a step; both count from 1. Always computed from the base rate.

        one-cycle: linear to lr at the fraction `peak` of the run, then linear to 0 (Smith 2018).
        """
        if self.settings.schedule == "steps":
            passed = sum(end < epoch for end in self._ends())
            return self.settings.lr * self.settings.decay**passed
        done = ((epoch - 1) * self.steps + step - 0.5) / (self.epochs * self.steps)
        peak = self.settings.peak
        return self.settings.lr * min(done / peak, (1 - done) / (1 - peak))

    def milestones_at(self, epoch: int) -> int:
        """How many milestones are passed when this epoch has ended; under any schedule."""
        return self._ends().count(epoch)

    def first_milestone(self) -> int:
        """The epoch after which the first milestone is passed; the last one without any."""
        return min(self._ends(), default=self.epochs)

    def _ends(self) -> list[int]:
        return [round(fraction * self.epochs) for fraction in self.settings.milestones]
