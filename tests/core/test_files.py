import errno
import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest

from robench.core.errors import InputError, RunError
from robench.core.files import atomic_write, check_writable, extract, sha256_file

OUTSIDE = ["../escaped", "/escaped", "a/../../escaped", "..\\escaped", "C:\\escaped", "a/C:escaped"]


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def make_tar_entry(path, **fields):
    with tarfile.open(path, "w") as file:
        entry = tarfile.TarInfo("entry")
        for name, value in fields.items():
            setattr(entry, name, value)
        file.addfile(entry)
    return path


def everything_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_atomic_write_creates_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "record.json"
    atomic_write(path, b"first")
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert everything_below(tmp_path) == ["a", "a/b", "a/b/record.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("number, why", [(errno.ENOSPC, "no space left"), (errno.EIO, "output")])
def test_atomic_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, number, why):
    path = tmp_path / "record.json"
    atomic_write(path, b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=why):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert everything_below(tmp_path) == ["record.json"]


def test_atomic_write_cleans_up_after_ctrl_c(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "record.json", b"new")
    assert everything_below(tmp_path) == []


def test_atomic_write_below_a_file_is_a_run_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot write"):
        atomic_write(tmp_path / "file" / "record.json", b"new")


def test_check_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    check_writable(tmp_path / "out")
    assert everything_below(tmp_path) == ["out"]


def test_check_writable_names_the_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(InputError, match=r"out.*--out"):
        check_writable(tmp_path / "out")


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),  # FIPS 180-2
        # One byte more than a piece; from openssl.
        (
            b"a" * ((1 << 20) + 1),
            "4a3f0c0c213adea174f9a3d4c13177315b588bdb2e9c1012d3d0bf0453ca0f6a",
        ),
    ],
    ids=["short", "two pieces"],
)
def test_sha256_file_is_the_published_function(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == expected


@pytest.mark.parametrize("make", [make_zip, make_tar], ids=["zip", "tar"])
def test_extract_gives_files_and_folders_back(tmp_path, make):
    members = {"top.txt": b"top", "a/b/deep.bin": b"\0" * 3_000_000}
    extract(make(tmp_path / "archive", members), tmp_path / "out")
    assert everything_below(tmp_path / "out") == ["a", "a/b", "a/b/deep.bin", "top.txt"]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in members} == members


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [make_zip, make_tar], ids=["zip", "tar"])
def test_extract_refuses_to_leave_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "archive", {name: b"x"})
    with pytest.raises(InputError, match="refused"):
        extract(archive, tmp_path / "in" / "out")
    assert everything_below(tmp_path) == ["archive"]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "other"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ],
    ids=["symlink", "hard link", "fifo", "device"],
)
def test_extract_refuses_tar_members_that_are_no_files(tmp_path, fields):
    archive = make_tar_entry(tmp_path / "archive", **fields)
    with pytest.raises(InputError, match="no regular file"):
        extract(archive, tmp_path / "out")
    assert everything_below(tmp_path) == ["archive"]


def test_extract_refuses_a_link_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        extract(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar], ids=["zip", "tar"])
def test_extract_stops_at_its_limit(tmp_path, make):
    archive = make(tmp_path / "archive", {"a": b"\0" * 600, "b": b"\0" * 600})
    extract(archive, tmp_path / "allowed", max_bytes=1200)
    with pytest.raises(InputError, match="more than 1199 bytes"):
        extract(archive, tmp_path / "out", max_bytes=1199)


def test_extract_refuses_a_zip_that_lies_about_its_size(tmp_path):
    archive = make_zip(tmp_path / "archive", {"bomb": b"\0" * 100_000})
    content = archive.read_bytes()
    assert content.count(struct.pack("<I", 100_000)) == 2
    archive.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    with pytest.raises(InputError, match="not a readable archive"):
        extract(archive, tmp_path / "out", max_bytes=1000)
    assert (tmp_path / "out" / "bomb").stat().st_size <= 10


def test_extract_refuses_an_encrypted_zip(tmp_path):
    archive = make_zip(tmp_path / "archive", {"a": b"x"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # general purpose flag of the local header, then of the central directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_extract_of_a_truncated_tar_is_an_input_error(tmp_path, mode, keep):
    archive = make_tar(tmp_path / "archive", {"a": os.urandom(90_000)}, mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(InputError, match="not a readable archive"):
        extract(archive, tmp_path / "out")


def test_extract_of_a_damaged_gzip_stream_is_an_input_error(tmp_path):
    archive = make_tar(tmp_path / "archive", {"a": os.urandom(50_000)})
    content = bytearray(archive.read_bytes())
    content[20_000:20_100] = b"\xff" * 100
    archive.write_bytes(content)
    with pytest.raises(InputError, match="not a readable archive"):
        extract(archive, tmp_path / "out")


def test_extract_on_a_full_disk_is_a_run_error(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "archive", {"a/b": b"x"})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(RunError, match="no space left"):
        extract(archive, tmp_path / "out")
