"""The one training loop: a step of any method, and the epochs around it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robench.core.errors import RunError
from robench.numerics.losses import Loss
from robench.numerics.random import BatchDraws
from robench.training.checkpoint import check_finite
from robench.training.features import adapter, last_linear, tapped
from robench.training.images import TrainingImages
from robench.training.inner import Crafter, bounds, starting_points
from robench.training.method import Method, Teacher, Watch
from robench.training.ranks import Ranks
from robench.training.recipe import Inner, Recipe
from robench.training.schedule import Schedule
from robench.training.student import TrainingForward


@dataclass
class TrainingStep:
    """What `training.method.Step` promises to a method, on this rank's piece of a batch."""

    images: Tensor
    labels: Tensor
    ids: Tensor
    teachers: Mapping[str, Teacher]
    inner: Inner
    draws: BatchDraws
    epoch: int
    forward: TrainingForward
    crafter: Crafter
    follows: str | None = None
    adapter: nn.Module = field(default_factory=nn.Identity)
    """From the student's features to the width of the teacher's that it follows."""
    accuracy: dict[str, Tensor] = field(default_factory=dict)
    """Of the student in training mode, for the history."""
    _answers: dict[str, Tensor] = field(default_factory=dict)

    def student(self, x: Tensor) -> Tensor:
        """See `Step.student`."""
        logits = self.forward(x)
        which = "train_clean" if x is self.images else "train_adversarial"
        self.accuracy[which] = (logits.detach().argmax(dim=1) == self.labels).float().mean()
        return logits

    def teacher_logits(self, role: str) -> Tensor:
        """See `Step.teacher_logits`."""
        if role not in self._answers:
            self._answers[role] = self.teachers[role](self.images)
        return self._answers[role]

    def student_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Step.student_and_features`."""
        with tapped(last_linear(self.forward.network)) as latest:
            logits = self.student(x)
            return logits, self.adapter(latest().float())

    def teacher_features(self) -> Tensor:
        """See `Step.teacher_features`."""
        assert self.follows is not None, "a method that follows nobody asked for features"
        return self.teachers[self.follows].features(self.images)

    def frozen_student(self, x: Tensor) -> Tensor:
        """See `Step.frozen_student`."""
        return self.crafter.logits(x)

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
        """See `Step.ascend`."""
        if start is None:
            start = starting_points(self.inner, self.images, self.ids, self.draws)
        sizes = [self.inner.step] * self.inner.steps if step_sizes is None else step_sizes
        low, high = bounds(self.inner, self.images, within_ball)
        if beside is None:
            return self.crafter.ascend(loss, targets, start, low, high, sizes, watch)
        teacher = self.teachers[beside]
        rows = None if teacher.threads else len(start)
        network = teacher.with_gradient
        return self.crafter.ascend(
            loss, targets, start, low, high, sizes, watch, network, rows=rows
        )


class Trainer:
    """Student, optimizer and method of a run; one call of `step` is one step.

    learners: all that is trained: the student, and what is beside it during training only.

    network: the student, on the device. precision: "fp32" or "bf16". The engine alone moves
    weights; the method says how.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        method: Method,
        teachers: Mapping[str, Teacher],
        images: TrainingImages,
        precision: str,
        ranks: Ranks | None = None,
    ) -> None:
        self.recipe, self.method, self.teachers, self.images = recipe, method, teachers, images
        self.ranks = ranks or Ranks()
        self.network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.adapter = self._adapter().to(images.images.device)
        self.learners = nn.ModuleDict({"student": self.network, "adapter": self.adapter})
        self.forward = TrainingForward(self.network, precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.crafter = Crafter(self.network, self.forward, recipe.inner.craft_mode, dtype)
        self.steps = -(-len(images) // recipe.batch_size)
        self.schedule = Schedule(recipe.optimizer, recipe.epochs, self.steps)
        self.optimizer = torch.optim.SGD(
            self.learners.parameters(),
            lr=recipe.optimizer.lr,
            momentum=recipe.optimizer.momentum,
            weight_decay=recipe.optimizer.weight_decay,
            nesterov=recipe.optimizer.nesterov,
        )

    def _adapter(self) -> nn.Module:
        if self.method.follows is None:
            return nn.Identity()
        probe = self.images.batch(torch.arange(1), BatchDraws(0, 0), augment=False)
        wanted = self.teachers[self.method.follows].features(probe).shape[1]
        return adapter(last_linear(self.network).in_features, wanted, self.recipe.seed)

    def batches(self, epoch: int) -> list[Tensor]:
        """Rows of every batch of an epoch, in order; the last one may be smaller."""
        draws = BatchDraws(self.recipe.seed, epoch)
        return list(torch.split(self.images.order(draws), self.recipe.batch_size))

    def step(self, rows: Tensor, epoch: int, number: int) -> dict[str, float]:
        """One step on a batch; what the history averages. epoch, number: counted from 1.

        Raises: RunError for a loss that is not finite or has no weight; the student is then that
        before the step.
        """
        own = self.ranks.share(rows)
        share = len(own) / len(rows)
        step = self._prepared(own, epoch)
        terms = self.method.outer(step, self.method.inner(step))
        named = {**terms.losses, **terms.measures}
        told = _floats({**named, **step.accuracy})
        values = self.ranks.mean({name: told[name] for name in named}, share)
        check_finite(values, epoch, number)
        weights = self._weights(values, terms.losses)
        parts = [weights[name] * loss for name, loss in terms.losses.items()]
        self._descend(parts, share, self.schedule.rate(epoch, number))
        accuracy = {name: told[name] for name in step.accuracy}
        return {
            "loss": sum(weights[name] * values[name] for name in terms.losses),
            **{f"loss_{name}": values[name] for name in terms.losses},
            **{name: values[name] for name in terms.measures},
            **self.method.readings(values),
            **self.ranks.mean(accuracy, share),
        }

    def _weights(self, values: Mapping[str, float], losses: Iterable[str]) -> dict[str, float]:
        weights = self.method.weigh(values)
        if unweighed := [name for name in losses if name not in weights]:
            raise RunError(
                f"{self.recipe.method} gives its loss {unweighed[0]!r} no weight: it weighs "
                f"{', '.join(weights) or 'none'}"
            )
        return weights

    def end_epoch(self, epoch: int) -> None:
        """Milestones first, for the method's own rates; then what the epoch has gathered."""
        for _ in range(self.schedule.milestones_at(epoch)):
            self.method.decay(self.recipe.optimizer.decay)
        for name in self.method.gathered:
            setattr(self.method, name, self.ranks.sum(getattr(self.method, name)))
        self.method.end_epoch()

    def _prepared(self, own: Tensor, epoch: int) -> TrainingStep:
        draws = BatchDraws(self.recipe.seed, epoch)
        self.crafter.moved()
        return TrainingStep(
            images=self.images.batch(own, draws, augment=self.recipe.augment),
            labels=self.images.labels[own],
            ids=self.images.ids[own],
            teachers=self.teachers,
            inner=self.recipe.inner,
            draws=draws,
            epoch=epoch,
            forward=self.forward,
            crafter=self.crafter,
            follows=self.method.follows,
            adapter=self.adapter,
        )

    def _descend(self, parts: Sequence[Tensor], share: float, rate: float) -> None:
        self.optimizer.zero_grad()
        torch.stack(list(parts)).sum().backward()  # type: ignore[no-untyped-call]
        self.ranks.mean_gradients(self.learners.parameters(), share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def _floats(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """All of them at once: on a GPU each question of its own would wait for the device."""
    together = torch.stack([scalar.detach().double() for scalar in scalars.values()])
    return dict(zip(scalars, together.tolist(), strict=True))
