"""`robustbench:<dataset>/<Linf|L2>/<id>`: a network of RobustBench, built and filled by its loader.

Network and rules for its weights are those of the installed package; the files are found, checked
and fetched by ours, so that nothing is opened but as weights only. The short form
`robustbench:<id>` does where the id is unique, or data set and norm decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.threat import Norm
from robench.defenses.defense import Defense, foreign
from robench.defenses.robustbench_files import Part, find_files
from robench.defenses.schemes.module import from_module
from robench.defenses.settings import Settings, Shape
from robench.models.robustbench_compat import import_robustbench, inside_robustbench

_NORMS: dict[str, Norm] = {"Linf": "linf", "L2": "l2"}
_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
_EPS = {
    "cifar10/Linf": 8 / 255,
    "cifar10/L2": 0.5,
    "cifar100/Linf": 8 / 255,
    "imagenet/Linf": 4 / 255,
}
"""Of each leaderboard. Six networks were evaluated at 0.031 instead: --eps says so."""


@dataclass(frozen=True)
class Entry:
    """A network of the model zoo: its board, its id, and what the package's table says of it."""

    dataset: str
    threat: str
    id: str
    line: Mapping[str, Any]

    @property
    def board(self) -> str:
        """`cifar10/Linf`."""
        return f"{self.dataset}/{self.threat}"

    @property
    def ref(self) -> str:
        """The full form of the reference."""
        return f"robustbench:{self.board}/{self.id}"

    @property
    def timm_name(self) -> str:
        """What RobustBench registers a network of its own as in timm."""
        return f"{self.id.lower().replace('-', '_')}_{self.dataset}_{self.threat.lower()}"


def load(text: str, settings: Settings, input_shape: Shape) -> Defense:
    """The network with its published weights, in its own normalisation.

    input_shape is not needed: the data set says how many classes there are.
    Raises: InputError without the package, for an id that is unknown or means several networks,
    for files that are not there, and for weights that do not fit.
    """
    zoo = import_robustbench()
    entry = find(text, settings, zoo)
    parts = files_of(entry, zoo)
    folder, digests = find_files(entry.ref, parts)
    with foreign(entry.ref), inside_robustbench():
        network = _network(entry, zoo, folder)
    norm = _NORMS[entry.threat]
    own_eps = settings.radius is not None and (settings.norm or "linf") == norm
    known = Settings(
        dataset=entry.dataset,
        norm=norm,
        classes=_CLASSES[entry.dataset],
        eps=settings.radius if own_eps else _EPS[entry.board],
    )
    settings = known.over(settings)
    defense = from_module(network.requires_grad_(False), settings, input_shape, entry.ref)
    return replace(
        defense,
        name=entry.id,
        scheme="robustbench",
        ref=entry.ref,
        architecture=entry.ref,
        source={"path": str(folder / parts[0].place), "sha256": digests[0]},
        notes=(*defense.notes, *_others(parts, digests)),
    )


def _others(parts: list[Part], digests: list[str]) -> list[str]:
    """A record keeps one checkpoint's hash; those of an ensemble's other members stand in notes."""
    return [
        f"{part.place.name}: sha256 {digest}"
        for part, digest in zip(parts[1:], digests[1:], strict=True)
    ]


def entries(zoo: ModuleType) -> list[Entry]:
    """Every network of the L-inf and L2 boards that the installed package knows."""
    return [
        Entry(dataset.value, threat.value, name, line)
        for dataset, boards in zoo.all_models.items()
        for threat, lines in boards.items()
        if threat.value in _NORMS
        for name, line in lines.items()
    ]


def find(text: str, settings: Settings, zoo: ModuleType) -> Entry:
    """The network that `text` names; settings' data set and norm decide between several.

    Raises: InputError with the nearest names, or with the candidates.
    """
    known, what = entries(zoo), f"robustbench:{text}"
    *board, name = text.split("/")
    fitting = [entry for entry in known if entry.id == name]
    if not board:
        fitting = _decided(fitting, settings)
    elif "/".join(board) in _EPS:
        fitting = [entry for entry in fitting if entry.board == "/".join(board)]
    else:
        raise InputError(
            f"{what}: expected robustbench:<dataset>/<Linf|L2>/<id> or robustbench:<id>, with "
            f"one of {', '.join(_EPS)} before the id"
        )
    if not fitting:
        there = [e for e in known if not board or e.board == "/".join(board)]
        hint = did_you_mean(name, [entry.id for entry in there]) or ""
        raise InputError(f"the installed robustbench has no {'/'.join([*board, name])!r}{hint}")
    if len(fitting) > 1:
        raise InputError(f"{what} means several: {', '.join(entry.ref for entry in fitting)}")
    return fitting[0]


def _decided(fitting: list[Entry], settings: Settings) -> list[Entry]:
    """Those of the data set and norm asked for, where some are."""
    for wanted in (
        lambda entry: entry.dataset == settings.dataset,
        lambda entry: _NORMS[entry.threat] == settings.norm,
    ):
        fitting = [entry for entry in fitting if wanted(entry)] or fitting
    return fitting


def files_of(entry: Entry, zoo: ModuleType) -> list[Part]:
    """The checkpoint files of a network, in the order of its members.

    Raises: InputError for one whose weights are another package's.
    """
    drive, folder = entry.line["gdrive_id"], Path(entry.dataset, entry.threat)
    if zoo.timm.is_model(entry.timm_name):
        url = zoo.timm.get_pretrained_cfg_value(entry.timm_name, "url")
        return [Part(folder / f"{entry.id}.pt", url)]
    if not drive:
        raise InputError(
            f"{entry.ref} has torchvision's own weights: robench eval --defense "
            "'torchvision:resnet50[weights=PATH]'"
        )
    if isinstance(drive, str):
        return [_on_drive(folder / f"{entry.id}.pt", drive)]
    return [_on_drive(folder / f"{entry.id}.pt_m{i}.pt", one) for i, one in enumerate(drive)]


def _on_drive(place: Path, drive: str) -> Part:
    return Part(place, f"https://drive.google.com/uc?id={drive}", drive)


def _network(entry: Entry, zoo: ModuleType, folder: Path) -> nn.Module:
    """RobustBench's own loading, but for timm's networks, which it would always download."""
    if not zoo.timm.is_model(entry.timm_name):
        loaded: nn.Module = zoo.load_model(
            entry.id, model_dir=folder, dataset=entry.dataset, threat_model=entry.threat
        )
        return loaded
    network: nn.Module = zoo.timm.create_model(
        entry.timm_name, num_classes=_CLASSES[entry.dataset], pretrained=False
    )
    path = folder / entry.board / f"{entry.id}.pt"
    zoo.timm.models.load_checkpoint(network, str(path), weights_only=True)
    return network
