"""`robench list`: what there is, from the tables and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robench.attacks import ATTACKS
from robench.boards import FORMATS
from robench.cli import listing
from robench.cli.listing import list_things
from robench.core.errors import InputError
from robench.core.table import Table

app = typer.Typer(rich_markup_mode=None)
app.command("list")(list_things)


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_json_has_name_and_help_of_every_line():
    rows = json.loads(run("attacks", "--json").stdout)
    assert rows == [{"name": name, "help": ATTACKS.help(name)} for name in ATTACKS.names()]
    rows = json.loads(run("formats", "--json").stdout)
    assert [row["name"] for row in rows] == list(FORMATS.lines)


def test_groups_are_shown():
    text = run("attacks").stdout
    for name in ATTACKS.names():
        assert name in text
    for group in ATTACKS.groups():
        assert f"\n{group}: {ATTACKS.group(group)[0]}" in text
    assert "Groups" not in run("datasets").stdout


def test_names_with_brackets_are_kept(monkeypatch):
    lines = {"foolbox:<Class>[steps=20]": ("json:loads", (), "adapter [bold]of[/bold] another")}
    table = Table(kind="attack", lines=lines, entry_point_group="robench.none")
    monkeypatch.setattr(listing, "_table", lambda kind: table)
    assert "foolbox:<Class>[steps=20]  adapter [bold]of[/bold] another" in run("attacks").stdout


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("atacks", "cannot list 'atacks': did you mean 'attacks'? there are"),
        ("attack", "did you mean 'attacks'?"),
        ("zzz", "cannot list 'zzz': there are"),
        ("", "there are"),
    ],
)
def test_other_kinds(kind, words):
    result = run(kind)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert "attacks, datasets" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize("package", ["robench.no_such_package", "bare_folder"])
def test_a_kind_whose_package_is_not_there(monkeypatch, tmp_path, package):
    (tmp_path / "bare_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(listing._TABLES, "methods", f"{package}:METHODS")
    result = run("methods")
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith("cannot list 'methods'")
    assert str(result.exception).count("methods") == 1  # not among the kinds there are


SCRIPT = """
import sys
from robench.cli import listing
for kind, target in listing._TABLES.items():
    if listing._exists(target.partition(":")[0]):
        listing.list_things(kind, as_json=True)
print([name for name in ("torch", "numpy", "pandas", "rich") if name in sys.modules])
"""


def test_every_kind_that_is_there_lists_without_torch():
    root = str(Path(__file__).parents[2])
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert output[-1] == "[]"
    for line in output[:-1]:
        rows = json.loads(line)
        assert rows
        assert all(set(row) == {"name", "help"} and row["help"] for row in rows)
    assert len(output) >= 3
