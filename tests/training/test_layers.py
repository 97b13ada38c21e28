"""Layers: how they merge, how options and files become one, and which of the package's apply."""

from pathlib import Path
from typing import Any

import pytest

from robench.core.errors import InputError
from robench.training import layers
from robench.training.layers import Layer, Shipped


def _merged(*tables: dict[str, Any]) -> dict[str, Any]:
    return layers.merged(Layer("test", table) for table in tables)


def test_tables_merge_key_by_key_and_anything_else_is_replaced() -> None:
    below = {"epochs": 300, "optimizer": {"lr": 0.1, "milestones": [0.5, 0.9]}}
    above = {"optimizer": {"milestones": [0.75]}, "inner": {"steps": 5}}
    assert _merged(below, above) == {
        "epochs": 300,
        "optimizer": {"lr": 0.1, "milestones": [0.75]},
        "inner": {"steps": 5},
    }
    assert below["optimizer"] == {"lr": 0.1, "milestones": [0.5, 0.9]}


def test_another_teacher_or_architecture_drops_what_was_said_of_the_last() -> None:
    known = {"ref": "a", "clean": 0.9, "robust": 0.5}
    assert _merged({"clean": known}, {"clean": {"ref": "b"}}) == {"clean": {"ref": "b"}}
    assert _merged({"clean": known}, {"clean": {"ref": "a"}}) == {"clean": known}
    narrow = {"arch": "resnet18", "width": 16, "normalize": "cifar10"}
    assert _merged(narrow, {"arch": "wrn34_10"}) == {"arch": "wrn34_10", "normalize": "cifar10"}
    assert _merged(narrow, {"arch": "resnet18"}) == narrow


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("epochs=10", {"epochs": 10}),
        ("optimizer.lr = 0.2", {"optimizer": {"lr": 0.2}}),
        ("optimizer.milestones=[0.5,0.9]", {"optimizer": {"milestones": [0.5, 0.9]}}),
        ("augment=false", {"augment": False}),
        ("inner.eps=8/255", {"inner": {"eps": "8/255"}}),
        ("precision=bf16", {"precision": "bf16"}),
        ("label=1979-05-27", {"label": "1979-05-27"}),
        ('label="a=b"', {"label": "a=b"}),
        ("label=1\nepochs=2", {"label": "1\nepochs=2"}),
        ("parameters.beta=2", {"parameters": {"beta": 2}}),
    ],
)
def test_a_change_is_toml_or_else_text(text: str, table: dict[str, Any]) -> None:
    assert layers.changes([text]) == [Layer(f"--set {text}", table)]


def test_what_is_said_of_a_new_teacher_holds_in_either_order() -> None:
    texts = ["teachers.clean.clean=0.8", "teachers.clean.ref=b"]
    old = Layer("old", {"teachers": {"clean": {"ref": "a", "robust": 0.1}}})
    for order in (texts, texts[::-1]):
        new = layers.merged([old, *layers.changes(order)])
        assert new == {"teachers": {"clean": {"ref": "b", "clean": 0.8}}}


@pytest.mark.parametrize("text", ["epochs", "epochs=", "=3", "optimizer.=3", ".lr=3", ""])
def test_a_change_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected KEY=VALUE, as optimizer"):
        layers.changes([text])


def test_what_names_the_run_is_no_change() -> None:
    with pytest.raises(InputError, match="--set dataset=cifar100: dataset names the run"):
        layers.changes(["dataset=cifar100"])


def test_options_say_where_they_came_from() -> None:
    assert layers.options(student="resnet18", width=None, seed=0) == [
        Layer("--student resnet18", {"student": {"arch": "resnet18"}}),
        Layer("--seed 0", {"seed": 0}),
    ]


def test_a_teacher_is_a_role_and_a_reference() -> None:
    assert layers.teachers(["clean=file:a=b.pt"]) == [
        Layer("--teacher clean=file:a=b.pt", {"teachers": {"clean": {"ref": "file:a=b.pt"}}})
    ]
    for wrong in ("clean", "clean=", "=natural-resnet18"):
        with pytest.raises(InputError, match="expected ROLE=REF, as clean=natural-resnet18"):
            layers.teachers([wrong])
    with pytest.raises(InputError, match="the clean teacher is given twice"):
        layers.teachers(["clean=a", "clean=b"])


def test_sections_are_read_from_each_file_in_order() -> None:
    common = {"epochs": 300, "presets": {"small": {"epochs": 10}}}
    own = {"methods": {"sat": {"epochs": 1, "presets": {"mine": {"epochs": 2}}}}}
    files = Shipped([Layer("common", common), Layer("own", own)])
    assert files.at() == [Layer("common", {"epochs": 300}), Layer("own", {})]
    assert files.at("presets", "small") == [Layer("common", {"epochs": 10})]
    assert files.at("methods", "sat") == [Layer("own", {"epochs": 1})]
    assert files.at("methods", "sat", "presets", "mine") == [Layer("own", {"epochs": 2})]
    assert files.presets("sat") == ["paper", "small", "mine"]
    assert files.presets("trades") == ["paper", "small"]


def test_a_data_set_that_is_a_path_reads_no_file_of_ours_or_theirs(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 1")
    for dataset in (str(tmp_path / "mine"), "../recipes/cifar10", "common", "cifar10-sample"):
        assert [file.where for file in layers.shipped(dataset).files] == ["recipes/common.toml"]
    assert [file.where for file in layers.shipped("cifar10").files] == [
        "recipes/common.toml",
        "recipes/cifar10.toml",
    ]


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("epochs =")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    for name, problem in [
        ("broken.toml", "broken.toml is no TOML file: Invalid value"),
        ("binary.toml", "binary.toml is no TOML file"),
        ("none.toml", "cannot read .*none.toml: No such file"),
    ]:
        with pytest.raises(InputError, match=problem):
            layers.read_toml(tmp_path / name)
