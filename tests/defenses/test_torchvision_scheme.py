"""torchvision's classifiers with weights from a file; nothing is downloaded."""

from importlib.util import find_spec

import pytest
import torch

from robench.core.errors import InputError
from robench.defenses.reference import load_defense

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="no torchvision")


@pytest.fixture
def weights(here):
    """mobilenet_v3_small with 6 classes, fixed random weights, behind `module.`."""
    from robench.models.torchvision_compat import import_torchvision

    torch.manual_seed(0)
    network = import_torchvision().models.get_model("mobilenet_v3_small", num_classes=6).eval()
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, here / "small.pth")
    return network


def test_weights_load_and_imagenet_normalisation_is_the_default(weights):
    defense = load_defense("torchvision:mobilenet_v3_small[weights=small.pth]")
    assert (defense.scheme, defense.name) == ("torchvision", "torchvision-mobilenet_v3_small")
    assert defense.architecture == "torchvision:mobilenet_v3_small"
    assert (defense.num_classes, defense.normalization) == (6, "imagenet")
    assert defense.key_rules == ("strip module.",) and defense.source["path"] == "small.pth"
    images = torch.rand(2, 3, 32, 32)
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        assert torch.equal(defense.model(images), weights((images - mean) / std))
    plain = load_defense("torchvision:mobilenet_v3_small[weights=small.pth]", normalize="none")
    with torch.no_grad():
        assert torch.equal(plain.model(images), weights(images))
    assert plain.fingerprint != defense.fingerprint


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "torchvision:resnet18",
            r"has no weights.*give a file, torchvision:resnet18\[weights=PATH\]",
        ),
        ("torchvision:resnet19", "unknown classifier torchvision:resnet19: did you mean 'resnet"),
        ("torchvision:resnet18[path=x]", r"expected torchvision:resnet18\[weights=PATH\]"),
        ("torchvision:resnet18[weights=gone.pt]", r"gone\.pt does not exist"),
        ("torchvision:resnet18[weights=small.pth]", "do not fit torchvision:resnet18.*missing: "),
        ("torchvision:resnet18[weights", "cannot read"),
    ],
)
def test_what_cannot_be_loaded_is_refused(weights, ref, message):
    with pytest.raises(InputError, match=message):
        load_defense(ref)
