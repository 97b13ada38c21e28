"""Record: one defense x one attack x one image set, as one JSON file that can be measured again."""

import hashlib
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.core.statistics import wilson
from robench.core.threat import ThreatModel

SCHEMA = 1
Status = Literal["done", "partial", "not_run", "failed"]
Stop = Literal["last", "any"]


class Verdict(msgspec.Struct, frozen=True):
    """What the judge says of one image."""

    id: int
    """Place in the official order of the image set."""
    label: int
    clean_prediction: int
    """Float32 prediction on the clean image."""
    prediction: int
    """Float32 prediction on the judged candidate (on the clean image where none was valid)."""
    survived: bool
    """Clean-correct and no candidate broke it."""
    distance: float
    """Distance of the judged candidate in the threat's norm, pixel units."""
    margin: float
    """Label logit minus the largest other one, on the judged candidate; null in the file and NaN
    once read where it was not finite, which JSON cannot say."""
    forward_passes: int
    """Forward passes of this image, clean and verification included."""
    backward_passes: int
    queries: int | None = None
    """Model queries charged to a black-box search; null for all others."""
    broken_by: str | None = None
    """The component whose candidate broke it, "clean" for a clean-wrong image, else null."""
    flags: tuple[str, ...] = ()
    """What a reader should know: fragile, tie, zero_gradient, unconfirmed_hit, rejected_..."""

    @property
    def clean_correct(self) -> bool:
        """Whether the clean image is classified as its label."""
        return self.clean_prediction == self.label


class Verdicts(msgspec.Struct):
    """Verdicts column by column: small files, and columns are what readers want."""

    id: list[int] = []
    label: list[int] = []
    clean_prediction: list[int] = []
    prediction: list[int] = []
    survived: list[bool] = []
    distance: list[float] = []
    margin: list[float] = []
    forward_passes: list[int] = []
    backward_passes: list[int] = []
    queries: list[int | None] = []
    broken_by: list[str | None] = []
    flags: list[tuple[str, ...]] = []

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self._columns()}
        if len(lengths) > 1:
            raise ValueError("columns of different length")
        if len(set(self.id)) != len(self.id):
            raise ValueError("an image id occurs twice")

    def _columns(self) -> list[list[Any]]:
        return [getattr(self, name) for name in self.__struct_fields__]

    def __len__(self) -> int:
        return len(self.id)

    def __iter__(self) -> Iterator[Verdict]:
        return (Verdict(*row) for row in zip(*self._columns(), strict=True))

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> "Verdicts":
        """Columns from rows, in the order of the image ids."""
        rows = sorted(verdicts, key=lambda verdict: verdict.id)
        return cls(**{name: [getattr(row, name) for row in rows] for name in cls.__struct_fields__})

    @property
    def clean_correct(self) -> list[bool]:
        """Derived: clean prediction equals label, image by image."""
        return [p == y for p, y in zip(self.clean_prediction, self.label, strict=True)]


class DefenseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The defense that was scored, as far as it takes to find and recognise it again."""

    name: str
    ref: str
    """What `--defense` was given."""
    fingerprint: str
    architecture: str
    width: int | None = None
    parameters: int
    num_classes: int
    normalization: str
    dataset: str | None = None
    """The data set it was trained for."""
    checkpoint_sha256: str | None = None
    key_rules: tuple[str, ...] = ()
    """Named rules by which checkpoint keys were mapped."""
    label: str | None = None
    """What every result must say of how it was trained: "small-scale, 5-step"."""
    notes: tuple[str, ...] = ()
    """What else a reader should know about the loading."""


class ImagesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The image set: enough to load it again and to see that it is the same."""

    dataset: str
    ref: str
    """What `--dataset` was given: the path, for an image folder."""
    n: int
    digest: str
    """SHA-256 of images, labels and ids."""
    ids: str
    """The ids asked for, as ranges: `0-499,512`."""
    class_order: str | None = None
    """What `--class-order` was given: the path of a class list, for an image folder."""


class AttackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The attack with every parameter, defaults included."""

    name: str
    parameters: dict[str, Any] = {}


class PassShape(msgspec.Struct, frozen=True):
    """Rows of every pass. Kernels round by shape, so the shapes are part of the measurement."""

    search: int
    judge: int


class Behaviour(msgspec.Struct, frozen=True):
    """How the defense answers beyond its clean logits: see `evaluation.behaviour`."""

    noisy_logits: str
    """SHA-256 of the float32 logits of 8 fixed noisy images; empty where they do not repeat."""
    gradients: list[list[float]] | None
    """Of 8 clean and 8 noisy images, 16 products of the input gradient with fixed vectors."""
    remarks: tuple[str, ...] = ()
    """What was left out, and why."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A sanity flag: something that a reader must know before believing the number."""

    name: str
    level: Literal["info", "warn", "fail"]
    message: str
    value: float | None = None


class Cost(msgspec.Struct, kw_only=True):
    """What the measurement took. Only passes are equal after a resume."""

    seconds: float = 0.0
    sittings: int = 0
    started: str = ""
    """UTC, ISO 8601, of the first sitting."""
    passes_redone: int = 0
    """Passes of searches that an interruption or a halved pass shape threw away."""


class Component(msgspec.Struct, kw_only=True):
    """What one part of an attack broke and what it took, over the images judged so far."""

    name: str
    broken: int = 0
    """Images that it broke; they are not shown to the parts after it."""
    forward_passes: int = 0
    backward_passes: int = 0
    unconfirmed_hits: int = 0
    """Candidates that the search believed in and the judge did not."""
    seconds: float = 0.0


class QueryUse(msgspec.Struct, frozen=True):
    """Queries charged to the images that were attacked."""

    mean: float
    median: float
    most: int


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Figures stored for people who read the file; recomputed and compared on reading."""

    n: int
    clean_accuracy: float
    robust_accuracy: float
    robust_interval_95: tuple[float, float]
    queries: QueryUse | None = None
    """Of a black-box attack."""


class Record(msgspec.Struct, kw_only=True):
    """One measurement. W-Robust is not stored: it depends on the reader's weights."""

    schema: int = SCHEMA
    status: Status
    reason: str | None = None
    defense: DefenseInfo
    images: ImagesInfo
    threat: ThreatModel
    attack: AttackInfo
    stop: Stop
    precision: str
    """Resolved precision of the search: fp32 or bf16. Verdicts are always float32."""
    device_kind: str
    """Device type, GPU name or CPU instruction class, torch version, precision."""
    pass_shape: PassShape
    seed: int
    logit_probe: str
    """SHA-256 of the float32 logits of the first 8 ids: a resume must find them again. Empty where
    they do not repeat under a fixed seed."""
    behaviour: Behaviour | None = None
    """None in records from before it was measured: their defense is known by its fingerprint and
    clean logits only."""
    search_model: str
    """How the search copy was prepared, and what could not be done to it."""
    cost: Cost
    components: list[Component] = []
    """The parts of the attack in the order in which they ran; one where it has no parts."""
    flags: tuple[Flag, ...] = ()
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    verdicts: Verdicts

    @property
    def key(self) -> str:
        """Hash of all that can change a verdict."""
        return measurement_key(
            self.defense.fingerprint,
            self.images.digest,
            self.threat,
            self.attack,
            self.stop,
            self.precision,
            self.device_kind,
            self.seed,
        )

    def summary(self) -> Summary:
        """Figures over the verdicts that are there."""
        n = len(self.verdicts)
        robust = wilson(sum(self.verdicts.survived), n)
        clean = sum(self.verdicts.clean_correct) / n if n else 0.0
        value = robust.value if n else 0.0
        use = query_use(self.verdicts)
        return Summary(n, clean, value, (robust.low, robust.high), use)


def query_use(verdicts: Verdicts) -> QueryUse | None:
    """What a black-box attack asked about the clean-correct images; None for other attacks."""
    pairs = zip(verdicts.queries, verdicts.clean_correct, strict=True)
    charged = [queries for queries, correct in pairs if correct and queries is not None]
    if not charged:
        return None
    return QueryUse(statistics.fmean(charged), statistics.median(charged), max(charged))


def measurement_key(
    fingerprint: str,
    digest: str,
    threat: ThreatModel,
    attack: AttackInfo,
    stop: Stop,
    precision: str,
    device_kind: str,
    seed: int,
) -> str:
    """Twelve hex digits that differ whenever a verdict could."""
    parts = [fingerprint, digest, threat, attack, stop, precision, device_kind, seed]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:12]


def format_ids(ids: Sequence[int]) -> str:
    """`0-499,512` for a list of ids, in their order."""
    ranges: list[list[int]] = []
    for i in ids:
        if ranges and ranges[-1][1] + 1 == i:
            ranges[-1][1] = i
        else:
            ranges.append([i, i])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in ranges)


def parse_ids(text: str) -> list[int]:
    """The ids of `0-499,512`. Raises: InputError for anything else."""
    ids: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InputError(f"cannot read image ids {part.strip()!r}: expected 0-499,512")
        ids.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    if len(set(ids)) != len(ids):
        raise InputError(f"an image id occurs twice in {text!r}")
    return ids


def candidate_files(path: Path) -> list[Path]:
    """The files of candidates that `--save-adversarial` left beside the record at `path`."""
    return sorted(path.with_suffix(".adversarial").glob("*.safetensors"))


def write_record(path: Path, record: Record) -> None:
    """Replace the file atomically; one line per field and verdict column, for readable diffs."""
    atomic_write(path, _encode(record))


def _encode(record: Record) -> bytes:
    fields = msgspec.to_builtins(record)
    fields["summary"] = msgspec.to_builtins(record.summary())
    fields["checksum"] = _checksum(fields)
    columns = fields.pop("verdicts")
    body = [f"{_json(k)}: {_json(v)}" for k, v in fields.items()]
    inner = ",\n  ".join(f"{_json(k)}: {_json(v)}" for k, v in columns.items())
    return ("{\n " + ",\n ".join(body) + f',\n "verdicts": {{\n  {inner}\n }}\n}}\n').encode()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _checksum(fields: dict[str, Any]) -> str:
    content = {k: v for k, v in fields.items() if k != "checksum"}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def read_record(path: Path) -> Record:
    """The record in `path`, checked: schema, types, checksum, and the stored summary.

    Raises: InputError that names the file and what is wrong with it.
    """
    fields = _decode(path)
    schema = fields.get("schema")
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise InputError(
            f"{path} has record schema {schema!r}, this robench reads 1 to {SCHEMA}: "
            "read it with the robench that wrote it"
        )
    try:
        record = msgspec.convert(_with_nan(fields), Record)
        summary = msgspec.convert(fields.get("summary"), Summary)
    except (msgspec.ValidationError, InputError) as error:  # InputError: no threat model
        raise InputError(f"{path} is not a record: {error}") from error
    if fields.get("checksum") != _checksum(fields):
        raise InputError(
            f"{path} was changed after it was written (checksum): measure it again, "
            "or restore the file"
        )
    if record.summary() != summary:
        raise InputError(f"{path}: the stored summary does not follow from the verdicts")
    _check_survivors(path, record.verdicts)
    return record


def _decode(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise InputError(f"cannot read record {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a record: {error}") from error


def _with_nan(fields: dict[str, Any]) -> dict[str, Any]:
    # msgspec writes NaN and infinities as null; a defense with such logits must stay readable.
    columns = fields.get("verdicts")
    if not isinstance(columns, dict) or not isinstance(columns.get("margin"), list):
        return fields
    margin = [math.nan if value is None else value for value in columns["margin"]]
    return {**fields, "verdicts": {**columns, "margin": margin}}


def _check_survivors(path: Path, verdicts: Verdicts) -> None:
    columns = zip(verdicts.id, verdicts.survived, verdicts.clean_correct, strict=True)
    for image, survived, correct in columns:
        if survived and not correct:
            raise InputError(f"{path}: image {image} is misclassified when clean, yet survived")
