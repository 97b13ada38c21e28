"""Settings of the tests of this room."""

import pytest

from robench.evaluation import engine


@pytest.fixture(autouse=True)
def reports_at_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests interrupt from within a report: the rarer these are, the fewer places they reach."""
    monkeypatch.setattr(engine, "REPORT_SECONDS", 0.0)
