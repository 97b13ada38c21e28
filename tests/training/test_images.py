"""Split, order and augmentation: by hand, and as functions of the image's id alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.data.evalset import EvalSet
from robench.numerics.random import BatchDraws
from robench.training.images import PAD, TrainingImages, crop_and_flip, split


def numbered(n: int = 60, classes: int = 3, size: int = 6) -> EvalSet:
    """Images whose pixels are all different within an image; ids are not their places."""
    pixels = np.arange(3 * size * size, dtype=np.uint8).reshape(1, 3, size, size) + 1
    labels = np.arange(n, dtype=np.int64) % classes
    ids = np.arange(n, dtype=np.int64) * 7 + 5
    return EvalSet("numbered", np.repeat(pixels, n, 0), labels, ids, tuple("abc"[:classes]))


def shifted(image: Tensor, dy: int, dx: int, flip: bool) -> Tensor:
    """One image, moved by hand: row y of the result is row y + dy - PAD of the image."""
    result = torch.zeros_like(image)
    height, width = image.shape[1:]
    for y in range(height):
        for x in range(width):
            source_x = dx - PAD + (width - 1 - x if flip else x)
            source_y = y + dy - PAD
            if 0 <= source_y < height and 0 <= source_x < width:
                result[:, y, x] = image[:, source_y, source_x]
    return result


def test_crop_and_flip_move_pixels_as_drawn() -> None:
    images, draws = TrainingImages.of(numbered(), torch.device("cpu")), BatchDraws(3, epoch=2)
    got = crop_and_flip(images.images, images.ids, draws)
    offsets = draws.integers(images.ids, 2, 2 * PAD + 1, purpose="crop").tolist()
    flips = draws.integers(images.ids, 1, 2, purpose="flip")[:, 0].tolist()
    for row, ((dy, dx), flip) in enumerate(zip(offsets, flips, strict=True)):
        assert torch.equal(got[row], shifted(images.images[row], dy, dx, bool(flip)))
    assert len(set(flips)) == 2 and len({tuple(o) for o in offsets}) > 30
    assert min(map(min, offsets)) == 0 and max(map(max, offsets)) == 2 * PAD


def test_every_shift_is_as_likely() -> None:
    ids = torch.arange(20_000)
    offsets = BatchDraws(0, epoch=1).integers(ids, 2, 2 * PAD + 1, purpose="crop")
    counts = torch.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81).double()
    chi_square = ((counts - 20_000 / 81) ** 2 / (20_000 / 81)).sum()
    assert chi_square < 125  # 0.1 % of 80 degrees of freedom
    flips = BatchDraws(0, epoch=1).integers(ids, 1, 2, purpose="flip").double().mean()
    assert abs(flips - 0.5) < 0.012


def test_a_batch_is_the_same_whatever_else_is_in_it() -> None:
    images, draws = TrainingImages.of(numbered(), torch.device("cpu")), BatchDraws(1, epoch=4)
    rows = torch.tensor([9, 3, 40])
    together = images.batch(rows, draws, augment=True)
    for place, row in enumerate(rows):
        alone = images.batch(row[None], draws, augment=True)
        assert torch.equal(alone[0], together[place])
    assert together.dtype is torch.float32 and together.is_contiguous(
        memory_format=torch.channels_last
    )
    plain = images.batch(rows, draws, augment=False)
    assert torch.equal(plain, images.images[rows].float() / 255)


def test_the_order_is_a_permutation_of_its_own_for_each_epoch_and_seed() -> None:
    images = TrainingImages.of(numbered(), torch.device("cpu"))
    orders = [images.order(BatchDraws(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(60))
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_the_order_goes_by_id_and_not_by_place() -> None:
    whole = numbered()
    turned = whole.select(whole.ids[::-1].tolist())
    draws = BatchDraws(0, epoch=1)
    ids = []
    for evalset in (whole, turned):
        images = TrainingImages.of(evalset, torch.device("cpu"))
        ids.append(images.ids[images.order(draws)].tolist())
    assert ids[0] == ids[1]


def test_the_split_takes_as_many_of_each_class_and_leaves_the_rest() -> None:
    train, held = split(numbered(), 12)
    assert np.bincount(held.labels).tolist() == [4, 4, 4]
    assert sorted([*train.ids, *held.ids]) == sorted(numbered().ids)
    again = split(numbered(), 12)[1]
    assert held.ids.tolist() == again.ids.tolist()


def test_a_larger_split_holds_the_smaller_one() -> None:
    assert set(split(numbered(), 6)[1].ids) < set(split(numbered(), 12)[1].ids)


@pytest.mark.parametrize("count", [10, 60, 63])
def test_a_split_that_cannot_be_balanced_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"cannot take {count} validation images"):
        split(numbered(), count)
