"""Counter-based draws: known answers, and nothing but the image decides them."""

import hashlib

import pytest
import torch

from robench.numerics.random import BatchDraws, ImageDraws, philox
from tests.pretend_cuda import pretended

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (ONES, ONES, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_philox_known_answers(counter: int, key: int, expected: str) -> None:
    words = philox((counter,) * 4, (key, key)).tolist()
    assert " ".join(f"{word:08x}" for word in words) == expected


def test_the_key_is_the_hash_of_the_purpose() -> None:
    digest = hashlib.sha256(b"7/apgd_ce/12/1/3").digest()
    low, high = (int.from_bytes(digest[i : i + 4], "little") for i in (0, 4))
    expected = philox((torch.arange(2), 5, 1, 9), (low, high)).flatten()
    draws = ImageDraws(7, "apgd_ce")
    words = draws.words(
        torch.tensor([12]), 8, purpose="direction", step=5, probe=9, restart=1, target=3
    )
    assert torch.equal(words[0], expected)


@pytest.mark.parametrize("kind", ["uniform", "signs", "normal"])
def test_draws_do_not_depend_on_the_batch(kind: str) -> None:
    def draw(ids: list[int]) -> torch.Tensor:
        bounds = (-1.0, 1.0) if kind == "uniform" else ()
        method = getattr(ImageDraws(0, "pgd_sat"), kind)
        return method(torch.tensor(ids), (3, 5, 5), *bounds, purpose="start")

    together = draw([4, 9, 2, 7])
    for place, image_id in enumerate([4, 9, 2, 7]):
        assert torch.equal(together[place], draw([image_id])[0])
    assert not torch.equal(together[0], together[1])


def test_every_part_of_the_purpose_changes_the_draw() -> None:
    ids = torch.tensor([3])
    at = {"step": 0, "probe": 0, "restart": 0, "target": 0}
    base = ImageDraws(0, "a").words(ids, 4, purpose="start", **at)
    others = [ImageDraws(0, "a").words(ids, 4, purpose="start", **{**at, k: 1}) for k in at]
    others += [
        ImageDraws(0, "a").words(ids, 4, purpose="probe"),
        ImageDraws(1, "a").words(ids, 4, purpose="start"),
        ImageDraws(1 << 32, "a").words(ids, 4, purpose="start"),  # torch's generator ignores this
        ImageDraws(0, "b").words(ids, 4, purpose="start"),
    ]
    assert all(not torch.equal(base, other) for other in others)


def test_distributions() -> None:
    draws, ids = ImageDraws(0, "test"), torch.arange(64)
    uniform = draws.uniform(ids, (1000,), -0.5, 1.5, purpose="start")
    assert uniform.min() >= -0.5 and uniform.max() < 1.5
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 4 / 12) < 0.01
    signs = draws.signs(ids, (1000,), purpose="sign")
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and abs(signs.mean()) < 0.02
    normal = draws.normal(ids, (1000,), purpose="start")
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert abs((normal.abs() < 1.959964).float().mean() - 0.95) < 0.005


@pytest.mark.parametrize("draws", [ImageDraws(7, "test"), BatchDraws(7, 3)])
def test_words_are_made_on_the_device_of_the_ids(draws: ImageDraws | BatchDraws) -> None:
    ids = torch.tensor([3, 10**6, 0])
    expected = draws.words(ids, 50, purpose="start")
    with pretended() as cuda:
        there = ids.to("cuda:1")
        cuda.reset()
        words = draws.words(there, 50, purpose="start")
        assert words.device == there.device
        # Keys by image come from hashes; nothing else is sent, and batches are not waited for.
        assert cuda.uploads == cuda.syncs == int(isinstance(draws, ImageDraws))
        assert torch.equal(words.cpu(), expected)


@pytest.mark.gpu
def test_words_are_equal_on_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    ids = torch.arange(16)
    draws = ImageDraws(0, "test")
    on_cuda = draws.words(ids.cuda(), 100, purpose="start").cpu()
    assert torch.equal(on_cuda, draws.words(ids, 100, purpose="start"))
