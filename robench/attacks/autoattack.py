"""AutoAttack: parameter-free attacks one after the other, each on what the others left."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

from robench.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from robench.attacks.fab import fab, fab_t
from robench.attacks.square import square_5000
from robench.core.protocols import Stage
from robench.core.record import Stop
from robench.core.threat import Norm

PLUS_RESTARTS = 5
RAND_PASSES = 20


class Part(Protocol):
    """What is asked of a part."""

    def stages(self, component: str, classes: int) -> list[Stage]: ...


@dataclass(frozen=True)
class AutoAttack:
    """Worst case of APGD, FAB and Square; each part runs under its own name, with its own draws.

    version: "standard": apgd_ce, apgd_t, fab_t, square_5000. "plus": apgd_ce, apgd_dlr and fab with
    5 restarts, then square_5000, apgd_t, fab_t. "rand", for randomised defenses: apgd_ce and
    apgd_dlr on gradients averaged over 20 passes; the judge averages logits over as many.

    Differs from the published code: draws belong to the image, not to the batch; a search ends at
    its first verified candidate; fewer than four classes take other losses instead of failing.
    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness".
    """

    version: Literal["standard", "plus", "rand"] = "standard"

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    stops: ClassVar[tuple[Stop, ...]] = ("any",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    @property
    def verification_passes(self) -> int:
        """Passes over which the judge averages logits."""
        return RAND_PASSES if self.version == "rand" else 1

    def parts(self) -> "dict[str, Part]":
        """The attacks in their order, under the names by which they also run alone."""
        if self.version == "rand":
            parts = {"apgd_ce": apgd_ce, "apgd_dlr": apgd_dlr}
            return {name: replace(part, eot=RAND_PASSES) for name, part in parts.items()}
        last: dict[str, Part] = {"apgd_t": apgd_t, "fab_t": fab_t, "square_5000": square_5000}
        if self.version == "standard":
            return {"apgd_ce": apgd_ce, **last}
        return {
            "apgd_ce": replace(apgd_ce, restarts=PLUS_RESTARTS),
            "apgd_dlr": replace(apgd_dlr, restarts=PLUS_RESTARTS),
            "fab": replace(fab, restarts=PLUS_RESTARTS),
            "square_5000": square_5000,
            **last,
        }

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [
            stage for name, part in self.parts().items() for stage in part.stages(name, classes)
        ]

    def remarks(self, classes: int) -> list[str]:
        """What the parts do otherwise on so few classes."""
        return list(dict.fromkeys(self._remarks(classes)))

    def _remarks(self, classes: int) -> Iterator[str]:
        for part in self.parts().values():
            if hasattr(part, "remarks"):
                yield from part.remarks(classes)


autoattack = AutoAttack()
