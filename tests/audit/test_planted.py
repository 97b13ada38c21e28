"""Each planted fault gets its label and its test; the honest network around it gets none."""

from pathlib import Path

import pytest
from torch import nn

from robench.audit.budget import Budget
from robench.audit.finding import Finding, Report
from robench.audit.run import audit
from robench.evaluation.run import Options
from tests.audit import planted

EPS = 0.06
"""About half of the images of the honest network are robust there."""


def audited(model: nn.Module, budget: Budget, folder: Path, **more: nn.Module) -> Report:
    options = Options(dataset=planted.images(budget.images), eps=EPS, out=folder)
    return audit(model, budget=budget, options=options, **more).report


def by_id(report: Report) -> dict[str, Finding]:
    return {finding.id: finding for finding in report.findings}


def test_the_honest_network_is_not_accused(tiny: Budget, tmp_path: Path) -> None:
    report = audited(planted.honest(), tiny, tmp_path)
    assert report.label == "no masking found", report.because
    not_run = {f.id for f in report.findings if f.status == "not_run"}
    assert not_run == {"G9"}
    curve = by_id(report)["G7"].details["curve"]
    shares = [point["robust_share"] for point in curve]
    assert curve[0]["eps"] == "1/255" and shares[0] > 0.8 and shares[-1] == 0.0
    assert 0.2 < 1 - by_id(report)["G8"].details["white_box_broken"] / report.clean_correct < 0.8


@pytest.mark.parametrize(
    ("kind", "label", "fired"),
    [
        (planted.Softmax, "suspicious", {"G0"}),
        (planted.Quantised, "masked", {"G1", "G6", "G8", "G10"}),
        (planted.Scaled, "suspicious", {"G2"}),
        (planted.Noisy, "suspicious", {"G14"}),
        (planted.BatchNorm, "suspicious", {"G14"}),
        (planted.Obfuscated, "masked", {"G6", "G8", "G10"}),
        (planted.Detached, "masked", {"G1", "G6", "G8", "G10", "G13"}),
        (planted.Raises, "masked", {"G13"}),
        (planted.Bumpy, "masked", {"G6", "G10"}),
    ],
)
def test_planted_masking_is_found(
    kind: type[nn.Module], label: str, fired: set[str], tiny: Budget, tmp_path: Path
) -> None:
    report = audited(kind().eval(), tiny, tmp_path)
    assert fired <= {f.id for f in report.findings if f.status == "fail"}
    assert report.label == label, report.because


def test_what_depends_on_earlier_calls_has_no_slope_to_estimate(
    tiny: Budget, tmp_path: Path
) -> None:
    found = by_id(audited(planted.Averaging().eval(), tiny, tmp_path))
    assert set(found["G14"].details) == {"stateful"}
    assert found["G10"].status == "not_run" and "G14" in str(found["G10"].reason)


def test_what_cannot_be_run_says_why(tiny: Budget, tmp_path: Path) -> None:
    found = by_id(audited(planted.Raises().eval(), tiny, tmp_path))
    assert "NotImplementedError: no backward here" in str(found["G3"].reason) and found["G3"].cut
    assert found["G13"].reason == "the gradient raises NotImplementedError: no backward here"
    assert found["G14"].status == "pass"  # forward passes are enough for it


def test_a_surrogate_finds_what_masked_gradients_hide(tiny: Budget, tmp_path: Path) -> None:
    report = audited(planted.Obfuscated().eval(), tiny, tmp_path, surrogate=planted.honest())
    assert by_id(report)["G9"].status == "fail" and "G9" in report.because
