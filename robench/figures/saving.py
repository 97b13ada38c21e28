"""Figures as files: the same bytes for the same data, and the SHA-256 of the data inside.

Bytes change with the version of matplotlib, so whether a committed figure is stale is told by the
data that it holds and not by its bytes (product.md 5).
"""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.core.names import did_you_mean
from robench.figures.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without dates and versions the same data give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FORMATS = tuple(_METADATA)
# Where the digest stands: the fields for free words that each format knows.
_FIELD = {"png": "Description", "svg": "Description", "pdf": "Keywords"}
_WORDS = "plotted data sha256:"
_STORED = re.compile(_WORDS.encode() + rb"([0-9a-f]{64})")


def digest(data: object) -> str:
    """SHA-256 of the plotted data, as canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


def stored_digest(path: Path) -> str | None:
    """The digest in a figure's file; None where there is no file or none in it."""
    try:
        found = _STORED.search(path.read_bytes())
    except OSError:
        return None
    return found[1].decode() if found else None


def check_format(format_: str) -> str:
    """The format itself. Raises: InputError for one that figures are not written in."""
    if format_ not in FORMATS:
        hint = did_you_mean(format_, FORMATS) or f": there are {', '.join(FORMATS)}"
        raise InputError(f"unknown figure format {format_!r}{hint}")
    return format_


def format_of(path: Path) -> str:
    """The format that the file's name asks for. Raises: InputError for any other suffix."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        what = f"unknown suffix {path.suffix!r}" if path.suffix else "no suffix"
        hint = did_you_mean(suffix, FORMATS) or ":"
        raise InputError(f"{path} has {what}{hint} figures are .png, .svg or .pdf")
    return suffix


def rendered(figure: "Figure", formats: Iterable[str], data: object) -> dict[str, bytes]:
    """The figure in each of the formats, with the digest of its data in it."""
    contents = {format_: io.BytesIO() for format_ in formats}
    words = _WORDS + digest(data)
    with styled():
        # Laid out once: every format written would move the layout of the next a little.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for format_, content in contents.items():
            metadata = {**_METADATA[format_], _FIELD[format_]: words}
            figure.savefig(content, format=format_, metadata=metadata)
    return {format_: content.getvalue() for format_, content in contents.items()}


def write_all(files: Mapping[Path, bytes]) -> None:
    """Each file atomically. Raises: RunError when one cannot be written."""
    for path, content in files.items():
        atomic_write(path, content)


def stale(paths: Sequence[Path], data: object) -> list[Path]:
    """Those of the files that do not hold the digest of these data."""
    wanted = digest(data)
    return [path for path in paths if stored_digest(path) != wanted]
