"""Numbers by class: sums that no order changes, and lists that are empty at first."""

import pytest
import torch

from robench.training.classes import added, class_sums, row_values


def test_sums_are_by_class_in_float64() -> None:
    """2^24 + 1 has no float32; a class without an image has the sum 0."""
    values = torch.tensor([2.0**24, 1.0, 0.5], requires_grad=True)
    assert class_sums(values, torch.tensor([2, 2, 0]), 4) == [0.5, 0.0, 2.0**24 + 1, 0.0]
    assert class_sums(torch.tensor([3, 4]), torch.tensor([1, 1]), 2) == [0.0, 7.0]


def test_an_empty_total_counts_as_zeros_and_no_list_is_changed() -> None:
    total, more = [1.0, 2.0], [0.5, 0.25]
    assert added([], more) == more and added([], more) is not more
    assert added(total, more) == [1.5, 2.25]
    assert total == [1.0, 2.0]
    with pytest.raises(ValueError, match="shorter"):
        added([1.0, 2.0, 3.0], more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_take_the_number_of_their_class(dtype: torch.dtype) -> None:
    like, labels = torch.zeros(1, dtype=dtype), torch.tensor([2, 0, 2])
    expected = torch.tensor([0.1, 5.0, 0.1], dtype=dtype)
    assert torch.equal(row_values([5.0, 7.0, 0.1], labels, like), expected)
    assert torch.equal(row_values([], labels, like), torch.ones(3, dtype=dtype))
