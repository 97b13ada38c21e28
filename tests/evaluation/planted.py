"""Factories for `python:` references in tests."""

from torch import Tensor, nn

from tests.harness import small_cnn

ENOUGH = 12
"""Gradient passes: more than loading and FGSM need, fewer than PGD."""


def build() -> nn.Module:
    """The small network of the tests; pools to a fixed size, so that it takes any images."""
    return small_cnn()


class Tires(nn.Module):
    """Raises after some gradient passes."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.passes = small_cnn(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1 if x.requires_grad else 0
        if self.passes > ENOUGH:
            raise ValueError("too many passes")
        logits: Tensor = self.network(x)
        return logits


def tires() -> nn.Module:
    """A defense that fails in the middle of a long attack."""
    return Tires()


def other() -> nn.Module:
    """A surrogate: other weights."""
    return small_cnn(seed=1)


def third() -> nn.Module:
    """Another one."""
    return small_cnn(seed=2)


class Doubled(nn.Module):
    """The small network with twice its logits: another fingerprint, the same gradients' signs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 2 * self.network(x)
        return logits


def doubled() -> nn.Module:
    """See `Doubled`."""
    return Doubled()


def by_batch() -> nn.Module:
    """A defense whose outputs depend on the other images of a batch, and repeat."""
    network = small_cnn()
    network[1] = nn.BatchNorm2d(8, track_running_stats=False)  # type: ignore[index]
    return network.eval()
