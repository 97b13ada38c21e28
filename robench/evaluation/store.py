"""Records on disk: where they are, what is settled already, and shards that become one."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from robench.core.errors import InputError
from robench.core.files import atomic_write, check_writable
from robench.core.record import (
    Component,
    Record,
    Verdicts,
    candidate_files,
    measurement_key,
    read_record,
    write_record,
)
from robench.evaluation.behaviour import same
from robench.evaluation.standing import Standing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Part i of k, 1-based: every k-th image from the i-th on."""

    i: int
    k: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`2/4`. Raises: InputError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.i <= shard.k:
            raise InputError(f"cannot read shard {text!r}: expected i/k with 1 <= i <= k, as 1/4")
        return shard

    def take(self, ids: list[int]) -> list[int]:
        """The ids of this part."""
        return ids[self.i - 1 :: self.k]


class RecordFile:
    """The file of one measurement, and of its shards.

    folder: the root of all records. draft: a record without verdicts; its key names the file.
    """

    def __init__(self, folder: Path, draft: Record, shard: Shard | None = None) -> None:
        self.draft, self.shard = draft, shard
        place = folder / safe_name(draft.images.dataset) / safe_name(draft.defense.name)
        self.stem = f"{safe_name(draft.attack.name)}-{draft.key}"
        self.whole = place / f"{self.stem}.json"
        part = f".shard-{shard.i}-of-{shard.k}" if shard else ""
        self.path = place / f"{self.stem}{part}.json"
        self.progress = place / f"{self.stem}{part}.progress"
        self.adversarial = place / f"{self.stem}.adversarial"
        check_writable(place)

    def load(self) -> Record | None:
        """What is settled: the finished record, else this part's own, else all that parts hold.

        A record of a defense that behaves otherwise is none of ours: see `supersede`.
        Raises: InputError when a record was made by a defense that computes otherwise.
        """
        whole = self._read(self.whole)
        if whole is not None and whole.status == "done":
            return whole
        if self.shard is not None:
            self._refuse_other_hardware()
            return self._read(self.path)
        return self.united([self.whole, *self.shards()])

    def supersede(self) -> list[Path]:
        """Put aside what another defense left under this name; where it is now.

        Weights, code and clean logits are equal, noisy logits or gradients are not: the defense has
        changed in what cannot be read. Its records are kept as `.superseded`, and shown nowhere.
        """
        others = [path for path in [self.whole, *self.shards()] if self._is_of_another(path)]
        beside = [path.with_suffix(".progress") for path in others]
        beside += [self.adversarial] if others else []  # of the whole and of all parts
        for path in filter(Path.exists, beside):
            _put_aside(path)
        # Last: as long as a record is there, the next call takes up what was interrupted.
        return [_put_aside(path) for path in others]

    def _is_of_another(self, path: Path) -> bool:
        if not path.exists():
            return False
        record = read_record(path)
        # Other clean logits are refused when the record is read: nobody knows what is right then.
        return self._has_our_logits(record) and not self._is_ours(record)

    def _has_our_logits(self, record: Record) -> bool:
        # Mixed hardware rounds differently by design; it is flagged instead.
        return self.draft.device_kind == "mixed" or record.logit_probe == self.draft.logit_probe

    def _is_ours(self, record: Record) -> bool:
        kind = self.draft.device_kind
        by_cosine = kind == "mixed" or not kind.startswith("cpu")
        return same(record.behaviour, self.draft.behaviour, by_cosine)

    def shards(self) -> list[Path]:
        """The files of all parts that are there."""
        return sorted(self.whole.parent.glob(f"{self.stem}.shard-*-of-*.json"))

    def _refuse_other_hardware(self) -> None:
        """Parts of the same measurement that another device kind made would never become one."""
        name, _, _ = self.stem.rpartition("-")
        for path in self.whole.parent.glob(f"{name}-*.shard-*-of-*.json"):
            other = read_record(path)
            as_if_ours = measurement_key(
                other.defense.fingerprint,
                other.images.digest,
                other.threat,
                other.attack,
                other.stop,
                self.draft.precision,
                self.draft.device_kind,
                other.seed,
            )
            if other.key != self.draft.key and as_if_ours == self.draft.key:
                raise InputError(
                    f"{path} was measured on {other.device_kind}, this machine is "
                    f"{self.draft.device_kind}: their roundings differ; "
                    "give --mixed-hardware to every part, or another --out"
                )

    def united(self, paths: list[Path]) -> Record | None:
        """One record with the verdicts and costs of several, or None where there are none."""
        found = [record for path in paths if (record := self._read(path)) is not None]
        if not found:
            return None
        verdicts = {verdict.id: verdict for record in found for verdict in record.verdicts}
        first = found[0]
        first.verdicts = Verdicts.of(verdicts.values())
        first.components = united_components([record.components for record in found])
        first.cost.seconds = sum(record.cost.seconds for record in found)
        first.cost.sittings = sum(record.cost.sittings for record in found)
        first.cost.passes_redone = sum(record.cost.passes_redone for record in found)
        first.cost.started = min(record.cost.started for record in found)
        return first

    def _read(self, path: Path) -> Record | None:
        """The record in a file, None where there is none of this defense."""
        if not path.exists():
            return None
        record = read_record(path)
        if not self._has_our_logits(record):
            raise InputError(
                f"{path}: the defense's float32 logits differ from those it was begun with, so "
                "nothing of it can be used: choose another --out, or restore the old set-up"
            )
        return record if self._is_ours(record) else None

    def save(self, record: Record) -> None:
        """Write atomically; the whole record takes the place of the parts it was united from.

        A finished record is never overwritten by a lesser one.
        """
        if record.status != "done" and self._is_finished():
            return
        whole = record.status == "done" or self.shard is None
        absorbed = self.shards() if whole else []
        write_record(self.whole if whole else self.path, record)
        for part in absorbed:
            part.unlink(missing_ok=True)

    def _is_finished(self) -> bool:
        whole = self._read(self.whole)
        return whole is not None and whole.status == "done"

    def save_progress(self, key: dict[str, str], standing: Standing) -> None:
        """Keep what searches have done on images without a verdict; nothing left: no file.

        key: what the progress was made with. The record is written before: an image with a verdict
        in it is not taken up again, whatever an older progress file says.
        """
        begun = ((standing["stage"] > 0) & ~standing["settled"]).nonzero()[:, 0]
        if len(begun):
            rows = standing.take(begun).columns
            content = {name: column.cpu().contiguous() for name, column in rows.items()}
            atomic_write(self.progress, save(content, key))
        elif self._is_finished():
            for path in self.whole.parent.glob(f"{self.stem}*.progress"):
                path.unlink(missing_ok=True)
        else:
            self.progress.unlink(missing_ok=True)

    def load_progress(self, key: dict[str, str], standing: Standing) -> None:
        """Put back what earlier sittings, and shards, kept of the images of `standing`.

        Progress that was made with another `key`, or is damaged, is left aside: those images begin
        again.
        """
        parts = (
            [] if self.shard else sorted(self.whole.parent.glob(f"{self.stem}.shard-*.progress"))
        )
        place_of = {image: place for place, image in enumerate(standing["ids"].tolist())}
        for path in [*parts, self.progress]:
            columns = _read_progress(path, key)
            if columns is None:
                continue
            ids = columns["ids"].tolist()
            known = torch.tensor([image in place_of for image in ids], dtype=torch.bool)
            places = torch.tensor([place_of[i] for i in ids if i in place_of], dtype=torch.int64)
            device = standing["ids"].device
            rows = {name: column[known].to(device) for name, column in columns.items()}
            standing.put(places.to(device), Standing(rows, standing.components))

    def suffices(self, record: Record | None, with_candidates: bool) -> bool:
        """Whether nothing is left to measure: it is finished, with its candidates if wanted."""
        if record is None or record.status != "done":
            return False
        return not with_candidates or self._has_candidates(record)

    def _has_candidates(self, record: Record) -> bool:
        """Whether the candidates of every verdict were kept."""
        if not self.adversarial.is_dir():
            return False
        kept = set(read_adversarial(self.whole)[0].tolist())
        return kept >= set(record.verdicts.id)

    def save_adversarial(self, ids: Tensor, candidates: Tensor) -> None:
        """Keep candidates (B, C, H, W) in exact float32 beside the record, one part per block."""
        content = {"ids": ids.cpu(), "candidates": candidates.cpu().float().contiguous()}
        part = f"{int(ids[0]):08d}-{len(ids)}.safetensors"
        atomic_write(self.adversarial / part, save(content))


def _read_progress(path: Path, key: dict[str, str]) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        _log.warning("%s is damaged (%s): its images begin again", path, error)
        return None


def united_components(parts: Sequence[Sequence[Component]]) -> list[Component]:
    """Costs of components summed over records, in the order in which they first appear."""
    sums: dict[str, Component] = {}
    for part in parts:
        for one in part:
            whole = sums.setdefault(one.name, Component(name=one.name))
            whole.broken += one.broken
            whole.forward_passes += one.forward_passes
            whole.backward_passes += one.backward_passes
            whole.unconfirmed_hits += one.unconfirmed_hits
            whole.seconds = round(whole.seconds + one.seconds, 3)
    return list(sums.values())


def read_adversarial(record_path: Path) -> tuple[Tensor, Tensor]:
    """(ids (N,), candidates (N, C, H, W) float32) saved beside a record.

    Raises: InputError when there are none.
    """
    parts = candidate_files(record_path)
    if not parts:
        raise InputError(
            f"no adversarial examples beside {record_path}: "
            "measure again with robench eval ... --save-adversarial"
        )
    try:
        loaded = [load_file(part) for part in parts]
        ids = torch.cat([part["ids"] for part in loaded])
        candidates = torch.cat([part["candidates"] for part in loaded])
        # A block that was cut after this and before the record is there twice.
        last = {image_id: place for place, image_id in enumerate(ids.tolist())}
        places = torch.tensor([last[image_id] for image_id in sorted(last)])
        return ids[places], candidates[places]
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(
            f"adversarial examples beside {record_path} are damaged: {error}"
        ) from None


def superseded(file: RecordFile) -> list[str]:
    """Put aside what another defense left in the file; a line that says so, if there was any."""
    old, draft = file.supersede(), file.draft
    if not old:
        return []
    return [
        f"{draft.defense.name} has changed since its record of {draft.attack.name}: clean logits "
        "are equal, noisy logits or gradients are not; it is measured anew, the old record is kept "
        f"as {old[0].name}"
    ]


def _put_aside(path: Path) -> Path:
    """Rename something to a name ending in `.superseded` that is not taken; that name."""
    stem = path.name.removesuffix(".json")
    numbers = chain([""], (f".{i}" for i in count(2)))
    names = (f"{stem}{number}.superseded" for number in numbers)
    free = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    with suppress(FileNotFoundError):  # another process was quicker
        path.rename(free)
    return free


def safe_name(name: str) -> str:
    """The name as a file or folder is called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "unnamed"
