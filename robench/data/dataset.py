"""What the table's lines lead to: how a data set is read, where it is from, how it is checked."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robench.core.errors import InputError
from robench.core.folders import data_folder

if TYPE_CHECKING:
    from robench.data.evalset import EvalSet

HashState = Literal["verified", "unknown", "differs", "absent"]


@dataclass(frozen=True)
class Archive:
    """An official archive. hash: "md5:...", as its authors or others published it."""

    url: str
    hash: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Layout:
    """One of the official forms of a data set: file (or folder) names with their published hashes.

    None stands for "none was published".
    """

    hashes: Mapping[str, str | None]

    def find(self, root: Path, names: tuple[str, ...] = ()) -> Path | None:
        """`root`, or the folder directly below it, that holds `names` (default: all of them)."""
        if not root.is_dir():
            return None
        below = sorted(path for path in root.iterdir() if path.is_dir())
        for folder in (root, *below):
            if all((folder / name).exists() for name in names or self.hashes):
                return folder
        return None

    def differing(self, folder: Path) -> list[str]:
        """The files whose hash is not the published one."""
        return [
            name for name, hash in self.hashes.items() if hash and not has_hash(folder / name, hash)
        ]


@dataclass(frozen=True)
class Dataset:
    """A data set of the table.

    base: the data set whose training part a defense for this one was trained on.
    read: (folder, part) -> EvalSet. parts: what `read` takes.
    layouts: the forms that `read` knows, the preferred one first.
    archives: the official archives; the first is the one that is fetched.
    fallback: fills a folder with the first layout when the official host cannot be reached.
    kept_archive: the name under which a zip archive is kept as it is, None when it is unpacked.
    bundled: the folder inside the package, for data that needs no fetching.
    """

    name: str
    base: str
    read: "Callable[[Path, str], EvalSet]"
    layouts: tuple[Layout, ...]
    parts: tuple[str, ...] = ("test", "train")
    archives: tuple[Archive, ...] = ()
    fallback: Callable[[Path], None] | None = None
    kept_archive: str | None = None
    bundled: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it lies on this machine."""
        return self.bundled or data_folder() / self.name

    def located(self, root: Path) -> tuple[Layout, Path] | None:
        """The first layout that is complete at or directly below `root`, and where."""
        for layout in self.layouts:
            if folder := layout.find(root):
                return layout, folder
        return None

    def hash_state(self, root: Path) -> HashState:
        """How the files at `root` compare with the published hashes; reads all of them."""
        found = self.located(root)
        if found is None:
            return "absent"
        layout, folder = found
        if layout.differing(folder):
            return "differs"
        return "verified" if all(layout.hashes.values()) else "unknown"


def has_hash(path: Path, expected: str) -> bool:
    """Whether the file has the hash, written "sha256:...", "sha1:..." or "md5:..."."""
    algorithm, _, digest = expected.partition(":")
    with path.open("rb") as file:
        # usedforsecurity: machines under FIPS rules refuse a plain md5, the only published one.
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return found.hexdigest() == digest


def missing(name: str, root: Path) -> InputError:
    """The error for a data set that is not at `root`."""
    if root == data_folder() / name:
        return InputError(f"{name} is not on this machine: run `robench data fetch {name}`")
    return InputError(f"{root} does not hold {name} in one of its official layouts")
