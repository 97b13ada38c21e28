"""Class lists as editors and shells write them, and files that are none."""

import re

import pytest

from robench.core.errors import InputError
from robench.data.class_list import read_class_list


@pytest.mark.parametrize(
    "content",
    [
        b"plane\ncar\n",
        b"plane\ncar",
        b"\xef\xbb\xbfplane\r\ncar\r\n\r\n\n",  # Windows' editor
        "plane\r\ncar\r\n".encode("utf-16"),  # PowerShell
        b"  plane \rcar\t\n \n",
    ],
)
def test_marks_line_ends_and_blank_last_lines_do_not_count(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_class_list(tmp_path / "classes.txt") == ("plane", "car")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: expected one class name a line"),
        (b" \n\n", "is empty"),
        (b"cat\n\ndog\n", "line 2 is blank"),
        (b"\ncat\n", "line 1 is blank"),
        (b"cat\ndog\n cat\n", "names 'cat' twice, in lines 1 and 3"),
        (b"caf\xe9\n", "is no UTF-8 text"),
        (b"PK\x03\x04\0\0\n", "is no class list"),
        (b"a" * ((1 << 22) + 1), "is no class list"),
    ],
)
def test_what_is_no_class_list_is_said(tmp_path, content, message):
    path = tmp_path / "order.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_class_list(path)
    assert str(path) in str(caught.value)


def test_a_list_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"cannot read class list {tmp_path}")):
        read_class_list(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_class_list(tmp_path / "nowhere.txt")
