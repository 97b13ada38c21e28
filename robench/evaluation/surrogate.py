"""Surrogates: the networks that transfer attacks are crafted on, and the crafting, kept on disk."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from robench.attacks.resolve import NamedAttack
from robench.attacks.transfer import Candidates, Crafted, OnEveryImage, Transfer
from robench.core.folders import crafted_folder
from robench.core.references import portable, split_references
from robench.data.evalset import EvalSet
from robench.defenses.bundled import SURROGATES
from robench.defenses.defense import foreign
from robench.defenses.reference import load_for
from robench.evaluation.behaviour import NOT_REPEATED
from robench.evaluation.engine import Job, Sitting, draft_record, measure
from robench.evaluation.store import RecordFile, Shard, read_adversarial, superseded
from robench.evaluation.target import Target


class Surrogates:
    """Each network once, on the images and device of an evaluation.

    images: the image set that is attacked. ref: what it was asked for as. dataset: its plain name.
    """

    def __init__(
        self, images: EvalSet, ref: str, dataset: str, device: torch.device, precision: str
    ) -> None:
        self.images, self.ref, self.dataset = images, ref, dataset
        self.device, self.precision = device, precision
        self._targets: dict[str, Target] = {}
        self._settled: dict[tuple[str, str], Target] = {}

    def named(self, wanted: str | None) -> list[str]:
        """The references asked for ("A,B"), else the data set's own one, else none."""
        if wanted:
            return split_references(wanted)
        own = SURROGATES.get(self.dataset)
        return [] if own is None else [own]

    def target(self, ref: str) -> Target:
        """The surrogate made ready. Raises: InputError when it does not fit the images."""
        if ref not in self._targets:
            defense = load_for(
                self.dataset,
                ref,
                num_classes=self.images.num_classes,
                input_shape=self.images.images.shape[1:],
            )
            with foreign(defense.name):
                self._targets[ref] = Target(
                    defense, self.images, self.ref, self.device, self.precision
                )
        return self._targets[ref]

    def settled(self, attack: NamedAttack, ref: str) -> NamedAttack:
        """The transfer attack with all that its surrogate adds to the record."""
        assert isinstance(attack.attack, Transfer)
        target = self.target(ref)
        precision = target.search.precision
        fingerprint = target.defense.fingerprint
        shown = portable(ref)
        # By fingerprint as well: files of one name in two folders are shown alike.
        self._settled[shown, fingerprint] = target
        return NamedAttack(attack.name, attack.attack.crafted_on(shown, fingerprint, precision))

    def _of(self, transfer: Transfer) -> Target:
        """The surrogate of a settled transfer attack."""
        return self._settled[transfer.surrogate, transfer.surrogate_fingerprint]

    def why_not(self, attack: NamedAttack, target: Target) -> str | None:
        """Why the attack says nothing of that defense, or None."""
        assert isinstance(attack.attack, Transfer)
        ref = attack.attack.surrogate
        surrogate = self._of(attack.attack)
        if surrogate.no_gradient is not None:
            return f"the surrogate {ref} has no gradient: {surrogate.no_gradient}"
        # The fingerprint also tells how a network was referred to; equal logits are one function.
        if surrogate.logit_probe == target.logit_probe != NOT_REPEATED:
            return f"the surrogate {ref} is the defense itself"
        return None

    def crafting(self, job: Job, shard: Shard | None) -> tuple[Target, Job, RecordFile]:
        """What crafts the candidates of a transfer job: the surrogate's own white-box search.

        Its draws are those of that search; its file is kept among the crafted ones.
        """
        transfer = job.attack.attack
        assert isinstance(transfer, Transfer)
        target = self._of(transfer)
        name = job.attack.name.removeprefix("transfer_")
        search = NamedAttack(name, OnEveryImage(transfer.search()))
        crafting = dataclasses.replace(job, attack=search)
        return target, crafting, RecordFile(crafted_folder(), draft_record(target, crafting), shard)

    def crafted(self, job: Job, sitting: Sitting, say: Callable[[str], None]) -> Job:
        """The job with its candidates, taken from disk or crafted now and kept there.

        say: told what a reader should know, one line each.
        """
        target, crafting, file = self.crafting(job, sitting.shard)
        for line in superseded(file):
            say(line)
        measure(target, crafting, file, dataclasses.replace(sitting, save_adversarial=True))
        transfer = job.attack.attack
        assert isinstance(transfer, Transfer)
        crafted = Crafted(transfer, _lookup(file.whole, self.device))
        return dataclasses.replace(job, attack=NamedAttack(job.attack.name, crafted))


def _lookup(record: Path, device: torch.device) -> Candidates:
    ids, candidates = (tensor.to(device) for tensor in read_adversarial(record))

    def of(wanted: Tensor) -> Tensor:
        return candidates[torch.searchsorted(ids, wanted)]

    return of
