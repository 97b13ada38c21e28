"""Defenses with planted gradient masking, around one small honest network that is trained here."""

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robench.data.evalset import EvalSet

CLASSES = 4
SIZE = 6
_SIGNAL = 0.15
_STEPS = 80


def _pixels(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey patterns, one a class, under strong noise: (n, 3, 6, 6) whole levels / 255, labels."""
    patterns = torch.Generator().manual_seed(0)
    drawn = torch.Generator().manual_seed(seed)
    shape = (3, SIZE, SIZE)
    centre = torch.randn(CLASSES, *shape, generator=patterns).sign()
    labels = torch.arange(n) % CLASSES
    noise = torch.randn(n, *shape, generator=drawn)
    strength = _SIGNAL * torch.rand(n, 1, 1, 1, generator=drawn)
    x = (0.5 + strength * centre[labels] + 0.1 * noise).clamp(0, 1)
    return (x * 255).round() / 255, labels


def images(n: int = 48) -> EvalSet:
    """Images that the network was not trained on."""
    x, labels = _pixels(n, seed=1)
    levels = (x * 255).round().to(torch.uint8).numpy()
    ids = np.arange(n, dtype=np.int64)
    return EvalSet("patterns", levels, labels.numpy(), ids, tuple("abcd"))


@cache
def weights() -> dict[str, Tensor]:
    """Of the honest network, trained for less than a second."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _architecture()
        x, labels = _pixels(256, seed=2)
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(_STEPS):
            noisy = x + 0.05 * torch.randn_like(x)
            loss = F.cross_entropy(network(noisy), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.state_dict()


def _architecture() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Softplus(beta=10),
        nn.Flatten(),
        nn.Linear(8 * SIZE * SIZE, CLASSES),
    )


def honest() -> nn.Module:
    """The network itself."""
    network = _architecture()
    network.load_state_dict(weights())
    return network.eval()


class Wrapped(nn.Module):
    """The honest network with something in front of or behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = honest()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class Softmax(Wrapped):
    """Gives probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Quantised(Wrapped):
    """Rounds its input: the slope is zero almost everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 32).round() / 32)


class Scaled(Wrapped):
    """Logits times 1000: nothing changes but float32 cross-entropy."""

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * super().forward(x)


class Noisy(Wrapped):
    """Adds noise that nobody seeds."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.05 * torch.randn_like(x))


class Averaging(Wrapped):
    """Subtracts a moving average of its inputs: what it saw before decides."""

    mean: Tensor | float = 0.5

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return super().forward(x - 0.2 * self.mean)


class BatchNorm(Wrapped):
    """Normalises by the batch at hand, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.5 + 0.2 * self.norm(x))


class _Turned(torch.autograd.Function):
    """The identity, with a gradient whose pixels have changed places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].flip(1, 2, 3)


class Obfuscated(Wrapped):
    """Gradients lead PGD anywhere but to the boundary; queries see the function as it is."""

    def forward(self, x: Tensor) -> Tensor:
        turned: Tensor = _Turned.apply(x)  # type: ignore[no-untyped-call]
        return super().forward(turned)


class Detached(Wrapped):
    """A step in front that autograd does not see."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(x.detach().numpy().copy()))


class _Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise NotImplementedError("no backward here")


class Raises(Wrapped):
    """A layer without a backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_Raises.apply(x))  # type: ignore[no-untyped-call]


class Bumpy(Wrapped):
    """Its own slope is drowned by that of tiny waves, too low to change a prediction."""

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.sin(4000 * x).flatten(1).sum(dim=1, keepdim=True)
        first = torch.zeros(CLASSES)
        first[0] = 0.02
        return super().forward(x) + waves * first
