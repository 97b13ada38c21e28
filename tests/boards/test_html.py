"""The page's text: complete, the same twice, and no way out of it for what records say."""

import base64
import hashlib
import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from robench.boards import FORMATS
from robench.boards.audits import audited
from robench.boards.collect import collect
from robench.boards.columns import Column
from robench.boards.html import render
from robench.boards.page.printed import published_label, published_rows
from robench.boards.page.rows import measured_rows
from robench.boards.published.names import DATASETS
from robench.boards.published.paper import paper_rows
from robench.boards.published.robustbench import robustbench_rows
from robench.boards.rank import build_boards
from robench.core.record import Flag
from robench.core.threat import ThreatModel

ROOT = Path(__file__).parents[2]
CIFAR = "cifar10, linf eps 8/255"
HOSTILE = "</script><script>alert(1)</script><!--<b onclick='x'>&amp;"


class Page(HTMLParser):
    """Tags, visible text and the content of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.raw, self.inside = [], [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else None
        if self.inside:
            self.raw.append([tag, ""])

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.raw[-1][1] += data
        else:
            self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    @property
    def rows(self):
        return json.loads(self.raw[1][1])["rows"]


@pytest.fixture(scope="module")
def committed():
    boards = build_boards(collect([ROOT / "leaderboards" / "records"]).found)
    text = render(boards)
    return boards, text, Page(text)


def test_every_measured_cell_is_a_row(committed):
    boards, _, page = committed
    expected = [
        (line.label, column, cell.row.clean_accuracy, cell.row.robust_accuracy, cell.row.n)
        for board in boards
        for line in board.lines
        for column, cell in line.cells.items()
    ]
    rows = [row for row in page.rows if row["source"] == "measured"]
    found = [tuple(row[k] for k in ("name", "attack", "clean", "robust", "n")) for row in rows]
    assert len(expected) >= 22
    assert Counter(found) == Counter(expected)


def test_every_row_of_the_paper_is_in(committed):
    rows = [row for row in committed[2].rows if row["source"] == "paper"]
    printed = [row for row in paper_rows() if row.attack]
    assert len(printed) == 675  # 679, of which 4 are Table 1's knowledge scales
    for row in printed:
        ground = f"{DATASETS[row.dataset]}, linf eps 8/255"
        same = [r for r in rows if r["ground"] == ground and row.where in r["where"].split(", ")]
        assert any(_prints(row, r) for r in same), row


def _prints(row, shown):
    figures = ((row.clean, "clean"), (row.robust, "robust"), (row.w_robust, "w_printed"))
    named = shown["name"].split(" (")[0] == row.method and shown["architecture"] == row.architecture
    return named and all(
        value is None or (shown[key] is not None and abs(float(value) / 100 - shown[key]) < 1e-9)
        for value, key in figures
    )


def test_every_entry_of_robustbench_is_in_once(committed):
    rows = [row for row in committed[2].rows if row["source"] == "robustbench"]
    expected = Counter(
        (row.model_id, float(row.clean_acc), float(row.corruptions_acc or row.autoattack_acc or 0))
        for row in robustbench_rows()
    )
    found = Counter(
        (row["name"], round(100 * row["clean"], 6), round(100 * (row["robust"] or 0), 6))
        for row in rows
    )
    assert found == expected
    assert len(rows) == 236


def test_what_must_stay_apart_stays_apart():
    rows = [row for row in published_rows({}) if row.source == "robustbench"]
    grounds = Counter(row.ground for row in rows)
    assert grounds["cifar10, linf eps 0.031"] == 6
    assert grounds[CIFAR] == 93
    assert grounds["cifar10, corruptions"] == 23
    assert grounds["imagenet, linf eps 4/255"] == 30
    corrupted = [row for row in rows if row.ground.endswith("corruptions")]
    assert {(row.attack, row.weighed, row.field) for row in corrupted} == {
        ("corruptions", False, None)
    }
    known = next(row for row in rows if row.best_known and row.best_known < (row.robust or 0))
    assert known.robust != known.best_known


def test_figures_that_do_not_agree_with_themselves_say_so(committed):
    rows = [row for row in committed[2].rows if row["source"] == "paper"]
    said = Counter(note["text"].split(":")[0] for row in rows for note in row["notes"])
    assert said["inconsistent"] == 7
    unchecked = [r for r in rows if None in (r["clean"], r["robust"], r["w_printed"])]
    assert said["not checkable"] == len(unchecked) > 0
    text = committed[2].text
    assert text.count("inconsistent: W-Robust is printed as") == 7


def test_a_published_attack_joins_only_its_equal():
    square = {"queries": 100, "p_init": 0.8, "rescale": True, "compat": False}
    equal = Column("square", json.dumps(square), "any")
    longer = Column("square", json.dumps({**square, "queries": 5000}), "any")
    both = {equal: "square[queries=100]", longer: "square[queries=5000]"}
    assert published_label("square_100", both) == "square[queries=100]"
    assert published_label("square_100", {longer: "square"}) == "square_100 (published)"
    assert published_label("square_100", {}) == "square"
    assert published_label("square", both) == "square (published)"  # the poster's: no queries
    assert published_label("transfer_cw_inf", {}) == "transfer_cw_inf (published)"


def test_names_and_remarks_are_text_and_nothing_else(found, record):
    hostile = record(
        f"a{HOSTILE}",
        "pgd_sat",
        ref=f"r{HOSTILE}",
        label=f"l{HOSTILE}",
        notes=(f"n{HOSTILE}",),
        parameters={"loss": f"p{HOSTILE}"},
        flags=[Flag(name=f"f{HOSTILE}", level="fail", message=f"m{HOSTILE}")],
        dataset=f"d{HOSTILE}",
    )
    failed = record(f"b{HOSTILE}", status="failed", reason=f"w{HOSTILE}", dataset=f"d{HOSTILE}")
    page, plain = Page(render(build_boards(found(hostile, failed)))), Page(render(()))
    extra = Counter(tag for tag, _ in page.tags) - Counter(tag for tag, _ in plain.tags)
    assert not extra["script"] and not extra["a"]
    assert extra["b"] == 2, "the two names in the details"
    assert not any("onclick" in attributes for _, attributes in page.tags)
    assert [tag for tag, _ in page.raw] == ["style", "script", "script"]
    assert f"a{HOSTILE}" in {row["name"] for row in page.rows}
    for letter in "arlnpmdw":
        assert f"{letter}{HOSTILE}" in page.text, letter


def test_only_this_script_runs_and_nothing_is_fetched(committed):
    page = committed[2]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    (_, style), _, (_, script) = page.raw
    assert policy.startswith("default-src 'none';")
    for part, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{part} 'sha256-{digest}'" in policy
    assert not any("src" in attributes or "style" in attributes for _, attributes in page.tags)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(|innerHTML", style + script)
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert all(link.startswith(("#", "https://")) or link == "data:," for link in links)


def test_links_inside_the_page_have_their_ends(committed):
    page = committed[2]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.tags if a.get("href", "").startswith("#")}
    wanted |= {row["id"] for row in page.rows}
    assert wanted <= set(ids)


def test_the_same_bytes_in_any_order(found, record):
    records = [record(name, attack) for name in ("a", "b") for attack in ("fgsm", "pgd_sat")]
    items = found(*records)
    first = render(build_boards(items))
    random.Random(0).shuffle(items)
    assert render(build_boards(items)) == first


def test_neither_time_nor_place(folder, record):
    place = folder(record("trades", started="2026-03-04T05:06:07Z"))
    text = render(build_boards(collect([place]).found))
    assert "2026-03-04" not in text
    assert str(place) not in text
    assert "cifar10/trades/pgd_sat-0.json" in Page(text).text


def test_the_page_is_small(committed):
    assert len(committed[1].encode()) < 6_000_000


def test_without_records_the_published_rows_are_there():
    page = Page(FORMATS.load("html")(()))
    assert len(page.rows) == 850
    assert "No records yet" in page.text


def test_only_what_is_comparable_is_ranked_together(found, record):
    elsewhere = {"digest": "e" * 64, "n": 2}
    boards = build_boards(
        found(
            record("a"),
            record("b"),
            record("c", "pgd_sat", "11", "10", **elsewhere),
            record("d", status="partial", n=8),
            record("e", "pgd_sat", parameters={"steps": 50}),
        )
    )
    fields = {row.name: (row.attack, row.field) for row in measured_rows(boards)}
    assert fields["a"] == fields["b"]
    assert fields["a"][1] is not None
    assert fields["c"][1] not in (None, fields["a"][1])
    assert fields["d"][1] is None
    assert (fields["a"][0], fields["e"][0]) == ("pgd_sat[steps=20]", "pgd_sat[steps=50]")


def test_one_label_for_an_attack_on_all_image_sets(found, record):
    """On its own board each is plain pgd_sat; on the page the two must not share a column."""
    boards = build_boards(
        found(record("a"), record("b", parameters={"steps": 50}, digest="e" * 64))
    )
    assert [board.columns for board in boards] == [("pgd_sat",), ("pgd_sat",)]
    labels = {row.name: row.attack for row in measured_rows(boards)}
    assert labels == {"a": "pgd_sat[steps=20]", "b": "pgd_sat[steps=50]"}


def test_the_sample_stands_with_the_test_set_that_it_begins(found, record):
    (row,) = measured_rows(build_boards(found(record("a", dataset="cifar10-sample"))))
    assert row.ground == CIFAR
    other = record("a", threat=ThreatModel("linf", 0.031))
    (row,) = measured_rows(build_boards(found(other)))
    assert row.ground == "cifar10, linf eps 0.031"


def test_what_is_missing_is_missing(found, record):
    (row,) = measured_rows(
        build_boards(found(record("a", clean="", survived="", status="failed", reason="lost")))
    )
    assert (row.clean, row.robust, row.clean_n, row.robust_n) == (None, None, None, None)
    assert row.status == "failed"
    assert row.notes[0].text == "not ranked: pgd_sat failed: lost"


AUDIT = {
    "schema": 1,
    "label": "masked",
    "because": ["G8"],
    "fingerprint": "t" * 64,
    "n": 100,
    "clean_correct": 64,
    "threat": {"norm": "linf", "eps": 8 / 255},
    "budget": {"name": "quick"},
    "findings": [{"id": "G8", "name": "Square", "status": "fail", "means": "gradients <mislead>"}],
}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "not audited"),
        (json.dumps(AUDIT), "masked"),
        (json.dumps({**AUDIT, "fingerprint": "0"}), "audited with other weights: run robench"),
        ("{", "audit unreadable: run robench audit again"),
        (json.dumps({**AUDIT, "threat": {"norm": "l7", "eps": 1}}), "audit unreadable: run"),
    ],
)
def test_the_audit_beside_the_records(folder, record, content, expected):
    place = folder(record("trades"))
    if content is not None:
        (place / "cifar10" / "trades" / "audit.json").write_text(content)
    boards = build_boards(collect([place]).found)
    assert audited(boards[0].lines[0]).words.startswith(expected)
    page = Page(render(boards))
    assert expected in page.text
    if expected == "masked":
        assert "masked (G8): 64 attacked images, linf eps 8/255, budget quick" in page.text
        assert "G8 Square: fail; gradients <mislead>" in page.text
    (row,) = [row for row in page.rows if row["source"] == "measured"]
    noted = [note["level"] for note in row["notes"] if note["text"].startswith("audit: ")]
    assert noted == ([] if content is None else ["warn"])


def test_the_details_of_a_defense(found, record):
    flag = Flag(name="no_op", level="fail", message="the attack changed no image")
    boards = build_boards(
        found(record("trades", ref="runs/a b.safetensors", flags=[flag], label="small-scale"))
    )
    written = render(boards)
    text = Page(written).text
    for said in (
        "robench eval --defense 'runs/a b.safetensors' --arch resnet18 --width 32 --normalize none",
        "steps=20, stop=last, precision=fp32, seed=0",
        "fail: the attack changed no image (no_op: trades pgd_sat)",
        "50.00 [15.0, 85.0]",
        "2,797,610 parameters",
        "t" * 64,
        "(small-scale) on cifar10, 4 images (dddddddd), linf eps 8/255",
        "2.5s",
    ):
        assert said in text, said
    forward, backward = 4 * 22, 4 * 20
    assert f'<td class="number">{forward}</td><td class="number">{backward}</td>' in written
