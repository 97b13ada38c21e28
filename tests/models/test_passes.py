"""Passes side by side, and the threads that they are given."""

import threading

import pytest
import torch

from robench.models.passes import (
    all_threads,
    passes_at_once,
    reserved_for_passes,
    side_by_side,
    use_all_threads,
)

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("two_threads")


def test_reserving_leaves_one_thread_to_the_caller_and_all_to_the_passes() -> None:
    with reserved_for_passes():
        assert torch.get_num_threads() == 1 and passes_at_once(CPU) == 2
        # Both must be there at once, or the barrier breaks.
        meet = threading.Barrier(2, timeout=20)
        assert list(side_by_side(lambda n: (meet.wait() >= 0) + n, [1, 2])) == [2, 3]
        with reserved_for_passes():
            assert torch.get_num_threads() == 1 and passes_at_once(CPU) == 2
        with all_threads():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
        use_all_threads()
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2 and passes_at_once(CPU) == 2


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), reserved_for_passes():
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2 and passes_at_once(CPU) == 2
