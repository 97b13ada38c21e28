"""Accuracy against eps and against queries: the points, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from robench.boards.collect import Found, collect
from robench.boards.plots.epsilon import epsilon
from robench.boards.plots.plot import Records
from robench.boards.plots.queries import queries, survivors_after
from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.core.record import Record, write_record
from robench.core.statistics import wilson
from robench.core.threat import ThreatModel
from tests.boards.conftest import make_record


def _records(*records: Record, **wanted: Any) -> Records:
    return Records(found=tuple(Found(f"{i}.json", r) for i, r in enumerate(records)), **wanted)


def _asked(record: Record, *charged: int | None) -> Record:
    record.verdicts.queries = list(charged)
    return record


def _square(defense: str = "mine", **more: Any) -> Record:
    """Five images: broken at 1, at 40 and at 40, never, and wrong before any query."""
    record = make_record(defense, attack="square", clean="11110", survived="00010", **more)
    return _asked(record, 1, 40, 40, 100, 0)


def test_survivors_fall_where_images_break_and_the_last_entry_is_where_the_attack_ended() -> None:
    assert survivors_after(_square().verdicts) == [(0, 4), (1, 3), (40, 1), (100, 1)]


def test_an_attack_that_breaks_nothing_is_a_level_line() -> None:
    record = _asked(make_record(clean="11", survived="11"), 100, 100)
    assert survivors_after(record.verdicts) == [(0, 2), (100, 2)]


def _rays() -> Record:
    record = make_record("mine", attack="rays", clean="11110", survived="00010")
    return _asked(record, 9, 9, 9, 100, 0)


def test_queries_has_the_clean_accuracy_at_zero_and_intervals_over_all_images() -> None:
    pgd = make_record("mine", clean="11110", survived="00010")
    (curve,) = queries(_records(_square(), pgd)).data.curves
    assert (curve.defense, curve.attack, curve.queries) == ("mine", "square", (0, 1, 40, 100))
    assert curve.robust == tuple(wilson(left, 5) for left in (4, 3, 1, 1))


def test_queries_shows_every_attack_that_counts_them_or_the_one_that_is_wanted() -> None:
    records = [_square(), _rays(), make_record("mine", clean="11110", survived="00010")]
    shown = queries(_records(*records)).data.curves
    assert {(curve.attack, curve.queries[1]) for curve in shown} == {("square", 1), ("rays", 9)}
    assert [c.attack for c in queries(_records(*records), attack="rays").data.curves] == ["rays"]
    with pytest.raises(InputError, match=r"no records under 'pgd_sat'.* rays, square"):
        queries(_records(*records), attack="pgd_sat")


def test_queries_needs_an_attack_that_counts_them() -> None:
    with pytest.raises(InputError, match=r"counts queries: robench eval --attacks square"):
        queries(_records(make_record()))


def test_queries_says_who_is_left_out() -> None:
    plot = queries(_records(_square(), _square("yours", status="partial")))
    assert [curve.defense for curve in plot.data.curves] == ["mine"]
    assert "left out: yours" in plot.remarks[0]


def _at(eps: float, survived: str, defense: str = "mine", **more: Any) -> Record:
    return make_record(
        defense, clean="1110", survived=survived, threat=ThreatModel("linf", eps), **more
    )


def test_epsilon_goes_through_the_records_from_the_clean_accuracy_on() -> None:
    records = [_at(8 / 255, "1000"), _at(2 / 255, "1100"), _at(8 / 255, "1000", "yours")]
    plot = epsilon(_records(*records))
    (curve,) = plot.data.curves
    assert (curve.name, curve.eps) == ("mine", (0.0, 2 / 255, 8 / 255))
    assert curve.robust == tuple(wilson(k, 4) for k in (3, 2, 1))
    assert plot.remarks == ()


def test_epsilon_says_where_a_larger_ball_breaks_less() -> None:
    plot = epsilon(_records(_at(8 / 255, "1100"), _at(2 / 255, "1000")))
    assert "mine: robust accuracy rises from 25.0 % at eps 2/255 to 50.0 %" in plot.remarks[0]


def test_epsilon_joins_no_other_attack_images_or_unfinished_records() -> None:
    other = {
        "stop": {"stop": "any"},
        "parameters": {"parameters": {"steps": 50}},
        "status": {"status": "partial", "n": 9},
        "attack": {"attack": "fgsm"},
    }
    for changed in other.values():
        with pytest.raises(InputError, match="no attack has records at two eps"):
            epsilon(_records(_at(8 / 255, "1000"), _at(2 / 255, "1100", **changed)))
    with pytest.raises(InputError, match=r"several: .*choose one with --dataset"):
        epsilon(_records(_at(8 / 255, "1000"), _at(2 / 255, "1100", digest="e" * 64)))


def _audited(tmp_path: Path, **changed: Any) -> Records:
    """A defense with one record, and an audit of 10 images, 8 of them attacked, beside it."""
    record = _at(8 / 255, "1000")
    write_record(tmp_path / "mine" / "pgd_sat.json", record)
    curve = [{"eps": "1/255", "robust_share": 0.75}, {"eps": "2/255", "robust_share": 0.25}]
    audit = {
        "label": "no masking found",
        "fingerprint": record.defense.fingerprint,
        "n": 10,
        "clean_correct": 8,
        "threat": {"norm": "linf", "eps": 8 / 255},
        "findings": [
            {"id": "G7", "name": "falls", "status": "pass", "details": {"curve": curve}},
            {
                "id": "G9",
                "name": "steps",
                "status": "pass",
                "details": {"curve": [{"steps": 5, "robust_share": 0.5}], "other": 1},
            },
        ],
    }
    atomic_write(tmp_path / "mine" / "audit.json", msgspec.json.encode(audit | changed))
    return Records(found=collect([tmp_path]).found)


def test_epsilon_takes_the_sweep_of_an_audit_whose_shares_are_of_attacked_images(
    tmp_path: Path,
) -> None:
    (curve,) = epsilon(_audited(tmp_path)).data.curves
    assert (curve.name, curve.n) == ("mine, 10 images", 10)
    assert curve.eps == (0.0, 1 / 255, 2 / 255)
    assert curve.robust == tuple(wilson(k, 10) for k in (8, 6, 2))


def test_epsilon_believes_no_audit_of_other_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audit lies beside them"):
        epsilon(_audited(tmp_path, fingerprint="0" * 64))


def test_epsilon_asks_where_records_and_audits_both_have_a_sweep(tmp_path: Path) -> None:
    write_record(tmp_path / "mine" / "pgd_sat-4.json", _at(4 / 255, "1100"))
    records = _audited(tmp_path)
    with pytest.raises(InputError, match="choose one with --attack: pgd_sat, audit"):
        epsilon(records)
    assert epsilon(records, attack="audit").data.attack == "PGD of the audit"
    assert epsilon(records, attack="pgd_sat[steps=20]").data.curves[0].n == 4
