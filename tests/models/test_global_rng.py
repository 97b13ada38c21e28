"""Foreign code may draw as it likes; the global generators do not notice."""

import random

import numpy as np
import pytest
import torch

from robench.models.global_rng import kept_global_rng, seeded_global_rng


def _draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_draws_and_seeds_inside_leave_no_trace():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(ValueError, match="foreign"), kept_global_rng():
        _draws()
        torch.manual_seed(3)
        raise ValueError("foreign")
    after = _draws()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    assert _draws() == after


def test_one_seed_repeats_every_generator_and_their_states_come_back():
    states = random.getstate(), torch.get_rng_state()
    found = []
    for seed in (1, 1, 2):
        with seeded_global_rng(seed):
            found.append(_draws())
    assert found[0] == found[1] and all(map(float.__ne__, found[1], found[2]))
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
