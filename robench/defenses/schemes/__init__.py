"""The kinds of references: what stands before the colon, and who loads the rest.

A line's target is `load(text, settings, input_shape) -> Defense`; text is what follows the colon.
"""

from robench.core.table import Table

SCHEMES = Table(
    kind="scheme",
    lines={
        "file": ("robench.defenses.schemes.file:load", (), "a checkpoint file, weights only"),
        "python": (
            "robench.defenses.schemes.python:load",
            (),
            "package.module:function, called without arguments; executes code",
        ),
        "robustbench": (
            "robench.defenses.schemes.robustbench:load",
            (),
            "a network of RobustBench: <dataset>/<Linf|L2>/<id>",
        ),
        "torchvision": (
            "robench.defenses.schemes.torchvision:load",
            (),
            "a classifier of torchvision, as resnet18[weights=PATH]",
        ),
    },
    entry_point_group="robench.schemes",
)
