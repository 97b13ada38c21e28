"""`foolbox:<AttackClass>`: every foolbox attack of a matching norm that needs no extra input."""

import inspect
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from robench.attacks.adapters.global_draws import global_draws, seed_for
from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel, parse_number

if TYPE_CHECKING:
    from types import ModuleType

_NEEDS_MORE = {"GenAttack": "a target class", "DatasetAttack": "images to draw from"}


@dataclass(frozen=True)
class FoolboxAttack:
    """A foolbox attack, run in float32 on the unmodified defense under a saved global RNG.

    class_name: in `foolbox.attacks`. keywords: its constructor's arguments, defaults included.
    Draws are shared over a batch by design, so verdicts may depend on the batch size: flagged.
    """

    class_name: str
    norms: tuple[Norm, ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    stops: ClassVar[tuple[Stop, ...]] = ("last", "any")
    batch_dependent: ClassVar[bool] = True
    on_defense: ClassVar[bool] = True

    def stages(self, component: str, classes: int) -> list[Stage]:
        steps = int(self.keywords.get("steps") or 1)
        return [Stage(component, "", steps, steps, self.run)]

    def run(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        foolbox = _import_foolbox()
        attack = getattr(foolbox.attacks, self.class_name)(**self.keywords)
        with global_draws(seed_for(draws, ids)):
            model = foolbox.PyTorchModel(
                view.module(offer=True).eval(), bounds=(0, 1), device=images.device
            )
            _, clipped, _ = attack(model, images, labels, epsilons=threat.eps)
        return clipped.detach()  # type: ignore[no-any-return]


def adapt(class_name: str, arguments: dict[str, str]) -> FoolboxAttack:
    """The adapter for `foolbox:<class_name>` with constructor arguments given as text.

    Raises: InputError for an unknown class or argument, a norm other than linf and l2, an attack
    that needs more than images and labels, or a missing foolbox (naming the extra).
    """
    attacks = _import_foolbox().attacks
    known = [
        n for n, c in vars(attacks).items() if inspect.isclass(c) and not inspect.isabstract(c)
    ]
    if class_name not in known:
        hint = did_you_mean(class_name, known)
        raise InputError(f"foolbox has no attack {class_name!r}{hint}")
    if class_name in _NEEDS_MORE:
        raise InputError(f"foolbox:{class_name} needs {_NEEDS_MORE[class_name]}: not supported")
    keywords = _keywords(class_name, getattr(attacks, class_name), arguments)
    instance = getattr(attacks, class_name)(**keywords)
    return FoolboxAttack(class_name, _norms(class_name, instance), keywords)


def _keywords(class_name: str, attack: type, arguments: dict[str, str]) -> dict[str, Any]:
    """Defaults of the constructor that are plain values, overridden by the arguments."""
    parameters = {
        name: p
        for name, p in inspect.signature(attack).parameters.items()
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY
    }
    given: dict[str, Any] = {}
    for key, text in arguments.items():
        if key not in parameters:
            hint = did_you_mean(key, parameters)
            takes = ", ".join(parameters) or "none"
            raise InputError(f"foolbox:{class_name} has no parameter {key!r}{hint}: takes {takes}")
        given[key] = _value(text, parameters[key].default)
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
    if missing:
        raise InputError(
            f"foolbox:{class_name} needs {', '.join(missing)}: "
            f"write foolbox:{class_name}[{missing[0]}=...]"
        )
    plain = {
        name: p.default
        for name, p in parameters.items()
        if isinstance(p.default, bool | int | float | str)
    }
    return {**plain, **given}


def _value(text: str, default: Any) -> Any:
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    if isinstance(default, str):
        return text
    number = parse_number(text)
    whole = number.is_integer() and not isinstance(default, float)
    return int(number) if whole else number


def _norms(class_name: str, instance: Any) -> tuple[Norm, ...]:
    norms: dict[float, Norm] = {math.inf: "linf", 2: "l2"}
    order = getattr(getattr(instance, "distance", None), "p", None)
    norm = norms.get(order) if order is not None else None
    if norm is None:
        raise InputError(
            f"foolbox:{class_name} measures no linf or l2 distance: robench scores linf and l2"
        )
    return (norm,)


def _import_foolbox() -> "ModuleType":
    # foolbox imports GitPython, which raises where no git program is on the PATH.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        import foolbox
    except ImportError as error:
        raise InputError(
            f"foolbox cannot be imported ({error}): pip install 'robench[foolbox]'"
        ) from error
    return foolbox
