"""The class names of CIFAR-10 and CIFAR-100, in the order of the labels; a digest of any order.

Beside each stand the other names that people give its classes.
"""

import hashlib
from collections.abc import Sequence

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
    bowl boy bridge bus butterfly camel can castle caterpillar cattle
    chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket
    rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100.split())

CIFAR10_ALIASES = {
    "airplane": ("plane", "aeroplane", "aircraft"),
    "automobile": ("car", "auto"),
    "ship": ("boat",),
    "truck": ("lorry",),
}
"""Other names of a class; plurals and spellings (`Air-Plane`) need no line."""

CIFAR100_ALIASES = {
    "keyboard": ("computer keyboard",),  # this one and the trees: the table of the tech report
    "maple_tree": ("maple",),
    "oak_tree": ("oak",),
    "palm_tree": ("palm",),
    "pine_tree": ("pine",),
    "willow_tree": ("willow",),
    "bicycle": ("bike",),
    "cattle": ("cow",),
    "couch": ("sofa",),
    "man": ("men",),
    "motorcycle": ("motorbike",),
    "mouse": ("mice",),
    "pickup_truck": ("pickup",),
    "possum": ("opossum",),
    "raccoon": ("racoon",),
    "streetcar": ("tram",),
    "sweet_pepper": ("bell pepper", "pepper"),
    "telephone": ("phone",),
    "television": ("tv",),
    "wolf": ("wolves",),
    "woman": ("women",),
}


def class_order(names: Sequence[str]) -> str:
    """Hex SHA-256 that tells two orders of classes apart: what a network's logits mean."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
