"""Foreign attacks draw from the global generators: seed those, and give the caller's back."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from robench.core.protocols import Draws


def seed_for(draws: Draws, ids: Tensor) -> int:
    """A seed below 2**24 for a block, drawn for its first image."""
    return int(draws.uniform(ids[:1], (1,), 0, 2**24, purpose="start").item())


@contextmanager
def global_draws(seed: int) -> Iterator[None]:
    """Torch's and numpy's global generators start from `seed`; on leaving they are as before."""
    # manual_seed reaches every device that has been started, so all of them are kept.
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if started else []):
            # A CUDA that somebody starts later is not to be seeded by us.
            (torch.manual_seed if started else torch.default_generator.manual_seed)(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
