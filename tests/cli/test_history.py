"""`robench history`: exit codes, stdout and stderr apart, and nothing written on bad input."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from robench.cli.history import history as command
from robench.core.errors import InputError, RunError
from robench.training.history import History

pytest.importorskip("matplotlib")

app = typer.Typer(rich_markup_mode=None)
app.command("history")(command)

FIGURES = ("total-loss", "relative-losses", "entropies")
FILES = [f"{n}.{s}" for n in FIGURES for s in ("png", "svg")]
TEACHERS = [f"{n}_{t}" for n in ("tau", "w", "entropy", "relative") for t in ("nat", "adv")]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(folder: Path, *, teachers: bool = True, recipe: str = "", epochs: int = 2) -> Path:
    """A run's folder with a history of known figures."""
    columns = ["epoch", "loss", "validation_clean", "validation_robust"]
    history = History([*columns, *(TEACHERS if teachers else [])])
    for epoch in range(1, epochs + 1):
        measured = {"validation_clean": 0.75, "validation_robust": None}
        more = {name: 1.0 + i for i, name in enumerate(TEACHERS)} if teachers else {}
        history.append({"epoch": epoch, "loss": 1 / epoch, **measured, **more})
    history.write(folder / "history.csv")
    if recipe:
        (folder / "recipe.toml").write_text(recipe)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_epoch_and_the_files_are_shown(tmp_path: Path) -> None:
    folder = train(tmp_path / "bmtard")
    result = run(folder)
    assert (result.exit_code, result.stderr) == (0, "")
    heading, _, row, *written = result.stdout.splitlines()
    words = "run epoch loss clean robust tau nat/adv w nat/adv H nat/adv"
    assert " ".join(heading.split()) == words
    assert row.split() == [
        "bmtard", "2", "0.5000", "75.00%", "-", "1.000/2.000", "3.000/4.000", "5.000/6.000"
    ]  # fmt: skip
    assert written == [f"wrote {folder}/figures/{name}" for name in FILES]
    assert names(folder / "figures") == sorted(FILES)


def test_json_is_nothing_but_json(tmp_path: Path) -> None:
    first = train(tmp_path / "a", recipe='method = "bmtard"\nlabel = "small-scale"\n')
    second = train(tmp_path / "b", teachers=False, epochs=3)
    result = run(first, second, "--out", tmp_path / "out", "--format", "svg", "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert list(shown) == ["runs", "figures"]
    assert shown["runs"][1] == {
        "name": "b",
        "path": str(second / "history.csv"),
        "method": "",
        "label": "",
        "epochs": 3,
        "last": {"epoch": 3, "loss": 1 / 3, "validation_clean": 0.75, "validation_robust": None},
    }
    assert [shown["runs"][0][key] for key in ("name", "method", "label", "epochs")] == [
        "a", "bmtard", "small-scale", 2
    ]  # fmt: skip
    assert shown["figures"] == [str(tmp_path / "out" / name) for name in FILES if "svg" in name]
    assert result.stderr.splitlines()[0].startswith("left out: b is not in relative-losses")
    assert ">a (bmtard, small-scale)<" in (tmp_path / "out" / "entropies.svg").read_text()


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    history = History(["epoch", "loss", "lr"])
    history.append({"epoch": 1, "loss": 1.0, "lr": 0.1})
    history.append({"epoch": 2, "loss": math.nan, "lr": math.inf})
    history.write(tmp_path / "x" / "history.csv")
    result = run(tmp_path / "x", "--format", "svg", "--json")
    assert json.loads(result.stdout)["runs"][0]["last"] == {"epoch": 2, "loss": None, "lr": None}
    assert "NaN" not in result.stdout


def test_several_runs_are_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(Path("one"))
    train(Path("two"))
    result = run("one", "two/history.csv", "--format", "svg")
    assert result.exit_code == 0
    assert "wrote figures/entropies.svg" in result.stdout
    assert names(tmp_path) == ["figures", "one", "two"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/s0", "y/s0", "y/s1"], ["x/s0", "y/s0", "s1"]),
        (["x/m/s0", "y/m/s0", "y/n/s0"], ["x/m/s0", "y/m/s0", "n/s0"]),
    ],
)
def test_a_run_is_named_by_as_much_of_its_path_as_it_needs(
    tmp_path: Path, folders: list[str], expected: list[str]
) -> None:
    made = [train(tmp_path / folder, teachers=False) for folder in folders]
    result = run(*made, "--out", tmp_path / "out", "--format", "svg", "--json")
    assert [item["name"] for item in json.loads(result.stdout)["runs"]] == expected
    svg = (tmp_path / "out" / "total-loss.svg").read_text()
    assert all(f">{name}<" in svg for name in expected)


def test_a_file_of_another_name_names_the_run(tmp_path: Path) -> None:
    folder = train(tmp_path / "runs", teachers=False)
    (folder / "history.csv").rename(folder / "mine.csv")
    result = run(folder / "mine.csv", "--format", "svg", "--json")
    assert json.loads(result.stdout)["runs"][0]["name"] == "mine"


@pytest.mark.parametrize(
    ("recipe", "title"),
    [
        ('method = "bmtard"\nlabel = "small-scale, 5-step"', "mine (bmtard, small-scale, 5-step)"),
        ('method = "min"\nlabel = "small"', "mine (small)"),
        ('method = "mtard"\n[student]\nlabel = "no"', "mine (mtard)"),
        ('method = "mine"', "mine"),
    ],
)
def test_the_label_is_said_wherever_the_run_is(tmp_path: Path, recipe: str, title: str) -> None:
    folder = train(tmp_path / "mine", recipe=recipe)
    result = CliRunner().invoke(app, [str(folder), "--format", "svg"], env={"COLUMNS": "200"})
    assert title in result.stdout
    for figure in ("total-loss", "entropies"):
        svg = (folder / "figures" / f"{figure}.svg").read_text()
        assert title in " ".join(re.findall(">([^<>]+)</t", svg))


def bad_inputs(folder: Path) -> dict[str, Path]:
    """Name -> a place that cannot be used."""
    train(folder / "good")
    (folder / "bare").mkdir()
    train(folder / "empty", epochs=0)
    train(folder / "torn")
    text = (folder / "torn" / "history.csv").read_text()
    (folder / "torn" / "history.csv").write_text(text[:-4])
    train(folder / "recipe", recipe="method = ")
    train(folder / "number", recipe="method = 3")
    return {name: folder / name for name in ("gone", *names(folder))}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone"], "no such run: .*gone; expected a folder with history.csv"),
        (["good", "gone"], "no such run"),
        (["bare"], "no history.csv in .*bare: robench train writes it"),
        (["empty"], "history.csv has no rows yet"),
        (["torn"], "history.csv, line 3: cut short"),
        (["recipe"], "cannot read .*recipe.toml: Invalid value"),
        (["number"], "recipe.toml: expected text for method and label"),
        (["good", "good"], "the same run is given twice: .*good"),
        (["good", "--format", "png,jpg"], "unknown figure format 'jpg'"),
        (["good", "--format", ","], "--format is empty"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, arguments: list[str], words: str) -> None:
    places = bad_inputs(tmp_path)
    result = run(*(places.get(a, a) for a in arguments), "--out", tmp_path / "out", "--json")
    with pytest.raises(InputError, match=words):
        raise result.exception or AssertionError("nothing was wrong")
    assert "\n" not in str(result.exception)
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_the_file_and_its_folder_are_the_same_run(tmp_path: Path) -> None:
    folder = train(tmp_path / "a")
    result = run(folder, folder / "history.csv")
    assert isinstance(result.exception, InputError)
    assert "given twice" in str(result.exception)


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(train(tmp_path / "a"))
    assert isinstance(result.exception, InputError)
    assert "pip install 'robench[plot]'" in str(result.exception)
    assert names(tmp_path / "a") == ["history.csv"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(train(tmp_path / "a"), "--out", tmp_path / "file" / "out")
    assert isinstance(result.exception, RunError)
    assert result.stdout == ""


def test_help_has_examples() -> None:
    assert run("--help").stdout.count("Example: robench history") == 2
