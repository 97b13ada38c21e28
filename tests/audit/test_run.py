"""A whole audit: its file, its interruption, its text, and the command."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from robench.audit import TESTS, budget, run
from robench.audit.budget import FULL, QUICK, Budget
from robench.audit.finding import Finding, Report
from robench.audit.render import alarm_text, found_text, markdown, remarks, verdict
from robench.audit.run import audit
from robench.cli.audit import audit_command
from robench.core.errors import InputError
from robench.core.table import Table
from robench.core.threat import ThreatModel
from robench.evaluation.run import Options
from tests.audit import planted
from tests.evaluation.worlds import WORLDS, state

FORWARD = ("G0", "G2", "G13", "G14")
"""Tests that cost next to nothing."""


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> Table:
    """The table with the cheap tests only."""
    lines = {name: TESTS.lines[name] for name in FORWARD}
    table = dataclasses.replace(TESTS, lines=lines)
    monkeypatch.setattr(run, "TESTS", table)
    return table


def stub(monkeypatch: pytest.MonkeyPatch, test: Callable[[str], Finding]) -> None:
    """Let `test(id)` stand in for every audit test; other tables load as ever."""
    real = Table.load

    def load(table: Table, name: str) -> object:
        return (lambda subject: test(name)) if table.kind == TESTS.kind else real(table, name)

    monkeypatch.setattr(Table, "load", load)


def options(folder: Path, **more: object) -> Options:
    return Options(dataset=planted.images(), out=folder, **more)  # type: ignore[arg-type]


def test_audit_json_is_beside_the_records(cheap: Table, tiny: Budget, tmp_path: Path) -> None:
    done = audit(planted.honest(), budget=tiny, options=options(tmp_path, n=16))
    assert done.path.name == "audit.json" and done.path.parent.parent == tmp_path / "patterns"
    stored = msgspec.json.decode(done.path.read_bytes(), type=Report)
    assert stored == done.report
    assert stored.n == 16 and [finding.id for finding in stored.findings] == list(FORWARD)


def test_the_budget_says_how_many_images(cheap: Table, tiny: Budget, tmp_path: Path) -> None:
    few = dataclasses.replace(tiny, images=20)
    assert audit(planted.honest(), budget=few, options=options(tmp_path)).report.n == 20
    many = dataclasses.replace(tiny, images=1000)
    assert audit(planted.honest(), budget=many, options=options(tmp_path)).report.n == 48


def test_equal_audits_find_the_same(tiny: Budget, tmp_path: Path) -> None:
    small = dataclasses.replace(tiny, images=12, steps=11, square_queries=20)
    first, second = (
        audit(planted.Noisy().eval(), budget=small, options=options(tmp_path / name)).report
        for name in "ab"
    )
    for report in (first, second):
        report.seconds = 0.0
        for finding in report.findings:
            finding.seconds = 0.0
    assert first == second


def test_the_world_changes_no_audit_and_is_not_changed(
    cheap: Table, tiny: Budget, tmp_path: Path
) -> None:
    plain = audit(planted.honest(), budget=tiny, options=options(tmp_path / "plain", n=8)).report
    given, other = planted.honest().train(), planted.Noisy().train()
    same = options(tmp_path, n=8)
    with WORLDS["everything"]():
        was = state()
        found = audit(given, surrogate=other, budget=tiny, options=same).report
        assert state() == was
    assert [f.status for f in found.findings] == [f.status for f in plain.findings]
    assert found.clean_correct == plain.clean_correct
    assert all(module.training for network in (given, other) for module in network.modules())


@pytest.mark.parametrize("seed_differs", [False, True])
def test_an_interrupted_audit_is_taken_up(
    seed_differs: bool, cheap: Table, tiny: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def test(name: str) -> Finding:
        ran.append(name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return Finding(status="pass")

    stub(monkeypatch, test)
    cut = audit(planted.honest(), budget=tiny, options=options(tmp_path)).report
    assert cut.interrupted and [f.status for f in cut.findings] == ["pass"] * 2 + ["not_run"] * 2
    assert "interrupted" in verdict(cut) and cut.label == "unfinished"
    whole = audit(
        planted.honest(), budget=tiny, options=options(tmp_path, seed=int(seed_differs))
    ).report
    assert not whole.interrupted and {f.status for f in whole.findings} == {"pass"}
    again = list(FORWARD) if seed_differs else list(FORWARD[2:])
    assert ran == [*FORWARD[:3], *again]


def test_a_finished_audit_is_made_again(
    cheap: Table, tiny: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def test(name: str) -> Finding:
        ran.append(name)
        return Finding(status="pass")

    stub(monkeypatch, test)
    for _ in range(2):
        audit(planted.honest(), budget=tiny, options=options(tmp_path))
    assert ran == [*FORWARD, *FORWARD]


@pytest.mark.parametrize(
    ("more", "message"),
    [({"eps": 0.0}, "eps above 0"), ({"norm": "l2"}, "defined for linf"), ({"n": 49}, "48 images")],
)
def test_bad_input(more: dict[str, object], message: str, tiny: Budget, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        audit(planted.honest(), budget=tiny, options=options(tmp_path, **more))


def test_the_surrogate_is_not_the_defense(tiny: Budget, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the defense itself"):
        audit(planted.honest(), budget=tiny, surrogate=planted.honest(), options=options(tmp_path))


def report(*findings: Finding) -> Report:
    made = Report(
        key="k", defense="d[x]", architecture="a", fingerprint="f" * 64, dataset="patterns", n=64,
        clean_correct=50, threat=ThreatModel(), budget={"name": "quick"}, seed=0,
        device_kind="cpu", findings=list(findings),
    )  # fmt: skip
    made.conclude()
    return made


FAILED = Finding(
    id="G8", name="holds", status="fail", value=0.06, threshold=0.002, count=3, n=50,
    means="it means", remedy="do this",
)  # fmt: skip
WARNED = Finding(
    id="G10", name="cosine", status="warn", value=0.0123, threshold=0.06, alarm="below",
    means="it may mean", remedy="look", reason="since",
)  # fmt: skip
ABSENT = Finding(id="G9", name="transfer", status="not_run", reason="no surrogate")


def test_figures_as_text() -> None:
    assert (found_text(FAILED), alarm_text(FAILED)) == ("3/50 (6.0 %)", "> 0.2 %")
    assert (found_text(WARNED), alarm_text(WARNED)) == ("0.0123", "< 0.06")
    assert (found_text(ABSENT), alarm_text(ABSENT)) == ("-", "-")


def test_markdown_byte_for_byte() -> None:
    assert markdown(report(FAILED, WARNED, ABSENT)) == (
        "## Audit of d\\[x\\]: 50 of 64 images of patterns, linf 8/255, budget quick\n\n"
        "**masked (G8): a decisive test failed: do not quote the robust accuracy before it is "
        "explained**\n\n"
        "| test | what should hold | result | found | alarm |\n"
        "|---|---|---|---|---|\n"
        "| G8 | holds | fail | 3/50 (6.0 %) | \\> 0.2 % |\n"
        "| G10 | cosine | warn | 0.0123 | \\< 0.06 |\n"
        "| G9 | transfer | not run | - | - |\n\n"
        "- G8 fail: it means. To do: do this.\n"
        "- G10 warn: it may mean (since). To do: look.\n"
        "- G9 not run: no surrogate\n\n"
        f"Fingerprint `{'f' * 12}`, seed 0, cpu.\n"
    )


def test_what_passed_needs_no_remark() -> None:
    assert remarks(report(Finding(id="G8", name="holds", status="pass", means="m"))) == []


app = typer.Typer(rich_markup_mode=None)
app.command()(audit_command)
DEFENSE = ["python:tests.evaluation.planted:build", "--dataset", "cifar10-sample", "--n", "64"]


def test_the_command_writes_json_and_markdown(cheap: Table, tmp_path: Path) -> None:
    page = tmp_path / "audit.md"
    done = CliRunner().invoke(
        app, [*DEFENSE, "--out", str(tmp_path), "--json", "--markdown", str(page)]
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["label"] == "no masking found" and printed["n"] == 64
    assert json.loads(next(tmp_path.rglob("audit.json")).read_text()) == printed
    assert page.read_text().startswith("## Audit of ")


def test_masked_is_exit_code_0(
    cheap: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(monkeypatch, lambda name: Finding(status="fail"))
    done = CliRunner().invoke(app, [*DEFENSE, "--out", str(tmp_path)])
    assert done.exit_code == 0 and "masked (G13)" in done.stdout


def test_ctrl_c_prints_what_there_is(
    cheap: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str) -> Finding:
        raise KeyboardInterrupt

    stub(monkeypatch, interrupt)
    done = CliRunner().invoke(app, [*DEFENSE, "--out", str(tmp_path)])
    assert done.exit_code != 0 and "interrupted" in done.stdout
    assert json.loads(next(tmp_path.rglob("audit.json")).read_text())["interrupted"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "quik"], "did you mean 'quick'"),
        (["--eps", "8"], "did you mean 8/255"),
        (["--n", "501"], "500"),
        (["--surrogate", "nowhere"], "nowhere"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*DEFENSE, "--out", str(tmp_path), *arguments])
    assert isinstance(done.exception, InputError) and message in str(done.exception)


def test_budgets_are_known_by_name() -> None:
    assert budget.BUDGETS == {"quick": QUICK, "full": FULL}
