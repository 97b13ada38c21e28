"""What stages will take, from measured passes; what is left, corrected by what was taken."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robench.core.protocols import Stage


@dataclass(frozen=True)
class PassSeconds:
    """Measured seconds per image of one pass of the search copy."""

    forward: float
    gradient: float

    def of(self, forward_passes: int, backward_passes: int) -> float:
        """Seconds of so many passes; a gradient pass is one of each."""
        plain = max(0, forward_passes - backward_passes)
        return plain * self.forward + backward_passes * self.gradient

    def of_stage(self, stage: Stage) -> float:
        """Most seconds that one image can take in this stage."""
        return self.of(stage.forward_passes, stage.backward_passes)


@dataclass(frozen=True)
class Progress:
    """How far one attack on one defense is.

    done: images of `total`, fractional: settled ones and the share of work done on the others.
    unbroken: images that nothing has broken so far, an upper bound of those that will survive.
    seconds_left: if no further image breaks; None before anything was measured.
    """

    attack: str
    stage: str
    done: float
    total: int
    unbroken: int
    seconds_left: float | None


Report = Callable[[Progress], None]


class Pace:
    """The work left in a sitting, in seconds.

    stages: of the attack. total: images in all. What is left is predicted for images that nothing
    breaks, and scaled by how this sitting's passes so far compare with their prediction.
    """

    def __init__(self, attack: str, stages: Sequence[Stage], one: PassSeconds, total: int) -> None:
        self.attack, self.stages, self.one, self.total = attack, stages, one, total
        self._ahead = [sum(map(one.of_stage, stages[i:])) for i in range(len(stages) + 1)]
        self._begun, self._predicted = time.monotonic(), 0.0

    def spent(self, forward_passes: int, backward_passes: int) -> None:
        """Note passes, summed over images."""
        self._predicted += self.one.of(forward_passes, backward_passes)

    def progress(
        self, number: int, share: float, images: int, open_at: Sequence[int], unbroken: int
    ) -> Progress:
        """The state within stage `number`, of which `share` is done on `images` images.

        open_at: images whose next stage is the i-th, for each i.
        """
        stage, whole = self.stages[number], max(self._ahead[0], 1e-9)
        left = sum(n * self._ahead[i] for i, n in enumerate(open_at))
        left -= share * images * (self._ahead[number] - self._ahead[number + 1])
        ratio = (time.monotonic() - self._begun) / self._predicted if self._predicted else None
        return Progress(
            self.attack,
            stage.component + (f" {stage.label}" if stage.label else ""),
            max(0.0, self.total - left / whole),
            self.total,
            unbroken,
            None if ratio is None else left * ratio,
        )
