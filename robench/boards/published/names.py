"""The one table of published names: what they are in our words, and how they were measured."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robench.boards.columns import typed
from robench.core.record import Stop

TEST_IMAGES = 10_000
"""Of the test set of each data set below; published figures are taken to be of all of them."""

DATASETS = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "Tiny-ImageNet": "tiny-imagenet",
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    # RobustBench's imagenet is a list of 5,000 images that we do not have: it maps to nothing.
}
CLASSES = {"cifar10": 10, "cifar100": 100, "tiny-imagenet": 200}

PREFIXES = {"cifar10-sample": "cifar10"}
"""Our data sets that are the beginning of another one's test set."""

ARCHITECTURES = {
    "resnet18": "ResNet-18",
    "mobilenet_v2": "MobileNet-v2",
    "preactresnet18": "PreActResNet-18",
    "preactresnet34": "PreActResNet-34",
    "resnet56": "ResNet-56",
    "resnet56b": "ResNet-56",
    "wrn34_10": "WideResNet-34-10",
    "wrn22_6": "WideResNet-22-6",
    "wrn70_16": "WideResNet-70-16",
}


@dataclass(frozen=True)
class Setting:
    """Our attack behind a published name, and the stop rule and parameters it was published with.

    unknown: why the setting cannot be repeated; such figures are shown and never ranked.
    """

    attack: str
    stop: Stop
    parameters: Mapping[str, Any]
    unknown: str | None = None

    def departures(self, stop: Stop, parameters: Mapping[str, Any]) -> list[str]:
        """What a measurement did otherwise: `steps=50 (published 20)`."""
        ours, published = {"stop": stop, **parameters}, {"stop": self.stop, **self.parameters}
        return [
            f"{key}={_value(ours, key)} (published {_value(published, key)})"
            for key in sorted(ours.keys() | published.keys())
            if ours.get(key) != published.get(key)
        ]


def _value(values: Mapping[str, Any], key: str) -> str:
    return typed(values[key]) if key in values else "nothing"


def _pgd(attack: str, steps: int, step_size: float, loss: str = "cross_entropy") -> Setting:
    start = {"start": "uniform", "restarts": 1}
    return Setting(attack, "last", {"steps": steps, "step_size": step_size, "loss": loss, **start})


_SURROGATE = "the surrogate was the authors' own robust teacher"

# None: no attack of ours. The poster's `square` has no number of queries, its `pgd_20` neither a
# surrogate nor a step size.
ATTACKS: Mapping[str, Setting | None] = {
    "fgsm": Setting("fgsm", "last", {"start": "none", "loss": "cross_entropy"}),
    "pgd_sat": _pgd("pgd_sat", 20, 2 / 255),
    "pgd_trades": _pgd("pgd_trades", 20, 0.003),
    "cw_inf": _pgd("cw_inf", 30, 2 / 255, "margin"),
    "autoattack": Setting("autoattack", "any", {"version": "standard"}),
    "square_100": Setting(
        "square", "any", {"queries": 100, "p_init": 0.8, "rescale": True, "compat": False}
    ),
    "rays_100": Setting(
        "rays",
        "any",
        {"queries": 100, "tolerance": 1e-3, "stop_at_eps": True, "compat": False},
    ),
    "transfer_pgd_trades": Setting("transfer_pgd_trades", "last", {}, unknown=_SURROGATE),
    "transfer_cw_inf": Setting("transfer_cw_inf", "last", {}, unknown=_SURROGATE),
    "gradient_estimation": Setting(
        "gradient_estimation", "any", {}, unknown="its number of queries was not published"
    ),
    "square": None,
    "pgd_20": None,
}

# Parameters without the last layer, and the features that it reads.
_BODIES = {
    "ResNet-18": (11_168_832, 512),
    "MobileNet-v2": (2_284_112, 1280),
    "PreActResNet-18": (11_167_040, 512),
    "PreActResNet-34": (21_275_200, 512),
}
_WIDE = re.compile(r"WideResNet-(\d+)-(\d+)")


def parameters(architecture: str, classes: int) -> int | None:
    """Parameters of a published network for small images; None where its name does not decide them.

    ResNet-56 is not decided: two forms of its shortcuts go by that name.
    """
    if wide := _WIDE.fullmatch(architecture):
        return _wide_resnet(int(wide[1]), int(wide[2]), classes)
    if architecture not in _BODIES:
        return None
    body, features = _BODIES[architecture]
    return body + (features + 1) * classes


def _wide_resnet(depth: int, width: int, classes: int) -> int:
    """Of the pre-activation network of Zagoruyko and Komodakis 2016, without unused layers."""
    blocks, channels, total = (depth - 4) // 6, 16, 3 * 16 * 9
    for out in (16 * width, 32 * width, 64 * width):
        total += 2 * channels + 9 * channels * out + 2 * out + 9 * out * out + channels * out
        total += (blocks - 1) * (4 * out + 18 * out * out)
        channels = out
    return total + 2 * channels + (channels + 1) * classes
