"""Tiny-ImageNet in its official layout, from the zip archive as it is or from a folder.

A label is the place among the *sorted* class ids, as a plain folder reader gives it, not the line
of `wnids.txt`: a checkpoint trained under one convention is wrong under the other. The test part
here is the official `val`: the official test part has no public labels.
Source: Le and Yang 2015, "Tiny ImageNet Visual Recognition Challenge".
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import filter as matching
from pathlib import Path

import numpy as np

from robench.core.errors import InputError
from robench.data.dataset import Archive, Dataset, Layout, missing
from robench.data.evalset import EvalSet
from robench.data.pixels import decode_image

_ARCHIVE = "tiny-imagenet-200.zip"
_SHAPE = (3, 64, 64)
_TRAIN_PER_CLASS = 500
_MAX_MEMBER_BYTES = 1 << 24  # the largest official member, words.txt, has 2.7 MB
_VAL_FILE = re.compile(r"val_(\d+)\.JPEG")
_TRAIN_FILE = re.compile(r"train/(n\d+)/images/\1_(\d+)\.JPEG")

_IN_ZIP = Layout({_ARCHIVE: "md5:90528d7ca1a48142e341f4ef8d21d0de"})
_IN_FOLDER = Layout(dict.fromkeys(("wnids.txt", "words.txt", "train", "val")))


@dataclass(frozen=True)
class _Folder:
    root: Path

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {self.root / name}: {error.strerror}") from error

    def names(self, pattern: str) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]


@dataclass(frozen=True)
class _Zip:
    file: zipfile.ZipFile
    prefix: str

    def read(self, name: str) -> bytes:
        where = f"{self.prefix}{name} in {self.file.filename}"
        try:
            if self.file.getinfo(self.prefix + name).file_size > _MAX_MEMBER_BYTES:
                raise InputError(f"{where} is larger than any official file")
            return self.file.read(self.prefix + name)
        except KeyError as error:
            raise InputError(f"there is no {where}") from error
        except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
            raise InputError(f"cannot read {where}: {error}") from error

    def names(self, pattern: str) -> list[str]:
        found = matching(self.file.namelist(), self.prefix + pattern)
        return [name.removeprefix(self.prefix) for name in found]


_Tree = _Folder | _Zip
_Row = tuple[str, int, int]  # file name, label, id


def read_tiny_imagenet(root: Path, part: str) -> EvalSet:
    """A part as an EvalSet: `test` is the official val split, `train` the training split.

    ids: the number in the file's name for val, 500 x label + that number for train, so a subset in
    the official layout keeps the places of the whole.
    """
    with _opened(root) as tree:
        wnids = sorted(tree.read("wnids.txt").decode("utf-8", "replace").split())
        label_of = {wnid: label for label, wnid in enumerate(wnids)}
        rows = _val_rows(tree, label_of) if part == "test" else _train_rows(tree, label_of)
        if not rows:
            raise InputError(f"{root} holds no image of the part {part!r}")
        return _decoded(tree, sorted(rows, key=lambda row: row[2]), _class_names(tree, wnids))


@contextmanager
def _opened(root: Path) -> Iterator[_Tree]:
    if folder := _IN_ZIP.find(root):
        try:
            file = zipfile.ZipFile(folder / _ARCHIVE)
        except zipfile.BadZipFile as error:
            raise InputError(f"{folder / _ARCHIVE} is not a readable archive: {error}") from error
        with file:
            yield _Zip(file, _prefix(file))
    elif folder := _IN_FOLDER.find(root, ("wnids.txt",)):
        yield _Folder(folder)
    else:
        raise missing("tiny-imagenet", root)


def _prefix(file: zipfile.ZipFile) -> str:
    for name in file.namelist():
        if name.count("/") <= 1 and name.endswith("wnids.txt"):
            return name.removesuffix("wnids.txt")
    raise InputError(f"{file.filename} is not Tiny-ImageNet: there is no wnids.txt in it")


def _val_rows(tree: _Tree, label_of: dict[str, int]) -> list[_Row]:
    rows = []
    text = tree.read("val/val_annotations.txt").decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, rest = line.partition("\t")
        wnid, match = rest.split("\t")[0], _VAL_FILE.fullmatch(name)
        if match is None or wnid not in label_of:
            raise InputError(
                f"val_annotations.txt, line {number}: expected val_<n>.JPEG and a listed wnid"
            )
        rows.append((f"val/images/{name}", label_of[wnid], int(match[1])))
    return rows


def _train_rows(tree: _Tree, label_of: dict[str, int]) -> list[_Row]:
    rows = []
    for name in tree.names("train/*/images/*.JPEG"):
        match = _TRAIN_FILE.fullmatch(name)
        if match is None or match[1] not in label_of or int(match[2]) >= _TRAIN_PER_CLASS:
            raise InputError(
                f"{name} is no training file of Tiny-ImageNet: expected "
                f"train/<wnid>/images/<wnid>_<n>.JPEG, a listed wnid and n below {_TRAIN_PER_CLASS}"
            )
        label = label_of[match[1]]
        rows.append((name, label, label * _TRAIN_PER_CLASS + int(match[2])))
    return rows


def _decoded(tree: _Tree, rows: list[_Row], class_names: tuple[str, ...]) -> EvalSet:
    images = np.empty((len(rows), *_SHAPE), dtype=np.uint8)
    for place, (name, _, _) in enumerate(rows):
        pixels = decode_image(tree.read(name), name)
        if pixels.shape != _SHAPE:
            raise InputError(f"{name} is {pixels.shape[2]}x{pixels.shape[1]}: expected 64x64")
        images[place] = pixels
    return EvalSet(
        name="tiny-imagenet",
        images=images,
        labels=np.array([label for _, label, _ in rows], dtype=np.int64),
        ids=np.array([image_id for _, _, image_id in rows], dtype=np.int64),
        class_names=class_names,
    )


def _class_names(tree: _Tree, wnids: list[str]) -> tuple[str, ...]:
    """The first name that words.txt gives each class ("Egyptian cat"), else its wnid."""
    words = {}
    for line in tree.read("words.txt").decode("utf-8", "replace").splitlines():
        wnid, _, names = line.partition("\t")
        words[wnid] = names.split(",")[0].strip()
    return tuple(words.get(wnid) or wnid for wnid in wnids)


TINY_IMAGENET = Dataset(
    name="tiny-imagenet",
    base="tiny-imagenet",
    read=read_tiny_imagenet,
    layouts=(_IN_ZIP, _IN_FOLDER),
    archives=(
        Archive(f"http://cs231n.stanford.edu/{_ARCHIVE}", "md5:90528d7ca1a48142e341f4ef8d21d0de"),
    ),
    # Not unpacked: 120,000 small files take minutes to write, and the md5 is of the archive.
    kept_archive=_ARCHIVE,
)
