"""What an evaluation will cost, from the passes of its attacks and one measured pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robench.evaluation.engine import Job
from robench.evaluation.store import Shard
from robench.evaluation.target import Target

_CHECKS = 2
"""Passes of the judge: the clean forward and the verification."""


@dataclass(frozen=True)
class Estimate:
    """An upper bound: early exits and clean-wrong images only make it less.

    seconds: on this device, at the measured speed of this defense. notes: what loading it and its
    images found. read: attacks that have a finished record, which cost nothing.
    """

    defense: str
    images: int
    forward_passes: int
    backward_passes: int
    seconds: float
    notes: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    def plus(self, others: "Sequence[Estimate]") -> "Estimate":
        """With what else must be done first."""
        return replace(
            self,
            forward_passes=self.forward_passes + sum(other.forward_passes for other in others),
            backward_passes=self.backward_passes + sum(other.backward_passes for other in others),
            seconds=self.seconds + sum(other.seconds for other in others),
        )


def estimate(target: Target, jobs: Sequence[Job], shard: Shard | None) -> Estimate:
    """Most passes over all images, and the time they take."""
    ids = target.set.ids.tolist()
    n = len(shard.take(ids) if shard else ids)
    forward = backward = 0
    seconds = 0.0
    for job in jobs:
        attack, one = job.attack.attack, target.pass_seconds(job.attack.attack)
        stages = attack.stages(job.attack.name, target.defense.num_classes)
        forward += sum(stage.forward_passes for stage in stages) + _CHECKS
        backward += sum(stage.backward_passes for stage in stages)
        # Float32 verification takes about as long as one gradient pass of the search copy.
        seconds += n * (sum(map(one.of_stage, stages)) + _CHECKS * one.gradient)
    passes = n * forward, n * backward
    notes = (*target.defense.notes, *target.set.notes)
    return Estimate(target.defense.name, n, *passes, seconds, notes)
