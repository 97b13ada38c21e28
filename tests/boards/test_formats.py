"""Every format byte for byte, on a board of four images that can be counted."""

import csv
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from robench.boards import FORMATS
from robench.boards.rank import build_boards
from robench.core.record import Flag
from robench.core.row import Row
from robench.core.threat import ThreatModel

EXPECTED = Path(__file__).parent / "expected"
FILES = {
    "md": "board.md",
    "csv": "board.csv",
    "json": "board.json",
    "table": "board.txt",
    "latex": "board.tex",
}
ELSEWHERE = {"html"}  # its megabyte of published rows is compared with leaderboards/index.html


def fragile(count):
    message = f"{count} images: verdicts hang on a margin within float32 rounding"
    return Flag(name="fragile", level="info", message=message, value=count)


@pytest.fixture
def records(record):
    no_op = Flag(name="no_op", level="fail", message="the attack changed no image")
    sgd = {"steps": 20, "step_size": 2 / 255, "start": "uniform", "targets": None}
    other = {"dataset": "tiny-imagenet", "threat": ThreatModel("l2", 0.5), "digest": "e" * 64}
    return [
        record("trades", "pgd_sat", "1110", "1100", parameters=sgd, flags=[fragile(2)]),
        record("trades", "square", "1110", "1010", parameters={}, stop="any", flags=[fragile(1)]),
        record(
            *("mart[w=8]", "pgd_sat", "1111", "1110"),
            parameters=sgd,
            ref="runs/a b.safetensors",
            label="small-scale, 5-step",
            notes=("best epoch chosen on test images",),
        ),
        record(
            "natural", "pgd_sat", "1111", "0000", parameters=sgd, flags=[no_op], precision="bf16"
        ),
        record("natural", "square", "11", "00", n=4, stop="any", status="partial", parameters={}),
        record(
            "a|b", "square", "", "", n=4, stop="any", status="failed", reason="lost", parameters={}
        ),
        record("trades", "apgd_ce", "1111", "1100", stop="any", **other),
        record("trades", "apgd_ce", "1111", "1000", stop="any", **other, parameters={"steps": 5}),
    ]


def rendered(boards, format_):
    result = FORMATS.load(format_)(boards)
    if isinstance(result, str):
        return result
    text = io.StringIO()
    Console(file=text, width=100, no_color=True).print(result)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


@pytest.mark.parametrize("format_", FILES)
def test_byte_for_byte(found, records, format_):
    assert {*FILES, *ELSEWHERE} == set(FORMATS.lines)
    text = rendered(build_boards(found(*records)), format_)
    assert text.encode() == (EXPECTED / FILES[format_]).read_bytes()


@pytest.mark.parametrize("format_", FILES)
def test_the_order_of_the_files_changes_nothing(found, records, format_):
    items = found(*records)
    first = rendered(build_boards(items), format_)
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert rendered(build_boards(items), format_) == first


SCRIPT = """
import sys
from pathlib import Path
from robench.boards import FORMATS
from robench.boards.collect import collect
from robench.boards.rank import build_boards
for name in ("md", "csv", "json", "html", "latex"):
    print(FORMATS.load(name)(build_boards(collect([Path("records")]).found)))
print(sorted(m for m in ("torch", "numpy", "pandas", "rich") if m in sys.modules))
"""


def test_hash_seeds_change_nothing_and_nothing_heavy_is_imported(folder, records):
    place = folder(*records).parent
    root = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (output,) = outputs
    assert output.endswith("\n[]\n")


@pytest.mark.parametrize("format_", FILES)
def test_no_boards(format_):
    text = rendered((), format_)
    assert text.isascii()
    if format_ == "json":
        assert json.loads(text) == {"rows": []}
    elif format_ == "csv":
        assert text.count("\n") == 1
    else:
        assert "no records" in text.lower()


def test_csv_carries_every_field_of_a_row(found, records):
    lines = list(csv.DictReader(io.StringIO(rendered(build_boards(found(*records)), "csv"))))
    missing = set(Row.__struct_fields__) - set(lines[0])
    assert missing == {"robust_interval_95", "w_robust_interval_95"}
    trades = next(
        line for line in lines if (line["defense"], line["attack"]) == ("trades", "pgd_sat")
    )
    assert (trades["clean_accuracy"], trades["robust_accuracy"]) == ("0.75", "0.5")
    assert (trades["w_robust"], trades["eps"]) == ("0.625", "0.03137254901960784")
    assert json.loads(trades["parameters"])["step_size"] == 2 / 255
    assert json.loads(trades["flags"])[0]["name"] == "fragile"
    assert trades["image_set"] == "d" * 64
    failed = next(line for line in lines if line["status"] == "failed")
    assert (failed["robust_accuracy"], failed["w_robust_interval_95_low"]) == ("", "")


def test_json_rows_are_rows(found, records):
    rows = json.loads(rendered(build_boards(found(*records)), "json"))["rows"]
    assert all(tuple(row) == Row.__struct_fields__ for row in rows)
    trades = [row["attack"] for row in rows if row["defense"] == "trades"]
    assert trades == ["pgd_sat", "square", "worst_case", "apgd_ce", "apgd_ce", "worst_case"]


def test_markdown_holds_no_markup_from_records(found, record):
    hostile = record("x", "<script>`", reason="`a` | *b* [c](d)\n# e\x1b[31m", status="failed")
    named = record("x", ref="y\n```\n# e")
    text = rendered(build_boards(found(hostile, named)), "md")
    assert "`<script>'`" in text
    assert "\x1b" not in text
    assert "\n# e" not in text
    table_rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table_rows[:3]}) == 1


def test_the_terminal_keeps_brackets_and_drops_control_characters(found, record):
    boards = build_boards(
        found(
            record("a[bold]", parameters={"steps": 20}),
            record("b\x1b[31m", parameters={"steps": 5}),
        )
    )
    text = rendered(boards, "table")
    assert "a[bold]" in text
    assert "pgd_sat[steps=20]" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_board_uses_the_width_there_is(found, record, width):
    attacks = ("fgsm", "pgd_sat", "pgd_trades", "cw_inf", "apgd_ce", "apgd_dlr", "square", "rays")
    items = found(*(record("fast-at-resnet18-w32", attack) for attack in attacks))
    text = io.StringIO()
    Console(file=text, width=width).print(FORMATS.load("table")(build_boards(items)))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    blocks = sum(line.lstrip().startswith("defense") for line in lines)
    assert blocks == {60: 9, 80: 5, 100: 3, 200: 2}[width]
    assert text.getvalue().count("50.00 [15.0,85.0]") == 9
    assert "fast-at-resnet18-w32 " in text.getvalue()


@pytest.mark.parametrize("format_", FILES)
def test_a_board_without_images(found, record, format_):
    nothing = record("a", clean="", survived="", status="failed", reason="no images")
    assert "failed" in rendered(build_boards(found(nothing)), format_)


@pytest.mark.parametrize("format_", ["md", "table"])
def test_clean_accuracies_that_disagree_are_said(found, record, format_):
    records = record("a", "fgsm", "1110", "0000"), record("a", "pgd_sat", "1111", "0000")
    text = rendered(build_boards(found(*records)), format_)
    assert "a: clean accuracy differs between its records (75.00 to 100.00)." in text
