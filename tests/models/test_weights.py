"""Checkpoint files: whole ones are read as float32, all others are refused and run nothing."""

import argparse
import io
import os
import pickle
import shlex
import subprocess
import sys
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from robench.core.errors import InputError
from robench.core.files import sha256_file
from robench.models.weights import (
    conversion_command,
    read_checkpoint,
    read_weights,
    write_weights,
)

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.steps": torch.tensor(7)}


class Planted:
    """Unpickled by plain pickle, this makes a folder of the given name."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def _saved(content, legacy=False):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _file(folder, content, name="model.pt"):
    path = folder / name
    path.write_bytes(content)
    return path


def _refusal(path):
    with pytest.raises(InputError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "net"])
def test_torch_files_are_read_in_both_formats(tmp_path, legacy, wrapper):
    content = TENSORS if wrapper is None else {wrapper: TENSORS, "epoch": 3}
    path = _file(tmp_path, _saved(content, legacy))
    checkpoint = read_checkpoint(path)
    assert {k: v.tolist() for k, v in checkpoint.tensors.items()} == {
        "a.weight": [[0, 1, 2], [3, 4, 5]],
        "a.steps": 7,
    }
    assert checkpoint.sha256 == sha256_file(path)
    assert checkpoint.rules == ((f"unwrap {wrapper}",) if wrapper else ())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_floating_tensors_become_float32_and_counters_stay(tmp_path, dtype, suffix):
    stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in TENSORS.items()}
    path = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        path.write_bytes(_saved(stored))
    else:
        write_weights(path, stored, {})
    tensors, _ = read_weights(path)
    assert tensors["a.weight"].dtype is torch.float32
    assert tensors["a.steps"].dtype is torch.int64
    assert torch.equal(tensors["a.weight"], TENSORS["a.weight"])


def test_strides_are_plain_whatever_was_stored(tmp_path):
    weight = torch.rand(4, 3, 1, 1).to(memory_format=torch.channels_last)
    stored, _ = read_weights(_file(tmp_path, _saved({"w": weight})))
    assert stored["w"].stride() == (3, 1, 1, 1)
    assert torch.equal(stored["w"], weight)


def test_written_weights_and_metadata_come_back(tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    tied = torch.rand(2, 2)
    write_weights(path, {"a": tied, "b": tied, "c": tied.t()}, {"note": "8/255 ü", "width": "3"})
    tensors, metadata = read_weights(path)
    assert metadata == {"note": "8/255 ü", "width": "3"}
    assert torch.equal(tensors["a"], tied) and torch.equal(tensors["b"], tied)
    assert torch.equal(tensors["c"], tied.t())


def test_equal_content_gives_equal_bytes(tmp_path):
    keys = [f"key{i}" for i in range(12)]
    for name, order in (("one", keys), ("two", keys[::-1])):
        write_weights(tmp_path / name, TENSORS, dict.fromkeys(order, "x"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_content_decides_not_the_suffix(tmp_path):
    write_weights(tmp_path / "model.pt", TENSORS, {"width": "2"})
    assert read_weights(tmp_path / "model.pt")[1] == {"width": "2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>", "is a web page, not a checkpoint"),
        (b"<HTML><body>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"not a checkpoint at all", "no checkpoint that torch.load reads"),
        (pickle.dumps({"a": 1}), "no checkpoint that torch.load reads"),
        (_saved(TENSORS)[:-10], "or it is damaged"),
        (_saved(TENSORS)[:700], "or it is damaged"),
        (_saved(TENSORS, legacy=True)[:-8], "or it is damaged"),
        (_saved(torch.ones(2)), "holds no state dict"),
        (_saved({"epoch": 3}), "holds no state dict"),
        (_saved({"w": torch.eye(2).to_sparse()}), "'w' is no plain tensor"),
        (_saved({"w": torch.ones(2, dtype=torch.complex64)}), "'w' is no plain tensor"),
        (_saved({"w": torch.ones(2, device="meta")}), "'w' is no plain tensor"),
        (_saved({"w": torch.ones(1).expand(10**12)}), "'w' is no plain tensor"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path, content, message):
    assert message in _refusal(_file(tmp_path, content))


@pytest.mark.parametrize("cut", [4, 20, -3])
def test_damaged_safetensors_are_refused(tmp_path, cut):
    path = tmp_path / "model.safetensors"
    write_weights(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:cut])
    assert "is no whole safetensors file" in _refusal(path)


def test_missing_files_folders_and_unusable_names_are_refused(tmp_path):
    assert "does not exist" in _refusal(tmp_path / "model.pt")
    assert "is a folder" in _refusal(tmp_path)
    with pytest.raises(InputError, match="is no file name"):
        read_weights(tmp_path / "a\0b.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": TENSORS, "extra": x}])
def test_planted_pickles_run_nothing(tmp_path, legacy, wrap):
    marker = tmp_path / "executed"
    path = _file(tmp_path, _saved(wrap(Planted(marker)), legacy))
    message = _refusal(path)
    assert "wants to call posix.mkdir" in message and "python -c" not in message
    assert not marker.exists()
    # The plant is live: what reads pickles does run it.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_bare_malicious_pickle_runs_nothing(tmp_path):
    marker = tmp_path / "executed"
    _refusal(_file(tmp_path, pickle.dumps(Planted(marker))))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (nn.Linear(2, 3), "torch.nn.modules.linear.Linear"),
        ({"net": nn.Linear(2, 3), "epoch": 1}, "torch.nn.modules.linear.Linear"),
        (
            {"state_dict": nn.Linear(2, 3).state_dict(), "args": argparse.Namespace(lr=0.1)},
            "argparse.Namespace",
        ),
    ],
)
def test_object_checkpoints_are_refused_with_the_command_that_converts_them(
    tmp_path, content, needed
):
    path = _file(tmp_path, _saved(content), "it's a model.pt")
    message = _refusal(path)
    assert f"needs pickled objects ({needed})" in message
    python, _, code = shlex.split(message[message.index("python -c") :])
    assert python == "python"
    exec(code, {})
    tensors, _ = read_weights(tmp_path / "it's a model-weights.pt")
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {"weight": (3, 2), "bias": (3,)}


def test_the_converted_file_keeps_every_set_of_weights(tmp_path):
    both = {"state_dict_ema": nn.Linear(2, 3), "model": {"teacher": nn.Linear(2, 3).state_dict()}}
    path = _file(tmp_path, _saved({**both, "args": argparse.Namespace(lr=0.1)}))
    _refusal(path)
    exec(shlex.split(conversion_command(path))[2], {})
    for what in ("state_dict_ema", "model.teacher"):
        assert read_checkpoint(tmp_path / "model-weights.pt", what).tensors["bias"].shape == (3,)


def test_the_command_can_be_pasted_into_a_shell(tmp_path):
    path = _file(tmp_path, _saved(nn.Linear(1, 1)), "a $(touch x) `touch y`'\".pt")
    command = conversion_command(path).replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, timeout=60, cwd=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, f"{path.stem}-weights.pt"}


def _pickle_inside(archive, change):
    """The archive of torch.save with its pickle changed, checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return out.getvalue()


SEEDS = (_saved(TENSORS), _saved(TENSORS, legacy=True))
SPLICES = st.tuples(st.integers(0, 4000), st.integers(0, 8), st.binary(max_size=8))


def _splice(content, splices):
    for place, length, put in splices:
        place %= len(content) + 1
        content = content[:place] + put + content[place + length :]
    return content


DAMAGED = st.one_of(
    st.binary(max_size=200),
    st.builds(
        bytes.__add__,
        st.sampled_from([b"PK\x03\x04", b"\x80\x02", SEEDS[1][:14]]),
        st.binary(max_size=100),
    ),
    st.builds(_splice, st.sampled_from(SEEDS), st.lists(SPLICES, min_size=1, max_size=4)),
    st.lists(SPLICES, min_size=1, max_size=4).map(
        lambda splices: _pickle_inside(SEEDS[0], lambda content: _splice(content, splices))
    ),
)


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=DAMAGED, suffix=st.sampled_from([".pt", ".safetensors"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, suffix):
    path = _file(tmp_path, content, f"model{suffix}")
    try:
        tensors, _ = read_weights(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(not t.is_floating_point() or t.dtype is torch.float32 for t in tensors.values())
