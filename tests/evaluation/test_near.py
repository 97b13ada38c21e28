"""Square near its points and Square on whole passes: the same search, the same verdicts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Stage
from robench.core.record import Record
from robench.models import near_plan, view
from robench.models.metered import metered
from robench.models.near import News, Surroundings
from robench.models.prepare import prepare
from robench.models.view import ModelView
from tests.harness import random_images, small_cnn
from tests.scored import comparable, score

SQUARE = "square_5000[queries=150,p_init=0.1]"  # windows of 3, 2 and 1 pixels


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small networks too are computed again in part; how many rows were, pass by pass."""
    seen: list[int] = []
    plain = Surroundings.logits

    def noted(self: Surroundings, rows: Tensor, z: Tensor, corners: Tensor) -> News:
        seen.append(len(rows))
        return plain(self, rows, z, corners)

    monkeypatch.setattr(near_plan, "LEAST_WORK", 0.0)
    monkeypatch.setattr(Surroundings, "logits", noted)
    return seen


def searched(folder: Path, **options: object) -> Record:
    return score(folder, SQUARE, eps=0.02, **options).records[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_verdicts_are_those_of_whole_passes(
    tmp_path: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    near_points = searched(tmp_path / "near", precision=precision)
    asked = len(passes)
    assert asked > 100
    monkeypatch.setattr(view, "plan_near", lambda *_: None)
    whole = searched(tmp_path / "whole", precision=precision)
    assert len(passes) == asked
    assert comparable(near_points) == comparable(whole)
    assert 5 < sum(whole.verdicts.survived) < 55


def test_verdicts_do_not_depend_on_batch_shards_or_threads(
    tmp_path: Path, passes: list[int]
) -> None:
    whole = searched(tmp_path / "whole")
    for size in (1, 7):
        assert comparable(searched(tmp_path / str(size), batch_size=size)) == comparable(whole)
    searched(tmp_path / "shards", shard="1/2")
    assert comparable(searched(tmp_path / "shards", shard="2/2")) == comparable(whole)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert searched(tmp_path / "threads").verdicts == whole.verdicts
    finally:
        torch.set_num_threads(before)
    assert passes


def test_queries_near_a_point_are_metered(passes: list[int]) -> None:
    model, x, ids = small_cnn(), random_images(4), torch.arange(4)
    search = prepare(model, x, "fp32")
    seen = ModelView(search, model, 4, ids, model(x).detach(), lambda *_: None, {})
    stage = Stage("square", "", 2, 0, lambda *_: None, sees="logits")
    points = metered(seen, stage).near(x, ids, 2)
    passes.clear()  # the plan was tried
    for _ in range(2):
        points.logits(x, ids, torch.zeros(4, 2, dtype=torch.long))
    assert seen.forward_passes.tolist() == [2, 2, 2, 2] and len(passes) == 2
    with pytest.raises(RunError, match="3 times, 2 queries are allowed"):
        points.logits(x, ids, torch.zeros(4, 2, dtype=torch.long))
