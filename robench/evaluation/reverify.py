"""Judge stored adversarial examples again, with the defense and images that the record names."""

from dataclasses import dataclass
from pathlib import Path

import torch

from robench.core.errors import InputError
from robench.core.record import Record, read_record
from robench.defenses.reference import load_defense
from robench.evaluation.judge import Judge
from robench.evaluation.kept import images_of
from robench.evaluation.store import read_adversarial
from robench.models.passes import resolve_device


@dataclass(frozen=True)
class Reverified:
    """checked: images judged again. differ: ids whose verdict is not the record's."""

    record: Record
    checked: int
    broken: int
    differ: list[int]


def reverify(path: Path, device: str = "auto") -> Reverified:
    """Fresh verdicts on the candidates saved beside the record at `path`.

    Raises: InputError when the record, its candidates, the defense or the images are not those.
    """
    record = read_record(path)
    ids, candidates = read_adversarial(path)
    where = resolve_device(device)
    stated = record.defense
    from_file = stated.checkpoint_sha256 is not None
    defense = load_defense(
        stated.ref,
        arch=stated.architecture if from_file else None,
        width=stated.width if from_file else None,
        num_classes=stated.num_classes if from_file else None,
        normalize=stated.normalization,
    )
    if defense.fingerprint != stated.fingerprint:
        raise InputError(f"{stated.ref!r} is not the defense of {path}: its fingerprint differs")
    images = images_of(record, path)
    rows = record.pass_shape.judge
    judge = Judge(defense.model.to(where), record.threat, rows)
    chosen = images.select(ids.tolist())
    clean = torch.from_numpy(chosen.images).to(where).float() / 255
    labels = torch.from_numpy(chosen.labels).to(where)
    found = judge.verify(clean, candidates.to(where), labels)
    survived = (judge.logits(clean).argmax(1) == labels) & ~found.broken
    known = dict(zip(record.verdicts.id, record.verdicts.survived, strict=True))
    pairs = zip(ids.tolist(), survived.tolist(), strict=True)
    differ = [i for i, fresh in pairs if known.get(i) != fresh]
    return Reverified(record, len(ids), int((~survived).sum()), differ)
