"""Reading folders of records, and the one record that speaks for a cell."""

import os

import pytest

from robench.boards.collect import choose, collect
from robench.core.errors import InputError
from robench.core.threat import ThreatModel


def test_records_are_found_in_the_order_of_their_paths(folder, record):
    place = folder(record("b"), record("a"), record("a", "fgsm"))
    found = collect([place]).found
    names = [(item.record.defense.name, item.record.attack.name) for item in found]
    assert names == [("a", "fgsm"), ("a", "pgd_sat"), ("b", "pgd_sat")]
    assert found[0].path == f"{place.as_posix()}/cifar10/a/fgsm-2.json"


def test_a_bad_file_is_one_warning_and_hides_nothing(folder, record):
    place = folder(record("a"), record("b"))
    (place / "cifar10" / "a" / "broken-1.json").write_text('{"schema": 1,')
    (place / "future.json").write_text('{"schema": 99}')
    collected = collect([place])
    assert [item.record.defense.name for item in collected.found] == ["a", "b"]
    assert len(collected.warnings) == 2
    assert "broken-1.json is not a record" in collected.warnings[1]
    assert "future.json has record schema 99" in collected.warnings[0]


def test_what_other_commands_leave_is_passed_over(folder, record):
    place = folder(record("a"))
    (place / "cifar10" / "a" / "audit.json").write_text("{}")
    (place / "cifar10" / "a" / ".pgd_sat-0.json.tmp.json").write_text("{")
    (place / "cifar10" / "a" / "notes.txt").write_text("")
    collected = collect([place])
    assert (len(collected.found), collected.warnings) == (1, ())


def test_several_places_and_no_file_twice(folder, record):
    place = folder(record("a"), record("b"))
    one = place / "cifar10" / "b" / "pgd_sat-1.json"
    found = collect([one, place, place / "cifar10"]).found
    assert [item.record.defense.name for item in found] == ["b", "a"]
    (place.parent / "link").symlink_to(place)
    found = collect([place, place.parent / "link"]).found
    assert [item.path.startswith(f"{place}/") for item in found] == [True, True]


def test_a_missing_place_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no records folder .*nowhere.*--records"):
        collect([tmp_path, tmp_path / "nowhere"])


def test_an_unreadable_folder_is_a_warning(folder, record, monkeypatch):
    place = folder(record("a"), record("b"))
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    collected = collect([place])
    assert [item.record.defense.name for item in collected.found] == ["a"]
    assert collected.warnings == (f"cannot read folder {place}/cifar10/b: Permission denied",)


def test_a_finished_record_without_all_verdicts_is_partial(folder, record):
    place = folder(
        record("a", n=9),
        record("b", n=9, status="partial"),
        record("c", "fgsm", "", "", n=4),
        record("d", "fgsm", "", ""),
    )
    records = [item.record for item in collect([place]).found]
    assert [(r.status, r.reason) for r in records] == [
        ("partial", "called done, but 4 of 9 images judged"),
        ("partial", "4 of 9 images judged"),
        ("partial", "called done, but 0 of 4 images judged"),
        ("partial", "called done, but 0 of 0 images judged"),
    ]


def chosen(found, *records):
    return [item.record for item in choose(found(*records))]


def test_the_newest_finished_record_speaks_for_a_cell(found, record):
    old = record(survived="1000", started="2026-01-01T00:00:00Z")
    new = record(survived="1100", started="2026-03-01T00:00:00Z")
    middle = record(survived="1110", started="2026-02-01T00:00:00Z")
    assert chosen(found, old, new, middle) == [new]
    assert chosen(found, new, old) == [new]


def test_a_partial_record_speaks_only_when_nothing_else_is_there(found, record):
    done = record(started="2026-01-01T00:00:00Z")
    newer = record(
        clean="111", survived="111", n=4, status="partial", started="2026-05-01T00:00:00Z"
    )
    fewer = record(clean="1", survived="1", n=4, status="partial", started="2026-06-01T00:00:00Z")
    failed = record(clean="", survived="", n=4, status="failed", started="2026-07-01T00:00:00Z")
    assert chosen(found, failed, newer, done, fewer) == [done]
    assert chosen(found, failed, fewer, newer) == [newer]
    lost = record(clean="11", survived="10", n=4, status="failed", started="2026-01-01T00:00:00Z")
    assert chosen(found, lost, fewer) == [lost]
    assert chosen(found, failed) == [failed]


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "e" * 64},
        {"defense": "mart", "fingerprint": "t" * 64},
        {"attack": "fgsm"},
        {"parameters": {"steps": 50}},
        {"stop": "any"},
        {"digest": "e" * 64},
        {"dataset": "cifar100"},
        {"threat": ThreatModel("linf", 4 / 255)},
        {"threat": ThreatModel("l2", 8 / 255)},
    ],
)
def test_records_of_different_cells_do_not_replace_each_other(found, record, other):
    assert len(chosen(found, record(), record(**other))) == 2


def test_the_same_images_elsewhere_are_the_same_cell(found, record):
    moved = record(place="/elsewhere/cifar10", started="2027-01-01T00:00:00Z")
    assert chosen(found, record(), moved) == [moved]


def test_parameters_in_another_order_are_the_same_cell(found, record):
    first = record(parameters={"steps": 20, "step_size": 0.003})
    second = record(parameters={"step_size": 0.003, "steps": 20}, started="2027-01-01T00:00:00Z")
    assert chosen(found, first, second) == [second]
