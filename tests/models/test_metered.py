"""Metered views: budgets that a search cannot exceed, and nothing but what it declares to see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Sight, Stage
from robench.core.record import Stop
from robench.core.threat import Norm, ThreatModel
from tests.harness import attack, random_images, small_cnn

THREAT = ThreatModel(eps=8 / 255)
EPS = 0.5
Search = Callable[[Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Asking:
    """A search of one stage that does what the test says."""

    sees: Sight
    queries: int
    search: Search

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    stops: ClassVar[tuple[Stop, ...]] = ("any",)

    def stages(self, component: str, classes: int) -> list[Stage]:
        return [Stage(component, "", self.queries, 0, self.run, sees=self.sees)]

    def run(
        self, view: Any, images: Tensor, labels: Tensor, ids: Tensor, threat: object, draws: object
    ) -> Tensor:
        return self.search(view, images, ids)


def ask(sees: Sight, queries: int, search: Search, n: int = 4) -> list[int | None]:
    """The queries charged to each of n images, which all are classified right."""
    model, images = small_cnn(), random_images(n)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    asking = Asking(sees, queries, search)
    outcome = attack(model, "asking", images, labels, THREAT, search=asking, rows=3)
    return [verdict.queries for verdict in outcome.verdicts]


def times(n: int, each: int = 1) -> Search:
    """n calls, an image `each` times in one."""

    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        for _ in range(n):
            view.logits(images.repeat(each, 1, 1, 1), ids.repeat(each))
        return images

    return search


def test_queries_are_charged_to_their_images() -> None:
    assert ask("logits", 3, times(3)) == [3, 3, 3, 3]
    assert ask("logits", 6, times(2, each=3)) == [6, 6, 6, 6]

    def only_two(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        view.logits(images[:2], ids[:2])
        return images

    assert ask("logits", 3, only_two) == [1, 1, 0, 0]
    assert ask("gradients", 3, times(3)) == [None] * 4  # white-box passes are no queries


@pytest.mark.parametrize(("calls", "each"), [(4, 1), (1, 4), (2, 2)])
def test_one_query_too_many_is_refused(calls: int, each: int) -> None:
    with pytest.raises(RunError, match="asked about an image 4 times, 3 queries are allowed"):
        ask("logits", 3, times(calls, each))


def test_one_image_many_times_in_a_call_of_few_rows_is_refused() -> None:
    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        view.logits(images[[0, 0, 0, 0]], ids[[0, 0, 0, 0]])
        return images

    with pytest.raises(RunError, match="asked about an image 4 times, 3 queries are allowed"):
        ask("logits", 3, search, n=8)


def test_images_in_turn_are_not_mistaken_for_one_image() -> None:
    def in_turn(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        for k in range(4):
            view.logits(images[k : k + 1], ids[k : k + 1])
        return images

    assert ask("logits", 1, in_turn) == [1, 1, 1, 1]


def test_the_same_ids_are_counted_on_the_host() -> None:
    """Asked again with one tensor: as many queries as are allowed and no more."""

    def again(n: int, each: int) -> Search:
        def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
            x, asked = images.repeat(each, 1, 1, 1), ids.repeat(each)
            for _ in range(n):
                view.logits(x, asked)
            return images

        return search

    assert ask("logits", 6, again(3, each=2)) == [6, 6, 6, 6]
    with pytest.raises(RunError, match="asked about an image 8 times, 7 queries are allowed"):
        ask("logits", 7, again(4, each=2))


def test_ids_that_were_written_to_are_others() -> None:
    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        asked = ids[:2].clone()
        view.logits(images[:2], asked)
        asked[:] = ids[0]
        view.logits(images[:2], asked)
        return images

    assert ask("logits", 3, search) == [3, 1, 0, 0]
    with pytest.raises(RunError, match="asked about an image 3 times, 2 queries are allowed"):
        ask("logits", 2, search)


def test_a_bound_that_is_reached_is_counted_out() -> None:
    """Two halves in turn: no image has had more than half of the calls."""

    def in_turn(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        first, second = ids[:2].clone(), ids[2:].clone()
        for _ in range(2):
            view.logits(images[:2], first)
            view.logits(images[:2], first)
            view.logits(images[2:], second)
            view.logits(images[2:], second)
        return images

    assert ask("logits", 4, in_turn) == [4, 4, 4, 4]


def test_ids_of_inference_mode_are_counted_out() -> None:
    """They do not say how often they were written to."""

    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        with torch.inference_mode():
            asked = ids.clone()
        for _ in range(3):
            view.logits(images, asked)
        return images

    assert ask("logits", 3, search) == [3, 3, 3, 3]


@pytest.mark.parametrize("sees", ["logits", "labels"])
@pytest.mark.parametrize("name", ["loss_gradient", "module", "clean_logits", "forward_passes"])
def test_there_is_no_way_to_the_model(sees: Sight, name: str) -> None:
    found: list[bool] = []

    def look(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        found.append(hasattr(view, name))
        # Nothing that it holds leads to the network either.
        assert not any(hasattr(held, "loss_gradient") for held in vars(view).values())
        return images

    ask(sees, 1, look)
    assert found == [False]


def test_labels_are_all_that_a_label_only_search_sees() -> None:
    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        assert not hasattr(view, "logits")
        classes = view.predictions(images, ids)
        assert classes.dtype == torch.int64 and classes.shape == (len(ids),)
        return images

    assert ask("labels", 1, search) == [1, 1, 1, 1]


def test_a_label_only_hit_is_verified_and_settles_its_image() -> None:
    model, images = small_cnn(), random_images(24)
    with torch.no_grad():
        wrong = model(images).argmax(dim=1)
        flipped = (images + EPS * model_direction(images)).clamp(0, 1)
    settled: list[Tensor] = []

    def search(view: Any, images: Tensor, ids: Tensor) -> Tensor:
        x = (images + EPS * model_direction(images)).clamp(0, 1)
        done = view.offer(ids, x, view.predictions(x, ids))
        settled.append(done)
        # A claim that is not true settles nothing.
        lie = view.offer(ids, images, (wrong[ids] + 1) % 10)
        assert torch.equal(lie, done)
        return images

    asking = Asking("labels", 1, search)
    outcome = attack(model, "asking", images, wrong, ThreatModel(eps=EPS), search=asking)
    with torch.no_grad():
        moved = model(flipped).argmax(dim=1) != wrong
    assert bool(moved.any()) and not bool(moved.all())
    assert torch.equal(settled[0], moved)
    assert [not verdict.survived for verdict in outcome.verdicts] == moved.tolist()


def model_direction(images: Tensor) -> Tensor:
    """A fixed direction (B, C, H, W) of signs that moves some of the images over a boundary."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 2, images.shape, generator=generator).float() * 2 - 1
