"""What `robench audit` left beside the records, as far as boards show it."""

from pathlib import Path
from typing import Annotated, Any

import msgspec

from robench.boards.rank import Line
from robench.core.errors import InputError
from robench.core.threat import ThreatModel, format_eps


class SweepPoint(msgspec.Struct, frozen=True):
    """One point of a sweep. robust_share: of the attacked images; eps: `8/255`, if of that."""

    robust_share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    eps: str | None = None


class Details(msgspec.Struct, frozen=True):
    """More figures of a test, as far as boards show them."""

    curve: tuple[SweepPoint, ...] = ()


class AuditFinding(msgspec.Struct, frozen=True):
    """One test: id ("G8"), what was to be shown, and pass, warn, fail or not_run with reason."""

    id: str
    name: str
    status: str
    means: str = ""
    reason: str | None = None
    details: Details = Details()


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `audit.json` that boards show."""

    label: str
    """"masked", "suspicious", "no masking found" or "unfinished"."""
    because: tuple[str, ...] = ()
    """The ids of the tests that decide the label."""
    fingerprint: str
    n: int
    clean_correct: int
    threat: ThreatModel
    budget: dict[str, Any] = {}
    interrupted: bool = False
    findings: tuple[AuditFinding, ...] = ()

    @property
    def scope(self) -> str:
        """`64 attacked images, linf eps 8/255, budget quick`."""
        ball = f"{self.threat.norm} eps {format_eps(self.threat.eps)}"
        return f"{self.clean_correct} attacked images, {ball}, budget {self.budget.get('name')}"


class Audited(msgspec.Struct, frozen=True):
    """What can be said of a defense's audit in a few words, and the audit where there is one."""

    words: str
    audit: Audit | None = None


def audited(line: Line) -> Audited:
    """The audit beside the records of a defense; one of other weights does not count."""
    paths = (cell.row.record for cell in line.cells.values() if cell.row.record)
    folder = next((Path(path).parent for path in paths), None)
    if folder is None or not (folder / "audit.json").is_file():
        return Audited("not audited")
    try:
        audit = msgspec.json.decode((folder / "audit.json").read_bytes(), type=Audit)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, InputError):
        return Audited("audit unreadable: run robench audit again")
    if audit.fingerprint != line.defense.fingerprint:
        return Audited("audited with other weights: run robench audit again")
    return Audited(audit.label, audit)
