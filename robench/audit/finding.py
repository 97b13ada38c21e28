"""Finding: what one test says; Report: all of them, and the label that they amount to."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from robench.audit import TESTS
from robench.core.statistics import wilson
from robench.core.threat import ThreatModel

Status = Literal["pass", "warn", "fail", "not_run"]
Label = Literal["masked", "suspicious", "no masking found", "unfinished"]
FEWEST = 3
"""Images below which a share only warns: one or two prove nothing."""
SCHEMA = 1


class Finding(msgspec.Struct, kw_only=True):
    """What a test found."""

    id: str = ""
    """"G8"; filled in by who runs the test, as is the name."""
    name: str = ""
    """What was to be shown."""
    status: Status
    value: float | None = None
    """A share of the attacked images, or what `means` says."""
    threshold: float | None = None
    alarm: Literal["above", "below"] = "above"
    """On which side of the threshold the test alarms."""
    count: int | None = None
    """Images, where the value is a share `count / n`."""
    n: int | None = None
    means: str = ""
    """What it means when it fails, in one line."""
    remedy: str = ""
    """What to do then, in one line."""
    reason: str | None = None
    """Why it was not run; or what makes the case, in words."""
    cut: bool = False
    """Not run because it was interrupted or raised: it clears nobody."""
    details: dict[str, Any] = {}
    """More figures: curves, parts."""
    seconds: float = 0.0


class Report(msgspec.Struct, kw_only=True):
    """One audit; what `audit.json` holds."""

    schema: int = SCHEMA
    key: str
    """Hash of all that can change a finding."""
    defense: str
    architecture: str
    fingerprint: str
    dataset: str
    n: int
    clean_correct: int
    """Images that were attacked: all shares are of them."""
    threat: ThreatModel
    budget: dict[str, Any]
    seed: int
    device_kind: str
    surrogate: str | None = None
    label: Label = "unfinished"
    because: list[str] = []
    """The ids of the failed tests that decide the label."""
    interrupted: bool = False
    seconds: float = 0.0
    findings: list[Finding] = []

    def conclude(self) -> None:
        """Set the label from the findings."""
        self.label, self.because = label(self.findings)


def judge_share(count: int, n: int, threshold: float) -> Status:
    """`fail` for 3 images or more whose Wilson 95 % lower bound is above the threshold.

    Else `warn` for any image, `pass` for none. Source: attacks.md 16.
    """
    if count >= FEWEST and wilson(count, n).low > threshold:
        return "fail"
    return "warn" if count > 0 else "pass"


def share(count: int, n: int, threshold: float, means: str, remedy: str, **details: Any) -> Finding:
    """The finding that `count` of `n` images misbehave."""
    return Finding(
        status=judge_share(count, n, threshold),
        value=count / n,
        threshold=threshold,
        count=count,
        n=n,
        means=means,
        remedy=remedy,
        details=details,
    )


def not_run(reason: str, *, cut: bool = False) -> Finding:
    """The finding of a test that had nothing to show; cut: of one that could not be made."""
    return Finding(status="not_run", reason=reason, cut=cut)


def label(findings: Sequence[Finding]) -> tuple[Label, list[str]]:
    """The verdict on the whole, and the ids that decide it.

    "masked": a decisive test failed. "suspicious": any other did. Warnings change nothing.
    "unfinished": nothing failed, but a test was cut off: that is no clearance.
    """
    failed = [finding.id for finding in findings if finding.status == "fail"]
    decisive = [test for test in failed if test in TESTS.group("decisive")]
    if decisive:
        return "masked", decisive
    if failed:
        return "suspicious", failed
    if any(finding.cut for finding in findings):
        return "unfinished", [finding.id for finding in findings if finding.cut]
    return "no masking found", []
