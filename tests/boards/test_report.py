"""The report on one defense: what it says, what it leaves out and why, and its two forms."""

import base64
import json
import re
from pathlib import Path

import pytest

from robench.boards.collect import Found
from robench.boards.plots.plot import Records
from robench.boards.report import html, markdown
from robench.boards.report.content import Report, Section, report
from robench.core.errors import InputError
from robench.core.threat import ThreatModel
from tests.boards.conftest import make_record


def _records(*records: object) -> Records:
    return Records(found=tuple(Found(f"{i}.json", r) for i, r in enumerate(records)))  # type: ignore[arg-type]


def _mine(**more: object) -> Report:
    mine = make_record("mine", clean="1110", survived="1100", **more)
    other = make_record("other", clean="1111", survived="1000", fingerprint="o" * 64)
    return report(_records(mine, other), "mine")


def _section(found: Report, words: str) -> Section:
    (section,) = [section for section in found.sections if words in section.title]
    return section


def test_figures_rank_and_commands_are_those_of_the_board() -> None:
    measured = _section(_mine(label="small-scale"), "Measured on")
    (line,) = measured.grid.lines
    assert line[0] == "pgd_sat" and line[1] == "4"
    assert line[2].startswith("75.00") and line[3].startswith("50.00") and "62.50" in line[4]
    assert any(sentence.startswith("Rank 1 of 2") for sentence in measured.sentences)
    assert any("robench eval --defense" in command for command in measured.commands)
    assert _mine(label="small-scale").said == "small-scale"


def test_what_there_is_not_is_said() -> None:
    found = _mine()
    assert any(s.startswith("Not ranked: pgd_sat") for s in _section(found, "paper").sentences)
    (nothing,) = _section(found, "RobustBench").sentences
    assert nothing.startswith("Nothing to compare") and "no published rows of pgd_sat" in nothing
    assert "robench audit" in _section(found, "Audit").sentences[0]
    figures = _section(found, "Figures")
    assert [picture.name for picture in figures.pictures] == ["tradeoff", "heatmap"]


def test_figures_are_at_the_boards_eps_and_a_gallery_is_of_the_reports_defense() -> None:
    mine = [make_record("mine", threat=ThreatModel("linf", eps / 255)) for eps in (4, 8)]
    found = report(_records(*mine, make_record("other")), "mine")
    sections = [section for section in found.sections if section.title.startswith("Figures")]
    for place, (section, eps) in enumerate(zip(sections, ("4/255", "8/255"), strict=True)):
        assert {"tradeoff", "heatmap"} <= {picture.name for picture in section.pictures}
        (said,) = [sentence for sentence in section.sentences if "gallery" in sentence]
        assert said.startswith(
            f"No figure gallery: no candidates beside {place}.json: robench eval"
        )
        assert "--defense mine " in said and f"--eps {eps} " in said


def test_the_same_records_give_the_same_bytes_and_pictures_are_inside() -> None:
    page, again = html.render(_mine()), html.render(_mine())
    assert page == again
    found = _section(_mine(), "Figures")
    for picture in found.pictures:
        assert base64.b64encode(picture.svg).decode() in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"#]', page)  # nothing is fetched


def test_text_from_records_is_escaped_in_both_forms() -> None:
    name = "<script>alert(1)</script>|x"
    found = report(_records(make_record(name)), name)
    page = html.render(found)
    assert "<script" not in page and "&lt;script&gt;" in page
    text = markdown.files(found, "r")["r.md"].decode()
    prose = re.sub(r"```sh.*?```|`[^`]*`", "", text, flags=re.S)
    assert r"\<script\>" in prose and not re.search(r"(?<!\\)<script", prose)


def test_markdown_shows_the_files_that_stand_beside_it() -> None:
    files = markdown.files(_mine(), "mine")
    shown = re.findall(r"!\[.*?\]\((.+?)\)", files["mine.md"].decode())
    assert sorted(shown) == sorted(set(files) - {"mine.md"}) and len(shown) == 2
    assert all(files[name].startswith(b"<?xml") for name in shown)


def test_an_unknown_defense_gets_the_nearest_names() -> None:
    with pytest.raises(InputError, match="did you mean 'mine'"):
        report(_records(make_record("mine")), "mien")


def test_an_audit_of_these_weights_is_shown(tmp_path: Path) -> None:
    record = make_record("mine")
    audit = {
        "label": "masked",
        "because": ["G8"],
        "fingerprint": record.defense.fingerprint,
        "n": 4,
        "clean_correct": 4,
        "threat": {"norm": "linf", "eps": 0.1},
        "budget": {"name": "quick"},
        "findings": [
            {"id": "G8", "name": "scaled logits", "status": "fail", "means": "saturation"}
        ],
    }
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    found = report(Records(found=(Found(str(tmp_path / "r.json"), record),)), "mine")
    section = _section(found, "Audit")
    assert section.sentences[0].startswith("masked (G8): 4 attacked images")
    assert section.grid.lines == (("G8", "scaled logits", "fail", "saturation"),)
