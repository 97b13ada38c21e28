"""How often the host waits for a GPU in a step, and sends it something: numbers that may only fall.

A wait ends the overlap of host and device: the kernels of the next step are queued only after it.
`python -m tests.gpu.syncs` prints what is counted now, with the lines that wait.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass

import torch

from robench.core.threat import ThreatModel
from robench.training import METHODS
from tests.gpu.short import cases, parameters, short
from tests.gpu.test_training import trainer
from tests.harness import attack, random_images, small_cnn
from tests.pretend_cuda import Cuda, pretended

ATTACK_STEPS: dict[tuple[str, str], tuple[int, int]] = {
    ("pgd_sat", "linf"): (0, 0),
    ("pgd_trades", "linf"): (0, 0),
    ("cw_inf", "linf"): (0, 0),
    ("apgd_ce", "linf"): (1, 0),
    ("apgd_ce", "l2"): (1, 0),
    ("apgd_dlr", "linf"): (1, 0),
    ("apgd_dlr", "l2"): (1, 0),
    ("apgd_t", "linf"): (1, 0),
    ("apgd_t", "l2"): (1, 0),
    ("fab", "linf"): (2, 0),
    ("fab", "l2"): (2, 0),
    ("fab_t", "linf"): (2, 0),
    ("fab_t", "l2"): (2, 0),
    ("screen", "linf"): (1, 0),
    ("square", "linf"): (1, 0),
    ("square", "l2"): (1, 0),
    ("square_5000", "linf"): (1, 0),
    ("square_5000", "l2"): (1, 0),
    ("rays", "linf"): (1, 0),
    ("gradient_estimation", "linf"): (4, 1),
}
"""(syncs, uploads) of a step or a query while no image breaks, rounded up."""

TRAINING_STEPS: dict[str, tuple[int, int]] = {
    "absld": (3, 0),
    "fair-ard": (2, 0),
    "fair-rslad": (2, 0),
}
"""(syncs, uploads) of the second training step; `USUAL_STEP` of every other method."""
USUAL_STEP = (1, 0)
"""The losses are read, all of them at once."""

NO_STEPS = ("transfer_pgd_trades", "transfer_cw_inf", "autoattack")
"""Candidates are crafted by pgd_trades and cw_inf; AutoAttack's parts are in the table."""
_LENGTHS: dict[str, tuple[object, object, int]] = {
    "steps": (8, 16, 8),
    "queries": (20, 40, 20),
    "schedule": ("1x4", "5x4", 4),
}
"""Of a short and a long run, and how many steps the long one has more."""
_IMAGES = 4
_TINY: dict[str, float] = {"linf": 1e-4, "l2": 1e-3}
"""Radii at which nothing breaks, so that every step has all images."""


@dataclass(frozen=True)
class Step:
    """What a step costs. sites: (kind, line of the package), with how often in a step."""

    syncs: float
    uploads: float
    launches: float
    sites: Counter[tuple[str, str]]

    @property
    def rounded(self) -> tuple[int, int]:
        """As in the tables."""
        return math.ceil(self.syncs - 1e-9), math.ceil(self.uploads - 1e-9)


def attack_cases() -> list[tuple[str, str]]:
    """Every attack of the table that makes steps, and every norm that it is defined for."""
    with_steps = [case for case in cases() if parameters(case[0]) & _LENGTHS.keys()]
    return [case for case in with_steps if case[0] not in NO_STEPS]


def attack_step(name: str, norm: str) -> Step:
    """What a step costs: a long run less a short one."""
    length = next(parameter for parameter in _LENGTHS if parameter in parameters(name))
    few, many, more = _LENGTHS[length]
    before, after = (_run(short(name, **{length: steps}), norm) for steps in (few, many))
    return _step(after, before, more)


def training_step(method: str) -> Step:
    """What the second step costs; the first one makes what is kept."""
    with pretended() as cuda:
        run = trainer(method, "fp32", "cuda")
        first, second = run.batches(1)[:2]
        run.step(first, 1, 1)
        cuda.reset()
        run.step(second, 1, 2)
    return _step(cuda, Cuda([]), 1)


def _run(text: str, norm: str) -> Cuda:
    model, images = small_cnn(), random_images(_IMAGES)
    labels = model(images).argmax(dim=1)
    with pretended() as cuda:
        model, x, y = model.to("cuda"), images.to("cuda"), labels.to("cuda")
        ids = torch.arange(_IMAGES, device="cuda")
        cuda.reset()
        found = attack(model, text, x, y, ThreatModel(norm, _TINY[norm]), ids=ids)
    assert all(found.survived), "an image broke: its steps are missing"
    return cuda


def _step(after: Cuda, before: Cuda, steps: int) -> Step:
    counts = {kind: (after.counts[kind] - before.counts[kind]) / steps for kind in after.counts}
    return Step(
        counts.get("sync", 0), counts.get("upload", 0), counts["launch"], after.sites - before.sites
    )


def main() -> None:
    """Print every table line as it is counted now, with the lines of the package below it."""
    steps = {f"{name}, {norm}": attack_step(name, norm) for name, norm in attack_cases()}
    steps |= {f"a step of {method}": training_step(method) for method in METHODS.names()}
    for name, step in steps.items():
        counted = f"{step.syncs:g} syncs, {step.uploads:g} uploads, {step.launches:g} launches"
        sys.stdout.write(f"{name}: {counted}\n")
        for (kind, site), times in step.sites.most_common():
            sys.stdout.write(f"    {times:4} {kind} at {site}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
