"""What the parts share: the device, real or pretended, sizes, and one measurement."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import torch
from torch import nn

from robench import evaluate
from robench.core.record import PassShape, Record
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense

DEFENSE = "fast-at-resnet18-w32"
_FEW = PassShape(8, 8)


@dataclass(frozen=True)
class Sizes:
    """images: of most parts, whole: of those that count verdicts, autoattack: of that contest.

    rounds: of timings. steps, queries: of searches that are repeated.
    """

    images: int
    whole: int
    autoattack: int
    rounds: int
    steps: int
    queries: int


FULL = Sizes(images=256, whole=500, autoattack=100, rounds=3, steps=20, queries=500)
SMALL = Sizes(images=12, whole=12, autoattack=4, rounds=1, steps=2, queries=6)


@dataclass(frozen=True)
class Setting:
    """device: "cuda" or one of several. pretended: by `tests.pretend_cuda`, with a small network.

    folder: scratch of a part. peer: a checkout of the released training code, or None.
    """

    device: str
    pretended: bool
    folder: Path
    peer: Path | None = None

    @property
    def sizes(self) -> Sizes:
        """Large enough to say something, or just large enough to run everything."""
        return SMALL if self.pretended else FULL

    @contextmanager
    def world(self) -> Iterator[Any]:
        """The real device and None, or the pretended ones and their counts."""
        if not self.pretended:
            yield None
            return
        from tests.pretend_cuda import pretended

        torch.set_num_threads(1)
        with ExitStack() as stack:
            for place in ("robench.evaluation.target", "robench.models.passes"):
                stack.enter_context(mock.patch(f"{place}.pass_shape", lambda *_: _FEW))
            yield stack.enter_context(pretended())

    def fresh_network(self) -> nn.Module:
        """The defense on the CPU, in evaluation mode, free to be moved."""
        return small_network() if self.pretended else copy.deepcopy(load_defense(DEFENSE).model)

    def images(self, n: int) -> EvalSet:
        """The first n bundled images; with the network's own labels where it is untrained."""
        found = load_evalset("cifar10-sample").first(n)
        if not self.pretended:
            return found
        with torch.no_grad():
            labels = self.fresh_network()(torch.from_numpy(found.images).float() / 255).argmax(1)
        return EvalSet(found.name, found.images, labels.numpy(), found.ids, found.class_names)

    def records(
        self, name: str, attacks: str, images: EvalSet, device: str | None = None, **options: Any
    ) -> list[Record]:
        """A measurement as `robench eval` makes it, with records in a folder of that name.

        Raises: RuntimeError where an attack has none.
        """
        options.setdefault("precision", "fp32")
        result = evaluate(
            self.fresh_network() if self.pretended else DEFENSE,
            attacks,
            dataset=images,
            device=device or self.device,
            out=self.folder / name,
            **options,
        )
        failed = [f"{r.attack}: {r.reason}" for r in result.rows if r.status == "failed"]
        if failed or not result.records:
            raise RuntimeError("; ".join(failed) or f"{attacks}: nothing was measured")
        return list(result.records)


@cache
def _small() -> nn.Module:
    from tests.harness import small_cnn

    return small_cnn()


def small_network() -> nn.Module:
    """The network that stands in for the defense on a pretended device."""
    return copy.deepcopy(_small())


def warm_up() -> None:
    """Load what every pretended part would load again: seconds each, on two cores.

    Never for a real device: what is loaded here may ask CUDA, and a process that was forked after
    that cannot use it.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # imports PyTorch's compiler
    _small()


def comparable(record: Record) -> dict[str, Any]:
    """What two measurements of the same must have in common: all but times and sittings."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    del fields["cost"]
    for component in fields["components"]:
        del component["seconds"]
    return fields
