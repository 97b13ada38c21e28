"""Checkpoint files: who decides what, and what is recorded."""

import pytest
import torch

from robench.core.errors import InputError
from robench.core.files import sha256_file
from robench.defenses.reference import load_defense
from robench.models.build import build
from robench.models.normalize import LISTED
from robench.models.weights import write_weights


def _same(defense, network, images=None):
    images = torch.rand(2, 3, 16, 16) if images is None else images
    with torch.no_grad():
        return torch.equal(defense.model(images), network(images))


def test_without_metadata_the_shapes_decide(checkpoint):
    path, network = checkpoint(architecture="resnet56b", classes=7, width=4)
    defense = load_defense(str(path))
    assert (defense.architecture, defense.width, defense.num_classes) == ("resnet56b", 4, 7)
    assert (defense.dataset, defense.eps, defense.norm) == (None, None, None)
    assert defense.source == {"path": str(path), "sha256": sha256_file(path)}
    assert _same(defense, network)


def test_the_model_is_float32_frozen_and_in_evaluation_mode(checkpoint):
    model = load_defense(str(checkpoint()[0]), normalize="cifar10").model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_options_go_before_metadata(checkpoint):
    path, network = checkpoint(
        dataset="cifar10", normalization="cifar10", eps="8/255", norm="linf", note="for people"
    )
    defense = load_defense(str(path))
    assert (defense.dataset, defense.eps, defense.norm) == ("cifar10", 8 / 255, "linf")
    assert defense.normalization == "cifar10" and not _same(defense, network)
    other = load_defense(str(path), dataset="mine", normalize="none")
    assert (other.dataset, other.normalization) == ("mine", "none")
    assert _same(other, network)


def test_a_normalisation_stands_before_the_network(checkpoint):
    path, network = checkpoint()
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    defense = load_defense(str(path), normalize="0.5,0.4,0.3/0.2,0.25,0.3")
    with torch.no_grad():
        assert torch.equal(defense.model(images), network((images - mean) / std))
    assert defense.normalization == "0.5,0.4,0.3/0.2,0.25,0.3"


def test_rules_are_recorded_in_order(here):
    network = build("resnet56b", 10, 4).eval()
    state = {f"module.1.{k}".replace("fc", "linear"): v for k, v in network.state_dict().items()}
    state["module.0.mean"] = torch.tensor(LISTED["cifar10"].mean)
    state["module.0.std"] = torch.tensor(LISTED["cifar10"].std)
    torch.save({"net": state}, here / "wrapped.pt")
    defense = load_defense("wrapped.pt")
    assert defense.key_rules == (
        "unwrap net",
        "constants into the normalisation",
        "strip module.",
        "strip 1.",
        "linear -> fc",
    )
    assert defense.normalization == "cifar10"
    assert defense.notes == ("normalisation from the constants in the checkpoint",)
    assert load_defense("wrapped.pt", normalize="none").normalization == "none"


@pytest.mark.parametrize(
    ("dataset", "expected"), [("cifar100", "cifar100"), ("tiny-imagenet", "none"), (None, "none")]
)
def test_deepmind_networks_get_the_normalisation_that_their_code_has(checkpoint, dataset, expected):
    path, _ = checkpoint(architecture="wrn22_6", classes=100, width=1)
    assert load_defense(str(path), dataset=dataset).normalization == expected
    plain, _ = checkpoint(architecture="resnet56")
    assert load_defense(str(plain), dataset=dataset).normalization == "none"


def test_the_fingerprint_is_of_the_function_not_of_the_file(checkpoint, here):
    path, network = checkpoint(dataset="cifar10")
    one = load_defense(str(path))
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, here / "copy.pt")
    assert load_defense("copy.pt").fingerprint == one.fingerprint
    assert load_defense(str(path), normalize="cifar10").fingerprint != one.fingerprint
    network.state_dict()["linear.bias"][3] += 1e-6
    write_weights(here / "moved.pt", network.state_dict(), {})
    assert load_defense("moved.pt").fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "resnet18"}, r"do not fit resnet18: missing: layer2\.0\.shortcut\.0\.weight, "),
        ({"arch": "resnet57"}, "unknown architecture 'resnet57': did you mean"),
        ({"width": 8}, r"width 8 with 10 classes: misshaped: conv1\.weight 4x3x3x3 instead of 8x"),
        ({"num_classes": 100}, r"misshaped: linear\.weight 10x16 instead of 100x16"),
        ({"width": 0}, "the defense's options: Expected .* >= 1 .at width."),
        ({"normalize": "cifar"}, "did you mean 'cifar10'"),
    ],
)
def test_options_that_do_not_fit_are_refused(checkpoint, options, message):
    path, _ = checkpoint()
    with pytest.raises(InputError, match=message):
        load_defense(str(path), **options)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"width": "wide"}, "metadata of .*small.*at width"),
        ({"eps": "big"}, "metadata of .*cannot read 'big' as a number"),
        ({"norm": "l1"}, "metadata of .*at norm"),
        ({"architecture": "vgg"}, "unknown architecture 'vgg'"),
        ({"eps": "3", "norm": "linf"}, "did you mean 3/255"),
    ],
)
def test_metadata_that_cannot_be_is_refused_with_the_file(here, metadata, message):
    tensors = build("resnet56", 10, 4).state_dict()
    write_weights(here / "small.safetensors", tensors, metadata)
    with pytest.raises(InputError, match=message):
        load_defense("small.safetensors")


def test_files_of_every_run_are_named_after_their_folder(checkpoint, here):
    (here / "trades").mkdir()
    checkpoint("trades/best.safetensors")
    checkpoint("mine.safetensors")
    assert load_defense("trades/best.safetensors").name == "trades-best"
    assert load_defense("file:mine.safetensors").name == "mine"


def test_broken_files_are_refused_through_the_reference(here):
    (here / "page.pt").write_bytes(b"<!doctype html>")
    with pytest.raises(InputError, match=r"page\.pt is a web page"):
        load_defense("page.pt")
    with pytest.raises(InputError, match=r"gone\.pt does not exist"):
        load_defense("gone.pt")
