"""Networks that are Python objects already: given by a caller, or by a factory."""

from collections.abc import Callable

from robench.defenses.defense import Defense, count_parameters, foreign, probe_classes, ready
from robench.defenses.fingerprint import fingerprint, foreign_code
from robench.defenses.settings import Settings, Shape
from robench.models.normalize import normalized, parse_normalization


def from_module(
    network: object,
    settings: Settings,
    input_shape: Shape,
    what: str,
    factory: Callable[..., object] | None = None,
) -> Defense:
    """The caller's own object, put in evaluation mode and otherwise left as it is.

    input_shape: tried out where settings do not say the number of classes. what: names it in
    errors. factory: the function that made it; its source is part of the fingerprint.
    Raises: InputError as `defense.ready` and `defense.probe_classes`.
    """
    module = ready(network, what)
    normalization = parse_normalization(settings.normalize or "none")
    model = normalized(module, normalization)
    classes = settings.classes or probe_classes(model, input_shape, what)
    with foreign(f"{what}: state_dict()"):
        code = foreign_code(module, factory)
        identity = fingerprint(module, code, normalization.text)
    notes = [f"source of {name} not to be had: it counts by name" for name in code.unread]
    return Defense(
        name=type(module).__name__,
        scheme="module",
        ref=type(module).__name__,
        model=model,
        architecture=f"{type(module).__module__}.{type(module).__qualname__}",
        width=None,
        num_classes=classes,
        parameters=count_parameters(module),
        normalization=normalization.text,
        fingerprint=identity,
        dataset=settings.dataset,
        eps=settings.radius,
        norm=settings.norm,
        notes=tuple(notes),
    )
