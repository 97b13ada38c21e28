"""The training log: what is written is read, what is damaged is named, means are resumable."""

import json
import math
from pathlib import Path

import pytest

from robench.core.errors import InputError, RunError
from robench.training.history import EpochMeans, History, Value

COLUMNS = ("epoch", "loss", "validation_clean", "note")


def history(*rows: tuple[Value, ...]) -> History:
    made = History(COLUMNS)
    for row in rows:
        made.append(dict(zip(COLUMNS, row, strict=True)))
    return made


def test_the_file_is_what_one_would_write_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "run" / "history.csv"
    history((1, 0.1 + 0.2, None, "a"), (2, 1e-7, 0.5, 'b, "c"')).write(path)
    assert path.read_bytes() == (
        b'epoch,loss,validation_clean,note\n1,0.30000000000000004,,a\n2,1e-07,0.5,"b, ""c"""\n'
    )


def test_reading_gives_the_same_values_of_the_same_types(tmp_path: Path) -> None:
    rows = [
        (1, 0.1 + 0.2, None, " a, b "),
        (2, 5e-324, 1, None),
        (4, -0.0, 1.0, "mit Umlaut ä"),
        (9, math.inf, -math.inf, "x"),
        (10**20, 1.7976931348623157e308, 0, "x"),
    ]
    written = history(*rows)
    written.write(tmp_path / "h.csv")
    again = History.read(tmp_path / "h.csv")
    assert again.columns == COLUMNS
    assert [repr(tuple(row.values())) for row in again.rows] == [repr(row) for row in rows]
    assert again.epochs == [1, 2, 4, 9, 10**20]
    again.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "h.csv").read_bytes()


def test_nan_survives_and_the_empty_cell_is_not_nan(tmp_path: Path) -> None:
    history((1, math.nan, "", "a")).write(tmp_path / "h.csv")
    row = History.read(tmp_path / "h.csv").rows[0]
    assert isinstance(row["loss"], float)
    assert math.isnan(row["loss"])
    assert row["validation_clean"] is None


def test_a_history_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    History(COLUMNS).write(tmp_path / "h.csv")
    again = History.read(tmp_path / "h.csv")
    assert (again.columns, again.rows) == (COLUMNS, [])


def test_numbers_have_a_gap_where_nothing_was_measured() -> None:
    made = history((1, 2.0, None, "a"), (3, 1, 0.5, "b"))
    assert made.numbers("loss") == [2.0, 1.0]
    first, second = made.numbers("validation_clean")
    assert math.isnan(first)
    assert second == 0.5
    assert all(map(math.isnan, made.numbers("note")))


def test_rows_are_copies() -> None:
    row: dict[str, Value] = dict(zip(COLUMNS, (1, 2.0, None, "a"), strict=True))
    made = History(COLUMNS)
    made.append(row)
    row["loss"] = 7.0
    assert made.rows[0]["loss"] == 2.0


@pytest.mark.parametrize(("epoch", "left"), [(0, []), (1, [1]), (2, [1]), (3, [1, 3]), (9, [1, 3])])
def test_cut_keeps_the_rows_up_to_an_epoch(epoch: int, left: list[int]) -> None:
    made = history((1, 2.0, None, "a"), (3, 1.0, 0.5, "b"))
    made.cut(epoch)
    assert made.epochs == left


def test_a_cut_history_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    rows: list[tuple[Value, ...]] = [(e, 1 / e, None, "a") for e in (1, 2, 3)]
    history(*rows).write(tmp_path / "whole.csv")
    history(*rows).write(tmp_path / "h.csv")
    resumed = History.read(tmp_path / "h.csv")
    resumed.cut(1)
    for row in rows[1:]:
        resumed.append(dict(zip(COLUMNS, row, strict=True)))
    resumed.write(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"los": 1.0}, "unknown columns: los"),
        ({"loss": ...}, "missing columns: loss"),
        ({"epoch": 1.0}, "epoch 1.0 is no whole number"),
        ({"epoch": True}, "epoch True is no whole number"),
        ({"epoch": None}, "epoch None is no whole number"),
        ({"epoch": 5}, "epoch 5 follows epoch 5"),
        ({"epoch": 4}, "epoch 4 follows epoch 5"),
        ({"loss": True}, "loss True would not survive"),
        ({"note": "12"}, "note '12' would not survive"),
        ({"note": "nan"}, "note 'nan' would not survive"),
        ({"note": "a\nb"}, "control characters"),
        ({"note": 3}, "note 3 is of another kind than 'a' above it"),
        ({"loss": "low"}, "loss 'low' is of another kind than 2.0 above it"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(change: dict[str, Value], words: str) -> None:
    made = history((5, 2.0, None, "a"))
    row: dict[str, Value] = dict(zip(COLUMNS, (6, 1.0, 0.5, "b"), strict=True)) | change
    with pytest.raises(ValueError, match=words):
        made.append({name: value for name, value in row.items() if value is not ...})
    assert made.epochs == [5]


@pytest.mark.parametrize(
    ("columns", "words"), [(("loss",), "no column 'epoch'"), (("epoch", "a", "a"), "twice: a")]
)
def test_columns_that_make_no_history(columns: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        History(columns)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: no column 'epoch'"),
        (b"a,b\n1,2\n", "line 1: no column 'epoch'"),
        (b"epoch,loss,loss\n", "line 1: columns given twice: loss"),
        (b"epoch,loss\n1,0.5\n2\n", "line 3: 1 cells, expected 2"),
        (b"epoch,loss\n1,0.5\n\n", "line 3: 0 cells, expected 2"),
        (b"epoch,loss\n1,0.5,7\n", "line 2: 3 cells, expected 2"),
        (b"epoch,loss\n1,0.5\n2,0.4", "line 3: cut short"),
        (b"epoch,loss\none,0.5\n", "line 2: epoch 'one' is no whole number"),
        (b"epoch,loss\n2,0.5\n2,0.4\n", "line 3: epoch 2 follows epoch 2"),
        (b"epoch,loss\n1,0.5\n2,0.5x\n", "line 3: loss '0.5x' is of another kind than 0.5"),
        (b'epoch,loss\n1,"0.5\n2,0.4\n', "line 3: unexpected end of data"),
        (b"epoch,loss\n" + b"9" * 5000 + b",1\n", "line 2: Exceeds the limit"),
        (b"epoch,loss\n1,\xff\n", "is no text: expected the history.csv of a training run"),
    ],
)
def test_damage_is_named_by_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        History.read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.csv: No such file"):
        History.read(tmp_path / "gone.csv")


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(b"\xef\xbb\xbfepoch,loss\r\n1,.50\r\n2,1E-1\r\n")
    assert History.read(path).numbers("loss") == [0.5, 0.1]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        History(COLUMNS).write(tmp_path / "file" / "history.csv")


def test_means_weigh_each_batch_by_its_images() -> None:
    means = EpochMeans()
    assert means.means() == {}
    means.add({"loss": 1.0, "gap": -2.0}, 3)
    means.add({"loss": 5.0, "gap": 2.0}, 1)
    assert means.means() == {"loss": 2.0, "gap": -1.0}


def test_means_resumed_anywhere_have_the_same_bits() -> None:
    # 0.1 and 1e16 in float64: any other order or grouping of the sums gives other bits.
    batches = [
        ({"loss": value}, count) for value, count in [(0.1, 3), (1e16, 1), (0.7, 3), (-1e16, 1)]
    ]
    whole = EpochMeans()
    for values, count in batches:
        whole.add(values, count)
    for place in range(len(batches) + 1):
        first, second = EpochMeans(), EpochMeans()
        for values, count in batches[:place]:
            first.add(values, count)
        second.restore(json.loads(json.dumps(first.state())))
        for values, count in batches[place:]:
            second.add(values, count)
        assert second.means()["loss"].hex() == whole.means()["loss"].hex()


def test_the_state_is_a_copy() -> None:
    means = EpochMeans()
    means.add({"loss": 1.0}, 1)
    state = means.state()
    means.add({"loss": 3.0}, 1)
    assert state == {"count": 1, "sums": {"loss": 1.0}}
    means.restore(state)
    means.add({"loss": 2.0}, 1)
    assert state["sums"] == {"loss": 1.0}


@pytest.mark.parametrize(
    ("values", "count", "words"),
    [
        ({"loss": 1.0}, 0, "a batch of 0 images"),
        ({"other": 1.0}, 1, r"not in every batch: \['loss', 'other'\]"),
        ({}, 1, r"not in every batch: \['loss'\]"),
    ],
)
def test_batches_that_cannot_be_averaged(values: dict[str, float], count: int, words: str) -> None:
    means = EpochMeans()
    means.add({"loss": 1.0}, 1)
    with pytest.raises(ValueError, match=words):
        means.add(values, count)
    assert means.state() == {"count": 1, "sums": {"loss": 1.0}}
