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


def test_a_gallery_is_drawn_from_a_record_and_its_candidates(tmp_path: Path) -> None:
    import robench

    folder, files = tmp_path / "records", [tmp_path / f"g.{s}" for s in ("png", "svg", "pdf")]
    reference = "python:tests.evaluation.planted:build"
    options = {"dataset": "cifar10-sample", "images": "20-31", "out": folder}
    robench.evaluate(reference, "fgsm", **options)
    words = ["plot", "gallery", "--records", str(folder), "--ids", "28,20-21"]
    words += [word for file in files for word in ("--out", str(file))]
    assert refused(*words).endswith(f"--save-adversarial --out {folder} keeps them")
    robench.evaluate(reference, "fgsm", save_adversarial=True, **options)
    said = json.loads(run(*words, "--json"))
    assert [row["id"] for row in said["data"]["rows"]] == [28, 20, 21]
    assert said["data"]["rows"][0]["label"] == "truck"
    before = [file.read_bytes() for file in files]
    assert all(said["sha256"].encode() in content for content in before)
    assert before[1].count(b"<image ") == 9
    run(*words)
    assert [file.read_bytes() for file in files] == before
    out = tmp_path / "report"
    run("report", said["data"]["defense"], "--records", str(folder), "--out", str(out))
    assert any("gallery" in path.name for path in out.iterdir())
    assert "heatmap takes no --ids" in refused("plot", "heatmap", *words[2:6])


def test_records_are_read_from_where_the_project_has_them(
    records: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path / "home"))
    assert json.loads(run("init", "--json")) == {"files": ["robench.toml"]}
    assert "robench.toml is there already" in refused("init")
    (tmp_path / "robench.toml").write_text('[eval]\nout = "records"\n')
    said = json.loads(run("report", "mine", "--json"))
    assert said["files"][:2] == ["report/mine.html", "report/mine.md"]
