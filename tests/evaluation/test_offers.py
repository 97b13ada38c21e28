"""What a search is told of the iterates that it offers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robench.core.protocols import Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from robench.evaluation.block import _first_of_each
from robench.numerics.ascent import signed_ascent
from tests.harness import Outcome, attack, random_images, small_cnn


@dataclass(frozen=True)
class Offering:
    """A search that does what the test says."""

    search: Callable[..., Tensor]
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any", "last")

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", 0, 0, self.run)]

    def run(
        self, view: Any, images: Tensor, labels: Tensor, ids: Tensor, threat: object, draws: object
    ) -> Tensor:
        return self.search(view, images, labels, ids)


def offered(search: Callable[..., Tensor], stop: Stop = "any") -> Outcome:
    model, images = small_cnn(), random_images(16, seed=5)
    labels = model(images).argmax(dim=1)
    planted = Offering(search)
    return attack(model, "own", images, labels, ThreatModel(eps=1), stop=stop, search=planted)


def believes(labels: Tensor, rows: Tensor) -> Tensor:
    """Logits (B, 10) of another class at some rows (B,) bool, of the label at the others."""
    return torch.eye(10)[torch.where(rows, (labels + 1) % 10, labels)]


def test_none_is_settled_until_the_judge_says_so() -> None:
    told: list[Tensor | None] = []

    def search(view: Any, images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        other = images.flip(0)
        moved = small_cnn()(other).argmax(dim=1) != labels
        nothing, all_ = torch.zeros_like(moved), torch.ones_like(moved)
        assert 0 < int(moved.sum()) < len(moved)
        for rows in (nothing, moved & (ids < 8), nothing, all_):
            told.append(view.offer(ids, other, believes(labels, rows)))
        some = ids[~moved]
        told.append(view.offer(some, other[~moved], believes(labels[~moved], nothing[~moved])))
        told.append(moved)
        return images

    out = offered(search)
    *answers, moved = told
    assert moved is not None
    first = moved & (torch.arange(16) < 8)
    assert answers[0] is None and answers[4] is None
    for answer, expected in zip(answers[1:4], (first, first, moved), strict=True):
        assert answer is not None and torch.equal(answer, expected)
    assert out.survived == (~moved).tolist()
    assert out.components[0].unconfirmed_hits == int((~moved).sum())


def test_an_image_that_is_there_twice_is_marked_once() -> None:
    """One of its rows is no hit, whatever the order in which they are noted."""

    def search(view: Any, images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        other, every = images.flip(0), torch.ones(32, dtype=torch.bool)
        for pair in ([images, other], [other, images]):
            view.offer(ids.repeat(2), torch.cat(pair), believes(labels.repeat(2), every))
        return images

    out = offered(search)
    flags = [verdict.flags for verdict in out.verdicts]
    assert 0 < sum(out.survived) < 16 and all("unconfirmed_hit" in found for found in flags)


def test_under_the_rule_last_nothing_is_said() -> None:
    def search(view: Any, images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        every = torch.ones(len(ids), dtype=torch.bool)
        assert view.offer(ids, images.flip(0), believes(labels, every)) is None
        return images

    assert all(offered(search, "last").survived)


def test_of_an_image_that_is_there_twice_the_first_broken_row_is_kept() -> None:
    places = torch.tensor([3, 1, 3, 1, 2, 2])
    broken = torch.tensor([False, True, True, True, False, False])
    assert _first_of_each(places, broken).tolist() == [False, True, True, False, True, False]


def test_a_settled_row_stays_where_it_was_settled() -> None:
    """And costs no further pass."""
    asked = []

    def gradient(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(rows.tolist())
        return x, torch.ones_like(x)

    start, end = torch.zeros(3, 1), torch.ones(3, 1)
    found = signed_ascent(
        gradient,
        start,
        start,
        end,
        step_sizes=[0.25] * 3,
        settled=lambda x, rows, logits: (rows == 1) & (x[:, 0] > 0),
    )
    assert found[:, 0].tolist() == [0.75, 0.25, 0.75]
    assert asked == [[0, 1, 2], [0, 1, 2], [0, 2]]
