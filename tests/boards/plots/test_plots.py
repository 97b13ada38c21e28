"""What the pictures of records show, checked as data; and that they can be drawn."""

from typing import Any

import pytest

from robench.boards.collect import Found
from robench.boards.plots import FIGURES
from robench.boards.plots.heatmap import heatmap
from robench.boards.plots.plot import Records
from robench.boards.plots.tradeoff import tradeoff
from robench.core.errors import InputError
from robench.core.record import Record
from robench.core.statistics import wilson
from robench.core.threat import ThreatModel
from robench.figures.saving import rendered
from robench.figures.style import styled
from tests.boards.conftest import make_record


def _records(*records: Record, **wanted: Any) -> Records:
    found = tuple(Found(f"{i}.json", record) for i, record in enumerate(records))
    return Records(found=found, **wanted)


def _three() -> list[Record]:
    """Clean and robust of four images: 4 and 1, 3 and 2, 3 and 1 (which the second dominates)."""
    return [
        make_record("accurate", clean="1111", survived="1000"),
        make_record("robust", clean="1110", survived="1100", label="small-scale"),
        make_record("beaten", clean="1110", survived="0100"),
    ]


def test_tradeoff_has_the_two_accuracies_their_intervals_and_the_front() -> None:
    data = tradeoff(_records(*_three())).data
    rows = {row.name: (row.clean, row.robust) for row in data.measured}
    assert rows["accurate"] == (wilson(4, 4), wilson(1, 4))
    assert rows["robust (small-scale)"] == (wilson(3, 4), wilson(2, 4))
    assert data.front == ("accurate", "robust (small-scale)")
    assert (data.attack, data.n, data.published) == ("pgd_sat", 4, None)


def test_published_rows_stand_beside_only_where_there_are_some() -> None:
    records = _records(make_record(attack="pgd_trades", parameters={"steps": 20}))
    published = tradeoff(records, source="paper").data.published
    assert published.n == 10_000 and len(published.rows) > 20
    top = max(published.rows, key=lambda row: row.clean)
    assert published.rows[published.front[0]].clean == top.clean
    with pytest.raises(InputError, match="robustbench has no rows under pgd_trades"):
        tradeoff(records, source="robustbench")
    with pytest.raises(InputError, match="did you mean 'paper'"):
        tradeoff(records, source="papers")


def test_heatmap_has_a_square_for_each_defense_and_attack_and_says_what_is_missing() -> None:
    partial = make_record("robust", attack="fgsm", clean="11", survived="11", n=4, status="partial")
    data = heatmap(_records(*_three(), partial)).data
    assert data.attacks[0] == "clean" and set(data.attacks[1:]) == {"pgd_sat", "fgsm"}
    column = data.attacks.index("pgd_sat")
    squares = dict(zip(data.defenses, data.squares, strict=True))
    assert squares["accurate"][0].accuracy == wilson(4, 4)
    assert squares["beaten"][column].accuracy == wilson(1, 4)
    missing = data.attacks.index("fgsm")
    assert squares["beaten"][missing].words == "-"
    assert squares["robust (small-scale)"][missing].accuracy is None


# A gallery needs images: test_gallery.
@pytest.mark.parametrize("name", [name for name in FIGURES.names() if name != "gallery"])
def test_every_figure_is_drawn_and_repeats_to_the_byte(name: str) -> None:
    made = FIGURES.load(name)
    records = _three()
    if name == "epsilon":
        records.append(make_record("accurate", threat=ThreatModel("linf", 4 / 255)))
    for record in records:
        record.verdicts.queries = [7] * len(record.verdicts)

    def svg() -> bytes:
        plot = made(_records(*records))
        with styled():
            figure = plot.draw()
        return rendered(figure, ["svg"], plot.data)["svg"]

    assert svg() == svg()
    assert b"accurate" in svg()


def test_records_of_several_boards_must_be_chosen_from() -> None:
    records = [make_record(), make_record(dataset="cifar100")]
    with pytest.raises(InputError, match="choose one with --dataset"):
        tradeoff(_records(*records))
    assert tradeoff(_records(*records, dataset="cifar100")).data.board.startswith("cifar100")
    with pytest.raises(InputError, match="no records with --defense nobody"):
        tradeoff(_records(*records, defenses=("nobody",)))


def test_no_records_say_what_makes_them() -> None:
    with pytest.raises(InputError, match="robench eval"):
        heatmap(_records())
