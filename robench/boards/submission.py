"""The JSON that RobustBench asks for with a new model, filled in as far as records tell.

Source: RobustBench, "Adding a new model": `model_info/<dataset>/<Linf|L2>/<Name><Year><Word>.json`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from robench.boards.collect import Found, choose
from robench.boards.joining import dataset_of, is_prefix
from robench.boards.published import names
from robench.boards.published.robustbench import entries
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.record import Record
from robench.core.threat import format_eps


class ModelInfo(msgspec.Struct, kw_only=True):
    """The fields of RobustBench's files in their order; null where only the authors know.

    Accuracies are percent with two digits, as text: so are all that RobustBench has.
    """

    link: str | None = None
    """Address of the paper."""
    name: str | None = None
    """Title of the paper."""
    authors: str | None = None
    additional_data: bool | None = None
    """Whether it was trained with more than the training set."""
    number_forward_passes: int | None = None
    """Of the network for a prediction."""
    dataset: str
    venue: str | None = None
    architecture: str
    eps: str
    clean_acc: str
    reported: str | None = None
    """Robust accuracy as the paper has it."""
    autoattack_acc: str
    footnote: str | None = None


def model_info(found: Iterable[Found], defense: str) -> ModelInfo:
    """The entry of `defense`, a name on the records, from its AutoAttack record.

    Raises: InputError for an unknown name, and without a finished record of standard AutoAttack on
    a board of RobustBench.
    """
    kept = [item.record for item in choose(found)]
    record = _fitting([r for r in kept if r.defense.name == defense], defense, kept)
    n, registered = len(record.verdicts), record.defense.architecture in names.ARCHITECTURES
    return ModelInfo(
        number_forward_passes=1 if registered else None,
        dataset=dataset_of(record),
        architecture=names.ARCHITECTURES.get(
            record.defense.architecture, record.defense.architecture
        ),
        eps=format_eps(record.threat.eps),
        clean_acc=_percent(sum(record.verdicts.clean_correct), n),
        autoattack_acc=_percent(sum(record.verdicts.survived), n),
        footnote=None
        if _whole(record)
        else f"Evaluated on {n} of {names.TEST_IMAGES} test images.",
    )


def _percent(successes: int, n: int) -> str:
    return f"{100 * successes / n:.2f}"


def _whole(record: Record) -> bool:
    return is_prefix(record) and len(record.verdicts) == names.TEST_IMAGES


def _fitting(records: list[Record], defense: str, all_records: Iterable[Record]) -> Record:
    """The record of most images that RobustBench could take."""
    if not records:
        known = sorted({record.defense.name for record in all_records})
        hint = did_you_mean(defense, known) or f": there are {', '.join(known) or 'none at all'}"
        raise InputError(f"no records of {defense!r}{hint}")
    reasons = {id(record): _why_not(record) for record in records}
    fitting = [record for record in records if reasons[id(record)] is None]
    if not fitting:
        said = "; ".join(dict.fromkeys(reason for reason in reasons.values() if reason))
        raise InputError(
            f"{defense} has no record that RobustBench could take ({said}): robench eval "
            f"--defense {defense} --attacks autoattack"
        )
    if len({record.defense.fingerprint for record in fitting}) > 1:
        raise InputError(f"{defense!r} means several defenses: give --records of one of them")
    return max(fitting, key=lambda record: len(record.verdicts))


def _why_not(record: Record) -> str | None:
    """What about the record RobustBench does not ask for."""
    attack, threat = record.attack.name, record.threat
    setting = names.ATTACKS["autoattack"]
    assert setting is not None
    if attack != setting.attack:
        return f"{attack} is not AutoAttack"
    if departures := setting.departures(record.stop, record.attack.parameters):
        return f"autoattack with {', '.join(departures)}"
    if record.status != "done":
        return f"autoattack {record.status.replace('_', ' ')}"
    wanted = _board_eps(dataset_of(record), threat.norm)
    if wanted is None:
        return f"no board for {record.images.dataset} under {threat.norm}"
    if threat.eps != wanted:
        return f"eps {format_eps(threat.eps)} where the board has {format_eps(wanted)}"
    return None if is_prefix(record) else "not the first images of the test set"


def _board_eps(dataset: str, norm: str) -> float | None:
    """What nearly all of a board's entries were evaluated with."""
    radii = Counter(e.eps for e in entries() if (e.dataset, e.norm) == (dataset, norm))
    return radii.most_common(1)[0][0] if radii else None


def render(info: ModelInfo, earlier: Mapping[str, Any]) -> str:
    """The file's text. earlier: a file of the same network; what people filled in there is kept."""
    measured = {key: value for key, value in msgspec.to_builtins(info).items() if value is not None}
    merged = {**msgspec.to_builtins(info), **earlier, **measured}
    if info.footnote is None and str(earlier.get("footnote", "")).startswith("Evaluated on "):
        merged["footnote"] = None
    return msgspec.json.format(msgspec.json.encode(merged), indent=2).decode() + "\n"


def open_fields(text: str) -> list[str]:
    """The fields that are still to be filled in by hand."""
    fields: dict[str, Any] = msgspec.json.decode(text)
    return [key for key, value in fields.items() if value is None and key != "footnote"]


def read_earlier(path: Path) -> dict[str, Any]:
    """What the file holds already, or nothing. Raises: InputError for another kind of file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no RobustBench JSON: give another name with --out") from error
