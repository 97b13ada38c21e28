"""Checkpoints as they circulate load into our networks, and the rules used are named."""

import pytest
import torch

from robench.core.errors import InputError
from robench.models.build import build, build_empty
from robench.models.keys import clean, load_strictly, unwrap
from robench.models.normalize import LISTED


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build("resnet56b", 10, 4).eval()


def _loaded(tensors, name="resnet56b", width=4):
    """What clean and load_strictly make of foreign tensors: the network and all rules."""
    cleaned = clean(tensors)
    network = build_empty(name, 10, width)
    rules = load_strictly(network, cleaned.tensors, name)
    return network.eval(), [*cleaned.rules, *rules], cleaned.normalization


def _same_function(one, other):
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        return torch.equal(one(images), other(images))


@pytest.mark.parametrize(
    ("rename", "rules"),
    [
        (lambda k: k, []),
        (lambda k: f"module.{k}", ["strip module."]),
        (lambda k: f"model.{k}", ["strip model."]),
        (lambda k: f"basic_net.{k}", ["strip basic_net."]),
        (lambda k: f"_orig_mod.{k}", ["strip _orig_mod."]),
        (lambda k: f"network.{k}", ["strip network."]),
        (lambda k: f"module._orig_mod.{k}", ["strip module.", "strip _orig_mod."]),
        (lambda k: f"module.1.model.{k}", ["strip module.", "strip 1.", "strip model."]),
        (lambda k: k.replace("fc", "linear"), ["linear -> fc"]),
        (lambda k: k.replace("fc", "logits"), ["logits -> fc"]),
        (lambda k: k.replace("downsample", "shortcut"), ["shortcut -> downsample"]),
        (
            lambda k: f"0.{k}".replace("downsample", "shortcut").replace("fc", "linear"),
            ["strip 0.", "shortcut -> downsample", "linear -> fc"],
        ),
    ],
)
def test_foreign_names_load_and_the_rules_are_recorded(network, rename, rules):
    foreign = {rename(name): tensor for name, tensor in network.state_dict().items()}
    loaded, applied, normalization = _loaded(foreign)
    assert applied == rules and normalization is None
    assert _same_function(loaded, network)


def test_the_trades_layout_with_its_unused_block_loads():
    network = build("wrn34_10", 10, 1).eval()
    foreign = {f"module.{k}": v for k, v in network.state_dict().items()}
    unused = {k: v for k, v in foreign.items() if k.startswith("module.block1.")}
    foreign |= {k.replace("block1", "sub_block1"): v for k, v in unused.items()}
    loaded, applied, _ = _loaded(foreign, "wrn34_10", 1)
    assert applied == ["strip module.", "drop sub_block1"]
    assert _same_function(loaded, network)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1)])
@pytest.mark.parametrize(("mean", "std"), [("0.mean", "0.std"), ("module.mu", "module.sigma")])
def test_stored_constants_become_the_normalisation(network, mean, std, shape):
    prefix = mean.replace("0.mean", "1.").replace("mu", "model.")
    foreign = {f"{prefix}{k}": v for k, v in network.state_dict().items()}
    foreign[mean] = torch.tensor(LISTED["cifar100"].mean).view(shape)
    foreign[std] = torch.tensor(LISTED["cifar100"].std).view(shape)
    loaded, applied, normalization = _loaded(foreign)
    assert normalization is not None and normalization.text == "cifar100"
    assert applied[0] == "constants into the normalisation"
    assert _same_function(loaded, network)


def test_stored_constants_that_differ_are_an_error():
    tensors = {name: torch.tensor([0.5]) for name in ("a.mean", "a.std", "b.mean", "b.std")}
    with pytest.raises(InputError, match="two normalisations"):
        clean({**tensors, "b.mean": torch.tensor([0.4])})


def test_a_scalar_deviation_goes_with_three_means():
    cleaned = clean(
        {"mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.tensor(0.5), "w": torch.ones(1)}
    )
    assert cleaned.normalization.text == "0.1,0.2,0.3/0.5,0.5,0.5"
    assert list(cleaned.tensors) == ["w"]


def test_wide_tensors_called_mean_are_weights():
    tensors = {"head.mean": torch.ones(64), "head.std": torch.ones(64)}
    cleaned = clean(tensors)
    assert cleaned.normalization is None and list(cleaned.tensors) == list(tensors)


def test_a_prefix_that_only_some_names_have_is_no_wrapper():
    tensors = {"0.weight": torch.ones(2), "2.weight": torch.ones(2)}
    assert list(clean(tensors).tensors) == list(tensors) and clean(tensors).rules == ()


def test_batch_norm_means_are_no_constants(network):
    assert clean(network.state_dict()).normalization is None


def test_counters_that_old_files_lack_are_added(network):
    old = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    loaded, applied, _ = _loaded(old)
    assert applied == ["add num_batches_tracked"]
    assert _same_function(loaded, network)


@pytest.mark.parametrize("key", ["state_dict", "net", "model", "model_state_dict"])
def test_training_wrappers_are_opened(key):
    tensors = {"w": torch.ones(1)}
    assert unwrap({key: tensors, "epoch": 3}) == (tensors, [f"unwrap {key}"])


def test_wrappers_inside_wrappers_are_opened_and_plain_dicts_left():
    tensors = {"w": torch.ones(1)}
    assert unwrap({"model": {"state_dict": tensors}})[1] == ["unwrap model", "unwrap state_dict"]
    assert unwrap(tensors) == (tensors, [])
    # A layer may be called net: a tensor is no wrapper.
    assert unwrap({"net": torch.ones(1)})[1] == []


def test_what_does_not_fit_is_listed_by_kind(network):
    tensors = dict(network.state_dict())
    for name in ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"]:
        del tensors[name]
    tensors["extra.weight"] = torch.ones(1)
    tensors["fc.bias"] = torch.ones(11)
    with pytest.raises(InputError) as caught:
        load_strictly(build_empty("resnet56b", 10, 4), tensors, "resnet56b")
    assert str(caught.value) == (
        "the weights do not fit resnet56b: "
        "missing: conv1.weight, bn1.weight, bn1.bias and 1 more; "
        "unexpected: extra.weight; misshaped: fc.bias 11 instead of 10"
    )


def test_two_layers_for_one_place_are_not_chosen_from(network):
    tensors = {**network.state_dict(), "linear.bias": torch.ones(10)}
    with pytest.raises(InputError, match=r"unexpected: linear\.bias"):
        load_strictly(build_empty("resnet56b", 10, 4), tensors, "resnet56b")
