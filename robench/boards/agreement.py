"""Whether a RobustBench network that we scored gives the figures published for it."""

from collections.abc import Iterable, Iterator, Sequence

from robench.boards import words
from robench.boards.joining import dataset_of, is_same_network
from robench.boards.published import names
from robench.boards.published.entry import Entry
from robench.boards.published.robustbench import entries
from robench.core.record import Record
from robench.core.statistics import wilson
from robench.core.threat import format_eps


def agreements(records: Iterable[Record]) -> list[str]:
    """One sentence for each network and figure; nothing for defenses that are not RobustBench's."""
    said = [f"{record.defense.name}: {text}" for record in records for text in agreement(record)]
    return list(dict.fromkeys(words.plain(sentence) for sentence in said))


def agreement(record: Record) -> Iterator[str]:
    """`published clean 84.59 %, ours 85.10 % [82.8, 87.2]: agrees`, then AutoAttack where measured.

    Agrees: the published figure, of all test images, lies in the interval of ours. Nothing for a
    defense that was not loaded from RobustBench, other images than its test set's, or a record that
    is not finished.
    """
    entry = next((e for e in entries() if is_same_network(record.defense, e)), None)
    if entry is None or record.status != "done" or entry.dataset != dataset_of(record):
        return
    yield _sentence("clean", entry.clean, record.verdicts.clean_correct)
    if record.attack.name == "autoattack":
        reason = _why_not(record, entry)
        yield (
            f"its published AutoAttack figure is not comparable: {reason}"
            if reason
            else _sentence("AutoAttack", entry.robust, record.verdicts.survived)
        )


def _sentence(what: str, published: float | None, right: Sequence[bool]) -> str:
    value, low, high = wilson(sum(right), len(right))
    ours = f"ours {words.percent(value)} % {words.bounds((low, high))}"
    if published is None:
        return f"no {what} figure is published, {ours}"
    verdict = "agrees" if low <= published <= high else "differs"
    return f"published {what} {words.percent(published)} %, {ours}: {verdict}"


def _why_not(record: Record, entry: Entry) -> str | None:
    """What was measured otherwise than published."""
    if (entry.norm, entry.eps) != (record.threat.norm, record.threat.eps):
        return (
            f"it is of {entry.norm} eps {format_eps(entry.eps)}, ours of {record.threat.norm} eps "
            f"{format_eps(record.threat.eps)}"
        )
    setting = names.ATTACKS[entry.attack]
    assert setting is not None, "RobustBench's attack is one of ours"
    return ", ".join(setting.departures(record.stop, record.attack.parameters)) or None
