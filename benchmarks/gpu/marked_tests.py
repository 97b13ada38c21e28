"""Part 1: the tests that are marked gpu."""

import contextlib
from pathlib import Path
from typing import Any

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[2]


class Outcomes:
    """A pytest plugin that notes which tests passed, failed and were skipped."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after set-up, call and tear-down of each test."""
        if report.when == "call" or report.outcome != "passed":
            self.names[report.outcome].append(report.nodeid)


def marked_files() -> list[str]:
    """The files that hold such tests: collecting all others takes longer than these run."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in files if "mark.gpu" in path.read_text(encoding="utf-8")]


def run(setting: Setting, notes: Notebook) -> None:
    """Every one of them passes, and there is at least one."""
    import pytest

    outcomes = Outcomes()
    # Warnings as errors hold for the versions of the constraints file, and those here are others.
    options = [
        "-q",
        "-m",
        "gpu",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--rootdir={ROOT}",
    ]
    said = setting.folder / "pytest.txt"
    with said.open("w") as file, contextlib.redirect_stdout(file):
        pytest.main([*options, f"-c{ROOT / 'pyproject.toml'}", *marked_files()], [outcomes])
    names = outcomes.names
    counts = ", ".join(f"{len(found)} {outcome}" for outcome, found in names.items())
    holds = bool(names["passed"]) and not names["failed"] and not names["skipped"]
    notes.claim("tests marked gpu", counts, "all pass, at least one", holds)
    for name in [*names["failed"], *names["skipped"]]:
        notes.claim("test", name, "passes", False)
