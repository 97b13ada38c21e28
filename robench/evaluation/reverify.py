"""Judge stored adversarial examples again, with the defense and images that the record names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from robench.core.errors import InputError
from robench.core.record import DefenseInfo, Record, read_record
from robench.defenses.defense import Defense
from robench.defenses.reference import load_defense
from robench.defenses.settings import Shape
from robench.evaluation.judge import Judge
from robench.evaluation.kept import images_of
from robench.evaluation.store import read_adversarial
from robench.models.devices import current, on_device
from robench.models.passes import resolve_device
from robench.models.world import own_world


@dataclass(frozen=True)
class Reverified:
    """checked: images judged again. differ: ids whose verdict is not the record's."""

    record: Record
    checked: int
    broken: int
    differ: list[int]


def reverify(
    path: Path, device: str = "auto", defense: str | None = None, dataset: str | None = None
) -> Reverified:
    """Fresh verdicts on the candidates saved beside the record at `path`.

    defense, dataset: where they lie now; None: where the record says. Both are held to its
    fingerprint and digest.
    Raises: InputError when the record, its candidates, the defense or the images are not those.
    """
    with own_world():
        return _reverified(path, device, defense, dataset)


def _reverified(path: Path, device: str, defense: str | None, dataset: str | None) -> Reverified:
    record = read_record(path)
    ids, candidates = read_adversarial(path)
    where = resolve_device(device)
    stated = record.defense
    ref = stated.ref if defense is None else defense
    with _elsewhere("--dataset REF" if dataset is None else None):
        images = images_of(record, path, dataset)
    with _elsewhere("--defense REF" if defense is None else None):
        found = _load(stated, ref, images.images.shape[1:])
        if found.fingerprint != stated.fingerprint:
            raise InputError(f"{ref!r} is not the defense of {path}: its fingerprint differs")
    rows = record.pass_shape.judge
    chosen = images.select(ids.tolist())
    with current(where):
        judge = Judge(on_device(found.model, where), record.threat, rows)
        clean = torch.from_numpy(chosen.images).to(where).float() / 255
        labels = torch.from_numpy(chosen.labels).to(where)
        judged = judge.verify(clean, candidates.to(where), labels)
        survived = (judge.logits(clean).argmax(1) == labels) & ~judged.broken
    known = dict(zip(record.verdicts.id, record.verdicts.survived, strict=True))
    pairs = zip(ids.tolist(), survived.tolist(), strict=True)
    differ = [i for i, fresh in pairs if known.get(i) != fresh]
    return Reverified(record, len(ids), int((~survived).sum()), differ)


def _load(stated: DefenseInfo, ref: str, shape: Shape) -> Defense:
    from_file = stated.checkpoint_sha256 is not None
    return load_defense(
        ref,
        arch=stated.architecture if from_file else None,
        width=stated.width if from_file else None,
        num_classes=stated.num_classes if from_file else None,
        normalize=stated.normalization,
        input_shape=shape,
    )


@contextmanager
def _elsewhere(option: str | None) -> Iterator[None]:
    """Add to an error the option that says where the thing lies now."""
    try:
        yield
    except InputError as error:
        if option is None:
            raise
        raise InputError(f"{error} (or does it lie elsewhere now? say {option})") from error
