"""The table that `robench eval` prints."""

import io

import pytest
from rich.console import Console

from robench.boards import words
from robench.boards.terminal import render_rows
from robench.core.record import Flag
from robench.core.row import Row, row_of, worst_case


def shown(rows, width=100):
    text = io.StringIO()
    Console(file=text, width=width, no_color=True).print(render_rows(rows))
    return text.getvalue()


def not_run(**fields):
    base = {"defense": "trades", "dataset": "cifar10", "norm": "linf", "eps": 8 / 255}
    base |= {"attack": "rays", "status": "not_run", "reason": "no surrogate"}
    return Row(**{**base, **fields})


@pytest.fixture
def rows(record):
    first = record("trades", "pgd_sat", "1110", "1100")
    second = record("trades", "fgsm", "1110", "1110", parameters={})
    return [row_of(first), row_of(second), not_run(), worst_case([first, second])]


def test_figures_stand_in_their_row(rows):
    text = shown(rows)
    assert text.startswith("trades on cifar10, linf eps 8/255\n")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["attack"] == [
        *["attack", "n", "clean", "robust", "W-Robust", "stop", "prec", "passes", "time", "status"]
    ]
    assert lines["pgd_sat"] == [
        *["pgd_sat", "4", "75.00", "50.00", "[15.0,85.0]", "62.50", "[15.6,100.0]"],
        *["last", "fp32", "127", "2.5s", "done"],
    ]
    (rays,) = [line for line in text.splitlines() if line.startswith("rays") and ":" not in line]
    assert rays.split() == ["rays", *["-"] * 8, "not", "run"]
    assert "rays not run: no surrogate\n" in text
    assert "worst_case: an image survives all of pgd_sat, fgsm.\n" in text
    assert "Parameters: pgd_sat[steps=20], fgsm, rays\n" in text


def test_a_flag_is_said_once_with_the_attacks_it_concerns(rows):
    no_op = Flag(name="no_op", level="fail", message="the attack changed no image")
    counted = "images: verdicts hang on a margin within float32 rounding"
    for row, count in zip(rows, (3, 12), strict=False):
        info = Flag(name="fragile", level="info", message=f"{count} {counted}")
        warn = Flag(name="dynamic", level="warn", message="the forward pass changes itself")
        row.flags = (info, warn, no_op) if row.attack == "fgsm" else (info, warn)
    text = shown(rows)
    assert text.count("the forward pass changes itself (dynamic: pgd_sat, fgsm)") == 1
    assert "verdicts hang on a margin within float32 rounding (fragile: pgd_sat 3, fgsm 12)" in text
    assert text.index("fail: ") < text.index("warn: ") < text.index("info: ")
    assert "pgd_sat ! " in text
    assert "fgsm !! " in text


def test_each_defense_has_its_table(rows):
    text = shown([*rows, not_run(defense="mart"), not_run(defense="mart", eps=0.031)])
    headings = [line for line in text.splitlines() if " on cifar10" in line]
    assert headings == [
        "trades on cifar10, linf eps 8/255",
        "mart on cifar10, linf eps 8/255",
        "mart on cifar10, linf eps 0.031",
    ]


def test_names_with_brackets_are_kept(rows):
    rows[0].attack, rows[0].defense = "pgd[steps=50]", "x[red]"
    text = shown(rows[:1])
    assert "pgd[steps=50]" in text
    assert "x[red] on" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_nothing_is_cut_off(rows, width):
    text = shown([*rows, not_run(attack="foolbox:LinfProjectedGradientDescentAttack")], width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("62.50", "75.00", "[15.0,85.0]" if width > 60 else "50.00"):
        assert figure in text
    assert "…" not in text


def test_a_full_table_fits_100_columns(record):
    wide = record("trades", "gradient_estimation", "1" * 500, "1" * 490 + "0" * 10)
    rows = [row_of(wide), not_run()]
    rows[0].n, rows[0].seconds, rows[0].forward_passes = 10_000, 36_000.0, 123_456_789
    lines = shown(rows).splitlines()
    assert lines[3].split()[0] == "gradient_estimation"
    assert lines[4].split()[0] == "rays"  # the row above took one line


def test_no_rows():
    assert shown([]) == "no rows\n"


def test_figures_in_words():
    assert (words.percent(0.52314), words.percent(None), words.percent(0.0)) == (
        "52.31",
        "-",
        "0.00",
    )
    assert words.estimate(0.5, (0.25, 1.0)) == "50.00 [25.0, 100.0]"
    assert words.estimate(None, None) == "-"
    assert [words.count(n) for n in (0, 999, 17_638, 12_345_678)] == ["0", "999", "17.6k", "12.3M"]
    times = [words.duration(t) for t in (0.04, 59.4, 59.6, 245, 7800)]
    assert times == ["0.0s", "59.4s", "1m00s", "4m05s", "2h10m"]


def test_a_union_repeats_no_flag_of_a_member_that_is_shown(record):
    few = Flag(name="zero_gradient", level="warn", message="1 images: no gradient")
    many = Flag(name="zero_gradient", level="fail", message="4 images: no gradient")
    info = Flag(name="tie", level="info", message="1 images: ties")
    first = record("trades", "pgd_sat", flags=[few, info])
    more = Flag(name="fragile", level="info", message="2 images: hang on rounding")
    second = record("trades", "fgsm", parameters={}, flags=[many, more])
    rows = [row_of(first), row_of(second), worst_case([first, second])]
    text = shown(rows)
    assert "no gradient (zero_gradient: fgsm 4)" in text and "worst_case)" not in text
    # Where the member of the highest level is not there, the union speaks for it.
    text = shown([rows[0], rows[2]])
    said = "fail: fgsm: 4 images: no gradient; pgd_sat: 1 images: no gradient"
    assert said in " ".join(text.split()) and "hang on rounding" not in text
