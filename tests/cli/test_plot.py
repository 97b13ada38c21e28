"""`robench plot` and `robench report`: files, machine output, misuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robench.cli.main import app
from robench.core.errors import InputError
from tests.boards.conftest import make_record

RUNNER = CliRunner()


@pytest.fixture
def records(tmp_path: Path) -> str:
    """A folder with two defenses under one attack."""
    from robench.core.record import write_record

    for name in ("mine", "yours"):
        write_record(tmp_path / "records" / name / "pgd_sat.json", make_record(name))
    return str(tmp_path / "records")


def run(*arguments: str) -> str:
    done = RUNNER.invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: str) -> str:
    done = RUNNER.invoke(app, arguments)
    assert isinstance(done.exception, InputError), done.output
    return str(done.exception)


def test_plot_writes_every_file_and_leaves_unchanged_ones(records: str, tmp_path: Path) -> None:
    files = [str(tmp_path / f"t.{suffix}") for suffix in ("png", "svg", "pdf")]
    out = [word for file in files for word in ("--out", file)]
    assert run("plot", "tradeoff", "--records", records, *out).count("wrote") == 3
    again = run("plot", "tradeoff", "--records", records, *out, "--if-changed")
    assert again.count("unchanged") == 3
    said = json.loads(run("plot", "heatmap", "--records", records, *out[:2], "--json"))
    assert said["figure"] == "heatmap" and len(said["sha256"]) == 64


def test_misuse_of_plot_is_one_line(records: str) -> None:
    assert "did you mean 'tradeoff'" in refused("plot", "tradeof", "--records", records)
    assert "heatmap takes no --attack" in refused(
        "plot", "heatmap", "--records", records, "--attack", "pgd_sat"
    )
    assert "figures are .png, .svg or .pdf" in refused(
        "plot", "heatmap", "--records", records, "--out", "x.jpg"
    )


def test_report_writes_a_page_and_markdown_with_its_pictures(records: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("report", "mine", "--records", records, "--out", str(out))
    names = {path.name for path in out.iterdir()}
    assert {"mine.html", "mine.md"} < names and sum(n.endswith(".svg") for n in names) == 2
    assert "did you mean 'mine'" in refused("report", "mien", "--records", records)
