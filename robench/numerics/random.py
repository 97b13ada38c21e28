"""Counter-based draws: a number is a function of what it is for, never of position or batch.

Philox4x32-10 on integer tensors: key from (seed, component, image id, restart, target), counter
from (element, step, purpose, probe). The same words on CPU and CUDA, at any batch size and order.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10

PURPOSES = {
    "start": 0,
    "direction": 1,
    "probe": 2,
    "window": 3,
    "sign": 4,
    "order": 5,
    "crop": 6,
    "flip": 7,
    "split": 8,
}
"""What a draw is for; the number is part of the counter, so it never changes."""


Word = Tensor | int


def _multiply(a: int, b: Word) -> tuple[Word, Word]:
    """High and low 32 bits of a product of 32-bit words; those of a tensor are held in int64."""
    product = a * b  # wraps in int64; the mask repairs the sign of the shifted half
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: Sequence[Word], key: tuple[Word, Word]) -> Tensor:
    """Four 32-bit words per counter: (..., 4) int64 in [0, 2^32), on the device of the tensors.

    counter: four words, key: two words, each int64 in [0, 2^32); tensors broadcast.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    # Numbers stay numbers until they meet a tensor: they are of no device, and nothing is uploaded.
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_M0, c0)
        high1, low1 = _multiply(_M1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    words = [torch.as_tensor(word, dtype=torch.int64) for word in (c0, c1, c2, c3)]
    return torch.stack(torch.broadcast_tensors(*words), dim=-1)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class ImageDraws:
    """The draws of one component under one seed; keeps no state.

    seed: any integer. component: the part that draws ("apgd_ce"), wherever it runs.
    """

    seed: int
    component: str

    def words(
        self,
        ids: Tensor,
        count: int,
        *,
        purpose: str,
        step: int = 0,
        probe: int = 0,
        restart: int = 0,
        target: int = 0,
    ) -> Tensor:
        """(B, count) int64 words in [0, 2^32), row by row for the images `ids` (B,)."""
        keys = [self._key(i, restart, target) for i in ids.tolist()]
        key = torch.tensor(keys, dtype=torch.int64, device=ids.device).reshape(-1, 2, 1)
        blocks = torch.arange(math.ceil(count / 4), device=ids.device)
        words = philox((blocks, step, PURPOSES[purpose], probe), (key[:, 0], key[:, 1]))
        return words.flatten(1)[:, :count]

    def _key(self, image_id: int, restart: int, target: int) -> tuple[int, int]:
        text = f"{self.seed}/{self.component}/{image_id}/{restart}/{target}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")

    def uniform(
        self, ids: Tensor, shape: Sequence[int], low: float, high: float, *, purpose: str, **at: int
    ) -> Tensor:
        """(B, *shape) float32, uniform in [low, high). at: step, probe, restart, target."""
        words = self.words(ids, math.prod(shape), purpose=purpose, **at)
        unit = (words >> 8).float() * 2.0**-24
        return (low + (high - low) * unit).reshape(-1, *shape)

    def signs(self, ids: Tensor, shape: Sequence[int], *, purpose: str, **at: int) -> Tensor:
        """(B, *shape) float32 of -1 and +1 with equal chance (Rademacher)."""
        words = self.words(ids, math.prod(shape), purpose=purpose, **at)
        return ((words & 1) * 2 - 1).float().reshape(-1, *shape)

    def normal(self, ids: Tensor, shape: Sequence[int], *, purpose: str, **at: int) -> Tensor:
        """(B, *shape) float32 standard normal (Box-Muller in float64).

        Source: Box & Muller 1958. float64 logarithms may differ in the last bit between device
        kinds, unlike `uniform` and `signs`.
        """
        count = math.prod(shape)
        words = self.words(ids, 2 * count, purpose=purpose, **at).double()
        radius = (-2 * ((words[:, :count] + 1) * 2.0**-32).log()).sqrt()
        angle = 2 * math.pi * words[:, count:] * 2.0**-32
        return (radius * angle.cos()).float().reshape(-1, *shape)


@dataclass(frozen=True)
class BatchDraws:
    """The draws of a training epoch: a function of (seed, purpose, epoch, image id, element).

    No state, and no work per image in Python. seed: any integer; epoch: counted from 1.
    """

    seed: int
    epoch: int = 0

    def words(self, ids: Tensor, count: int, *, purpose: str) -> Tensor:
        """(B, count) int64 words in [0, 2^32), row by row for the images `ids` (B,) int64."""
        blocks = torch.arange(math.ceil(count / 4), device=ids.device)
        digest = hashlib.sha256(f"training/{self.seed}".encode()).digest()
        key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
        words = philox((blocks, ids[:, None], PURPOSES[purpose], self.epoch), key)
        return words.flatten(1)[:, :count]

    def uniform(
        self, ids: Tensor, shape: Sequence[int], low: float, high: float, *, purpose: str
    ) -> Tensor:
        """(B, *shape) float32, uniform in [low, high)."""
        unit = (self.words(ids, math.prod(shape), purpose=purpose) >> 8).float() * 2.0**-24
        return (low + (high - low) * unit).reshape(-1, *shape)

    def normal(self, ids: Tensor, shape: Sequence[int], *, purpose: str) -> Tensor:
        """(B, *shape) float32 standard normal; one word a number, both of Box and Muller's pair."""
        count = math.prod(shape)
        half = math.ceil(count / 2)
        words = self.words(ids, 2 * half, purpose=purpose)
        radius = (-2 * ((words[:, :half] + 1).float() * 2.0**-32).log()).sqrt()
        angle = (2 * math.pi * 2.0**-32) * words[:, half:].float()
        pair = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pair[:, :count].reshape(-1, *shape)

    def integers(self, ids: Tensor, count: int, bound: int, *, purpose: str) -> Tensor:
        """(B, count) int64 in [0, bound): the high bits of word x bound; bias below bound/2^32."""
        return (self.words(ids, count, purpose=purpose) * bound) >> 32
