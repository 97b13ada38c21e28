"""RobustBench's leaderboards: its entries, and the ids that its loader knows."""

from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec

from robench.boards.published.entry import Entry, read_fields, share
from robench.boards.published.names import CLASSES, DATASETS, parameters
from robench.core.threat import Norm, parse_number

_FOLDER = Path(__file__).parent
_NORMS: dict[str, Norm] = {"Linf": "linf", "L2": "l2"}
# Constructors of the plain networks. The others are changed, or other networks of that name (there
# are four of PreActResNet-18): for those the name does not decide the number of parameters.
_PLAIN = {"ResNet", "ResNet18", "WideResNet", "DMWideResNet"}
_UNDECIDED = {"PreActResNet-18"}


class RobustBenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a leaderboard. Percent, with the digits of the source; texts as in SOURCE.md."""

    dataset: str
    threat_model: str
    """"Linf", "L2" or "corruptions"."""
    model_id: str
    architecture: str
    eps: str = ""
    """As written: "8/255", "0.031", or empty."""
    eps_flag: str = ""
    """What is unusual about eps."""
    additional_data: bool
    clean_acc: Decimal
    autoattack_acc: Decimal | None = None
    external_acc: Decimal | None = None
    """By another evaluation than AutoAttack."""
    best_known: Decimal | None = None
    """The external accuracy where there is one, else AutoAttack's."""
    unreliable: str = ""
    """RobustBench's own word about the AutoAttack figure: "true", "false" or "unknown"."""
    corruptions_acc: Decimal | None = None
    link: str = ""
    """Address of the publication."""


class LoaderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An id of RobustBench's loader, with the class that builds its network."""

    dataset: str
    threat_model: str
    id: str
    constructor: str


@cache
def robustbench_rows() -> tuple[RobustBenchRow, ...]:
    """Every row of the leaderboards, in the order of the file."""
    fields = read_fields(_FOLDER / "robustbench_leaderboards.csv")
    return tuple(msgspec.convert(row, RobustBenchRow, strict=False) for row in fields)


@cache
def loader_rows() -> tuple[LoaderRow, ...]:
    """Every id of the loader, in the order of the file."""
    fields = read_fields(_FOLDER / "robustbench_loader_ids.csv")
    return tuple(msgspec.convert(row, LoaderRow, strict=False) for row in fields)


@cache
def entries() -> tuple[Entry, ...]:
    """The rows of data sets that are ours too. Corruptions have no threat model and stay apart."""
    constructors = {
        (loader.dataset, loader.threat_model, loader.id): loader.constructor
        for loader in loader_rows()
    }
    return tuple(
        _entry(row, constructors.get((row.dataset, row.threat_model, row.model_id)))
        for row in robustbench_rows()
        if row.dataset in DATASETS and row.threat_model in _NORMS
    )


def _entry(row: RobustBenchRow, constructor: str | None) -> Entry:
    dataset = DATASETS[row.dataset]
    return Entry(
        name=row.model_id,
        where=(),
        dataset=dataset,
        norm=_NORMS[row.threat_model],
        eps=parse_number(row.eps),
        attack="autoattack",
        architecture=row.architecture,
        parameters=_parameters(row.architecture, constructor, CLASSES[dataset]),
        clean=share(row.clean_acc),
        robust=share(row.autoattack_acc),
        best_known=share(row.best_known),
        unranked=why_unranked(row),
        remarks=("trained with additional data",) if row.additional_data else (),
    )


def _parameters(architecture: str, constructor: str | None, classes: int) -> int | None:
    """constructor: None where no weights are offered; then the name is all there is."""
    plain = constructor is None or constructor in _PLAIN
    return parameters(architecture, classes) if plain and architecture not in _UNDECIDED else None


def why_unranked(row: RobustBenchRow) -> str | None:
    """What about the row itself forbids a rank."""
    if row.unreliable == "true":
        return "RobustBench calls its AutoAttack unreliable"
    # "not 8/255" needs no word: such a row has its own eps and meets only its like.
    return f"eps in doubt: {row.eps_flag}" if "footnote" in row.eps_flag else None
