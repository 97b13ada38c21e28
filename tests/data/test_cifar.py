import pickle
import re

import numpy as np
import pytest

from robench.core.errors import InputError
from robench.data.cifar import CIFAR10, CIFAR100
from robench.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]


def write_cifar100(folder, coarse, fine, name="test.bin"):
    folder.mkdir(exist_ok=True)
    pixels = np.arange(len(fine) * 3072, dtype=np.uint32).astype(np.uint8).reshape(-1, 3072)
    rows = zip(coarse, fine, pixels, strict=True)
    content = b"".join(bytes([c, f]) + image.tobytes() for c, f, image in rows)
    (folder / name).write_bytes(content)
    return pixels.reshape(-1, 3, 32, 32)


def test_class_names():
    assert len(set(CIFAR10_CLASSES)) == 10
    assert len(set(CIFAR100_CLASSES)) == 100
    assert list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)


@pytest.mark.parametrize("inside", [".", "cifar-10-batches-bin"])
def test_cifar10_binary_test_part(tmp_path, write_cifar10, inside):
    images, labels = write_cifar10(tmp_path / inside)["test_batch"]
    evalset = CIFAR10.read(tmp_path, "test")
    np.testing.assert_array_equal(evalset.images, images)
    np.testing.assert_array_equal(evalset.labels, labels)
    assert evalset.ids.tolist() == [0, 1, 2]
    assert (evalset.name, evalset.class_names) == ("cifar10", CIFAR10_CLASSES)


def test_a_pixel_lies_where_the_layout_says(tmp_path):
    record = bytearray(3073)
    record[0] = 7
    record[1 + 1024 + 5 * 32 + 9] = 200  # green, row 5, column 9
    (tmp_path / "test_batch.bin").write_bytes(record)
    evalset = CIFAR10.read(tmp_path, "test")
    assert evalset.labels.tolist() == [7]
    assert np.argwhere(evalset.images).tolist() == [[0, 1, 5, 9]]


def test_cifar10_training_part_counts_through_the_batches(tmp_path, write_cifar10):
    written = write_cifar10(tmp_path)
    evalset = CIFAR10.read(tmp_path, "train")
    np.testing.assert_array_equal(evalset.images, np.concatenate([written[n][0] for n in TRAIN]))
    np.testing.assert_array_equal(evalset.labels, np.concatenate([written[n][1] for n in TRAIN]))
    assert evalset.ids.tolist() == list(range(15))


def test_the_arrays_can_go_to_torch_without_a_copy(tmp_path, write_cifar10):
    write_cifar10(tmp_path)
    images = CIFAR10.read(tmp_path, "test").images
    assert images.flags.c_contiguous
    assert images.flags.writeable


def test_cifar10_python_batches_hold_the_same(tmp_path, write_cifar10, python2_batch):
    binary, python = tmp_path / "binary", tmp_path / "python"
    python.mkdir()
    for name, (images, labels) in write_cifar10(binary).items():
        content = python2_batch(images.reshape(-1, 3072), labels.tolist())
        (python / name).write_bytes(content)
    for part in ("test", "train"):
        assert CIFAR10.read(python, part).digest == CIFAR10.read(binary, part).digest


def test_cifar100_labels_are_the_fine_ones(tmp_path):
    images = write_cifar100(tmp_path, coarse=[19, 0], fine=[99, 5])
    evalset = CIFAR100.read(tmp_path, "test")
    assert evalset.labels.tolist() == [99, 5]
    np.testing.assert_array_equal(evalset.images, images)
    assert evalset.num_classes == 100


def test_cifar100_python_batches_hold_the_same(tmp_path, python2_batch):
    images = write_cifar100(tmp_path / "binary", coarse=[1, 2], fine=[42, 7], name="train.bin")
    python = tmp_path / "cifar-100-python"
    python.mkdir()
    content = python2_batch(images.reshape(-1, 3072), [42, 7], key=b"fine_labels")
    (python / "train").write_bytes(content)
    expected = CIFAR100.read(tmp_path / "binary", "train")
    assert CIFAR100.read(tmp_path, "train").digest == expected.digest


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_file_cut_short_is_named(tmp_path, size):
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"test_batch\.bin has {size} bytes.*3073 bytes"):
        CIFAR10.read(tmp_path, "test")


def test_a_label_out_of_range_is_named(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073) + b"\x0a" + bytes(3072))
    with pytest.raises(InputError, match=re.escape("image 1 has label 10, outside 0 .. 9")):
        CIFAR10.read(tmp_path, "test")


@pytest.mark.parametrize("coarse, fine, wrong", [(20, 0, "20, outside 0 .. 19"), (0, 100, "100")])
def test_cifar100_checks_both_labels(tmp_path, coarse, fine, wrong):
    write_cifar100(tmp_path, [coarse], [fine])
    with pytest.raises(InputError, match=wrong):
        CIFAR100.read(tmp_path, "test")


@pytest.mark.parametrize(
    "batch, message",
    [
        ({b"labels": [1]}, "no uint8 array under 'data'"),
        ({b"data": np.zeros((1, 3072), np.int64), b"labels": [1]}, "no uint8 array"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "no list of labels under 'labels'"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [b"1"]}, "no list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [True]}, "no list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [2**70]}, "no list of labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1, 2]}, "2 labels and pixels"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, "(1, 3071)"),
        ({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}, "0 labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "label 10, outside"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "label -1, outside"),
    ],
)
def test_python_batches_of_another_kind(tmp_path, batch, message):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 3))
    with pytest.raises(InputError, match=re.escape(message)):
        CIFAR10.read(tmp_path, "test")


def test_int64_labels_are_read(tmp_path):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": np.array([4, 9])}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 3))
    assert CIFAR10.read(tmp_path, "test").labels.tolist() == [4, 9]


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} does not hold cifar10"):
        CIFAR10.read(tmp_path, "test")


@pytest.mark.full_cifar10
def test_the_real_cifar10(full_cifar10):
    evalset = CIFAR10.read(full_cifar10, "test")
    assert np.bincount(evalset.labels).tolist() == [1000] * 10
    assert evalset.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert CIFAR10.hash_state(full_cifar10) == "verified"
