"""Networks that are Python objects already: given by a caller, or by a factory."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from torch import nn

from robench.core.errors import InputError
from robench.defenses.defense import Defense, count_parameters, foreign, ready, weights_advice
from robench.defenses.fingerprint import Code, fingerprint, foreign_code
from robench.defenses.first_pass import FirstPass, first_pass, stand_in
from robench.defenses.reached import further_text, moved_by_a_pass, reached
from robench.defenses.settings import Settings, Shape
from robench.models.normalize import Normalization, normalized, parse_normalization

_MOVED: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""What passes have changed of a network so far: some things move at the first pass only, and the
network must be the same one when it is given again."""


def from_module(
    network: object,
    settings: Settings,
    input_shape: Shape,
    what: str,
    factory: Callable[..., object] | None = None,
) -> Defense:
    """The caller's own object, put in evaluation mode and otherwise left as it is.

    input_shape: of the images of its first pass. A network whose number of classes the settings say
    may fail there: `Defense.refused` then says why. what: names it in errors. factory: the function
    that made it; its source is part of the fingerprint.
    Raises: InputError as `defense.ready` and `first_pass.first_pass`.
    """
    module = ready(network, what)
    normalization = parse_normalization(settings.normalize or "none")
    with foreign(f"{what}: state_dict()"):
        tried = _Tried(module, factory, normalization, settings.classes, input_shape, what)
        identity = fingerprint(module, tried.code, normalization.text)
    first = tried.first
    model = module if first is None else first.logits_of(module)
    return Defense(
        name=type(module).__name__,
        scheme="module",
        ref=type(module).__name__,
        model=normalized(model, normalization),
        architecture=f"{type(module).__module__}.{type(module).__qualname__}",
        width=None,
        num_classes=tried.classes,
        parameters=count_parameters(module),
        normalization=normalization.text,
        fingerprint=identity,
        dataset=settings.dataset,
        eps=settings.radius,
        norm=settings.norm,
        rows=None if first is None else first.rows,
        refused=tried.refused,
        notes=tried.notes,
    )


class _Tried:
    """A network after its first pass.

    first: what it answered, None where it failed. refused: why. code: what stands for it in the
    fingerprint, with values as they were before the pass.
    """

    def __init__(
        self,
        module: nn.Module,
        factory: Callable[..., object] | None,
        normalization: Normalization,
        classes: int | None,
        shape: Shape,
        what: str,
    ) -> None:
        self.first: FirstPass | None = None
        self.refused: str | None = None

        def run(network: nn.Module) -> FirstPass:
            return first_pass(normalized(network, normalization), shape, classes, what)

        # Both of the copy: code may hold on to what the network holds, too, and is not copied.
        double = stand_in(module)
        before = reached(double, factory, also=module)
        try:
            self.first = run(double)
            if double is not module and _names(double) != _names(module):
                run(module)  # it makes layers when it is called: they are part of it
                ready(module, what)
                before = reached(stand_in(module), factory, also=module)
        except InputError as error:
            self.refused = weights_advice(module, what) or str(error)
            if classes is None:
                raise InputError(self.refused) from error
        self.classes = classes or (self.first.classes if self.first else 0)
        after = reached(double, factory, also=module)
        moved = _MOVED.setdefault(module, set())
        moved |= moved_by_a_pass(before, after)
        code, further = foreign_code(module, factory), further_text(before, after, moved)
        self.code = Code(f"{code.text}\n{further}", code.unread) if further else code
        unread = [f"source of {name} not to be had" for name in code.unread]
        self.notes = (
            *(f"{one}: it counts by name" for one in unread if not _is_said(one, after.remarks)),
            *after.remarks,
            *_said_of(moved),
            *(self.first.notes if self.first else ()),
        )


def _names(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_modules()]


def _is_said(beginning: str, remarks: tuple[str, ...]) -> bool:
    return any(remark.startswith(beginning) for remark in remarks)


def _said_of(moved: set[str]) -> list[str]:
    if not moved:
        return []
    named = ", ".join(sorted(moved)[:3]) + (", ..." if len(moved) > 3 else "")
    return [f"changed by a pass, so no part of its identity: {named}"]
