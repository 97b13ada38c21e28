"""The reader of python batches, against what a hostile pickle may hold."""

import contextlib
import os
import pickle
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.data.unpickle import read_batch

PIXELS = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def calling(name, arguments):
    """The opcodes of a call: name as "module attribute", arguments as opcodes of a tuple."""
    module, attribute = name.split()
    return b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + arguments + b"R."


def test_reads_what_python_2_wrote(python2_batch):
    batch = read_batch(python2_batch(PIXELS, [3, 8]), "test_batch")
    assert set(batch) == {b"batch_label", b"labels", b"data"}
    assert batch[b"batch_label"] == b"testing batch 1 of 1"
    assert batch[b"labels"] == [3, 8]
    assert batch[b"data"].dtype == np.uint8
    np.testing.assert_array_equal(batch[b"data"], PIXELS)


def test_agrees_with_pickle_about_it(python2_batch):
    content = python2_batch(PIXELS, list(range(300)))
    expected = pickle.loads(content, encoding="bytes")
    found = read_batch(content, "test_batch")
    np.testing.assert_array_equal(found.pop(b"data"), expected.pop(b"data"))
    assert found == expected


@pytest.mark.parametrize("protocol", [2, 3])
def test_reads_what_python_3_writes(protocol):
    labels = np.array([3, -8, 2**40])
    content = pickle.dumps(
        {"name": "x", b"data": PIXELS, b"labels": labels, "t": (1, [2, b"\xff"])}, protocol
    )
    batch = read_batch(content, "test_batch")
    np.testing.assert_array_equal(batch[b"data"], PIXELS)
    np.testing.assert_array_equal(batch[b"labels"], labels)
    assert batch[b"labels"].dtype == np.int64
    assert (batch["name"], batch["t"]) == ("x", (1, [2, b"\xff"]))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, os.mkdir], ids=lambda f: f.__name__)
def test_nothing_runs(tmp_path, function, protocol):
    planted = tmp_path / "planted"
    text = {
        os.system: f"touch {planted}",
        os.mkdir: str(planted),
    }.get(function, f"__import__('pathlib').Path({str(planted)!r}).touch()")
    for hidden in (Calls(function, text), {b"data": [Calls(function, text)]}):
        content = pickle.dumps(hidden, protocol)
        with pytest.raises(InputError, match="refused"):
            read_batch(content, "test_batch")
    assert not planted.exists()
    pickle.loads(content)  # the plant is a live one
    assert planted.exists()


@pytest.mark.parametrize(
    "content",
    [
        calling("numpy load", b"(U\x09/some/filetR"),
        calling("numpy fromfile", b"U\x04file\x85"),
        calling("numpy.core.multiarray fromstring", b"U\x04file\x85"),
        calling("builtins getattr", b"U\x01aU\x01b\x86"),
        calling("numpy._core.multiarray scalar", b"U\x01aU\x01b\x86"),
        calling("numpy ndarray.tofile", b"U\x01a\x85"),
    ],
    ids=lambda content: content[3:30].split(b"\n")[1].decode(),
)
def test_other_functions_are_refused(content):
    with pytest.raises(InputError, match="which is refused"):
        read_batch(content, "test_batch")


@pytest.mark.parametrize(
    "content",
    [
        calling("numpy ndarray", b"\x8a\x06\0\0\0\0\0\x01\x85\x85"),  # ndarray((2 ** 40,))
        calling("numpy dtype", b"U\x02O8\x85"),
        calling("_codecs encode", b"X\x01\0\0\0aU\x03zip\x86"),
        calling(
            "numpy.core.multiarray _reconstruct",
            b"cnumpy\nndarray\n\x8a\x06\0\0\0\0\0\x01\x85U\x01b\x87",
        ),
    ],
    ids=["ndarray", "dtype", "encode", "_reconstruct"],
)
def test_the_known_functions_take_their_known_arguments_only(content):
    with pytest.raises(InputError, match="it calls what no batch calls"):
        read_batch(content, "test_batch")


@pytest.mark.parametrize(
    "array",
    [
        np.array([print], dtype=object),
        np.array([{"a": 1}], dtype=object),
        np.zeros(3, dtype=np.float64),
        np.zeros(3, dtype=">i8"),
        np.zeros(3, dtype="u1,u1"),
        np.zeros(3, dtype="S4"),
        np.zeros((3, 2), dtype=np.uint8, order="F"),
    ],
    ids=["object", "object of dict", "float", "big-endian", "records", "strings", "fortran"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(InputError):
        read_batch(pickle.dumps({b"data": array}, 2), "test_batch")


@pytest.mark.parametrize(
    "shape, raw",
    [
        ((3,), b"xy"),
        ((1,), b"xy"),
        ((-1,), b"xy"),
        ((-1, -2), b"xy"),
        ((b"2",), b"xy"),
        ((2.0,), b"xy"),
        ((True, 2), b"xy"),
        ((0, 2**70), b""),
        ((0, 2**31 - 1, 2**31 - 1, 2**31 - 1), b""),
        ((1,) * 100 + (2,), b"xy"),
    ],
)
def test_the_shape_must_fit_the_bytes(shape, raw):
    def batch(shape):
        opcodes = pickle.dumps(shape, 3)[2:-1]
        return (
            b"\x80\x03}C\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
            b"(K\x01" + opcodes + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
            b"\x89C" + bytes([len(raw)]) + raw + b"tbs."
        )

    assert read_batch(batch((len(raw),)), "good")[b"a"].tobytes() == raw
    with pytest.raises(InputError, match="bad is not a CIFAR python batch"):
        read_batch(batch(shape), "bad")


def test_a_memo_index_allocates_nothing():
    content = b"\x80\x02}r\xff\xff\xff\x7f."  # pickle.loads would ask for 32 GB here
    tracemalloc.start()
    assert read_batch(content, "test_batch") == {}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x03B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"x.",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    ],
)
def test_a_length_beyond_the_file_allocates_nothing(content):
    tracemalloc.start()
    with pytest.raises(InputError):
        read_batch(content, "test_batch")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_copies_do_not_multiply():
    text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000
    encode = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    content = b"\x80\x02}U\x01a](" + text + b"q\x00" + encode * 1000 + b"es."
    tracemalloc.start()
    with pytest.raises(InputError, match="beyond the size of the file"):
        read_batch(content, "test_batch")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * len(content)


@pytest.mark.parametrize("depth", [10, 500_000])
def test_deep_nesting_overflows_no_stack(depth):
    tuples = b")" + b"\x85" * depth
    with pytest.raises(InputError, match="neither text nor a number"):
        read_batch(b"\x80\x02}" + tuples + b"K\x01s.", "test_batch")
    with pytest.raises(InputError, match="expected a dict"):
        read_batch(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".", "test_batch")
    assert list(read_batch(b"\x80\x02}K\x01" + tuples + b"s.", "test_batch")) == [1]


def test_a_dict_may_hold_itself():
    batch = read_batch(b"\x80\x02}q\x00U\x01ah\x00s.", "test_batch")
    assert list(batch) == [b"a"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x02}",
        b"\x80\x02K\x01.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}h\x07.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02u.",
        b"\x80\x02K\x01K\x02a.",
        b"not a pickle",
        b"\x80\x02Q.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02(cos\nsystem\no.",
        b"(S'echo'\nios\nsystem\n.",
        b"\x80\x02}}b.",
    ],
)
def test_what_is_no_batch_is_an_input_error_of_one_line(content):
    with pytest.raises(InputError, match="test_batch is not a CIFAR python batch") as caught:
        read_batch(content, "test_batch")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_names_in_errors_cannot_steer_a_terminal():
    with pytest.raises(InputError) as caught:
        read_batch(b"\x80\x02c\x1b[31mred\nname\n.", "test_batch")
    assert "\x1b" not in str(caught.value)


def test_a_damaged_escape_is_refused_not_warned_of(python2_batch_once):
    content = python2_batch_once.replace(b"c_codecs", b"\\_codecs", 1)
    content = content.replace(b"\\_codecs", b"S'\\cdecs'", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a user's process
        with pytest.raises(InputError, match="invalid escape sequence"):
            read_batch(content, "test_batch")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_gives_a_dict_or_an_input_error(python2_batch_once, data):
    content = bytearray(python2_batch_once)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most bytes are pixels; the opcodes at both ends are what damage can misuse.
        place = data.draw(st.integers(-60, 330))
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        assert isinstance(read_batch(bytes(content), "test_batch"), dict)


@pytest.fixture(scope="module")
def python2_batch_once():
    return pickle.dumps({b"labels": [1, 2, 3], b"data": PIXELS[:, :40].copy()}, 2)
