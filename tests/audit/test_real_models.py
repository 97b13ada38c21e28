"""Honest released networks must not be called masked (attacks.md 16, false alarms)."""

from pathlib import Path

import pytest

from robench.audit.run import audit
from robench.evaluation.run import Options


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fast-at-resnet18-w32", "fast-at-early-resnet18-w32", "natural-resnet18"]
)
def test_honest_networks_are_not_masked(name: str, tmp_path: Path) -> None:
    report = audit(name, options=Options(dataset="cifar10-sample", out=tmp_path)).report
    assert report.label != "masked", report.because
    assert not [f for f in report.findings if f.status == "not_run" and "Error" in str(f.reason)]
