"""The normalisation check, on classifiers whose accuracy under each convention can be counted."""

import pytest
import torch
from torch import nn

from robench.defenses.check import normalization_warning
from robench.defenses.reference import load_defense
from robench.models.global_rng import kept_global_rng
from robench.models.normalize import LISTED


class Threshold(nn.Module):
    """Class 1 where the first channel is above `level`, else class 0; further classes never."""

    def __init__(self, level, classes=10):
        super().__init__()
        self.level, self.classes = level, classes
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        above = (x[:, 0].mean((1, 2)) > self.level).float()
        rest = torch.full((len(x), self.classes - 2), -1.0)
        return torch.cat([torch.stack([1 - above, above], 1), rest], 1)


def _defense(level, normalize=None, classes=10):
    return load_defense(Threshold(level, classes), normalize=normalize, num_classes=classes)


@pytest.fixture
def images():
    """100 grey images, half of them at 0.4, half at 0.6, and the label 1 where above 0.5."""
    labels = torch.arange(100) % 2
    return (0.4 + 0.2 * labels.float()).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone(), labels


def test_the_right_convention_passes(images):
    assert normalization_warning(_defense(0.5), *images) is None


def test_a_better_listed_normalisation_is_named_and_not_switched_to(images):
    # After (x - 0.4914) / 0.2471 the classes lie at -0.37 and 0.44; raw pixels are all above 0.
    defense = _defense(0.0)
    message = normalization_warning(defense, *images)
    assert "accuracy of Threshold is 50.0% on 100 images with normalization none" in message
    assert message.endswith("; --normalize cifar10 gives 100.0%")
    assert defense.normalization == "none" and "chance" not in message


def test_a_wrong_normalisation_can_be_taken_away(images):
    message = normalization_warning(_defense(0.5, normalize="cifar10"), *images)
    assert "with normalization cifar10" in message and "--normalize none gives 100.0%" in message


def test_low_accuracy_warns_even_when_nothing_is_better(images):
    pixels, _ = images
    labels = torch.full((100,), 7)
    message = normalization_warning(_defense(0.5), pixels, labels)
    assert message.endswith(
        "is 0.0% on 100 images with normalization none, below chance (1 / classes = 10.0%)"
    )


@pytest.mark.parametrize(
    ("classes", "right", "warns"),
    [
        (2, 97, False),  # 2 / classes would be 100 %
        (2, 41, False),
        (2, 40, True),  # Wilson's upper bound falls below a half between the two
        (3, 25, False),
        (3, 24, True),
        (10, 4, True),
        (10, 5, False),
    ],
)
def test_below_chance_is_what_the_interval_excludes(images, classes, right, warns):
    pixels, _ = images
    pixels[:] = 0.6  # raw, all are class 1; a constant network leaves nothing for constants to win
    labels = torch.tensor([1] * right + [0] * (100 - right))
    message = normalization_warning(_defense(-9.0, classes=classes), pixels, labels)
    assert (message is not None) == warns
    assert message is None or f"below chance (1 / classes = {1 / classes:.1%})" in message


def test_few_images_prove_nothing_of_chance(images):
    pixels, _ = images
    wrong = torch.full((5,), 0)
    assert normalization_warning(_defense(-9.0, classes=3), pixels[:5], wrong) is None


@pytest.mark.parametrize(("gained", "warns"), [(3, False), (4, True)])
def test_three_points_are_not_enough(images, gained, warns):
    pixels, labels = images[0], images[1].clone()
    # Raw pixels all give class 1. Under cifar10, the images at 0.4 become class 0.
    labels[:] = 1
    labels[0 : 2 * gained : 2] = 0
    pixels[::2], pixels[1::2] = 0.6, 0.6
    pixels[0 : 2 * gained : 2] = 0.4
    assert (normalization_warning(_defense(0.0), pixels, labels) is not None) == warns


def test_candidates_that_cannot_win_are_given_up(images):
    defense = _defense(0.5)
    with kept_global_rng():
        normalization_warning(defense, *images)
    # 100 passes for the convention in use. It is right on all images, so another one cannot win:
    # a candidate is given up in the chunk where it misses its first image.
    assert defense.model.seen < 100 + 3 * 100
    assert len(LISTED) == 4


def test_no_images_no_warning(images):
    assert normalization_warning(_defense(0.5), images[0][:0], images[1][:0]) is None


def test_grey_networks_are_not_tried_with_colour_constants(images):
    class Grey(Threshold):
        def forward(self, x):
            assert x.shape[1] == 1
            return super().forward(x)

    defense = load_defense(Grey(0.5), num_classes=10)
    assert normalization_warning(defense, images[0][:, :1], images[1]) is None
