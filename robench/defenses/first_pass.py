"""The first pass of a foreign network: what it answers, how many rows it takes, what it changes."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from robench.core.errors import InputError
from robench.defenses.defense import foreign
from robench.defenses.settings import Shape
from robench.models.answer import Member, find_logits, member
from robench.models.devices import current
from robench.models.global_rng import seeded_global_rng

_ROWS = 2
_OTHER_ROWS = (1, 4, 8, 16, 32, 64, 128, 256, 10, 20, 50, 100, 200)
"""Tried where two images are refused: exported networks are often bound to one number of rows."""


@dataclass(frozen=True)
class FirstPass:
    """What a network answered.

    key: which member of its answer the logits are; None: the answer itself. classes: their number.
    rows: those of every pass that it takes; None: any number.
    """

    key: int | str | None
    classes: int
    rows: int | None

    def logits_of(self, network: nn.Module) -> nn.Module:
        """The network with logits as its answer: itself where it gives nothing else."""
        return network if self.key is None else Member(network, self.key)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a record should know."""
        member = [] if self.key is None else [f"logits: member {self.key!r} of what it answers"]
        rows = [] if self.rows is None else [f"every pass has {self.rows} rows: it takes no others"]
        return (*member, *rows)


def stand_in(network: nn.Module) -> nn.Module:
    """A copy for the first pass, so that the network itself stays as it was given.

    The network itself where it cannot be copied, or makes layers when it is first called: those are
    part of it, and made under a fixed seed.
    """
    try:
        double = copy.deepcopy(network)
    except Exception:  # foreign objects may refuse in any way; nothing is lost but the copy
        return network
    lazy = any(is_lazy(value) for value in [*network.parameters(), *network.buffers()])
    return network if lazy else double


def first_pass(network: nn.Module, input_shape: Shape, classes: int | None, what: str) -> FirstPass:
    """The answer to fixed random images (C, H, W) in [0, 1].

    classes: as expected, None where that is not known.
    Raises: InputError when the network fails on them, or gives no logits.
    """
    size = "x".join(map(str, input_shape))
    with foreign(f"{what} on two images of {size}"), seeded_global_rng(), torch.no_grad():
        answer, rows = _answered(network, input_shape)
    try:
        key = find_logits(answer, rows, classes, size)
    except InputError as error:
        raise InputError(f"{what} {error}") from None
    return FirstPass(key, member(answer, key).shape[1], None if rows == _ROWS else rows)


def _answered(network: nn.Module, shape: Shape) -> tuple[Any, int]:
    """The answer, and the number of rows to which it was given."""
    some = next(iter([*network.parameters(), *network.buffers()]), torch.empty(0))
    with current(some.device):  # the network's own, whatever device it is to be scored on
        try:
            return network(torch.rand(_ROWS, *shape).to(some.device)), _ROWS
        except Exception as error:
            for rows in _OTHER_ROWS:
                try:
                    return network(torch.rand(rows, *shape).to(some.device)), rows
                except Exception as other:
                    error.add_note(f"{rows} rows: {type(other).__name__}")
            raise
