"""Part 6: launches, host syncs and the idle share of a step of PGD, APGD and Square.

A search of more steps minus one of fewer: what does not grow with the steps cancels. On a pretended
device operations are counted, not kernels, and nothing is timed.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting
from robench.data.evalset import EvalSet

SEARCHES = {
    "pgd_sat, a step": ("pgd_sat[steps={}]", (10, 30)),
    "apgd_ce, a step": ("apgd_ce[steps={}]", (20, 60)),
    "square, a query": ("square[queries={}]", (50, 150)),
}
SMALL = {"pgd_sat": (1, 3), "apgd_ce": (10, 14), "square": (4, 8)}
SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
UPLOADS = "Memcpy HtoD"
EPS = 0.25 / 255
ONE_PASS = 8
"""Images that fill one pass on a pretended device."""


@dataclass(frozen=True)
class Counts:
    """Of one search. busy: seconds in which a kernel ran; wall: seconds in all."""

    launches: float
    syncs: float
    uploads: float
    busy: float = 0.0
    wall: float = 0.0

    def a_step(self, fewer: "Counts", steps: int) -> "Counts":
        """What one of the additional steps takes."""
        names = ("launches", "syncs", "uploads", "busy", "wall")
        return Counts(**{n: (getattr(self, n) - getattr(fewer, n)) / steps for n in names})


def run(setting: Setting, notes: Notebook) -> None:
    """One line a search, and as many images as fill one pass and two."""
    # A report costs syncs; on a pretended device, which is slow, one would come with every pass.
    rare = mock.patch("robench.evaluation.engine.REPORT_SECONDS", 3600.0)
    with setting.world() as cuda, rare if setting.pretended else nullcontext():
        for title, n, fewer, more, steps in _cases(setting):
            few, many = (_counts(setting, cuda, text, n) for text in (fewer, more))
            notes.figure(f"{title}, {n} images", _said(many.a_step(few, steps), setting.pretended))


def _cases(setting: Setting) -> Iterator[tuple[str, int, str, str, int]]:
    sizes = setting.sizes
    for n in (ONE_PASS,) if setting.pretended else (sizes.images, sizes.whole):
        for title, (text, steps) in SEARCHES.items():
            few, many = SMALL[title.split(",")[0]] if setting.pretended else steps
            yield title, n, text.format(few), text.format(many), many - few


def _said(step: Counts, pretended: bool) -> str:
    counted = f"{step.launches:.1f} launches, {step.syncs:.2f} syncs, {step.uploads:.2f} uploads"
    if pretended:
        return counted
    idle = 1 - step.busy / step.wall if step.wall > 0 else float("nan")
    return f"{counted}, {1e3 * step.wall:.3f} ms, idle {idle:.0%}"


def _counts(setting: Setting, cuda: Any, text: str, n: int) -> Counts:
    images = setting.images(n)
    if setting.pretended:
        cuda.reset()
        _search(setting, text, text, images)
        return Counts(cuda.launches, cuda.syncs, cuda.uploads)
    timed = [_search(setting, f"{text}-{n}-{k}", text, images) for k in range(setting.sizes.rounds)]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        _search(setting, f"{text}-{n}-profiled", text, images)
        torch.cuda.synchronize()
    return _of_profile(profile.key_averages(), min(timed))


def _search(setting: Setting, name: str, text: str, images: EvalSet) -> float:
    """Its seconds. The ball is small, so that images are still there at the last step."""
    return setting.records(name, text, images, precision="bf16", eps=EPS)[0].cost.seconds


def _of_profile(events: Any, wall: float) -> Counts:
    """From the averages of a profile: calls of the runtime, and time on the device."""
    calls: Mapping[str, int] = {event.key: event.count for event in events}
    busy = sum(
        event.self_device_time_total for event in events if event.device_type == DeviceType.CUDA
    )
    return Counts(
        launches=sum(n for key, n in calls.items() if key.startswith(LAUNCHES)),
        syncs=sum(n for key, n in calls.items() if key in SYNCS),
        uploads=sum(n for key, n in calls.items() if key.startswith(UPLOADS)),
        busy=busy / 1e6,
        wall=wall,
    )
