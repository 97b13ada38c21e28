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
