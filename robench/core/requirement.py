"""`--require 'w_robust(pgd_sat) >= 0.60'`: a line that rows must meet."""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.row import Row

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_METRICS = ("w_robust", "robust_accuracy", "clean_accuracy")
_LINE = re.compile(r"\s*(\w+)\s*\(\s*(.+?)\s*\)\s*(>=|<=|>|<)\s*([0-9.]+)\s*(%?)\s*")


@dataclass(frozen=True)
class Requirement:
    """metric(attack) operator bound, on fractions of 1."""

    text: str
    metric: str
    attack: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """Raises: InputError for anything but `metric(attack) >= number`."""
        match = _LINE.fullmatch(text)
        if match is None:
            raise InputError(f"cannot read requirement {text!r}: expected w_robust(pgd_sat) >= 0.6")
        metric, attack, sign, number, percent = match.groups()
        if metric not in _METRICS:
            hint = did_you_mean(metric, _METRICS)
            raise InputError(f"unknown metric {metric!r}{hint}: expected {', '.join(_METRICS)}")
        try:
            bound = float(number) / (100 if percent else 1)
        except ValueError:
            raise InputError(f"cannot read {number!r} in requirement {text!r}") from None
        if not 0 <= bound <= 1:
            raise InputError(f"{text!r}: accuracies are fractions of 1, write 0.6 or 60%")
        return cls(text, metric, attack, sign, bound)

    def unmet(self, rows: Iterable[Row], confident: bool) -> list[str]:
        """Why it does not hold, one line per row that breaks it; empty when it is met.

        confident: compare the unfavourable end of the 95 % interval instead of the figure. Rows
        that are not finished do not meet it, and neither does a missing row.
        """
        mine = [row for row in rows if row.attack == self.attack]
        if not mine:
            return [f"requirement {self.text!r} not met: no row of {self.attack}"]
        return [reason for row in mine if (reason := self._reason(row, confident))]

    def _reason(self, row: Row, confident: bool) -> str | None:
        if row.status != "done":
            return f"requirement {self.text!r} not met: {row.defense} is {row.status}"
        value = self._value(row, confident)
        if _OPERATORS[self.sign](value, self.bound):
            return None
        return f"requirement {self.text!r} not met: {row.defense} has {value:.4f}"

    def _value(self, row: Row, confident: bool) -> float:
        value: float | None = getattr(row, self.metric)
        if value is None:
            return math.nan
        if not confident:
            return value
        intervals = {
            "w_robust": row.w_robust_interval_95,
            "robust_accuracy": row.robust_interval_95,
        }
        interval = intervals.get(self.metric)
        if interval is None:
            raise InputError(f"--require-confident has no interval for {self.metric}")
        return interval[0] if self.sign in (">", ">=") else interval[1]
