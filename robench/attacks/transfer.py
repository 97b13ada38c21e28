"""Transfer: what breaks another network, tried on this one."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from robench.attacks.pgd import PGD
from robench.core.errors import InputError, RunError
from robench.core.protocols import Stage
from robench.core.record import Stop

Candidates = Callable[[Tensor], Tensor]
"""ids (B,) -> what was crafted for those images, (B, C, H, W) float32."""


@dataclass(frozen=True)
class Transfer(PGD):
    """PGD along the gradients of a surrogate; the last iterates are judged on the defense.

    All images are attacked, whatever either network says of the clean ones, towards no success but
    the last step. surrogate: a reference to a defense; empty: the data set's own. The fingerprint
    of the surrogate and the precision of its passes are filled in when it is loaded; given ones
    must be those.
    Source: Zhao et al. 2023, Table 5; without a filter, as Zhang et al. 2019 published it.
    """

    surrogate: str = ""
    surrogate_fingerprint: str = ""
    surrogate_precision: str = ""

    stops: ClassVar[tuple[Stop, ...]] = ("last",)
    presets: ClassVar[dict[str, dict[str, object]]] = {}
    every_image: ClassVar[bool] = True
    on_defense: ClassVar[bool] = True

    def search(self) -> PGD:
        """What runs on the surrogate."""
        fields = [field.name for field in dataclasses.fields(PGD)]
        return PGD(**{name: getattr(self, name) for name in fields})

    def crafted_on(self, surrogate: str, fingerprint: str, precision: str) -> "Transfer":
        """With everything about the surrogate said. Raises: InputError when other is wanted."""
        for what, wanted, found in (
            ("fingerprint", self.surrogate_fingerprint, fingerprint),
            ("precision", self.surrogate_precision, precision),
        ):
            if wanted not in ("", found):
                raise InputError(
                    f"surrogate {surrogate} has {what} {found}, expected {wanted}: give the "
                    f"surrogate of that measurement, or leave surrogate_{what} out"
                )
        return dataclasses.replace(
            self,
            surrogate=surrogate,
            surrogate_fingerprint=fingerprint,
            surrogate_precision=precision,
        )

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", 0, 0, _not_crafted)]


@dataclass(frozen=True)
class Crafted:
    """A transfer attack whose candidates are there: nothing is left but to judge them."""

    transfer: Transfer
    candidates: Candidates

    stops: ClassVar[tuple[Stop, ...]] = Transfer.stops
    norms: ClassVar = Transfer.norms
    every_image: ClassVar[bool] = True
    on_defense: ClassVar[bool] = True

    @property
    def keywords(self) -> dict[str, Any]:
        """The parameters that a record states."""
        return dataclasses.asdict(self.transfer)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", 0, 0, partial(_look_up, self.candidates))]


def _not_crafted(*arguments: object) -> Tensor:
    raise RunError("nothing was crafted on a surrogate yet: evaluation does that first")


def _look_up(
    candidates: Candidates,
    view: object,
    images: Tensor,
    labels: Tensor,
    ids: Tensor,
    *settings: object,
) -> Tensor:
    return candidates(ids)


@dataclass(frozen=True)
class OnEveryImage:
    """A search that goes after all images, those that its network gets wrong included."""

    search: PGD

    stops: ClassVar[tuple[Stop, ...]] = ("last",)
    norms: ClassVar = Transfer.norms
    every_image: ClassVar[bool] = True

    def stages(self, component: str, classes: int) -> list[Stage]:
        return self.search.stages(component, classes)


transfer_pgd_trades = Transfer(step_size=0.003)
transfer_cw_inf = Transfer(steps=30, loss="margin")
