"""Foreign code may draw from the global generators; what runs after it must not notice."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def started_devices() -> list[int]:
    """The GPUs whose generators have a state: all of them, once CUDA was started."""
    # Asking for the state of a device would start CUDA on it.
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if started else []


def seed_torch(seed: int) -> None:
    """Seed torch's global generators: the CPU's, and those of `started_devices`."""
    # Not torch.manual_seed: it would seed a CUDA that somebody starts later.
    torch.default_generator.manual_seed(seed)
    if started_devices():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def kept_global_rng() -> Iterator[None]:
    """Restore the states of Python's, numpy's and torch's global generators on leaving."""
    python = random.getstate()
    # Foreign code that is first to import numpy starts from an unseeded state: nothing to keep.
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(started_devices()):
            yield
    finally:
        random.setstate(python)
        if numpy and numpy_state:
            numpy.random.set_state(numpy_state)


@contextmanager
def seeded_global_rng(seed: int = 0) -> Iterator[None]:
    """Python's, numpy's and torch's global generators at a seed; their states come back after.

    What draws from them gives the same under one seed, so that noise can be told from state.
    """
    with kept_global_rng():
        random.seed(seed)
        numpy = sys.modules.get("numpy")
        if numpy:
            numpy.random.seed(seed)
        seed_torch(seed)
        yield
