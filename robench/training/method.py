"""What a training method is: adversarial images, named losses, and a weight for each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from robench.numerics.losses import Loss
from robench.numerics.random import BatchDraws
from robench.training.recipe import Inner

Network = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) float32 in [0, 1] -> logits (B, K) float32."""
Watch = Callable[[Tensor, Tensor], None]
"""(rows (A,) of the batch, their logits (A, K)) -> None; pieces of a batch come from threads."""


class Teacher(Protocol):
    """A network that is distilled: called, it gives logits without gradient."""

    @property
    def threads(self) -> bool:
        """Whether several threads may ask it at once."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """See `Network`."""
        ...

    def with_gradient(self, x: Tensor) -> Tensor:
        """The same logits, differentiable in the images."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """What its last linear layer is given (B, D), without gradient."""
        ...


class Step(Protocol):
    """A training step as a method sees it: the batch, the networks, and the inner maximisation."""

    images: Tensor
    """(B, C, H, W) float32 in [0, 1], augmented."""
    labels: Tensor
    """(B,) int64."""
    ids: Tensor
    """(B,) int64, places in the training part."""

    @property
    def teachers(self) -> Mapping[str, Network]:
        """By role; evaluation mode, no gradient."""
        ...

    inner: Inner
    """The recipe's settings of the inner maximisation."""
    draws: BatchDraws
    """The random numbers of this epoch, keyed by image."""
    epoch: int
    """From 1."""

    def student(self, x: Tensor) -> Tensor:
        """Logits in training mode, with gradient; batch-norm statistics move with every call."""
        ...

    def teacher_logits(self, role: str) -> Tensor:
        """The teacher's logits (B, K) of `images`: one forward pass a step, however often asked."""
        ...

    def student_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as `student`, and features of the same pass (B, D), as wide as the teacher's."""
        ...

    def teacher_features(self) -> Tensor:
        """Features (B, D) of `images` by the teacher that the method follows."""
        ...

    def frozen_student(self, x: Tensor) -> Tensor:
        """Logits in the mode in which adversarial images are made, without gradient."""
        ...

    def ascend(
        self,
        loss: Loss,
        targets: Tensor,
        *,
        start: Tensor | None = None,
        within_ball: bool = True,
        step_sizes: Sequence[float] | None = None,
        watch: Watch | None = None,
        beside: str | None = None,
    ) -> Tensor:
        """Images (B, C, H, W) that maximise `loss(frozen student's logits, targets)`.

        targets: (B, ...), whatever the loss takes. start: None, that of the recipe. within_ball:
        project to the eps ball around the images, too, not only to [0, 1]. step_sizes: pixel
        units, None: those of the recipe. watch: is shown each iterate but the last. beside: the
        role of a teacher whose logits stand behind the student's, (B, 2K) in all.
        """
        ...


@dataclass(frozen=True)
class Terms:
    """What a batch gives: scalar losses with gradient, and scalar measures without, by name."""

    losses: dict[str, Tensor]
    measures: dict[str, Tensor] = field(default_factory=dict)


class Method:
    """A dataclass whose fields are parameters; fields with `init=False` are what training moves.

    The total loss is the sum of each loss times its weight. State fields hold plain numbers, lists,
    dicts or None: they go into every checkpoint, and numbers into the history.
    """

    roles: ClassVar[tuple[str, ...]] = ()
    """Teachers it needs: "clean", "robust"."""
    adversarial: ClassVar[bool] = True
    """Whether it makes adversarial images; False: the result defends against nothing."""
    gathered: ClassVar[tuple[str, ...]] = ()
    """State fields, lists of floats, that an epoch adds up: summed over devices at its end."""
    follows: ClassVar[str | None] = None
    """The role of the teacher whose features the student is drawn to, if any."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Fields that the method's name decides: no recipe may set them."""

    def inner(self, step: Step) -> Tensor:
        """The adversarial images (B, C, H, W) of the batch; the images themselves: none."""
        raise NotImplementedError

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        """Losses and measures of the batch, each forward pass of the student in its order."""
        raise NotImplementedError

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        """The weight of each loss; what the method adapts moves here, once a step.

        values: losses and measures of the whole batch, over all devices.
        """
        raise NotImplementedError

    def readings(self, values: Mapping[str, float]) -> dict[str, float]:
        """What the history shows besides losses, measures and state: averaged over an epoch."""
        return {}

    def end_epoch(self) -> None:
        """An epoch is over, and its milestones are passed: what was gathered takes effect."""

    def decay(self, factor: float) -> None:
        """The schedule passed a milestone: the method's own learning rates shrink with it."""


def state_of(method: Method) -> dict[str, Any]:
    """Name and value of every state field."""
    assert is_dataclass(method)
    return {f.name: getattr(method, f.name) for f in fields(method) if not f.init}


def restore_state(method: Method, state: Mapping[str, object]) -> None:
    """Put back what `state_of` gave."""
    for name, value in state.items():
        setattr(method, name, value)
