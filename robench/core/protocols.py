"""What an attack sees: a view of the model, draws keyed by image, and nothing of the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


Sight = Literal["gradients", "logits", "labels"]
"""What a search sees of the model. All but gradients: black-box, metered."""


class View(Protocol):
    """The model as a search sees it; every pass is counted for the images `ids` (B,) it serves.

    An image may be there several times in one call, once for each target that is tried on it.
    """

    def logits(self, x: "Tensor", ids: "Tensor") -> "Tensor":
        """(B, K) float32 logits of x (B, C, H, W), without gradient."""
        ...

    def loss_gradient(
        self, loss: "Loss", x: "Tensor", labels: "Tensor", ids: "Tensor", *, exact: bool = False
    ) -> "tuple[Tensor, Tensor]":
        """Logits (B, K), and the gradient (B, C, H, W) of `loss` up to a positive factor a row.

        labels: (B, ...), whatever the loss takes. exact: the gradient itself; it may underflow.
        """
        ...

    def clean_logits(self, ids: "Tensor") -> "Tensor":
        """(B, K) float32 logits of the clean images, from the judge: no pass is spent."""
        ...

    def keep(self, name: str, ids: "Tensor", values: "Tensor") -> None:
        """Remember values (B, ...) of images for the next stage of the search; any dtype."""
        ...

    def recall(self, name: str, ids: "Tensor") -> "Tensor":
        """(B, ...) what an earlier stage kept under that name."""
        ...

    def offer(self, ids: "Tensor", x: "Tensor", logits: "Tensor") -> "Tensor | None":
        """Show an iterate: (B,) bool of settled rows, or None, which is "none".

        Always None under rule `last`. Rows whose logits are not finite are not judged.
        """
        ...

    def module(self, *, offer: bool) -> "nn.Module":
        """The float32 unmodified defense as a counting module, for adapters.

        offer: each pass over all the images is offered to the judge, in the order of the images.
        """
        ...


class LogitsView(Protocol):
    """The model as a black-box search sees it: so many queries an image and nothing else.

    Raises: RunError when an image is asked about more often than its stage declares.
    """

    def logits(self, x: "Tensor", ids: "Tensor") -> "Tensor":
        """As `View.logits`; a query of each row's image."""
        ...

    def near(self, x: "Tensor", ids: "Tensor", side: int | None) -> "Near":
        """Cheaper queries around the points x (B, C, H, W) of images, in windows of `side` pixels.

        side: None for moves that are no windows. No query is charged for x.
        """
        ...

    def keep(self, name: str, ids: "Tensor", values: "Tensor") -> None:
        """As `View.keep`."""
        ...

    def recall(self, name: str, ids: "Tensor") -> "Tensor":
        """As `View.recall`."""
        ...

    def offer(self, ids: "Tensor", x: "Tensor", logits: "Tensor") -> "Tensor | None":
        """As `View.offer`."""
        ...


class Near(Protocol):
    """Queries of a point per image, moved in one window."""

    def logits(self, z: "Tensor", ids: "Tensor", corners: "Tensor") -> "Tensor":
        """As `LogitsView.logits`: z differ from their points in the windows at corners (B, 2)."""
        ...

    def keep(self, kept: "Tensor") -> None:
        """Those of the last z that `kept` (B,) bool names are their images' points from now on."""
        ...


class LabelsView(Protocol):
    """The model as a search sees it that is told classes only; else as `LogitsView`."""

    def predictions(self, x: "Tensor", ids: "Tensor") -> "Tensor":
        """(B,) int64 predicted classes of x (B, C, H, W); a query of each row's image."""
        ...

    def offer(self, ids: "Tensor", x: "Tensor", predictions: "Tensor") -> "Tensor | None":
        """As `View.offer`, with the predicted classes (B,)."""
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


@dataclass(frozen=True)
class Stage:
    """A part of a search: an interruption costs at most one of them for the images in flight.

    Stages run one after the other, each on the images that are still open. What an image gets in
    one must not depend on the other images.
    """

    component: str
    """Who is credited with a broken image, and whose name keys the draws: "apgd_ce"."""
    label: str
    """What people read while it runs: "targets 1-3"."""
    forward_passes: int
    """Most forward passes that one image can cost, verification not included; its query budget
    where the search is black-box."""
    backward_passes: int
    run: "Callable[[Any, Tensor, Tensor, Tensor, ThreatModel, Draws], Tensor | None]"
    """(view, images (B, C, H, W) float32 in [0, 1], labels (B,), ids (B,), threat, draws) ->
    candidates (B, C, H, W), or None where a later stage brings them."""
    width: int = 1
    """Rows that one image fills in a pass: the targets that are tried together."""
    sees: Sight = "gradients"
    """Which view `run` is given: `View`, `LogitsView` or `LabelsView`."""


class Attack(Protocol):
    """A frozen dataclass whose fields are the parameters of a search."""

    norms: ClassVar[tuple[Norm, ...]]
    """Norms it is defined for."""
    stops: ClassVar[tuple[Stop, ...]]
    """Stop rules it can run under, the default first. More declarations are optional: `on_defense`
    (queries the unmodified defense in float32), `batch_dependent` (flagged so), `every_image`
    (candidates of clean-wrong images are judged too; robust they never are)."""

    def stages(self, component: str, classes: int) -> Sequence[Stage]:
        """The search as `component` on a defense of so many classes."""
        ...
