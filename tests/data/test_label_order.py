"""What the names of class folders say of the labels: each kind of naming, and its near misses."""

import random
import re

import pytest

from robench.core.errors import InputError
from robench.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from robench.data.label_order import listed_order, understood_order

TUTORIAL = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPELLED = ("Aero Plane", "AUTOS", "Birds", "cats", "Deer", "dog", "frog", "horse", "boat", "lorry")


def understood(names):
    """The order of folders of these names, listed as a file system's are: sorted."""
    order = understood_order(sorted(names))
    assert order.label_of == {name: label for label, name in enumerate(order.class_names)}
    return order


@pytest.mark.parametrize("names", [TUTORIAL, SPELLED, CIFAR10_CLASSES])
def test_names_of_cifar10_take_its_order(names):
    assert understood(names).class_names == tuple(names)


def test_only_names_that_differ_are_said():
    assert understood(TUTORIAL).note == "class order of cifar10: plane = airplane, car = automobile"
    assert understood(name.upper() for name in CIFAR10_CLASSES).note == "class order of cifar10"


# The table of Krizhevsky's tech report, class by class.
REPORT = """
    beaver,dolphin,otter,seal,whale,aquarium fish,flatfish,ray,shark,trout,orchids,poppies,roses,
    sunflowers,tulips,bottles,bowls,cans,cups,plates,apples,mushrooms,oranges,pears,sweet peppers,
    clock,computer keyboard,lamp,telephone,television,bed,chair,couch,table,wardrobe,bee,beetle,
    butterfly,caterpillar,cockroach,bear,leopard,lion,tiger,wolf,bridge,castle,house,road,
    skyscraper,cloud,forest,mountain,plain,sea,camel,cattle,chimpanzee,elephant,kangaroo,fox,
    porcupine,possum,raccoon,skunk,crab,lobster,snail,spider,worm,baby,boy,girl,man,woman,crocodile,
    dinosaur,lizard,snake,turtle,hamster,mouse,rabbit,shrew,squirrel,maple,oak,palm,pine,willow,
    bicycle,bus,motorcycle,pickup truck,train,lawn-mower,rocket,streetcar,tank,tractor
"""


def test_names_of_cifar100_as_its_report_has_them():
    names = [name.strip() for name in REPORT.split(",")]
    order = understood(names)
    for name in ("maple", "computer keyboard", "poppies", "lawn-mower", "sweet peppers", "apples"):
        stem = {"poppies": "poppy"}.get(name, name.removeprefix("computer ").removesuffix("s"))
        official = CIFAR100_CLASSES[order.label_of[name]]
        assert official.startswith(stem.replace(" ", "_").replace("-", "_"))
    assert order.note.startswith("class order of cifar100: apples = apple, bottles = bottle, ")
    assert order.note.endswith(", ...")


@pytest.mark.parametrize(
    "names",
    [
        TUTORIAL[:9],  # a class is missing
        (*TUTORIAL[:9], "automobile"),  # two are one, and one is missing
        (*TUTORIAL, "automobile"),  # all are there, one twice
        (*TUTORIAL, "zebra"),
    ],
)
def test_only_all_classes_one_to_one_are_a_known_data_set(names):
    order = understood(names)
    assert order.class_names == tuple(sorted(names))
    assert order.note.startswith("labels follow the sorted folder names: ")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([str(n) for n in range(1, 11)], "order, not as text (1, 10, 2, ...): 1 = label 0, "),
        ([f"class_{n}" for n in range(1, 13)], "order, not as text (class_1, class_10, class_11, "),
        ([f"v2 run{n}x" for n in (3, 20, 100)], "order, not as text (v2 run100x, v2 run20x, v2 "),
        ([f"{n}_{name}" for n, name in enumerate([*TUTORIAL, "ant"])], "0_plane = label 0, "),
        ([f"{n}-b{99 - n}" for n in range(9, 12)], "(10-b89, 11-b88, 9-b90): 9-b90 = label 0, "),
        (["00", "01", "02"], "class folders in numeric order: 00 = label 0, 01 = label 1, "),
        (["class 9", "Class 10"], "order, not as text (Class 10, class 9): class 9 = label 0, "),
    ],
)
def test_numbers_count_as_numbers(names, said):
    order = understood(random.Random(0).sample(names, len(names)))
    assert order.class_names == tuple(names)
    assert order.note.startswith("class folders in numeric order") and said in order.note


@pytest.mark.parametrize(
    "names",
    [
        ["1", "01", "2"],  # one number twice
        ["1_cat", "1_dog", "10_ant"],
        ["3d", "20th", "100m"],  # no separator: names, not numbers
        ["a1b2", "a1b10", "a3b2"],  # two numbers differ
        ["cat", "10", "9"],
        ["ant", "bee", "cat"],
    ],
)
def test_else_the_names_are_sorted_as_they_always_were(names):
    order = understood(names)
    assert order.class_names == tuple(sorted(names))
    assert order.note == f"labels follow the sorted folder names: {', '.join(sorted(names))}"


def test_wordnet_ids_are_sorted_as_those_of_tiny_imagenet():
    names = ["n02124075", "n01443537", "n01629819"]
    order = understood(names)
    assert order.class_names == tuple(sorted(names))
    assert order.note.startswith(
        "labels follow the sorted WordNet ids, as Tiny-ImageNet's do: n014"
    )


def test_a_note_is_one_short_line_that_can_be_written():
    names = ["two\nlines", "caf\udce9", "x" * 200]
    note = understood(names).note
    assert note.isprintable() and len(note) < 150 and note.encode()
    assert r"two\nlines" in note and r"caf\udce9" in note


def test_a_list_gives_labels_and_may_have_more_classes():
    order = listed_order(["cat", "dog"], ["dog", "ant", "cat"], "classes.txt")
    assert order.class_names == ("dog", "ant", "cat")
    assert order.label_of == {"cat": 2, "dog": 0}
    assert order.note == "class order of classes.txt: 1 of its 3 classes have no folder here"
    assert listed_order(["a"], ["a"], "mine.txt").note == "class order of mine.txt"


def test_accents_of_file_systems_and_editors_are_one_name():
    assert listed_order(["cafe\u0301", "tea"], ["tea", "caf\xe9"], "c").label_of["cafe\u0301"] == 1


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["cat", "dgo"], "class folder 'dgo' is not in c.txt, which must name .*'dog'?"),
        (["cats", "dogs"], "'cats' is not in c.txt (nor are 1 others), .*: did you mean 'cat'?"),
        (["zzz"], "class folder 'zzz' is not in c.txt, .*labels: it has cat, dog"),
    ],
)
def test_a_folder_that_the_list_does_not_have_is_named(folders, message):
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(InputError, match=pattern):
        listed_order(folders, ["cat", "dog"], "c.txt")
