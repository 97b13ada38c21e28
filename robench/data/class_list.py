"""Class lists: files with one class name a line, in the order of the labels."""

import codecs
import re
from pathlib import Path

from robench.core.errors import InputError
from robench.core.names import shown

_MOST_BYTES = 1 << 22
"""ImageNet-21k's list has half a megabyte."""
_EXPECTED = "expected one class name a line, in the order of the labels"


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names in the file, label 0 first.

    A byte-order mark, spaces around a name and blank lines at the end are passed over.
    Raises: InputError for a file that cannot be read, is no text or is empty, for a blank line
    between names (it would shift the labels) and for a name that is there twice.
    """
    text = _text(path).rstrip()
    if not text:
        raise InputError(f"class list {path} is empty: {_EXPECTED}")
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    first: dict[str, int] = {}
    for number, name in enumerate(lines, start=1):
        if not name:
            raise InputError(f"class list {path}, line {number} is blank: {_EXPECTED}")
        if name in first:
            raise InputError(
                f"class list {path} names {shown(name)!r} twice, in lines {first[name]} and "
                f"{number}: {_EXPECTED}, each once"
            )
        first[name] = number
    return tuple(lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read class list {path}: {error.strerror}") from error
    # PowerShell writes UTF-16 with a mark where it is not told otherwise.
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"class list {path} is no UTF-8 text: {_EXPECTED}") from error
    if len(content) > _MOST_BYTES or "\0" in text:
        raise InputError(f"{path} is no class list: {_EXPECTED}")
    return text
