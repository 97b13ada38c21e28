"""The inner maximisation: how adversarial images are made from the network that is trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robench.core.threat import ThreatModel
from robench.models.following import FollowingCopy
from robench.models.gradient import loss_gradient
from robench.models.passes import side_by_side
from robench.numerics.ascent import signed_ascent
from robench.numerics.losses import Loss
from robench.numerics.projections import feasible_box
from robench.numerics.random import BatchDraws
from robench.training.method import Watch
from robench.training.recipe import Inner

Forward = Callable[[Tensor], Tensor]


PIECE_ROWS = 64
"""Rows of a pass when CPU threads share a batch: measured 6 % faster than 32 at width 16."""


def piece_rows(images: Tensor) -> int:
    """Rows of a pass; a GPU takes the whole batch at once."""
    return PIECE_ROWS if images.device.type == "cpu" else len(images)


def starting_points(inner: Inner, images: Tensor, ids: Tensor, draws: BatchDraws) -> Tensor:
    """images + 0.001 N(0, 1), which may leave [0, 1] until the first step; or uniform in the ball.

    Source: Zhang et al. 2019, released code; Madry et al. 2018, released code.
    """
    shape = images.shape[1:]
    if inner.start == "gauss1e-3":
        return images + 0.001 * draws.normal(ids, shape, purpose="start")
    noise = draws.uniform(ids, shape, -inner.radius, inner.radius, purpose="start")
    return (images + noise).clamp(0, 1)


class Crafter:
    """The student while its adversarial images are made: no parameter gets a gradient.

    eval: a folded copy that is refreshed once a step. train, train_frozen_stats: the network itself
    on the statistics of the batch, which move the running ones, or do not.
    """

    def __init__(
        self, network: nn.Module, training: Forward, mode: str, dtype: torch.dtype
    ) -> None:
        self.network, self.training, self.mode = network, training, mode
        self.copy = FollowingCopy(network, dtype) if mode == "eval" else None
        self._behind = False

    def moved(self) -> None:
        """To be called when the weights have moved: the copy follows when it is next used."""
        self._behind = True

    def logits(self, x: Tensor) -> Tensor:
        """(B, K) float32, without gradient."""
        with self._forward() as forward:

            def plain(piece: Tensor) -> Tensor:
                with torch.no_grad():  # it belongs to the thread
                    return forward(piece)

            return torch.cat(list(side_by_side(plain, torch.split(x, self._rows(x)))))

    def ascend(
        self,
        loss: Loss,
        targets: Tensor,
        start: Tensor,
        low: Tensor,
        high: Tensor,
        step_sizes: Sequence[float],
        watch: Watch | None = None,
        beside: Forward | None = None,
        *,
        rows: int | None = None,
    ) -> Tensor:
        """Last iterates (B, C, H, W) of signed gradient ascent on the loss.

        beside: a network whose logits stand behind the student's. rows: of a pass; None: measured.
        """
        with self._forward() as student:

            def forward(z: Tensor) -> Tensor:
                return student(z) if beside is None else torch.cat([student(z), beside(z)], dim=1)

            def climb(piece: tuple[Tensor, ...]) -> Tensor:
                places, own, x, lowest, highest = piece

                def gradient(z: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
                    logits, direction = loss_gradient(forward, loss, z, own[at])
                    if watch is not None:
                        watch(places, logits)
                    return logits, direction

                return signed_ascent(gradient, x, lowest, highest, step_sizes=step_sizes)

            rows = rows or self._rows(start)
            places = torch.arange(len(start), device=start.device)
            cut = (torch.split(values, rows) for values in (places, targets, start, low, high))
            pieces = zip(*cut, strict=True)
            return torch.cat(list(side_by_side(climb, pieces)))

    def _rows(self, images: Tensor) -> int:
        """Of a pass that runs side by side with others; batch statistics need the whole batch."""
        return len(images) if self.copy is None else piece_rows(images)

    @contextmanager
    def _forward(self) -> Iterator[Forward]:
        if self.copy is not None:
            if self._behind:
                self.copy.refresh()
                self._behind = False
            yield self.copy
            return
        before = [buffer.clone() for buffer in self.network.buffers()]
        self.network.requires_grad_(False)
        try:
            yield self.training
        finally:
            self.network.requires_grad_(True)
            if self.mode == "train_frozen_stats":
                for buffer, value in zip(self.network.buffers(), before, strict=True):
                    buffer.copy_(value)


def bounds(inner: Inner, images: Tensor, within_ball: bool) -> tuple[Tensor, Tensor]:
    """Least and largest value of each pixel: [0, 1], and the eps ball unless it is left out."""
    if within_ball:
        return feasible_box(images, ThreatModel("linf", inner.radius))
    return torch.zeros_like(images), torch.ones_like(images)
