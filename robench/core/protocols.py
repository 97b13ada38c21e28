"""What an attack sees: a view of the model, draws keyed by image, and nothing of the verdict."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class View(Protocol):
    """The model as a search sees it; every pass is counted for the images `ids` (B,) it serves."""

    def logits(self, x: "Tensor", ids: "Tensor") -> "Tensor":
        """(B, K) float32 logits of x (B, C, H, W), without gradient."""
        ...

    def loss_gradient(
        self, loss: "Loss", x: "Tensor", labels: "Tensor", ids: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Logits (B, K), and the gradient (B, C, H, W) of `loss` up to a positive factor a row."""
        ...

    def offer(self, ids: "Tensor", x: "Tensor", logits: "Tensor") -> "Tensor | None":
        """Show an iterate. Rule `any`: (B,) bool of settled rows; rule `last`: None."""
        ...

    def submit(self, ids: "Tensor", x: "Tensor") -> "Tensor":
        """Have x judged under either stop rule, as the result of one restart: settled rows (B,)."""
        ...

    @property
    def module(self) -> "nn.Module":
        """The float32 unmodified defense as a counting module, for adapters."""
        ...


class Draws(Protocol):
    """Random numbers as a function of (seed, component, image id, ...), never of position."""

    def uniform(
        self,
        ids: "Tensor",
        shape: Sequence[int],
        low: float,
        high: float,
        *,
        purpose: str,
        **at: int,
    ) -> "Tensor":
        """(B, *shape) float32 in [low, high)."""
        ...

    def signs(self, ids: "Tensor", shape: Sequence[int], *, purpose: str, **at: int) -> "Tensor":
        """(B, *shape) float32 of -1 and +1."""
        ...

    def normal(self, ids: "Tensor", shape: Sequence[int], *, purpose: str, **at: int) -> "Tensor":
        """(B, *shape) float32 standard normal."""
        ...


class Attack(Protocol):
    """A frozen dataclass whose fields are the parameters of a search."""

    norms: ClassVar[tuple[Norm, ...]]
    """Norms it is defined for."""
    stops: ClassVar[tuple[Stop, ...]]
    """Stop rules it can run under, the default first. Two more declarations are optional:
    `on_defense` (queries the unmodified defense in float32) and `batch_dependent` (flagged so)."""

    def passes(self) -> tuple[int, int]:
        """Most forward and backward passes that one image can cost, verification not included."""
        ...

    def run(
        self,
        view: View,
        images: "Tensor",
        labels: "Tensor",
        ids: "Tensor",
        threat: ThreatModel,
        draws: Draws,
    ) -> "Tensor":
        """Candidates (B, C, H, W) for images (B, C, H, W) float32 in [0, 1]."""
        ...
