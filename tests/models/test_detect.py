"""From tensor names and shapes alone back to the network that they belong to."""

from dataclasses import replace

import pytest
import torch

from robench.core.errors import InputError
from robench.models import ARCHITECTURES, build, detect
from robench.models.build import build_empty
from robench.models.detect import Detected

WIDTHS = {
    "resnet18": (1, 16, 64),
    "mobilenet_v2": (4, 16, 32),
    "preactresnet18": (8, 64),
    "preactresnet34": (8, 64),
    "resnet56": (5, 16),
    "resnet56b": (4, 16),
    "wrn34_10": (1, 2, 10),
    "wrn22_6": (1, 6, 16),
    "wrn70_16": (1, 16),
}


def _cases():
    return [(name, width) for name in ARCHITECTURES.lines for width in WIDTHS[name]]


@pytest.mark.parametrize(("name", "width"), _cases())
def test_every_network_is_recognised_at_every_size(name, width):
    tensors = build_empty(name, 10 + width, width).state_dict()
    assert detect.detect(tensors) == Detected(name, width, 10 + width)


@pytest.mark.parametrize("name", ["resnet18", "resnet56b", "wrn34_10", "wrn22_6"])
def test_other_names_of_the_head_do_not_hinder(name):
    tensors = build_empty(name, 10, 2).state_dict()
    renamed = {
        k.replace("linear", "fc").replace("logits", "linear").replace("downsample", "shortcut"): v
        for k, v in tensors.items()
    }
    assert detect.detect(renamed) == Detected(name, 2, 10)


def test_the_network_without_a_final_norm_is_another_one():
    tensors = build_empty("preactresnet18", 10, 8).state_dict()
    old = {k: v for k, v in tensors.items() if not k.startswith("bn.")}
    with pytest.raises(InputError) as caught:
        detect.detect(old)
    assert "nearest: preactresnet18; missing: bn.weight" in str(caught.value)
    assert "give --arch" in str(caught.value)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"w": torch.ones(3)},
        {"conv1.weight": torch.ones(()), "linear.weight": torch.ones(2, 2)},
        {"conv1.weight": torch.empty(10**9, 0, 0, 0), "linear.weight": torch.ones(2, 2)},
        {"conv1.weight": torch.ones(4, 3, 3, 3), "linear.weight": torch.empty(0, 2)},
        {"conv1.weight": torch.ones(3, 3, 3, 3), "linear.weight": torch.ones(10, 2)},
    ],
)
def test_what_is_none_of_ours_asks_for_the_architecture(tensors):
    with pytest.raises(
        InputError, match=r"cannot tell the architecture .*give --arch .* or python:"
    ):
        detect.detect(tensors)


def test_a_wrong_architecture_is_refused_with_the_first_differences():
    tensors = build_empty("resnet18", 10, 8).state_dict()
    with pytest.raises(InputError, match="do not fit preactresnet18: missing: bn"):
        detect.detect(tensors, "preactresnet18")
    with pytest.raises(InputError, match="do not fit wrn22_6: no first or last layer"):
        detect.detect(tensors, "wrn22_6")


def test_two_networks_that_fit_are_not_chosen_from(monkeypatch):
    lines = {**ARCHITECTURES.lines, "twin": ARCHITECTURES.lines["resnet18"]}
    for module in (detect, build):
        monkeypatch.setattr(module, "ARCHITECTURES", replace(ARCHITECTURES, lines=lines))
    tensors = build.build_empty("resnet18", 10, 2).state_dict()
    with pytest.raises(InputError, match="fit resnet18 or twin: give --arch"):
        detect.detect(tensors)
    assert detect.detect(tensors, "twin") == Detected("twin", 2, 10)
