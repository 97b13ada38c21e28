"""Names beside curves give way to each other, and stay in order and inside."""

import pytest

from robench.figures.labels import spread


@pytest.mark.parametrize(
    ("wanted", "sizes", "expected"),
    [
        ([0.2, 0.8], [0.1, 0.1], [0.2, 0.8]),  # nothing touches
        ([0.5, 0.5], [0.1, 0.1], [0.45, 0.55]),  # both give way by the same
        ([0.52, 0.48], [0.1, 0.1], [0.55, 0.45]),  # the order stays
        ([0.0, 1.0], [0.1, 0.2], [0.05, 0.9]),  # the rims hold
        ([0.0, 0.0, 0.16], [0.1, 0.1, 0.1], [0.05, 0.15, 0.25]),  # a block takes in the next
    ],
)
def test_labels_give_way(wanted: list[float], sizes: list[float], expected: list[float]) -> None:
    assert spread(wanted, sizes) == pytest.approx(expected)
