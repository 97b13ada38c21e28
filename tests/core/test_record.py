"""Records: what is written is what is read, and nothing else is read."""

import json
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robench.core import record as record_module
from robench.core.errors import InputError, RunError
from robench.core.record import (
    AttackInfo,
    Flag,
    Verdict,
    Verdicts,
    format_ids,
    measurement_key,
    parse_ids,
    read_record,
    write_record,
)
from robench.core.threat import ThreatModel


@pytest.fixture
def path(tmp_path, record):
    """A written record of four images, 0 and 1 of which survive."""
    place = tmp_path / "records" / "cifar10" / "trades" / "pgd_sat-0.json"
    write_record(place, record())
    return place


def edit(path, change, checksum=True):
    """Change the fields of a record file by hand, with a checksum that fits again or not."""
    fields = json.loads(path.read_text())
    change(fields)
    if checksum:
        fields["checksum"] = record_module._checksum(fields)
    path.write_text(json.dumps(fields))


finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**31)


@st.composite
def verdicts(draw):
    ids = draw(st.lists(st.integers(0, 10**6), unique=True, max_size=8))
    rows = []
    for image in ids:
        label, clean = draw(st.integers(0, 9)), draw(st.integers(0, 9))
        rows.append(
            Verdict(
                id=image,
                label=label,
                clean_prediction=clean,
                prediction=draw(st.integers(0, 9)),
                survived=label == clean and draw(st.booleans()),
                distance=draw(finite),
                margin=draw(finite),
                forward_passes=draw(counts),
                backward_passes=draw(counts),
                queries=draw(st.none() | counts),
                broken_by=draw(st.none() | st.text(max_size=5)),
                flags=tuple(draw(st.lists(st.text(max_size=5), max_size=2))),
            )
        )
    return Verdicts.of(rows)


values = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | finite | st.text(max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    verdicts(),
    st.dictionaries(st.text(max_size=8), values | st.lists(values, max_size=2), max_size=4),
    st.sampled_from(["done", "partial", "not_run", "failed"]),
    st.sampled_from([ThreatModel("linf", 0.031), ThreatModel("l2", 1), ThreatModel("linf", 0.0)]),
    st.text(max_size=20),
)
def test_round_trip(tmp_path_factory, record, rows, parameters, status, threat, text):
    before = record(threat=threat, status=status)
    before.verdicts = rows
    before.attack = AttackInfo(name=text, parameters=parameters)
    before.reason = text
    before.flags = (Flag(name="fragile", level="info", message=text, value=0.5),)
    path = tmp_path_factory.mktemp("records") / "x.json"
    write_record(path, before)
    after = read_record(path)
    assert after == before
    assert after.key == before.key
    first = path.read_bytes()
    write_record(path, after)
    assert path.read_bytes() == first


def test_the_file_has_verdicts_by_column_and_a_summary(path):
    fields = json.loads(path.read_text())
    assert fields["verdicts"]["survived"] == [True, True, False, False]
    assert fields["summary"]["robust_accuracy"] == 0.5
    assert "w_robust" not in path.read_text()  # depends on the reader's weights


def test_verdicts_are_stored_by_id(record):
    rows = list(record("1111", "1100", ids=[7, 3, 9, 1]).verdicts)
    assert Verdicts.of(rows).id == [1, 3, 7, 9]
    assert list(Verdicts.of(rows)) == sorted(rows, key=lambda verdict: verdict.id)


def test_clean_correct_is_derived(record):
    assert record("1010", "0000").verdicts.clean_correct == [True, False, True, False]
    assert [v.clean_correct for v in record("10", "00").verdicts] == [True, False]


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf])
def test_a_margin_that_is_not_finite_stays_readable(tmp_path, record, margin):
    before = record("1111", "1100")
    before.verdicts.margin[3] = margin
    write_record(tmp_path / "x.json", before)
    assert json.loads((tmp_path / "x.json").read_text())["verdicts"]["margin"][3] is None
    after = read_record(tmp_path / "x.json")
    assert math.isnan(after.verdicts.margin[3])
    assert after.verdicts.margin[:3] == before.verdicts.margin[:3]


@pytest.mark.parametrize("schema", [2, 0, -1, None, "1", 1.0])
def test_schemas_that_this_version_cannot_read(path, schema):
    edit(path, lambda fields: fields.update(schema=schema))
    with pytest.raises(InputError, match="reads 1 to 1") as caught:
        read_record(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_json(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * (len(content) - 2))])
    with pytest.raises(InputError, match="is not a record"):
        read_record(path)


def test_a_verdict_edited_by_hand(path):
    edit(path, lambda fields: fields["verdicts"]["survived"].__setitem__(2, True), checksum=False)
    with pytest.raises(InputError, match="changed after it was written"):
        read_record(path)


def test_a_missing_checksum(path):
    edit(path, lambda fields: fields.pop("checksum"), checksum=False)
    with pytest.raises(InputError, match="changed after it was written"):
        read_record(path)


def test_a_verdict_edited_together_with_the_checksum(path):
    edit(path, lambda fields: fields["verdicts"]["survived"].__setitem__(2, True))
    with pytest.raises(InputError, match="summary does not follow"):
        read_record(path)


@pytest.mark.parametrize("figure", ["n", "clean_accuracy", "robust_accuracy"])
def test_an_edited_summary(path, figure):
    edit(
        path, lambda fields: fields["summary"].update({figure: 0.25 if "accuracy" in figure else 5})
    )
    with pytest.raises(InputError, match="summary does not follow"):
        read_record(path)


@pytest.mark.parametrize("summary", [None, {}, [], 3, {"n": "4"}])
def test_a_summary_that_is_none(path, summary):
    edit(path, lambda fields: fields.update(summary=summary))
    with pytest.raises(InputError, match="is not a record"):
        read_record(path)


def test_survivors_must_be_correct_when_clean(tmp_path, record):
    impossible = record("1100", "1110")
    write_record(tmp_path / "x.json", impossible)
    with pytest.raises(InputError, match="image 2 is misclassified when clean, yet survived"):
        read_record(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["verdicts"]["id"].__setitem__(1, 0), "an image id occurs twice"),
        (lambda f: f["verdicts"]["label"].pop(), "columns of different length"),
        (lambda f: f["verdicts"]["id"].__setitem__(0, "0"), r"\$.verdicts.id"),
        (lambda f: f["verdicts"].update(margin=None), r"\$.verdicts.margin"),
        (lambda f: f.update(verdicts=[]), r"\$.verdicts"),
        (lambda f: f.update(status="fine"), r"\$.status"),
        (lambda f: f.pop("seed"), "seed"),
        (lambda f: f["threat"].update(eps=-1), "eps must be a finite number"),
        (lambda f: f["threat"].update(eps=8), "did you mean 8/255"),
        (lambda f: f["threat"].update(norm="l7"), r"\$.threat.norm"),
    ],
)
def test_fields_that_say_nothing(path, change, words):
    edit(path, change)
    with pytest.raises(InputError, match=words) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"schema":1e999}',
    ],
)
def test_what_is_no_record(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    for place in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(InputError, match="cannot read record"):
            read_record(place)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_and_nothing_else_happens(tmp_path_factory, record, data):
    path = tmp_path_factory.mktemp("records") / "x.json"
    write_record(path, record())
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])
    try:
        after = read_record(path)
    except InputError:
        return
    assert after == record()  # only what leaves every value alone, such as a blank, is read


def test_a_folder_that_cannot_be_written(tmp_path, record):
    (tmp_path / "file").write_text("")  # holds for root too, which permissions do not stop
    with pytest.raises(RunError, match="cannot write"):
        write_record(tmp_path / "file" / "x.json", record())


def test_a_failed_write_leaves_the_old_record(path, record, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(RunError, match="no space left"):
        write_record(path, record("1111", "0000"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_key_differs_whenever_a_verdict_could():
    attack = AttackInfo(name="pgd_sat", parameters={"steps": 20, "start": "uniform"})
    base = ("f", "d", ThreatModel("linf", 8 / 255), attack, "last", "fp32", "cpu", 0)
    others = [
        ("g", *base[1:]),
        (*base[:1], "e", *base[2:]),
        (*base[:2], ThreatModel("linf", 0.031), *base[3:]),
        (*base[:2], ThreatModel("l2", 8 / 255), *base[3:]),
        (*base[:3], AttackInfo(name="pgd_sat", parameters={"steps": 50}), *base[4:]),
        (*base[:3], AttackInfo(name="fgsm", parameters=attack.parameters), *base[4:]),
        (*base[:4], "any", *base[5:]),
        (*base[:5], "bf16", *base[6:]),
        (*base[:6], "cuda", 0),
        (*base[:7], 1),
    ]
    keys = {measurement_key(*parts) for parts in [base, *others]}
    assert len(keys) == 1 + len(others)
    assert all(len(key) == 12 and set(key) <= set("0123456789abcdef") for key in keys)
    reordered = AttackInfo(name="pgd_sat", parameters={"start": "uniform", "steps": 20})
    assert measurement_key(*base[:3], reordered, *base[4:]) == measurement_key(*base)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0], "0"),
        ([0, 1, 2], "0-2"),
        ([0, 1, 5, 7, 8], "0-1,5,7-8"),
        ([3, 2, 1], "3,2,1"),
        ([], ""),
    ],
)
def test_ids_as_ranges(ids, text):
    assert format_ids(ids) == text
    if ids:
        assert parse_ids(text) == ids


@given(st.lists(st.integers(0, 300), unique=True, min_size=1))
def test_ids_are_read_back_in_their_order(ids):
    assert parse_ids(format_ids(ids)) == ids


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "5-3", "1,,2", "1.5", "0-1-2", "\u0663"])
def test_no_ids(text):
    with pytest.raises(InputError, match="expected 0-499,512"):
        parse_ids(text)


def test_ids_given_twice():
    with pytest.raises(InputError, match="occurs twice in '0-5,3'"):
        parse_ids("0-5,3")


def test_records_are_frozen_where_they_must_not_change(record):
    with pytest.raises(AttributeError):
        record().defense.name = "other"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"search": "32", "judge": 32}, record_module.PassShape)
