"""A checkpoint file: architecture from settings, else from its metadata, else from its shapes.

`PATH#WHAT` is one of several sets of weights in it: a container's key, or a prefix of names.
"""

from collections.abc import Mapping
from pathlib import Path

from robench.core.errors import InputError
from robench.core.references import portable, split_weights
from robench.defenses.defense import Defense, count_parameters, ready
from robench.defenses.fingerprint import fingerprint, own_code
from robench.defenses.settings import Settings, Shape, from_metadata
from robench.models import ARCHITECTURES
from robench.models.build import Architecture, build_empty
from robench.models.detect import Detected, detect
from robench.models.keys import Cleaned, clean, load_strictly
from robench.models.normalize import LISTED, Normalization, normalized, parse_normalization
from robench.models.weights import read_checkpoint

_EVERY_RUN = {"best", "last", "final", "model", "checkpoint", "weights"}
"""File names that say nothing: the folder's name goes before them."""


def load(text: str, settings: Settings, input_shape: Shape) -> Defense:
    """The network that the file holds, float32 and frozen.

    input_shape is not needed: our networks take any size.
    Raises: InputError for what cannot be read, told apart or loaded, naming the file.
    """
    file, what = split_weights(text)
    path = Path(file).expanduser()
    checkpoint = read_checkpoint(path, what)
    settings = settings.over(from_metadata(checkpoint.metadata, path))
    try:
        cleaned = clean(checkpoint.tensors)
        size = _size(cleaned, settings)
        network = build_empty(size.architecture, size.num_classes, size.width)
        rules = load_strictly(network, cleaned.tensors, _describe(size))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    normalization, notes = _normalization(cleaned, settings, size.architecture)
    code = own_code(size.architecture, size.width, size.num_classes)
    return Defense(
        name=_name(path, what),
        scheme="file",
        ref=text,
        model=ready(normalized(network, normalization), str(path)),
        architecture=size.architecture,
        width=size.width,
        num_classes=size.num_classes,
        parameters=count_parameters(network),
        normalization=normalization.text,
        fingerprint=fingerprint(network, code, normalization.text),
        dataset=settings.dataset,
        class_order=settings.class_order,
        eps=settings.radius,
        norm=settings.norm,
        source=source_of(path, what, checkpoint.sha256),
        key_rules=(*checkpoint.rules, *cleaned.rules, *rules),
        label=checkpoint.metadata.get("label") or None,
        notes=(*notes, *_said(checkpoint.metadata), *checkpoint.said(portable(file))),
    )


def _size(cleaned: Cleaned, settings: Settings) -> Detected:
    """What was said, completed by what the shapes say."""
    if settings.arch and settings.width and settings.classes:
        return Detected(settings.arch, settings.width, settings.classes)
    found = detect(cleaned.tensors, settings.arch)
    return Detected(
        found.architecture, settings.width or found.width, settings.classes or found.num_classes
    )


def _describe(size: Detected) -> str:
    return f"{size.architecture} of width {size.width} with {size.num_classes} classes"


def _normalization(
    cleaned: Cleaned, settings: Settings, architecture: str
) -> tuple[Normalization, tuple[str, ...]]:
    """What was said, else what the file holds, else what the family's code does."""
    if settings.normalize is not None:
        return parse_normalization(settings.normalize), ()
    if cleaned.normalization is not None:
        return cleaned.normalization, ("normalisation from the constants in the checkpoint",)
    chosen: Architecture = ARCHITECTURES.load(architecture)
    if chosen.normalizes_inside and settings.dataset in LISTED:
        note = f"normalisation of {settings.dataset}: published {architecture} has it inside"
        return LISTED[settings.dataset], (note,)
    return LISTED["none"], ()


def _said(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What a reader of any result must know of how the checkpoint was chosen."""
    by_test = metadata.get("selection") == "test"
    return ("best epoch chosen on test images",) if by_test else ()


def source_of(path: Path, what: str | None, sha256: str) -> dict[str, str]:
    """What a defense says of its file, and of the set of weights where one was asked for."""
    return {"path": str(path), "sha256": sha256, **({} if what is None else {"weights": what})}


def _name(path: Path, what: str | None) -> str:
    stem, folder = path.stem, path.absolute().parent.name
    name = f"{folder}-{stem}" if stem.lower() in _EVERY_RUN and folder else stem
    return name if what is None else f"{name}-{what.strip('. ')}"
