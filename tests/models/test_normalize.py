"""The input convention: names, numbers, and the layer that applies it."""

import pytest
import torch
from torch import nn

from robench.core.errors import InputError
from robench.models.normalize import LISTED, Normalization, normalized, parse_normalization


@pytest.mark.parametrize("name", LISTED)
def test_listed_names_survive_the_round_trip(name):
    assert parse_normalization(name).text == name


def test_numbers_survive_the_round_trip_and_listed_numbers_get_their_name():
    text = "0.5,0.4,0.3/0.2,0.25,0.125"
    assert parse_normalization(text) == Normalization((0.5, 0.4, 0.3), (0.2, 0.25, 0.125))
    assert parse_normalization(text).text == text
    assert parse_normalization("0.485,0.456,0.406/0.229,0.224,0.225").text == "imagenet"
    assert parse_normalization("0,0,0/1,1,1").text == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cifar", "unknown normalization 'cifar': did you mean 'cifar10'"),
        ("0.5", "expected none, cifar10, cifar100, imagenet or MEAN/STD"),
        ("0.5,0.5/0.2", "2 means and 1 deviations"),
        ("a,b,c/1,1,1", "cannot read 'a,b,c/1,1,1'"),
        ("0.5/0", "positive deviations"),
        ("nan/1", "finite means"),
        ("0.5/nan", "positive deviations"),
        ("/", "cannot read '/'"),
    ],
)
def test_what_is_no_normalisation_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_normalization(text)


def test_pixels_are_shifted_and_scaled_per_channel():
    model = normalized(nn.Identity(), parse_normalization("0.5,0.25,0/0.5,0.25,2"))
    images = torch.tensor([1.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    expected = torch.tensor([1.0, 1.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert torch.equal(model(images), expected)


def test_no_normalisation_is_the_network_itself():
    network = nn.Linear(2, 2)
    assert normalized(network, LISTED["none"]) is network


def test_the_state_dict_holds_the_network_alone_and_the_mode_is_kept():
    network = nn.Linear(2, 2).eval()
    model = normalized(network, LISTED["cifar10"])
    assert list(model.state_dict()) == ["network.weight", "network.bias"]
    assert not model.training and model.network is network
    assert normalized(nn.Linear(2, 2), LISTED["cifar10"]).training
