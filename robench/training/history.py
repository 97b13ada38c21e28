"""The training log of one run: an exact CSV table, and the running means that fill its rows."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from robench.core.errors import InputError
from robench.core.files import atomic_write

Value = float | int | str | None
"""A cell. None: nothing was measured in this epoch, an empty cell; "" means the same."""

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|nan)", re.ASCII | re.IGNORECASE)


class History:
    """One row per epoch, in ascending order; the columns are fixed when it is made.

    A column holds numbers or text, never both. Numbers are written by `repr`, so that reading gives
    the same float64 and the same type again.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        """Raises: ValueError unless the names are unique and "epoch" is one of them."""
        if "epoch" not in columns:
            raise ValueError("no column 'epoch': this is no training history")
        if repeated := sorted({name for name in columns if columns.count(name) > 1}):
            raise ValueError(f"columns given twice: {', '.join(repeated)}")
        self.columns = tuple(columns)
        self.rows: list[dict[str, Value]] = []

    def append(self, row: Mapping[str, Value]) -> None:
        """Add the row of a later epoch.

        Raises: ValueError for an unknown or a missing column, an epoch that is no later one, and a
        cell that a CSV file could not give back.
        """
        if unknown := sorted(row.keys() - set(self.columns)):
            raise ValueError(f"unknown columns: {', '.join(unknown)}")
        if missing := [name for name in self.columns if name not in row]:
            raise ValueError(f"missing columns: {', '.join(missing)}")
        cells = {name: None if row[name] == "" else row[name] for name in self.columns}
        self._check_epoch(cells["epoch"])
        for name, value in cells.items():
            self._check_cell(name, value)
        self.rows.append(cells)

    def _check_epoch(self, epoch: Value) -> None:
        if type(epoch) is not int:
            raise ValueError(f"epoch {epoch!r} is no whole number")
        if self.rows and epoch <= self.epochs[-1]:
            raise ValueError(f"epoch {epoch} follows epoch {self.epochs[-1]}")

    def _check_cell(self, name: str, value: Value) -> None:
        # By type: nan differs from itself; a bool, a numpy float or "12" would come back as others.
        if type(_value(_text(value))) is not type(value):
            raise ValueError(f"{name} {value!r} would not survive a CSV file")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"{name} {value!r} holds control characters")
        before = next((v for row in self.rows if (v := row[name]) is not None), None)
        if None not in (value, before) and isinstance(value, str) != isinstance(before, str):
            raise ValueError(f"{name} {value!r} is of another kind than {before!r} above it")

    @property
    def epochs(self) -> list[int]:
        """The epoch of each row."""
        return [epoch for row in self.rows if isinstance(epoch := row["epoch"], int)]

    def numbers(self, column: str) -> list[float]:
        """One float per row, NaN where nothing was measured or the column holds text."""
        values = (row[column] for row in self.rows)
        return [float(v) if isinstance(v, float | int) else float("nan") for v in values]

    def cut(self, epoch: int) -> None:
        """Drop the rows after `epoch`: a resumed run writes them again."""
        self.rows = [
            row for row, number in zip(self.rows, self.epochs, strict=True) if number <= epoch
        ]

    def write(self, path: Path) -> None:
        """Replace the file at `path`, or leave it as it is.

        Raises: RunError when the disk is full or the folder cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_text(row[name]) for name in self.columns] for row in self.rows)
        atomic_write(path, text.getvalue().encode())

    @classmethod
    def read(cls, path: Path) -> "History":
        """What `write` left, whatever the columns besides "epoch".

        Raises: InputError naming file and line for what is missing, damaged or something else.
        """
        text = _content(path)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            return cls._of_lines(reader)
        except (ValueError, csv.Error) as error:
            raise InputError(f"{path}, line {max(reader.line_num, 1)}: {error}") from error

    @classmethod
    def _of_lines(cls, lines: Iterable[list[str]]) -> "History":
        lines = iter(lines)
        history = cls(next(lines, []))
        for cells in lines:
            if len(cells) != len(history.columns):
                raise ValueError(f"{len(cells)} cells, expected {len(history.columns)}")
            history.append(dict(zip(history.columns, map(_value, cells), strict=True)))
        return history


def _content(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets put a mark in front
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text: expected the history.csv of a training run"
        ) from error
    # A number that is cut short is still a number, so only the line break tells.
    if text and not text.endswith("\n"):
        line = text.count("\n") + 1
        raise InputError(f"{path}, line {line}: cut short, expected a line break at the end")
    return text


def _text(value: Value) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _value(text: str) -> Value:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text or None


class MeansState(TypedDict):
    """What a checkpoint keeps of `EpochMeans`: plain numbers."""

    count: int
    sums: dict[str, float]


class EpochMeans:
    """Weighted means over the batches of an epoch.

    Plain float64 sums in the order of the batches: an epoch that was stopped and resumed has the
    bits of one that was not.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], count: int) -> None:
        """Take in the means of a batch of `count` images.

        Raises: ValueError unless every batch of an epoch has the same names.
        """
        if count < 1:
            raise ValueError(f"a batch of {count} images")
        if self._count and values.keys() != self._sums.keys():
            raise ValueError(f"not in every batch: {sorted(values.keys() ^ self._sums.keys())}")
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * count
        self._count += count

    def means(self) -> dict[str, float]:
        """The mean of each value; empty before the first batch."""
        return {name: total / self._count for name, total in self._sums.items()}

    def state(self) -> MeansState:
        """For the checkpoint."""
        return {"count": self._count, "sums": dict(self._sums)}

    def restore(self, state: MeansState) -> None:
        """Go on from what `state` gave."""
        self._count, self._sums = state["count"], dict(state["sums"])
