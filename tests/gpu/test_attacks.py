"""Every attack gives on the pretended GPU the verdicts of the CPU, from the same arithmetic."""

from pathlib import Path
from typing import Any

import pytest

from robench.core.record import Record
from tests.gpu.short import cases, short
from tests.pretend_cuda import pretended
from tests.scored import comparable, score, small_set

SURROGATE = "python:tests.evaluation.planted:other"
LARGE = {"autoattack": {"linf": 0.3, "l2": 8.0}}
"""Of AutoAttack's parts, which are all here by themselves, no more than the first has work then."""
ELSEWHERE = ("device_kind", "hardware", "key")


def measured(folder: Path, attack: str, device: str, **options: Any) -> Record:
    (record,) = score(
        folder / device.replace(":", ""), attack, dataset=small_set(12), device=device, **options
    ).records
    return record


def same(one: Record, other: Record) -> bool:
    """Verdicts, passes, flags and the rest, but for the device's name."""
    a, b = comparable(one), comparable(other)
    return {k: v for k, v in a.items() if k not in ELSEWHERE} == {
        k: v for k, v in b.items() if k not in ELSEWHERE
    }


@pytest.mark.parametrize(("name", "norm"), cases())
def test_verdicts_are_those_of_the_cpu(tmp_path: Path, name: str, norm: str) -> None:
    options = {"norm": norm, "eps": LARGE.get(name, {}).get(norm), "surrogate": SURROGATE}
    attack = short(name)
    on_cpu = measured(tmp_path, attack, "cpu", **options)
    with pretended() as cuda:
        there = measured(tmp_path, attack, "cuda", **options)
    assert cuda.launches and there.device_kind.startswith("cuda/Pretended-GPU-0/")
    assert there.hardware["gpu"] == "Pretended GPU 0" and "gpu" not in on_cpu.hardware
    assert there.verdicts == on_cpu.verdicts
    assert same(there, on_cpu)


@pytest.mark.parametrize("stop", ["last", "any"])
def test_searches_in_bf16_find_the_same(tmp_path: Path, stop: str) -> None:
    options = {"stop": stop, "precision": "bf16"}
    on_cpu = measured(tmp_path, short("pgd_sat"), "cpu", **options)
    with pretended():
        there = measured(tmp_path, short("pgd_sat"), "cuda", **options)
    assert there.precision == "bf16" and same(there, on_cpu)
