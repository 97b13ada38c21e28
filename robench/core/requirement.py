"""`--require 'w_robust(pgd_sat) >= 0.60'`: a line that rows must meet."""

import math
import operator
import re
import textwrap
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import Flag
from robench.core.row import Row

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_METRICS = ("w_robust", "robust_accuracy", "clean_accuracy")
_LINE = re.compile(r"\s*(\w+)\s*\(\s*(.+?)\s*\)\s*(>=|<=|>|<)\s*([0-9.]+)\s*(%?)\s*")
_SAID = 90
"""Characters of a flag's message in a reason."""


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

    def unmet(
        self, rows: Iterable[Row], confident: bool, despite: Collection[str] = ()
    ) -> list[str]:
        """Why it does not hold, a line for each reason; empty when it is met.

        confident: compare the unfavourable end of the 95 % interval instead of the figure.
        despite: names of `fail` flags that were looked into. Rows that are not finished or have
        another `fail` flag do not meet it, whatever their figure, and neither does a missing row.
        """
        mine = self._mine(rows)
        if not mine:
            return [f"requirement {self.text!r} not met: no row of {self.attack}"]
        found = [reason for row in mine for reason in self._reasons(row, confident, despite)]
        return [f"requirement {self.text!r} not met: {reason}" for reason in found]

    def passed_over(self, rows: Iterable[Row], despite: Collection[str]) -> list[str]:
        """The `fail` flags named in `despite` that would have stopped it, a line for each."""
        return [
            f"{row.defense}, {row.attack}: {_short(flag)} passed over by --require-despite"
            for row in self._mine(rows)
            for flag in _failing(row)
            if row.status == "done" and flag.name in despite
        ]

    def _mine(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row.attack == self.attack]

    def _reasons(self, row: Row, confident: bool, despite: Collection[str]) -> list[str]:
        if row.status != "done":
            return [f"{row.defense} is {row.status}"]
        value = self._value(row, confident)
        met = _OPERATORS[self.sign](value, self.bound)
        reasons = [] if met else [f"{row.defense} has {value:.4f}"]
        flags = [flag for flag in _failing(row) if flag.name not in despite]
        if flags:
            named = ", ".join(_short(flag) for flag in flags)
            way_on = " ".join(f"--require-despite {flag.name}" for flag in flags)
            reasons.append(f"{row.defense} is flagged {named}: look into it, then {way_on}")
        return reasons

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


def _failing(row: Row) -> list[Flag]:
    return [flag for flag in row.flags if flag.level == "fail"]


def _short(flag: Flag) -> str:
    return f"{flag.name} ({textwrap.shorten(flag.message, _SAID, placeholder=' ...')})"
