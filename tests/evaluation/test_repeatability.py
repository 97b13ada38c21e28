"""Noise, state and batch statistics: each by its own name, and by no other's."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robench.core.record import PassShape
from robench.core.threat import ThreatModel
from robench.evaluation.flags import defense_flags
from robench.evaluation.judge import Judge
from tests.harness import random_images
from tests.scored import score

ACCUSATIONS = {"randomised", "stateful", "batch_statistics"}


class Network(nn.Module):
    """A linear network."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Linear(3 * 8 * 8, 10)

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class LastAnswer(Network):
    """Answers what it should have answered the time before, at first with zeros."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        now, last = self.logits(x), self.last
        self.last = now.detach()
        return torch.zeros_like(now) if last is None else last[:1].expand_as(now).clone()


class KeptAnswer(Network):
    """Keeps its first answer to a batch of any size, and gives it to all others of that size."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.kept.setdefault(len(x), self.logits(x).detach()).clone()


class Constant(Network):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * self.logits(x) + torch.arange(10.0)


class MovingAverage(Network):
    """Sees the average of its inputs. share: of the newest."""

    share = 0.1
    mean: Tensor | float = 0.5

    def forward(self, x: Tensor) -> Tensor:
        self.mean = (1 - self.share) * self.mean + self.share * x.detach().mean(dim=0)
        return self.logits(x - self.mean)


class SlowAverage(MovingAverage):
    share = 0.01


class Envelope(Network):
    """Scales by the brightest pixels that it ever saw: the same images again change nothing."""

    most: Tensor | float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        self.most = torch.clamp(x.detach().amax(dim=0), min=self.most)
        return self.logits(x / self.most)


class Counter(Network):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x) * self.calls


class Tiring(Counter):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x) - 0.01 * self.calls * torch.arange(10.0)


class TorchNoise(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x + 0.05 * torch.randn_like(x))


class NoiseOnSome(Network):
    """Noise on images with a dark corner only."""

    def forward(self, x: Tensor) -> Tensor:
        dark = x[:, 0, 0, 0] < 0.5
        return self.logits(x + 0.05 * torch.randn_like(x) * dark[:, None, None, None])


class NoisyEnvelope(Envelope):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * torch.randn(len(x), 10)


class PythonNoise(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.roll(random.randrange(8), dims=3))


class NumpyNoise(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x + torch.from_numpy(np.random.rand(*x.shape)).float())  # noqa: NPY002


class OwnNoise(Network):
    """Noise of a generator of its own, which no seed of ours repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x + 0.05 * torch.randn(x.shape, generator=self.generator))


class BatchStatistics(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x - x.mean(dim=0))


class NoiseInABatch(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x - x.mean(dim=0) + 0.05 * torch.randn_like(x))


class FirstCallOnly(Network):
    """Sets itself up in its first call, which answers otherwise: not state that lasts."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x) + (torch.arange(10.0) if self.calls == 1 else 0)


@dataclass(frozen=True)
class Shown:
    """A network beside images, as the flags ask for them."""

    model: nn.Module
    shape = PassShape(8, 8)
    images = random_images(8)
    labels = torch.zeros(8, dtype=torch.int64)

    def pixels(self, where: slice) -> Tensor:
        return self.images[where]

    def judge(self, threat: ThreatModel, rows: int) -> Judge:
        return Judge(self.model, threat, rows)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Network, set()),
        (FirstCallOnly, set()),
        (Constant, set()),
        (LastAnswer, {"stateful"}),
        (KeptAnswer, {"stateful"}),
        (MovingAverage, {"stateful"}),
        (SlowAverage, {"stateful"}),
        (Envelope, {"stateful"}),
        (Counter, {"stateful"}),
        (Tiring, {"stateful"}),
        (TorchNoise, {"randomised"}),
        (NoiseOnSome, {"randomised"}),
        (NoisyEnvelope, {"randomised", "stateful"}),
        (PythonNoise, {"randomised"}),
        (NumpyNoise, {"randomised"}),
        (OwnNoise, {"randomised"}),
        (BatchStatistics, {"batch_statistics"}),
        (NoiseInABatch, {"randomised", "batch_statistics"}),
    ],
)
def test_each_is_called_by_its_name(model: type[nn.Module], names: set[str]) -> None:
    found = {flag.name: flag.level for flag in defense_flags(Shown(model().eval()))}
    assert set(found) & ACCUSATIONS == names
    assert all(found[name] == "fail" for name in names)


@pytest.mark.parametrize("model", [LastAnswer, KeptAnswer, MovingAverage, Counter])
def test_state_is_never_called_masked_gradients(tmp_path: Path, model: type[nn.Module]) -> None:
    for row in score(tmp_path, "fgsm,square", model=model().eval()).rows:
        assert "stateful" in {flag.name for flag in row.flags}, row.attack
        assert not any("masked" in flag.message for flag in row.flags), row.flags


def test_flags_draw_nothing_from_the_callers_generators() -> None:
    def states() -> tuple[object, ...]:
        numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), numpy

    before = states()
    for model in (TorchNoise(), PythonNoise(), NumpyNoise()):
        defense_flags(Shown(model.eval()))
    assert states() == before
