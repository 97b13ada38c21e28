"""An image folder with a class list, from `evaluate` to the record and back from it."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import robench
from robench.boards.reproduce import command
from robench.cli.main import app
from robench.core.errors import InputError
from robench.core.record import read_record
from robench.evaluation.estimate import Estimate
from robench.evaluation.kept import images_of
from tests.scored import small_set


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Class folders of one image each: its name says how bright it is."""
    for name, level in (("dark", 0), ("grey", 128), ("light", 255)):
        (tmp_path / "shades" / name).mkdir(parents=True)
        pixels = np.full((4, 4, 3), level, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "shades" / name / "a.png")
    (tmp_path / "order.txt").write_text("light\ndark\ngrey\n")
    return tmp_path / "shades"


class Brightness(nn.Module):
    """Light, dark, grey: the order of the list."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([mean - 0.7, 0.3 - mean, -0.05 + 0 * mean], 1)


def test_a_record_is_measured_again_from_itself(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what lies below here is named from here in records
    said: list[Estimate] = []
    options = {"dataset": str(shades), "out": tmp_path / "out", "precision": "fp32"}
    order = tmp_path / "order.txt"
    listed = {**options, "class_order": order}
    row = robench.evaluate(Brightness(), "fgsm", on_estimate=said.append, **listed).rows[0]
    assert row.clean_accuracy == 1.0
    assert said[0].notes[-1] == "class order of order.txt"
    assert [f.message for f in row.flags if f.name == "class_order"] == ["class order of order.txt"]
    path = Path(row.record or "")
    record = read_record(path)
    assert record.images.class_order == order.name
    assert images_of(record, path).labels.tolist() == [1, 2, 0]
    words = shlex.split(command(record))
    assert words[words.index("--class-order") + 1] == order.name
    sorted_row = robench.evaluate(Brightness(), "fgsm", **options).rows[0]
    assert sorted_row.clean_accuracy == 0.0 and sorted_row.record != row.record
    plain = read_record(Path(sorted_row.record or ""))
    assert plain.images.class_order is None and "--class-order" not in command(plain)


def test_only_image_folders_take_one() -> None:
    with pytest.raises(InputError, match=r"x\.txt is for image folders: small has an order"):
        robench.evaluate(Brightness(), "fgsm", dataset=small_set(4), class_order="x.txt")
    with pytest.raises(InputError, match="for image folders: cifar10-sample has"):
        robench.evaluate(Brightness(), "fgsm", dataset="cifar10-sample", class_order=Path("x.txt"))
    with pytest.raises(InputError, match="for image folders: cifar10"):
        robench.evaluate("fast-at-resnet18-w32", "fgsm", class_order="x.txt", n=1)


@pytest.mark.parametrize("words", [["eval", "--defense"], ["audit"]])
def test_the_commands_hand_it_on(words: list[str]) -> None:
    network = "python:tests.evaluation.planted:build"
    options = ["--dataset", "cifar10-sample", "--class-order", "x.txt"]
    result = CliRunner().invoke(app, [*words, network, *options])
    assert "x.txt is for image folders" in str(result.exception)
