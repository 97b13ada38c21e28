"""What changes a fingerprint: all that can change the function, and nothing else."""

import sys

import pytest
import torch
from torch import nn

from robench.defenses.fingerprint import fingerprint, foreign_code, own_code
from robench.defenses.reference import load_defense


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor), persistent=False)

    def forward(self, x):
        return x * self.factor


class Child(Scaled):
    pass


def _of(network):
    return fingerprint(network, foreign_code(network), "none")


def _linear(seed=0, **options):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 2, 3, **options), nn.Flatten())


def test_the_same_network_has_the_same_fingerprint_wherever_it_was_made():
    assert _of(_linear()) == _of(_linear())


@pytest.mark.parametrize(
    "other",
    [
        lambda: _linear(seed=1),
        lambda: _linear(stride=2),
        lambda: _linear(padding=1),
        lambda: _linear().double(),
        lambda: nn.Sequential(*_linear(), nn.ReLU()),
    ],
)
def test_weights_types_and_structure_count(other):
    assert _of(other()) != _of(_linear())


def test_one_bit_of_one_weight_counts():
    changed = _linear()
    weight = changed[0].weight.data.view(torch.int32)
    weight[0, 0, 0, 0] ^= 1
    assert _of(changed) != _of(_linear())


def test_constants_that_are_no_part_of_the_state_dict_count():
    assert _of(Scaled(2.0)) != _of(Scaled(3.0))


def test_normalisation_and_own_size_count():
    network, code = _linear(), own_code("resnet18", 64, 10)
    fingerprints = {
        fingerprint(network, code, "none"),
        fingerprint(network, code, "cifar10"),
        fingerprint(network, own_code("resnet18", 32, 10), "none"),
        fingerprint(network, own_code("resnet56", 64, 10), "none"),
    }
    assert len(fingerprints) == 4


def test_sources_of_classes_bases_and_factory_are_read():
    code = foreign_code(Child(1.0), _linear)
    assert "class Child(Scaled)" in code.text and "return x * self.factor" in code.text
    assert "def _linear(seed=0" in code.text
    assert code.unread == ()


def test_layers_of_torch_count_by_name():
    code = foreign_code(nn.Conv2d(3, 4, 3))
    assert "torch.nn.modules.conv.Conv2d" in code.text and "def forward" not in code.text


def test_a_class_without_source_counts_by_name_and_is_noted():
    space = {"nn": nn, "__name__": "nowhere"}
    exec("class Lost(nn.Sequential):\n    pass\n", space)
    network = space["Lost"](nn.Flatten(), nn.Linear(3072, 3))
    assert foreign_code(network).unread == ("nowhere.Lost",)
    notes = load_defense(network).notes
    assert notes == ("source of nowhere.Lost not to be had: it counts by name",)


def test_an_edit_of_a_foreign_forward_changes_the_fingerprint(here, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return x.mean((2, 3)){}\n"
    )
    found = []
    for name, change in (("edited_a", ""), ("edited_b", ""), ("edited_c", " * 2")):
        (here / f"{name}.py").write_text(text.format(change))
        found.append(load_defense(f"python:{name}:Net").fingerprint)
        sys.modules.pop(name)
    assert found[0] == found[1] != found[2]


def test_addresses_in_printed_structures_do_not_count():
    class Printed(nn.Module):
        def extra_repr(self):
            return repr(object())

    assert len({_of(Printed()) for _ in range(20)}) == 1


def test_equal_bytes_of_another_type_or_shape_are_another_network():
    values = torch.zeros(4), torch.zeros(4, dtype=torch.int32), torch.zeros(2, 2)
    found = set()
    for value in values:
        network = nn.Module()
        network.register_buffer("value", value)
        found.add(_of(network))
    assert len(found) == len(values)


@pytest.mark.parametrize(
    "value",
    [torch.tensor(3), torch.tensor(True), torch.ones(2).bfloat16(), torch.eye(2).to_sparse()],
)
def test_every_kind_of_tensor_can_be_hashed(value):
    network = nn.Module()
    network.register_buffer("value", value)
    other = nn.Module()
    other.register_buffer("value", torch.zeros_like(value))
    assert _of(network) != _of(other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per:UserWarning")
def test_packed_weights_of_quantised_layers_count_beyond_what_is_printed():
    def packed(change):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 40))
        with torch.no_grad():
            network[1].weight.fill_(0.5)
            network[1].bias.fill_(0.0)
            network[1].weight[20, 1500] = change
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})

    one, same, other = packed(0.25), packed(0.25), packed(-0.25)
    assert repr(one.state_dict()) == repr(other.state_dict()).replace("-0.25", "0.25")
    assert _of(one) == _of(same) != _of(other)


def test_tensors_within_extra_state_count():
    class Extra(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def get_extra_state(self):
            return {"some": [torch.full((2000,), 1.0).index_fill(0, torch.tensor(999), self.value)]}

    assert _of(Extra(1.0)) == _of(Extra(1.0)) != _of(Extra(2.0))
