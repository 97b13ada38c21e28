"""`robench export` as a user types it."""

import json

import pytest
from typer.testing import CliRunner

from robench.cli.main import app
from robench.core.errors import InputError

RECORDS = ["--format", "robustbench", "--records", "leaderboards/records"]


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_a_submission_from_the_committed_records(tmp_path):
    out = tmp_path / "Natural2026.json"
    result = run("natural-resnet18", *RECORDS, "--out", out)
    assert result.exit_code == 0, result.output
    fields = json.loads(out.read_text())
    assert (fields["autoattack_acc"], fields["eps"]) == ("0.00", "8/255")
    assert "not yet a submission, which needs all test images" in result.stderr
    assert "to be filled in by hand: link, name, authors, additional_data, venue" in result.stderr
    out.write_text(json.dumps(fields | {"venue": "here"}))
    assert run("natural-resnet18", *RECORDS, "--out", out).exit_code == 0
    assert json.loads(out.read_text())["venue"] == "here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["mine", "--format", "robust", "--out", "a.json"],
            "unknown format 'robust': did you mean",
        ),
        (["mine", *RECORDS, "--out", "a.safetensors"], "expected a name that ends in .json"),
        (["mine", "--out", "a.json"], "expected a name that ends in .safetensors"),
        (["mine", "--records", "x", "--out", "a.safetensors"], "goes with --format robustbench"),
        (["natural-resnet81", *RECORDS, "--out", "a.json"], "did you mean 'natural-resnet18'"),
    ],
)
def test_what_cannot_be_exported(arguments, words):
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
