"""The published figures as rows of the page: every one, also those that stand beside nothing."""

from collections.abc import Iterator, Mapping

import msgspec

from robench.boards.columns import Column
from robench.boards.page.rows import Labels, Note, PageRow
from robench.boards.published import names, paper, robustbench
from robench.boards.published.entry import Entry, share
from robench.boards.published.robustbench import RobustBenchRow
from robench.core.record import Stop
from robench.core.threat import format_eps, parse_number

CORRUPTIONS = "corruptions"


def published_rows(labels: Labels) -> Iterator[PageRow]:
    """The accuracies of the paper's tables, then RobustBench's leaderboards.

    labels: the attacks of the measured rows, which a published row joins only when it was made
    with the same parameters and stop rule.
    """
    for number, entry in enumerate(paper.entries(), start=1):
        yield _paper_row(entry, f"paper-{number}", labels)
    known: dict[tuple[str, str, str], Entry] = {
        (entry.dataset, entry.norm, entry.name): entry for entry in robustbench.entries()
    }
    for number, row in enumerate(robustbench.robustbench_rows(), start=1):
        entry_ = known.get((row.dataset, row.threat_model.lower(), row.model_id))
        yield _robustbench_row(row, entry_, f"robustbench-{number}", labels)


def published_label(attack: str, columns: Mapping[Column, str]) -> str:
    """The label under which a published attack stands among the measured `columns`."""
    setting = names.ATTACKS[attack]
    if setting is None or setting.unknown:
        return f"{attack} (published)"
    for column, label in columns.items():
        stop = msgspec.convert(column.stop, Stop)
        parameters = msgspec.json.decode(column.parameters)
        if column.attack == setting.attack and not setting.departures(stop, parameters):
            return label
    return f"{attack} (published)" if setting.attack in columns.values() else setting.attack


def _paper_row(entry: Entry, id_: str, labels: Labels) -> PageRow:
    ground = f"{entry.dataset}, {entry.norm} eps {format_eps(entry.eps)}"
    return PageRow(
        id=id_,
        source="paper",
        where=", ".join(entry.where),
        ground=ground,
        attack=published_label(entry.attack, labels.get(ground, {})),
        name=entry.name,
        architecture=entry.architecture,
        parameters=entry.parameters,
        clean=entry.clean,
        robust=entry.robust,
        w_printed=entry.w_robust,
        w_recomputed=entry.w_robust_recomputed,
        field=None if entry.unranked else f"paper and poster, {entry.architecture}",
        notes=tuple(_paper_notes(entry)),
    )


def _paper_notes(entry: Entry) -> Iterator[Note]:
    if entry.unranked:
        yield Note("info", f"not ranked: {entry.unranked}")
    if None in (entry.clean, entry.robust, entry.w_robust):
        yield Note("info", "not checkable: clean, robust and W-Robust are not all printed")
    for remark in entry.remarks:
        yield Note("warn" if remark.startswith("inconsistent:") else "info", remark)


def _robustbench_row(row: RobustBenchRow, entry: Entry | None, id_: str, labels: Labels) -> PageRow:
    corrupted = row.threat_model == CORRUPTIONS
    threat = CORRUPTIONS if corrupted else _threat(row)
    ground = f"{row.dataset}, {threat}"
    columns = labels.get(ground, {})
    doubt = robustbench.why_unranked(row)
    robust = share(row.corruptions_acc if corrupted else row.autoattack_acc)
    clean = share(row.clean_acc)
    return PageRow(
        id=id_,
        source="robustbench",
        where="RobustBench",
        link=row.link if row.link.startswith("https://") else "",
        ground=ground,
        attack=CORRUPTIONS if corrupted else published_label("autoattack", columns),
        name=row.model_id,
        architecture=row.architecture,
        parameters=entry.parameters if entry else None,
        clean=clean,
        robust=robust,
        w_recomputed=_mean(clean, None if corrupted else robust),
        best_known=None if corrupted else share(row.best_known),
        weighed=not corrupted,
        field=None if doubt or corrupted else "RobustBench",
        notes=tuple(_robustbench_notes(row, doubt)),
    )


def _mean(clean: float | None, robust: float | None) -> float | None:
    return None if clean is None or robust is None else (clean + robust) / 2


def _threat(row: RobustBenchRow) -> str:
    return f"{row.threat_model.lower()} eps {format_eps(parse_number(row.eps))}"


def _robustbench_notes(row: RobustBenchRow, doubt: str | None) -> Iterator[Note]:
    if doubt:
        yield Note("warn", f"not ranked: {doubt}")
    elif row.eps_flag:
        yield Note("info", row.eps_flag)
    if row.additional_data:
        yield Note("info", "additional data")
