"""`reference:autoattack`: the code of AutoAttack's authors, and each of its attacks alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from robench.attacks.adapters.global_draws import global_draws, seed_for
from robench.core.errors import InputError, RunError
from robench.core.names import did_you_mean
from robench.core.protocols import Draws, Stage, View
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel, parse_number

if TYPE_CHECKING:
    from types import ModuleType

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
STEPS, TARGETS, QUERIES = 100, 9, 5000
PLUS_RESTARTS, RAND_PASSES = 5, 20
BATCH_SIZE = 250

_ALONE: dict[str, Any] = {"restarts": 1, "batch_size": BATCH_SIZE}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "autoattack": {"version": "standard", "batch_size": BATCH_SIZE},
    "apgd-ce": _ALONE,
    "apgd-dlr": _ALONE,
    "apgd-t": _ALONE,
    "fab": _ALONE,
    "fab-t": {"batch_size": BATCH_SIZE},  # their driver sets its restarts to 1
    "square": {**_ALONE, "queries": QUERIES},
}
_NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True)
class ReferenceAttack:
    """AutoAttack or one of its attacks by its authors' code, in float32 on the unmodified defense.

    name: "autoattack", or one of their names ("apgd-ce"). keywords: version, batch_size, restarts,
    queries, as far as it takes them; one attack alone runs as in version "standard" but for those.
    The only thing that we set otherwise: fewer than ten classes give K - 1 targets, as the authors
    advise, instead of an error.

    Square's windows and signs are shared over a batch and starting points drawn for it as a whole,
    so verdicts may depend on the batch size: flagged.
    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness"; pyautoattack.
    """

    name: str
    keywords: dict[str, Any]

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    batch_dependent: ClassVar[bool] = True
    on_defense: ClassVar[bool] = True

    @property
    def version(self) -> str:
        """Theirs; "custom" for one attack alone."""
        return str(self.keywords.get("version", "custom"))

    @property
    def verification_passes(self) -> int:
        """Passes over which the judge averages logits."""
        return RAND_PASSES if self.version == "rand" else 1

    @property
    def parts(self) -> tuple[str, ...]:
        """Their names of the attacks that run, in order."""
        return VERSIONS.get(self.version, (self.name,))

    def stages(self, component: str, classes: int) -> list[Stage]:
        """One stage: their code cannot be resumed. Passes are bounds for blocks of one batch."""
        costs = [self._passes(part, classes) for part in self.parts]
        # Before the first attack: clean predictions, and checks that run up to seven passes.
        forward, backward = (sum(column) for column in zip(*costs, strict=True))
        return [Stage(component, "", 8 + forward, backward, self.run)]

    def _passes(self, part: str, classes: int) -> tuple[int, int]:
        """Most forward and backward passes of one part on one image, with its own verification."""
        restarts = self._restarts(part)
        targets = _targets(classes)
        gradients = (STEPS + 1) * (RAND_PASSES if self.version == "rand" else 1)
        if part == "apgd-t":
            return 2 + targets * restarts * (1 + gradients), targets * restarts * gradients
        if part == "fab-t":
            return 2 + targets * (2 + 2 * STEPS + 1), targets * STEPS
        if part == "fab":  # a gradient of each logit
            return 2 + restarts * (1 + 2 * STEPS + 1), restarts * STEPS * classes
        if part == "square":
            return 2 + restarts * (1 + self.keywords.get("queries", QUERIES) + 1), 0
        return 2 + restarts * gradients, restarts * gradients

    def _restarts(self, part: str) -> int:
        many = self.version == "plus" and part in ("apgd-ce", "apgd-dlr", "fab")
        return int(self.keywords.get("restarts", PLUS_RESTARTS if many else 1))

    def run(
        self,
        view: View,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: ThreatModel,
        draws: Draws,
    ) -> Tensor:
        classes = view.clean_logits(ids[:1]).shape[1]
        seed = seed_for(draws, ids)
        suite = self.suite(view.module(offer=False).eval(), threat, seed, classes, images.device)
        batch_size = self.keywords["batch_size"]
        with global_draws(seed), _tracer_kept():
            try:
                found, _ = suite.run_standard_evaluation(images, labels, batch_size=batch_size)
            except IndexError as error:
                if classes >= 4:
                    raise
                raise RunError(
                    f"pyautoattack fails on {classes} classes ({error}): its DLR loss needs 3, the "
                    "targeted one 4; use autoattack, or reference:apgd-ce and reference:fab-t"
                ) from error
        return found.detach()  # type: ignore[no-any-return]

    def suite(
        self, model: nn.Module, threat: ThreatModel, seed: int, classes: int, device: object
    ) -> Any:
        """Their AutoAttack object, set up. model: takes pixels in [0, 1], eval mode."""
        chosen = {} if self.version != "custom" else {"attacks": list(self.parts)}
        suite = _import_pyautoattack().AutoAttack(
            model,
            norm=_NORMS[threat.norm],
            eps=threat.eps,
            version=self.version,
            seed=seed,
            device=device,
            **chosen,
        )
        suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = _targets(classes)
        if self.version == "custom":
            restarts = self._restarts(self.name)
            for search in (suite.apgd, suite.apgd_targeted, suite.fab, suite.square):
                search.n_restarts = restarts
            suite.square.n_queries = self.keywords.get("queries", QUERIES)
        return suite


def _targets(classes: int) -> int:
    return min(TARGETS, classes - 1)


@contextmanager
def _tracer_kept() -> Iterator[None]:
    """Their check for dynamic defenses takes over sys.settrace: give it back to its owner."""
    tracer = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(tracer)


def adapt(name: str, arguments: dict[str, str]) -> ReferenceAttack:
    """The adapter for `reference:<name>` with its parameters given as text.

    Raises: InputError for an unknown name or parameter, or a missing pyautoattack (naming the
    extra).
    """
    if name not in _PARAMETERS:
        hint = did_you_mean(name, _PARAMETERS) or ":"
        raise InputError(f"reference has no attack {name!r}{hint} it has {', '.join(_PARAMETERS)}")
    defaults = _PARAMETERS[name]
    given: dict[str, Any] = {}
    for key, text in arguments.items():
        if key not in defaults:
            hint = did_you_mean(key, defaults) or ":"
            raise InputError(
                f"reference:{name} has no parameter {key!r}{hint} it takes {', '.join(defaults)}"
            )
        given[key] = _version(text) if key == "version" else _count(name, key, text)
    _import_pyautoattack()  # before anything runs
    return ReferenceAttack(name, {**defaults, **given})


def _version(text: str) -> str:
    if text not in VERSIONS:
        hint = did_you_mean(text, VERSIONS) or ":"
        raise InputError(
            f"reference:autoattack has no version {text!r}{hint} it has {', '.join(VERSIONS)}"
        )
    return text


def _count(name: str, key: str, text: str) -> int:
    number = parse_number(text)
    if not number.is_integer() or number < 1:
        raise InputError(f"reference:{name}[{key}={text}]: expected a whole number above 0")
    return int(number)


def _import_pyautoattack() -> "ModuleType":
    try:
        import pyautoattack
    except ImportError as error:
        raise InputError(
            f"pyautoattack cannot be imported ({error}): pip install 'robench[reference]'"
        ) from error
    return pyautoattack  # type: ignore[no-any-return]
