"""What is committed under leaderboards/ follows from the records beside it, byte for byte."""

from pathlib import Path

import pytest

from robench.boards import FORMATS
from robench.boards.collect import collect
from robench.boards.rank import build_boards
from robench.core.record import read_record

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "leaderboards" / "records").rglob("*.json"))


@pytest.mark.parametrize(
    ("format_name", "file"),
    [("md", "README.md"), ("csv", "leaderboard.csv"), ("html", "index.html")],
)
def test_generated_files_are_fresh(
    format_name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = collect([Path("leaderboards/records")])
    assert not found.warnings
    made = FORMATS.load(format_name)(build_boards(found.found))
    assert made == (ROOT / "leaderboards" / file).read_text(), "stale: make boards"


def test_the_two_demo_defenses_are_measured_on_a_thousand_images() -> None:
    measured = {
        (record.defense.name, record.attack.name)
        for record in map(read_record, RECORDS)
        if record.status == "done" and record.images.n >= 1000
    }
    for defense in ("natural-resnet18", "fast-at-resnet18-w32"):
        for attack in ("fgsm", "pgd_sat", "pgd_trades", "cw_inf"):
            assert (defense, attack) in measured
