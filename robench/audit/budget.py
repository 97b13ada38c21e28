"""Budget: what an audit may spend."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """The size of every test; all of it is in the report.

    images: the first so many of the set, where nothing else is said. steps: of PGD. apgd_steps,
    targets: of the white-box searches that Square and noise are compared with. square_queries: what
    Square may ask about an image that they left. noise: random points tried on an image. probes: of
    the loss, with noise. pairs, pair_images: of queries in a gradient estimate, and how many images
    get one.
    """

    name: str
    images: int
    steps: int
    apgd_steps: int
    targets: int
    square_queries: int
    noise: int
    probes: int
    pairs: int
    pair_images: int


QUICK = Budget(
    "quick",
    images=64,
    steps=30,
    apgd_steps=40,
    targets=3,
    square_queries=1000,
    noise=50,
    probes=20,
    pairs=50,
    pair_images=32,
)
FULL = Budget(
    "full",
    images=500,
    steps=50,
    apgd_steps=100,
    targets=9,
    square_queries=5001,
    noise=100,
    probes=100,
    pairs=500,
    pair_images=100,
)
BUDGETS = {budget.name: budget for budget in (QUICK, FULL)}
