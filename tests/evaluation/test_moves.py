"""Moved classes: right but for the order of the classes is told, and a weak network spared."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from robench.attacks.pgd import PGD
from robench.core.record import Flag, Verdict, Verdicts
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from robench.evaluation.flags import record_flags
from robench.evaluation.moves import moved_classes
from tests.scored import score, small_set

NAMES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def answered(labels: Sequence[int], answers: Sequence[int]) -> Verdicts:
    """Verdicts of clean predictions alone, ids as they stand."""
    pairs = enumerate(zip(labels, answers, strict=True))
    return Verdicts.of(Verdict(i, y, a, a, y == a, 0.0, 1.0, 1, 0) for i, (y, a) in pairs)


def flag(labels: Sequence[int], answers: Sequence[int]) -> Flag | None:
    return moved_classes(answered(labels, answers), NAMES)


def classes(n: int, each: int) -> list[int]:
    return [label for label in range(n) for _ in range(each)]


def test_two_classes_that_stand_for_each_other_forbid_the_number() -> None:
    labels = classes(4, 10)
    found = flag(labels, [{0: 1, 1: 0}.get(y, y) for y in labels])
    assert found is not None and (found.name, found.level) == ("moved_classes", "fail")
    assert found.message == (
        "classes are answered as others (plane as car, car as plane): clean accuracy 50.0% would "
        "be 100.0%; check the order of the classes (of an image folder: classes.txt in it, or "
        "--class-order FILE)"
    )
    assert found.value == 2


def test_labels_that_alternate_from_image_to_image_are_halved_class_by_class() -> None:
    labels = [0, 1] * 10
    found = flag(labels, [1 - y for y in labels])
    assert found is not None and found.level == "fail"


def test_classes_that_all_go_one_place_on_are_named_a_few_of_them() -> None:
    labels = classes(10, 10)
    found = flag(labels, [(y + 1) % 10 for y in labels])
    assert found is not None and found.level == "fail" and found.value == 10
    assert "(plane as car, car as bird, bird as cat, cat as deer, ...)" in found.message


@pytest.mark.parametrize(("n", "level"), [(20, "fail"), (21, "warn")])
def test_ten_points_forbid_and_less_is_said(n: int, level: str) -> None:
    """Two of n classes are swapped: 2 / n of the other half is won."""
    labels = classes(n, 10)
    verdicts = answered(labels, [{0: 1, 1: 0}.get(y, y) for y in labels])
    found = moved_classes(verdicts)
    assert found is not None and found.level == level
    assert "(class 0 as class 1, class 1 as class 0)" in found.message


def test_moves_are_tried_on_images_on_which_they_were_not_looked_for() -> None:
    labels = classes(2, 20)
    answers = [1 - y if place % 2 == 0 else y for place, y in enumerate(labels)]
    found = flag(labels, answers)
    assert found is not None and found.level == "warn" and "100.0% would be 0.0%" in found.message


@pytest.mark.parametrize(("each", "moved"), [(8, False), (9, True)])
def test_five_images_are_looked_at_or_none(each: int, moved: bool) -> None:
    labels = classes(2, each)
    assert (flag(labels, [1 - y for y in labels]) is not None) == moved


@pytest.mark.parametrize(("right", "moved"), [(2, True), (3, False)])
def test_half_of_the_answers_is_not_enough(right: int, moved: bool) -> None:
    """Of 10 images 8 are (Wilson bound .49), of 11 with 2 right 9 (.52): the bound must be > .5."""
    assert (flag([0] * 22, [0] * 2 * right + [1] * (22 - 2 * right)) is not None) == moved


def test_two_classes_answered_as_one_have_not_moved() -> None:
    assert flag(classes(2, 12), [7] * 24) is None


def test_a_class_taken_for_one_that_kept_its_answers_has_not_moved() -> None:
    """A network that calls every cat a dog is weak; its labels are in order."""
    labels = classes(3, 12)
    assert flag(labels, [1 if y == 0 else y for y in labels]) is None
    assert flag(labels, [1] * 36) is None  # a constant


def test_a_weak_network_is_not_accused() -> None:
    """30 % clean, the rest of the answers at random, 40 images of each class."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    for _ in range(20):
        answers = np.where(draw.random(400) < 0.3, labels, draw.integers(0, 10, 400))
        assert flag(labels.tolist(), answers.tolist()) is None


def test_a_record_says_it_of_any_data_set(tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(3).repeat_interleave(4, 1))
        network[1].bias.zero_()
    images = np.zeros((36, 3, 2, 2), np.uint8)
    right = np.arange(36) % 3
    images[np.arange(36), right] = 200
    ids = np.arange(36)
    data = EvalSet("mine", images, (right + 1) % 3, ids, ("ant", "bee", "cat"))
    row = score(tmp_path, "fgsm", model=network, dataset=data).rows[0]
    (found,) = [flag for flag in row.flags if flag.name == "moved_classes"]
    assert found.level == "fail" and "(ant as cat, bee as ant, cat as bee)" in found.message
    plain = score(tmp_path, "fgsm", dataset=small_set(64)).rows[0]
    assert not {flag.name for flag in plain.flags} & {"moved_classes", "class_order"}


def test_what_was_understood_of_the_labels_is_a_flag() -> None:
    verdicts = answered([0, 1], [0, 1])
    found = record_flags(verdicts, [], PGD(), ThreatModel(), 2, (), "ab", ("class order of x",))
    (said,) = [flag for flag in found if flag.name == "class_order"]
    assert (said.level, said.message) == ("info", "class order of x")
