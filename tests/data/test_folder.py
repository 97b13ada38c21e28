import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robench.core.errors import InputError
from robench.data.folder import read_folder
from robench.data.open import base_name, load_evalset


def write(path, colour=(1, 2, 3), size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    write(root / "dog" / "b.png", (30, 0, 0))
    write(root / "cat" / "2.png", (20, 0, 0))
    write(root / "cat" / "10.PNG", (10, 0, 0))
    (root / "cat" / "notes.txt").write_text("not a picture")
    (root / "cat" / ".hidden.png").write_text("not a picture")
    (root / ".git").mkdir()
    (root / "README").write_text("not a class")
    return root


def test_order_labels_and_names(pets):
    evalset = read_folder(pets)
    assert evalset.class_names == ("cat", "dog")
    assert evalset.images.shape == (3, 3, 4, 5)
    assert evalset.images[:, 0, 0, 0].tolist() == [10, 20, 30]  # "10.PNG" sorts before "2.png"
    assert evalset.labels.tolist() == [0, 0, 1]
    assert evalset.ids.tolist() == [0, 1, 2]
    assert evalset.name == "pets"


def test_two_sizes_name_both_files(pets):
    write(pets / "dog" / "c.png", size=(5, 5))
    names = re.escape(str(Path("cat/10.PNG"))), re.escape(str(Path("dog/c.png")))
    with pytest.raises(InputError, match=rf"{names[0]} is 5x4 and {names[1]} is 5x5"):
        read_folder(pets)


def test_an_empty_class_is_named(pets):
    (pets / "bird").mkdir()
    with pytest.raises(InputError, match="bird holds no PNG or JPEG"):
        read_folder(pets)


def test_a_folder_without_classes_says_what_was_expected(tmp_path):
    write(tmp_path / "flat" / "a.png")
    with pytest.raises(InputError, match=r"flat/<class>/<image>\.png"):
        read_folder(tmp_path / "flat")


def test_an_unreadable_image_is_named(pets):
    (pets / "dog" / "c.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"dog.c\.jpg is not a readable PNG or JPEG"):
        read_folder(pets)


def test_a_path_is_a_data_set(pets, monkeypatch):
    expected = read_folder(pets).digest
    assert load_evalset(str(pets)).digest == expected
    monkeypatch.chdir(pets.parent)
    assert load_evalset("pets").digest == load_evalset("./pets").digest == expected
    assert base_name("pets") == "pets"
    np.testing.assert_array_equal(load_evalset("pets").select([2]).labels, [1])


def test_a_path_has_no_training_part(pets):
    with pytest.raises(InputError, match="has no part 'train'"):
        load_evalset(str(pets), "train")


def test_names_of_the_table_come_first_and_stay_apart(pets, monkeypatch):
    pets.rename(pets.parent / "cifar10-sample")
    monkeypatch.chdir(pets.parent)
    assert len(load_evalset("cifar10-sample")) == 500
    folder = load_evalset("./cifar10-sample")
    assert (len(folder), folder.name) == (3, "folder-cifar10-sample")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        load_evalset(str(tmp_path / "nowhere"))


def test_a_name_that_nobody_knows():
    with pytest.raises(InputError, match="did you mean 'cifar10'"):
        load_evalset("cifar1O")


@pytest.fixture
def numbered(tmp_path):
    """Three class folders that text and numbers order otherwise, red 10, 20, 90."""
    for number in (1, 2, 10):
        write(tmp_path / "numbers" / str(number) / "a.png", (number * 9, 0, 0))
    return tmp_path / "numbers"


def test_labels_follow_the_numbers_and_ids_the_sorted_names(numbered):
    evalset = read_folder(numbered)
    assert evalset.images[:, 0, 0, 0].tolist() == [9, 90, 18]  # 1, 10, 2
    assert (evalset.labels.tolist(), evalset.ids.tolist()) == ([0, 2, 1], [0, 1, 2])
    assert evalset.class_names == ("1", "2", "10") and evalset.class_order is None
    assert evalset.notes[0].startswith("class folders in numeric order, not as text (1, 10, 2)")
    assert evalset.first(2).notes == evalset.notes


def test_a_class_list_in_the_folder_comes_first(numbered):
    (numbered / "classes.txt").write_text("10\n3\n2\n1\n")
    evalset = read_folder(numbered)
    assert evalset.labels.tolist() == [3, 0, 2] and evalset.num_classes == 4
    assert evalset.class_names == ("10", "3", "2", "1")
    assert evalset.notes == ("class order of classes.txt: 1 of its 4 classes have no folder here",)


def test_a_class_list_that_is_given_comes_before_that_in_the_folder(numbered, tmp_path):
    (numbered / "classes.txt").write_text("10\n2\n1\n")
    (tmp_path / "order.txt").write_text("2\n10\n1\n")
    evalset = load_evalset(str(numbered), class_order=tmp_path / "order.txt")
    assert evalset.labels.tolist() == [2, 1, 0]
    assert evalset.notes == ("class order of order.txt",)
    assert evalset.class_order == str(tmp_path / "order.txt")


def test_a_class_list_without_one_of_the_folders_is_refused(numbered):
    (numbered / "classes.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match=r"class folder '10' is not in classes\.txt"):
        load_evalset(str(numbered))


def test_an_order_that_does_not_change_leaves_the_digest(pets):
    """Records are found by it: the figure is that of labels by sorted names."""
    found = read_folder(pets)
    assert found.digest.startswith("e5a65bd85916c1a2")
    (pets / "classes.txt").write_text("cat\ndog\n")
    assert read_folder(pets).digest == found.digest
    (pets / "classes.txt").write_text("dog\ncat\n")
    assert read_folder(pets).digest != found.digest


def test_only_image_folders_take_a_class_order():
    with pytest.raises(
        InputError, match=r"c\.txt is for image folders: cifar10-sample has an order"
    ):
        load_evalset("cifar10-sample", class_order="c.txt")
