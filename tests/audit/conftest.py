"""A budget that audits the planted networks in about a second."""

import pytest

from robench.audit.budget import Budget


@pytest.fixture
def tiny() -> Budget:
    """Enough steps for G5, few of everything else."""
    return Budget(
        "tiny",
        images=48,
        steps=36,
        apgd_steps=8,
        targets=3,
        square_queries=120,
        noise=10,
        probes=5,
        pairs=20,
        pair_images=32,
    )
