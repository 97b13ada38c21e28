"""References as text: lists of them, files among them, and what others may be shown of them."""

import os
import re
from pathlib import Path, PurePath, PureWindowsPath

from robench.core.files import CHECKPOINT_SUFFIXES
from robench.core.names import split_list

_JOINED = 32
"""Pieces between commas of which a file's name is made at most."""
_BEFORE_PATH = re.compile(r"(?:[a-z_]{2,}:)?(?:[\w.]*\[weights=)?")
"""Scheme, and torchvision's name, as they stand before the path of a file."""
_ABOVE = 3
"""Data set, defense and file: what a record's path says wherever the folder of records lies."""


def exists(text: str) -> bool:
    """Whether something of that name is there; `~` is the user's home."""
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown home
        return False


def split_weights(text: str) -> tuple[str, str | None]:
    """A checkpoint file, and which set of its weights: `x.pt#ema` is `x.pt` and `ema`.

    Something that exists under the whole text goes before `#`. None: the text names no set.
    """
    places = [place for place, character in enumerate(text) if character == "#"]
    if not places or exists(text):
        return text, None
    for place in reversed(places):
        if exists(text[:place]):
            return text[:place], text[place + 1 :]
    return _split_by_suffix(text)


def _split_by_suffix(text: str) -> tuple[str, str | None]:
    """The same without a look at the disk: the file may lie on another machine."""
    path, mark, what = text.partition("#")
    while mark and not path.endswith(CHECKPOINT_SUFFIXES):
        more, mark, what = what.partition("#")
        path = f"{path}#{more}"
    return (path, what) if mark else (text, None)


def names_checkpoint(ref: str) -> bool:
    """Whether `ref` can only be meant as a checkpoint file, with or without `#`."""
    return _split_by_suffix(ref)[0].endswith(CHECKPOINT_SUFFIXES)


def split_references(text: str) -> list[str]:
    """The references of a comma list; a comma in the name of an existing file does not split.

    Raises: InputError for brackets that do not match.
    """
    items: list[str] = []
    rest = text.strip()
    while rest:
        item, rest = _first_file(rest) or _first_item(rest)
        items.append(item)
    return [item for item in items if item]


def _first_item(text: str) -> tuple[str, str]:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            break
        if character == "," and depth == 0:
            return text[:place].strip(), text[place + 1 :].strip()
    return (split_list(text) or [""])[0], ""  # brackets that do not match are refused there


def _first_file(text: str) -> tuple[str, str] | None:
    """The longest beginning that is an existing file with a comma in its name, and the rest."""
    ends = [place for place, character in enumerate(text) if character == ","][:_JOINED]
    for end in reversed([*ends, len(text)]):
        candidate = text[:end].strip()
        path, what = split_weights(candidate)
        if "," in path and "," not in (what or "") and exists(path.removeprefix("file:")):
            return candidate, text[end + 1 :].strip()
    return None


def portable(ref: str) -> str:
    """The reference as it may stand in a file that people share: no absolute path of a machine.

    Below the current folder it becomes the path from there, elsewhere the bare name. Names,
    relative paths and `~/...` stay as they were typed.
    """
    before = _BEFORE_PATH.match(ref)
    head = before[0] if before else ""
    path, what = split_weights(ref[len(head) :])
    if not _is_absolute(path):
        return ref
    return f"{head}{_from_here(path)}{'' if what is None else f'#{what}'}"


def portable_record(path: str) -> str:
    """The path of a record as it may stand on a board that people share.

    Below the current folder it becomes the path from there, elsewhere data set, defense and file.
    """
    if not _is_absolute(path) or _below_here(path) is not None:
        return portable(path)
    return "/".join(_pure(path).parts[-_ABOVE:])


def _is_absolute(path: str) -> bool:
    return Path(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _from_here(path: str) -> str:
    return _below_here(path) or _pure(path).name or "."


def _below_here(path: str) -> str | None:
    if not Path(path).is_absolute():  # of Windows
        return None
    here = Path.cwd()
    for folder, place in ((here, Path(path)), (here.resolve(), Path(os.path.realpath(path)))):
        if place.is_relative_to(folder):
            return place.relative_to(folder).as_posix()
    return None


def _pure(path: str) -> PurePath:
    """A path of this system, or of Windows where it can only be one."""
    return Path(path) if Path(path).is_absolute() else PureWindowsPath(path)
