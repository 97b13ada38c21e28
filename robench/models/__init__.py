"""Networks by name, their weights, and how a search sees them. Listing imports no torch."""

from robench.core.table import Table

ARCHITECTURES = Table(
    kind="architecture",
    lines={
        "resnet18": (
            "robench.models.resnet18:resnet18",
            (),
            "ResNet-18 for small images, width 64: 11.2 M parameters",
        ),
        "mobilenet_v2": (
            "robench.models.mobilenet_v2:mobilenet_v2",
            (),
            "MobileNet-v2 for small images, width 32: 2.3 M parameters",
        ),
        "preactresnet18": (
            "robench.models.preactresnet:preactresnet18",
            (),
            "pre-activation ResNet-18 with a final batch norm, width 64: 11.2 M parameters",
        ),
        "preactresnet34": (
            "robench.models.preactresnet:preactresnet34",
            (),
            "pre-activation ResNet-34 with a final batch norm, width 64: 21.3 M parameters",
        ),
        "resnet56": (
            "robench.models.resnet56:resnet56",
            (),
            "ResNet-56, zero-padded shortcuts (option A), width 16: 0.85 M parameters",
        ),
        "resnet56b": (
            "robench.models.resnet56:resnet56b",
            (),
            "ResNet-56, convolution shortcuts (option B), width 16: 0.86 M parameters",
        ),
        "wrn34_10": (
            "robench.models.wrn_trades:wrn34_10",
            (),
            "WideResNet-34 as in TRADES, width 10: 46.2 M parameters",
        ),
        "wrn22_6": (
            "robench.models.wrn_deepmind:wrn22_6",
            (),
            "WideResNet-22 as at DeepMind (Swish), width 6: 9.7 M parameters",
        ),
        "wrn70_16": (
            "robench.models.wrn_deepmind:wrn70_16",
            (),
            "WideResNet-70 as at DeepMind (Swish), width 16: 267 M parameters",
        ),
    },
    entry_point_group="robench.architectures",
)
