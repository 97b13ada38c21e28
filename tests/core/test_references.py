"""References as text: lists, `#`, and what may be shared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.core.names import split_list
from robench.core.references import (
    names_checkpoint,
    portable,
    portable_record,
    split_references,
    split_weights,
)

LIGHTNING = "epoch=01-val_acc=0.72,val_loss=0.9.ckpt"


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("files", "text", "items"),
    [
        ([LIGHTNING], LIGHTNING, [LIGHTNING]),
        (
            [LIGHTNING],
            f"natural-resnet18, {LIGHTNING} ,b.pt",
            ["natural-resnet18", LIGHTNING, "b.pt"],
        ),
        ([LIGHTNING], f"{LIGHTNING}#ema,natural", [f"{LIGHTNING}#ema", "natural"]),
        ([LIGHTNING], f"file:{LIGHTNING},x", [f"file:{LIGHTNING}", "x"]),
        (["a,b,c.pt", "a,b"], "a,b,c.pt,a,b", ["a,b,c.pt", "a,b"]),
        (["a.pt", "b.pt"], "a.pt#x,b.pt#y", ["a.pt#x", "b.pt#y"]),
        (["odd[1,2.pt"], "odd[1,2.pt,natural", ["odd[1,2.pt", "natural"]),
        ([], LIGHTNING, ["epoch=01-val_acc=0.72", "val_loss=0.9.ckpt"]),
        ([], "rslad[dataset=cifar10,width=16],sat,", ["rslad[dataset=cifar10,width=16]", "sat"]),
    ],
)
def test_an_existing_file_is_not_split_at_its_commas(here, files, text, items):
    for name in files:
        (here / name).touch()
    assert split_references(text) == items


@given(st.text(alphabet="ab[], ", max_size=20))
def test_lists_without_files_are_comma_lists(text):
    try:
        expected = split_list(text)
    except InputError:
        with pytest.raises(InputError, match="brackets do not match"):
            split_references(text)
        return
    assert split_references(text) == expected


@pytest.mark.parametrize(
    ("files", "text", "parts"),
    [
        ([], "x.pt#ema", ("x.pt", "ema")),
        ([], "x.pt", ("x.pt", None)),
        ([], "no-file#ema", ("no-file#ema", None)),
        ([], "a#b.pt#model.ema.", ("a#b.pt", "model.ema.")),
        (["x.pt#ema"], "x.pt#ema", ("x.pt#ema", None)),
        (["x.pt#ema"], "x.pt#ema#raw", ("x.pt#ema", "raw")),
        (["weights"], "weights#raw", ("weights", "raw")),
    ],
)
def test_what_exists_goes_before_the_mark(here, files, text, parts):
    for name in files:
        (here / name).touch()
    assert split_weights(text) == parts


@pytest.mark.parametrize("ref", ["x.pt", "x.pth.tar#ema", "runs/a,b.ckpt#model.ema."])
def test_checkpoints_are_told_by_their_text(ref):
    assert names_checkpoint(ref) and not names_checkpoint(ref.replace(".", "_"))


@pytest.mark.parametrize(
    "ref",
    [
        *("natural-resnet18", "runs/x.pt#ema", "../x.pt", "~/x.pt", "python:a.b:c", "cifar10"),
        *("torchvision:resnet18[weights=x.pt]", "robustbench:cifar10/Linf/Id", "a:b", ""),
    ],
)
def test_what_is_typed_without_an_absolute_path_stays(here, ref):
    assert portable(ref) == ref


def test_absolute_paths_are_told_from_here_or_by_name(here, tmp_path):
    (tmp_path / "x.pt").touch()
    assert portable(str(here / "runs" / "x.pt")) == "runs/x.pt"
    assert portable(f"{here}/runs/x.pt#model.ema") == "runs/x.pt#model.ema"
    assert portable(f"{tmp_path}/x.pt#a/b") == "x.pt#a/b"
    assert portable(str(tmp_path / "photos") + "/") == "photos"
    assert portable(f"file:{tmp_path}/x.pt") == "file:x.pt"
    assert portable(f"torchvision:resnet18[weights={tmp_path}/x.pt]") == (
        "torchvision:resnet18[weights=x.pt]"
    )
    assert portable(r"C:\Users\me\x.pt") == "x.pt"


def test_a_linked_folder_is_the_same_folder(here, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(here)
    assert portable(str(tmp_path / "link" / "x.pt")) == "x.pt"
    (here / "runs").mkdir()
    assert portable(str(tmp_path / "link" / "runs" / "x.pt")) == "runs/x.pt"


def test_a_record_is_told_by_its_last_folders(here, tmp_path):
    assert portable_record(f"{tmp_path}/home/records/cifar10/mine/fgsm-0.json") == (
        "cifar10/mine/fgsm-0.json"
    )
    assert portable_record(f"{here}/records/cifar10/mine/fgsm-0.json") == (
        "records/cifar10/mine/fgsm-0.json"
    )
    assert portable_record("records/fgsm-0.json") == "records/fgsm-0.json"
