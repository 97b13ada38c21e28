"""Data sets: the table of their names. Importing it needs no numpy; the readers do.

A folder of images (`root/<class>/*.png`) needs no line: `open.load_evalset` takes its path, and
`label_order.py` tells its labels from the names of the class folders.
"""

from robench.core.table import Table

DATASETS = Table(
    kind="dataset",
    lines={
        "cifar10": (
            "robench.data.cifar:CIFAR10",
            ("cifar10",),
            "60,000 photographs of 32x32 in 10 classes (10,000 of them for testing)",
        ),
        "cifar10-sample": (
            "robench.data.sample:CIFAR10_SAMPLE",
            ("cifar10",),
            "the first 500 CIFAR-10 test images; in the package, nothing to fetch",
        ),
        "cifar100": (
            "robench.data.cifar:CIFAR100",
            ("cifar100",),
            "60,000 photographs of 32x32 in 100 classes (10,000 of them for testing)",
        ),
        "tiny-imagenet": (
            "robench.data.tiny_imagenet:TINY_IMAGENET",
            ("tiny-imagenet",),
            "110,000 photographs of 64x64 in 200 classes; tested on the 10,000 of `val`",
        ),
    },
    entry_point_group="robench.datasets",
)
