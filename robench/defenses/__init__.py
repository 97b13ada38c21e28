"""Defenses by name, and every way to refer to one. Listing imports no torch."""

from robench.core.table import Table

DEFENSES = Table(
    kind="defense",
    lines={
        "natural-resnet18": (
            "robench.defenses.bundled:natural_resnet18",
            (),
            "ResNet-18, CIFAR-10, not robust: 94.22 % clean (file of the package pyautoattack)",
        ),
        "fast-at-resnet18-w32": (
            "robench.defenses.bundled:fast_at_resnet18_w32",
            (),
            "ResNet-18 of width 32, CIFAR-10, N-FGSM at 8/255: small reference, 71.58 % clean",
        ),
        "fast-at-early-resnet18-w32": (
            "robench.defenses.bundled:fast_at_early_resnet18_w32",
            (),
            "the same run after 7 of 12 epochs: 58.32 % clean",
        ),
    },
    entry_point_group="robench.defenses",
)
