"""LaTeX tables: columns, rules, balance, escaping, bold and published rows. TeX is not needed."""

import re

import msgspec
import pytest
from typer.testing import CliRunner

from robench.boards.latex import escape, render
from robench.boards.published import names
from robench.boards.published.entry import Entry
from robench.boards.rank import build_boards
from robench.cli.main import app
from robench.core.errors import InputError
from robench.core.record import Flag

HOSTILE = '[a_b%&$#{x}~^\\"<|>`--'
ATTACKS = ("fgsm", "pgd_sat", "rays", "square")


def tables(text):
    """Of each table its header, its rows as cells and the whole text."""
    for whole in re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL):
        body = re.search(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", whole, re.DOTALL)
        rows = [line.removesuffix(r" \\") for line in body[2].splitlines() if line.endswith(r" \\")]
        yield body[1], [re.split(r" (?<!\\)& ", row) for row in rows], whole


def balanced(text):
    """Whether braces match and every environment is closed, escapes apart."""
    depth = 0
    for brace in re.sub(r"\\[\\{}]", "", text):
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            return False
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    return depth == 0 and sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", text))


@pytest.fixture
def text(found, record):
    items = [record(name, attack) for name in ("trades", HOSTILE) for attack in ATTACKS]
    return render(build_boards(found(*items)))


def test_every_row_has_the_columns_of_its_header(text):
    # Four attacks and the worst case, three to a table.
    assert [columns for columns, _, _ in tables(text)] == ["lrrrrrrrrr", "lrrrrrr"]
    for columns, rows, whole in tables(text):
        for row in rows:
            spans = [int(n) for cell in row for n in re.findall(r"\\multicolumn\{(\d+)\}", cell)]
            assert len(row) - len(spans) + sum(spans) == len(columns)
        assert [whole.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [
            1,
            1,
            1,
        ]
        assert whole.count(r"\cmidrule") == (len(columns) - 1) // 3
        assert balanced(whole)


def test_balance_is_seen(text):
    assert not balanced(text.replace(r"\end{tabular}}", r"\end{tabular}"))
    assert not balanced(text.replace(r"\end{tabular}", ""))


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("a_b%&", r"a\_b\%\&"),
        ("$#{}", r"\$\#\{\}"),
        ("\\~^", r"\textbackslash{}\textasciitilde{}\textasciicircum{}"),
        ('<|>"`', r"\textless{}\textbar{}\textgreater{}''\textasciigrave{}"),
        ("w[8]*", "w[8]*"),
        ("[8]", "{}[8]"),  # `\\[8]` would be a distance
        ("*a", "{}*a"),  # and `\\*` forbids a page break
        ("a---b", "a-{}-{}-b"),
        ("Zoë Müller", "Zoë Müller"),
        ("ε–漢", "???"),
        ("a\nb\x1b", "a?b?"),
    ],
)
def test_escape(plain, escaped):
    assert escape(plain) == escaped


def test_records_bring_no_commands(found, record):
    hostile = record(HOSTILE, "fgsm", label=r"\input{/etc/passwd}", notes=(r"\write18{x}", "a%b"))
    flag = Flag(name="x", level="warn", message=r"}\end{table}")
    text = render(build_boards(found(hostile, record("b", "fgsm", flags=[flag]))))
    assert balanced(text)
    assert not re.search(r"\\(input|write)\b", text)
    assert not re.search(r"(?<!\\)%", text.split("\n\n", 1)[1].replace("{!}{%\n", ""))
    assert text.count(r"\end{table}") == 1


def test_best_is_bold_and_ties_share_it(found, record):
    items = [record(n, "fgsm", "1110", s) for n, s in (("a", "1100"), ("b", "0110"), ("c", "1000"))]
    ((_, rows, _),) = tables(render(build_boards(found(*items))))
    figures = {row[0]: row[1:] for row in rows}
    assert figures["a"] == figures["b"] == [r"\textbf{75.00}", r"\textbf{50.00}", r"\textbf{62.50}"]
    assert figures["c"] == [r"\textbf{75.00}", "25.00", "50.00"]


def test_intervals_and_labels_stand_below_the_figures(found, record):
    small = record("a", "fgsm", "1110", "1100", label="small-scale, 5-step")
    ((_, rows, whole),) = tables(render(build_boards(found(small))))
    assert rows[-1][0] == r"{\scriptsize small-scale, 5-step}"
    assert rows[-1][2] == r"{\scriptsize {}[15.0, 85.0]}"  # Wilson for 2 of 4
    assert "Small scale: 4 images" in whole
    assert r"on cifar10, 4 images, linf eps 8/255, under fgsm" in whole


def test_what_is_missing_is_a_dash_and_said(found, record):
    partial = record("b", "fgsm", "11", "11", n=4, status="partial", reason="stopped")
    ((_, rows, whole),) = tables(render(build_boards(found(record("a", "fgsm"), partial))))
    assert rows[-1] == ["b", "--", "--", "--"]
    assert "b is not ranked: fgsm partial: stopped." in whole


def test_a_refuted_figure_carries_its_mark(found, record):
    flag = Flag(name="no_op", level="fail", message="the attack changed no image")
    ((_, rows, whole),) = tables(render(build_boards(found(record("a", "fgsm", flags=[flag])))))
    assert rows[-2][2] == r"50.00\rlap{\textsuperscript{!!}}"
    assert r"fail: the attack changed no image (no\_op: a fgsm)." in whole


# Published rows.


def entry(name, robust, *, clean=0.8, w_robust=None, **changes):
    mean = (clean + robust) / 2
    fields = {"where": ("T3",), "dataset": "cifar10", "norm": "linf", "eps": 8 / 255}
    fields |= {"attack": "pgd_sat", "architecture": "ResNet-18", "parameters": 11_173_962}
    given = {"w_robust": w_robust or mean, "w_robust_recomputed": mean}
    return Entry(name=name, clean=clean, robust=robust, **{**fields, **given, **changes})


@pytest.fixture
def mine(record):
    """A ResNet-18 of the published size under published attacks."""

    def make(name="mine", attack="pgd_sat", parameters=None, **changes):
        given = dict(names.ATTACKS[attack].parameters) if parameters is None else parameters
        made = record(name, attack, "1110", "1100", parameters=given, **changes)
        made.defense = msgspec.structs.replace(made.defense, parameters=11_173_962)
        return made

    return make


def published(found, entries, *records, pi_adv=0.5):
    text = render(build_boards(found(*records), pi_adv), entries)
    ((_, rows, whole),) = tables(text)
    assert balanced(whole)
    place = [i for i, row in enumerate(rows) if "Published, not measured here" in row[0]]
    return rows[place[0] + 1 :] if place else [], whole


def test_published_rows_are_set_apart_and_never_bold(found, mine):
    rows, whole = published(found, [entry("sat", 0.9)], mine(), mine("other"))
    assert rows == [
        [
            r"\textit{sat, ResNet-18 (T3)}",
            *(r"\textit{80.00}", r"\textit{90.00}", r"\textit{85.00}"),
        ]
    ]
    assert whole.count(r"\midrule") == 2
    assert r"\textbf{50.00}" in whole  # the best measured, below the published figure
    assert "Italic: published, of the whole test set." in whole


def test_none_without_being_asked_for(found, mine):
    rows, whole = published(found, [], mine())
    assert rows == []
    assert "ublished" not in whole


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "MobileNet-v2"},
        {"parameters": 2_797_610},
        {"eps": 0.031},
        {"dataset": "cifar100"},
        {"attack": "fgsm"},
        {"unranked": "variant"},
    ],
)
def test_what_cannot_be_compared_is_left_out(found, mine, changes):
    assert published(found, [entry("sat", 0.4, **changes)], mine())[0] == []


def test_another_setting_or_other_images_bring_none(found, mine):
    rows = [entry("sat", 0.4)]
    assert published(found, rows, mine(parameters={"steps": 50}))[0] == []
    assert published(found, rows, mine(ids=[5, 6, 7, 8]))[0] == []


def test_one_line_for_the_attacks_of_a_network(found, mine):
    entries = [entry("sat", 0.4), entry("sat", 0.6, attack="fgsm", where=("T3", "T9"))]
    (row,), _ = published(found, entries, mine(), mine(attack="fgsm"))
    assert row[0] == r"\textit{sat, ResNet-18 (T3, T9)}"
    assert row[2::3] == [r"\textit{60.00}", r"\textit{40.00}", "--"]  # fgsm, pgd_sat, worst case


def test_values_that_two_tables_print_differently_are_two_lines(found, mine):
    rows, _ = published(found, [entry("sat", 0.4), entry("sat", 0.5, where=("T9",))], mine())
    assert sorted(row[2] for row in rows) == [r"\textit{40.00}", r"\textit{50.00}"]


def test_a_printed_w_robust_is_doubted_or_left_out(found, mine):
    wrong = entry("sat", 0.4, w_robust=0.7, remarks=("inconsistent: 60 follows",))
    ((*_, weighted),), whole = published(found, [wrong], mine())
    assert weighted == r"\textit{70.00 !}"
    assert "sat: inconsistent: 60 follows." in whole
    ((*_, weighted),), _ = published(found, [wrong], mine(), pi_adv=0.3)
    assert weighted == "--"  # it weighs one half


def run(*arguments):
    return CliRunner().invoke(
        app, ["leaderboard", "--records", "leaderboards/records", *map(str, arguments)]
    )


def test_from_one_command(tmp_path):
    result = run("--format", "latex", "--with", "paper", "--out", tmp_path / "t.tex")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "t.tex").read_text()
    assert balanced(text)
    assert r"\textit{bmtard, ResNet-18 (T3" in text
    assert r"{\scriptsize small-scale" in text
    assert "Published" not in run("--format", "latex").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--with", "paper"], "--with goes with --format latex, not table"),
        (["--with", "papr", "--format", "latex"], "unknown published source 'papr': did you mean"),
    ],
)
def test_with_what_cannot_be(arguments, words):
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
