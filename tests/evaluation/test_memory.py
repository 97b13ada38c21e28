"""First passes that run out of memory have fewer rows, wherever they are; verdicts stay."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robench
from robench.data.evalset import EvalSet
from robench.evaluation import target
from tests.evaluation.strangers import net
from tests.harness import random_images, small_cnn

PLACES = ("_check_outputs", "prepare", "defense_flags", "normalization_warning")
PLACES += ("clean_probe", "probe", "_measure_passes")
FULL = False


class Full(nn.Module):
    """A network for which memory is full above four images, from some place on."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn(4)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 4 and FULL:  # nothing traces it: copies see it as well
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")
        return self.network(x)  # type: ignore[no-any-return]


def data() -> EvalSet:
    pixels = random_images(8)
    with torch.no_grad():
        labels = small_cnn(4)(pixels).argmax(1).numpy()
    levels = (pixels * 255).round().byte().numpy()
    return EvalSet("mine", levels, labels, torch.arange(8).numpy(), tuple("abcd"))


@pytest.fixture(autouse=True)
def empty() -> None:
    global FULL
    FULL = False


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_is_full_from_there_on_halves_the_passes(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = robench.evaluate(Full().eval(), "fgsm", dataset=data(), out=tmp_path / "plain")
    where = target.Target if place.startswith("_") else target
    real: Callable[..., object] = getattr(where, place)

    def reached(*args: object, **options: object) -> object:
        global FULL
        FULL = True
        return real(*args, **options)

    monkeypatch.setattr(where, place, reached)
    found = robench.evaluate(Full().eval(), "fgsm", dataset=data(), out=tmp_path / "full")
    row, record = found.rows[0], found.records[0]
    assert row.status == "done" and [flag.name for flag in row.flags] == ["pass_shape_halved"]
    assert record.pass_shape.judge <= 4 and record.pass_shape.search <= 4
    survived = [verdict.survived for verdict in record.verdicts]
    assert survived == [verdict.survived for verdict in plain.records[0].verdicts]


def test_a_network_of_one_number_of_rows_says_that_memory_is_full(tmp_path: Path) -> None:
    calls = 0

    def bound(s: nn.Module, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return s.net(x.reshape(16, 3, 8, 8))  # type: ignore[operator, no-any-return]

    (row,) = robench.evaluate(net(bound)(), "fgsm", dataset=data(), out=tmp_path).rows
    assert row.status == "failed" and "out of memory" in (row.reason or "")
    assert "16 rows" in (row.reason or "") and "\n" not in (row.reason or "")
