"""`torchvision:<name>[weights=PATH]`: a classifier of torchvision. Nothing is downloaded."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robench.core.errors import InputError
from robench.core.names import did_you_mean, parse_call
from robench.core.references import portable, split_weights
from robench.defenses.defense import Defense, foreign
from robench.defenses.schemes.file import source_of
from robench.defenses.schemes.module import from_module
from robench.defenses.settings import Settings, Shape
from robench.models.build import layout
from robench.models.keys import clean, load_strictly
from robench.models.torchvision_compat import import_torchvision
from robench.models.weights import read_checkpoint

_CLASSES = 1000
"""What torchvision builds unless told otherwise."""


def load(text: str, settings: Settings, input_shape: Shape) -> Defense:
    """The network with the weights of PATH; ImageNet normalisation unless settings differ.

    Raises: InputError for an unknown name, missing weights, or weights that do not fit.
    """
    what = f"torchvision:{text}"
    name, arguments = parse_call(text)
    if set(arguments) - {"weights"}:
        raise InputError(f"{what}: expected torchvision:{name}[weights=PATH]")
    build = _builder(name)
    if "weights" not in arguments:
        raise InputError(
            f"{what} has no weights, and none are downloaded: "
            f"give a file, torchvision:{name}[weights=PATH]"
        )
    file, which = split_weights(arguments["weights"])
    path = Path(file).expanduser()
    checkpoint = read_checkpoint(path, which)
    cleaned = clean(checkpoint.tensors)
    with foreign(what):
        classes = settings.classes or _classes(build, cleaned.tensors)
        network = build(num_classes=classes)
    rules = load_strictly(network.requires_grad_(False), cleaned.tensors, what)
    stored = cleaned.normalization.text if cleaned.normalization else "imagenet"
    default = Settings(normalize=stored, classes=classes)
    defense = from_module(network, settings.over(default), input_shape, what)
    return replace(
        defense,
        name=f"torchvision-{name}" + ("" if which is None else f"-{which}"),
        scheme="torchvision",
        ref=what,
        architecture=f"torchvision:{name}",
        source=source_of(path, which, checkpoint.sha256),
        key_rules=(*checkpoint.rules, *cleaned.rules, *rules),
        notes=(*defense.notes, *checkpoint.said(portable(file))),
    )


def _builder(name: str) -> Callable[..., nn.Module]:
    models: Any = import_torchvision().models
    known: list[str] = models.list_models(module=models)
    if name not in known:
        hint = did_you_mean(name, known) or f": expected one of {', '.join(known[:5])}, ..."
        raise InputError(f"unknown classifier torchvision:{name}{hint}")
    builder: Callable[..., nn.Module] = models.get_model_builder(name)
    return builder


def _classes(build: Callable[..., nn.Module], tensors: Mapping[str, Tensor]) -> int:
    """First dimension, in the file, of the tensors that have one per class."""
    shapes = layout(build())
    heads = [name for name, shape in shapes.items() if shape[:1] == (_CLASSES,)]
    found = [tensors[name].shape[0] for name in heads if tensors.get(name) is not None]
    return found[-1] if found else _CLASSES
