"""Entry: a published figure in our words, ready to stand beside a measured one; and its reader."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from robench.core.threat import Norm


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A published network under one attack. Accuracies are fractions of 1, None if not printed."""

    name: str
    """The method, or RobustBench's id."""
    where: tuple[str, ...]
    """The tables that print it; nothing for a leaderboard."""
    dataset: str
    norm: Norm
    eps: float
    attack: str
    """As published; `names.ATTACKS` says which of ours it is."""
    architecture: str
    """As published."""
    parameters: int | None
    """Of the network, None where the architecture's name does not decide it."""
    clean: float | None
    robust: float | None
    w_robust: float | None = None
    """As printed."""
    w_robust_recomputed: float | None = None
    best_known: float | None = None
    """Lowest robust accuracy that is known, by whatever attack; RobustBench only."""
    unranked: str | None = None
    """Why it stands beside the ranked ones whatever it is compared with."""
    remarks: tuple[str, ...] = ()


def read_fields(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file without their empty fields: what is not printed is not there."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: text for name, text in row.items() if text}


def share(percent: Decimal | None) -> float | None:
    """A fraction of 1."""
    return None if percent is None else float(percent / 100)
