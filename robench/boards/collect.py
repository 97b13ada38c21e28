"""Records from folders, and the one record that speaks for each cell of a board."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from robench.core.errors import InputError
from robench.core.record import Record, read_record

# What other commands leave beside the records.
_NO_RECORDS = {"audit.json"}


@dataclass(frozen=True)
class Found:
    """A record and the path it was read from, as the user would write it."""

    path: str
    record: Record


@dataclass(frozen=True)
class Collected:
    """What was read, and one line of warning for each file or folder that could not be."""

    found: tuple[Found, ...]
    warnings: tuple[str, ...]


def collect(places: Sequence[Path]) -> Collected:
    """Every record under `places` (folders, or single record files), in the order of their paths.

    A file that is no record becomes a warning and does not hide the others; a file that two places
    lead to is read once.
    Raises: InputError when a place does not exist.
    """
    found: dict[Path, Found] = {}
    warnings: list[str] = []
    for place in places:
        for path in _files(place, warnings):
            if path.resolve() in found:
                continue
            try:
                found[path.resolve()] = Found(path.as_posix(), _weighed(read_record(path)))
            except InputError as error:
                warnings.append(str(error))
    return Collected(tuple(found.values()), tuple(warnings))


def _files(place: Path, warnings: list[str]) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        raise InputError(
            f"no records folder {place}: robench eval writes records, --records PATH names a folder"
        )

    def warn(error: OSError) -> None:
        warnings.append(f"cannot read folder {error.filename}: {error.strerror}")

    # os.walk, not rglob: rglob passes over unreadable folders in silence.
    for folder, subfolders, names in os.walk(place, onerror=warn):
        subfolders.sort()
        for name in sorted(names):
            if name.endswith(".json") and name not in _NO_RECORDS and not name.startswith("."):
                yield Path(folder) / name


def _weighed(record: Record) -> Record:
    """The record with its true status: one that lacks verdicts is partial, whatever it says."""
    have, want = len(record.verdicts), record.images.n
    if record.status == "partial" and record.reason is None:
        return msgspec.structs.replace(record, reason=f"{have} of {want} images judged")
    if record.status == "done" and (have != want or have == 0):
        reason = f"called done, but {have} of {want} images judged"
        return msgspec.structs.replace(record, status="partial", reason=reason)
    return record


def choose(found: Iterable[Found]) -> list[Found]:
    """One record for each cell: a finished one, then the most verdicts, then the newest.

    A cell is a defense (name and fingerprint) under an attack (with parameters and stop rule) on
    an image set within a threat model. Records of other weights are never its alternatives.
    """
    cells: dict[bytes, Found] = {}
    for candidate in found:
        key = _cell(candidate.record)
        rival = cells.get(key)
        if rival is None or _weight(candidate) > _weight(rival):
            cells[key] = candidate
    return list(cells.values())


def _cell(record: Record) -> bytes:
    defense = (record.defense.name, record.defense.fingerprint)
    images = (record.images.dataset, record.images.n, record.images.digest)  # not where they lie
    parts = (defense, images, record.threat, record.attack, record.stop)
    return msgspec.json.encode(parts, order="deterministic")


def _weight(found: Found) -> tuple[bool, int, str, str]:
    record = found.record
    return record.status == "done", len(record.verdicts), record.cost.started, found.path
