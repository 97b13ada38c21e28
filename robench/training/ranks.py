"""Several devices as one: what every rank must agree on. Started by torchrun.

A batch is cut into one piece a rank; losses, measures and gradients are means over all of it, so
what a method decides is the same everywhere. Batch norm keeps the statistics of a rank's own piece,
as in the published code; rank 0's are the ones that are scored and kept.
"""

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robench.core.errors import RunError
from robench.models.passes import resolve_device

Value = TypeVar("Value")


def own_device(text: str) -> torch.device:
    """The device that `text` asks for; of GPUs without an index the one of this process.

    Raises: InputError for a device that is not there.
    """
    local = os.environ.get("LOCAL_RANK")
    # Before any GPU is asked for: the current one is the same for every process of the machine.
    if local is not None and text in ("auto", "cuda") and torch.cuda.is_available():
        text = f"cuda:{local}"
    return resolve_device(text)


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; one process alone talks to nobody."""

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device) -> "Iterator[Ranks]":
        """The ranks that torchrun started, until the block ends; or this process alone."""
        if "WORLD_SIZE" not in os.environ:
            yield cls()
            return
        if dist.is_initialized():  # the caller's group is the caller's to end
            yield cls(dist.get_rank(), dist.get_world_size())
            return
        # Its functions' default arguments keep the group that exists when it is first imported (an
        # optimiser imports it): gloo's threads would then outlive Python, and abort the process.
        importlib.import_module("torch.distributed.nn")
        # gloo carries the plain numbers, nccl the gradients.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the rank that scores, writes and speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This rank's piece of a batch, in order."""
        return rows.tensor_split(self.count)[self.rank]

    def mean(self, values: Mapping[str, float], share: float) -> dict[str, float]:
        """Means over the whole batch; share: this rank's fraction of it."""
        if self.count == 1:
            return dict(values)
        total = torch.tensor([share * value for value in values.values()], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks, place by place."""
        total = torch.tensor(values, dtype=torch.float64)
        if self.count > 1:
            dist.all_reduce(total)
        summed: list[float] = total.tolist()
        return summed

    def mean_gradients(self, parameters: Iterable[nn.Parameter], share: float) -> None:
        """Replace every gradient by its mean over the whole batch."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients]) * share
        dist.all_reduce(flat)
        pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def share_buffers(self, network: nn.Module) -> None:
        """Every rank takes rank 0's running statistics."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def from_first(self, value: Value) -> Value:
        """Rank 0's value, on every rank; a plain object."""
        if self.count == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def any(self, asked: bool) -> bool:
        """Whether any rank says yes."""
        if self.count == 1:
            return asked
        votes = torch.tensor([float(asked)])
        dist.all_reduce(votes)
        return bool(votes.item())

    def check_equal(self, what: str, values: Mapping[str, object]) -> None:
        """Raises: RunError when the ranks do not hold the same values, bit for bit."""
        if self.count == 1:
            return
        held: list[object] = [None] * self.count
        dist.all_gather_object(held, dict(values))
        if any(other != held[0] for other in held):
            raise RunError(f"{what} differs between devices: {held}; this is a fault of robench")
