"""What the check finds: typed, kept as it is found, and one readable table of it."""

from pathlib import Path

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    asked: what it must be, empty for a figure. holds: None for a figure, and for what could not be
    looked at here.
    """

    what: str
    seen: str
    asked: str = ""
    holds: bool | None = None


class Part(msgspec.Struct, kw_only=True):
    """What became of one part. status: "done", "failed" or "out of time"; why: of the last two."""

    number: int
    name: str
    status: str
    why: str = ""
    seconds: float
    limit: float
    findings: list[Finding] = []

    @property
    def sound(self) -> bool:
        """Whether it came to its end and nothing in it was otherwise than asked."""
        return self.status == "done" and all(f.holds is not False for f in self.findings)


class Report(msgspec.Struct, kw_only=True):
    """A whole check. pretended: no GPU took part in it, so nothing in it is about one."""

    pretended: bool
    seconds: float
    parts: list[Part]

    @property
    def sound(self) -> bool:
        """Whether every part was."""
        return all(part.sound for part in self.parts)


class Notebook:
    """Findings of a part, on disk as soon as they are found: a part that is killed keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def figure(self, what: str, seen: str) -> None:
        """Write down a number, or what could not be looked at, that nothing is asked of."""
        self._add(Finding(what=what, seen=seen))

    def claim(self, what: str, seen: str, asked: str, holds: bool) -> None:
        """Write down whether something is as it must be."""
        self._add(Finding(what=what, seen=seen, asked=asked, holds=holds))

    def _add(self, finding: Finding) -> None:
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(finding) + b"\n")

    def read(self) -> list[Finding]:
        """All so far, but for a last line that was cut short."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=Finding) for line in lines]


_MARKS = {True: "holds", False: "DOES NOT", None: ""}


def table(report: Report) -> str:
    """The report as lines for people, at most a screen wide where words allow it."""
    lines = [_title(report)]
    for part in report.parts:
        why = f": {part.why}" if part.why else ""
        head = f"{part.number} {part.name}"
        lines.append(f"\n{head:44} {part.status}{why}  {part.seconds:.1f} s of {part.limit:.0f}")
        for finding in part.findings:
            asked = f"  (asked: {finding.asked})" if finding.asked else ""
            mark = _MARKS[finding.holds]
            lines.append(f"  {mark:8}  {finding.what}: {finding.seen}{asked}")
    bad = [f"{part.number} {part.name}" for part in report.parts if not part.sound]
    lines.append(f"\n{'everything holds' if not bad else 'look at: ' + ', '.join(bad)}")
    return "\n".join(lines) + "\n"


def _title(report: Report) -> str:
    if report.pretended:
        return "check of a PRETENDED GPU: says nothing of rounding, speed and memory of a real one"
    return f"check of a GPU, {report.seconds:.0f} s"
