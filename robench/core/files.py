"""Files that are whole or not there: atomic writes, hashes, extraction that stays inside."""

import errno
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from robench.core.errors import InputError, RunError

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".pth.tar", ".safetensors", ".ckpt", ".bin")
"""What checkpoint files are called."""

_CHUNK = 1 << 20
# What the readers raise for bytes that are no archive; ValueError: names with a NUL or bad UTF-8.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


def atomic_write(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, or leave what was there untouched.

    Raises: RunError when the disk is full or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide records from other users
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {_reason(error)}; what was there before is untouched"
        ) from error
    finally:  # also after Ctrl-C
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "no space left on the disk" if full else error.strerror or str(error)


def check_writable(folder: Path) -> None:
    """Fail before the work, not after it, when `folder` cannot be written.

    Raises: InputError naming the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {_reason(error)}; choose another folder with --out"
        ) from error


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _inside(folder: Path, name: str) -> Path:
    member = PurePosixPath(name.replace("\\", "/"))
    # ":" in any part: on Windows `folder / "C:x"` is a path on drive C.
    if member.is_absolute() or ".." in member.parts or ":" in name:
        raise InputError(f"archive member {name!r} would leave {folder}: refused")
    return folder.joinpath(*member.parts)


def extract(archive: Path, folder: Path, max_bytes: int = 8 << 30) -> None:
    """Unpack a .zip or a (compressed) .tar into `folder`; regular files and folders only.

    Raises: InputError for a member that would leave the folder, a link, a device, an archive that
    unpacks to more than max_bytes, or a file that is no whole, unencrypted archive; RunError when
    the disk is full.
    """
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder, max_bytes)
        else:
            _extract_tar(archive, folder, max_bytes)
    except _BROKEN as error:
        raise InputError(f"{archive} is not a readable archive: {error}") from error
    except OSError as error:
        raise RunError(f"cannot unpack {archive}: {_reason(error)}") from error


def _extract_zip(archive: Path, folder: Path, max_bytes: int) -> None:
    with zipfile.ZipFile(archive) as file:
        if sum(member.file_size for member in file.infolist()) > max_bytes:
            raise InputError(f"{archive} unpacks to more than {max_bytes} bytes: refused")
        for member in file.infolist():
            target = _inside(folder, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"archive member {member.filename!r} is a link: refused")
            if member.flag_bits & 1:
                raise InputError(f"{archive} is encrypted: unpack it by hand")
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # ZipExtFile stops at the declared size, so the sum above bounds what is written.
            with file.open(member) as source, target.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)


def _extract_tar(archive: Path, folder: Path, max_bytes: int) -> None:
    written = 0
    with tarfile.open(archive) as file:
        for member in file:
            target = _inside(folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = file.extractfile(member) if member.isfile() else None
            if source is None:
                raise InputError(f"archive member {member.name!r} is no regular file: refused")
            written += member.size
            if written > max_bytes:
                raise InputError(f"{archive} unpacks to more than {max_bytes} bytes: refused")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)
        # To the end, past what tarfile reads: only there does a compressed stream check its CRC.
        while file.fileobj is not None and (chunk := file.fileobj.read(_CHUNK)):
            written += len(chunk)
            if written > max_bytes + _CHUNK:
                raise InputError(f"{archive} unpacks to more than {max_bytes} bytes: refused")
