import hashlib
import re
import struct
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.data.evalset import EvalSet


def four(**changes):
    """Images 0 .. 3 with ids 10, 20, 30, 40: pixel value k in image k."""
    fields = {
        "name": "four",
        "images": np.repeat(np.arange(4, dtype=np.uint8), 6).reshape(4, 3, 1, 2),
        "labels": np.array([0, 1, 1, 2]),
        "ids": np.array([10, 20, 30, 40]),
        "class_names": ("ant", "bee", "cat"),
    }
    return EvalSet(**(fields | changes))


def test_what_it_says_about_itself():
    evalset = four()
    assert len(evalset) == 4
    assert evalset.num_classes == 3
    with pytest.raises(FrozenInstanceError):
        evalset.name = "five"


def test_digest_is_the_documented_one():
    expected = hashlib.sha256(
        struct.pack("<4q", 4, 3, 1, 2)
        + bytes([0] * 6 + [1] * 6 + [2] * 6 + [3] * 6)
        + struct.pack("<4q", 0, 1, 1, 2)
        + struct.pack("<4q", 10, 20, 30, 40)
    ).hexdigest()
    assert four().digest == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.repeat(np.arange(4, dtype=np.uint8), 6).reshape(4, 3, 2, 1)},
        {"images": np.repeat(np.array([0, 1, 2, 4], dtype=np.uint8), 6).reshape(4, 3, 1, 2)},
        {"labels": np.array([0, 1, 1, 1])},
        {"ids": np.array([10, 20, 30, 41])},
    ],
    ids=["shape", "a pixel", "a label", "an id"],
)
def test_digest_changes_with(changes):
    assert four(**changes).digest != four().digest


def test_digest_does_not_change_with_names_or_memory_layout():
    images = np.asfortranarray(four().images)
    renamed = four(images=images, name="other", class_names=("x", "y", "z"))
    assert not renamed.images.flags.c_contiguous
    assert renamed.digest == four().digest


@pytest.mark.parametrize(
    "turn",
    [
        lambda values: values[::-1],
        lambda values: values[::-1, ...][::-1],
        lambda values: values[:, ::-1] if values.ndim > 1 else values,
        lambda values: np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape),
        lambda values: np.broadcast_to(values, values.shape),
    ],
    ids=["turned", "turned twice", "bgr", "from bytes", "broadcast"],
)
@pytest.mark.parametrize("what", ["images", "labels", "ids"])
def test_arrays_that_torch_cannot_share_are_copied(recwarn, what, turn):
    given = turn(getattr(four(), what))
    evalset = four(**{what: given})
    kept = getattr(evalset, what)
    assert np.array_equal(kept, given) and torch.from_numpy(kept).shape == given.shape
    assert not recwarn.list
    for part in (evalset.first(2), evalset.select([30, 10])):
        torch.from_numpy(getattr(part, what))


def test_a_file_mapped_into_memory_is_copied_and_a_plain_array_is_not(tmp_path):
    images = four().images
    np.save(tmp_path / "images.npy", images)
    mapped = four(images=np.load(tmp_path / "images.npy", mmap_mode="r")).images
    assert type(mapped) is np.ndarray and mapped.flags.writeable
    assert four(images=images).images is images
    strided = np.repeat(images, 2, axis=3)[..., ::2]
    assert four(images=strided).images is strided


def test_digest_tells_orders_apart():
    assert four().select([20, 10]).digest != four().select([10, 20]).digest


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": np.zeros((4, 3, 1, 2), np.float32)}, "uint8"),
        ({"images": np.zeros((4, 3, 2), np.uint8)}, "(N, C, H, W)"),
        ({"images": np.zeros((0, 3, 1, 2), np.uint8)}, "non-empty"),
        ({"labels": np.array([0, 1, 1])}, "labels must be int64 (4,)"),
        ({"labels": np.array([0, 1, 1, 2], np.int32)}, "labels must be int64"),
        ({"labels": np.array([0, 1, 1, 3])}, "label 3 is outside 0 .. 2"),
        ({"labels": np.array([0, 1, 1, -1])}, "label -1 is outside"),
        ({"ids": np.array([[10, 20, 30, 40]])}, "ids must be int64 (4,)"),
        ({"ids": np.array([10.0, 20.0, 30.0, 40.0])}, "ids must be int64"),
        ({"images": np.zeros((4, 3, 1, 2), np.uint8).tolist()}, "images must be a numpy array"),
        ({"labels": np.array([0, 1, 1, 2], ">i8")}, "labels must be int64 (4,), not >i8"),
        ({"images": np.uint8(3) * np.ones((), np.uint8)[()]}, "images must be a numpy array"),
        ({"images": np.array(3, np.uint8)}, "non-empty uint8 array (N, C, H, W), not uint8 ()"),
        ({"ids": np.array([10, 20, 30, 20])}, "20 is there twice"),
        ({"ids": np.array([10, 20, 30, -1])}, "negative"),
    ],
)
def test_construction_refuses(changes, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        four(**changes)
    assert "\n" not in str(caught.value)


def test_first_keeps_the_order_and_the_ids():
    first = four().first(3)
    assert first.ids.tolist() == [10, 20, 30]
    assert first.labels.tolist() == [0, 1, 1]
    assert first.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert four().first(4).digest == four().digest


@pytest.mark.parametrize("n", [0, -1, 5])
def test_first_says_how_many_there_are(n):
    with pytest.raises(InputError, match=f"four has 4 images.*not {n}"):
        four().first(n)


@pytest.mark.parametrize("kind", [list, np.array], ids=["list", "array"])
def test_select_takes_the_order_given(kind):
    chosen = four().select(kind([40, 10, 30]))
    assert chosen.ids.tolist() == [40, 10, 30]
    assert chosen.labels.tolist() == [2, 0, 1]
    assert chosen.images[:, 2, 0, 1].tolist() == [3, 0, 2]
    assert chosen.class_names == four().class_names


@pytest.mark.parametrize(
    "ids, message",
    [
        ([10, 1, 2, 3, 4, 5], "four has no image with id 1, 2, 3 and 2 more"),
        ([0], "no image with id 0"),
        ([20, 10, 20], "given twice: 20"),
        ([], "no image ids given: four has 4 images"),
    ],
)
def test_select_refuses(ids, message):
    with pytest.raises(InputError, match=re.escape(message)):
        four().select(ids)


@given(st.permutations([10, 20, 30, 40]), st.integers(1, 4))
def test_selecting_twice_is_selecting_once(order, n):
    once = four().select(order[:n])
    assert four().select(order).first(n).digest == once.digest
    assert four().select(once.ids).digest == once.digest
