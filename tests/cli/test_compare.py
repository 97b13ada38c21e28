"""`robench compare`: exit codes, stdout and stderr apart."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robench.cli.compare import compare
from robench.core.errors import InputError

RECORDS = Path(__file__).parents[2] / "leaderboards" / "records" / "cifar10"
NATURAL = RECORDS / "natural-resnet18"

app = typer.Typer(rich_markup_mode=None)
app.command("compare")(compare)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The records of natural-resnet18 under ROBENCH_HOME/records."""
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path))
    shutil.copytree(NATURAL, tmp_path / "records" / "cifar10" / "natural-resnet18")
    return tmp_path


def test_the_natural_network_against_the_paper():
    result = run("natural-resnet18", "--with", "paper", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    placements = {p["attack"]: p for p in json.loads(result.stdout)["comparisons"]}
    assert set(placements) == {"fgsm", "pgd_sat", "pgd_trades", "cw_inf", "autoattack"}
    # Table 3, CIFAR-10, ResNet-18: ten methods; natural 94.57 / 0, SAT 84.20 / 45.95.
    place = placements["pgd_sat"]["place"]
    assert place["robust"] == {"best": 10, "worst": 10, "of": 11}
    assert (place["next_above"], place["next_below"]) == ("sat", "natural")
    rows = {row["name"]: row for row in placements["pgd_sat"]["rows"]}
    assert rows["natural"]["clean_difference"]["value"] == pytest.approx(0.937 - 0.9457)
    assert rows["sat"]["robust_difference"]["value"] == pytest.approx(-0.4595)
    # FGSM: 17.2 % of 1,000 images, 95 % [15.0, 19.7]; the natural network of Table 3 has 18.60.
    assert placements["fgsm"]["place"]["robust"] == {"best": 10, "worst": 11, "of": 11}


def test_the_natural_network_against_robustbench():
    result = run("natural-resnet18", "--with", "robustbench")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "natural-resnet18 beside RobustBench: autoattack on cifar10, linf eps 8/255" in text
    assert "rank 7 of 7 by robust accuracy" in text
    assert "ours is on it." in text


def test_a_narrow_network_is_not_ranked():
    place = RECORDS / "fast-at-resnet18-w32"
    options = ("--with", "paper", "--records", place)
    result = run("fast-at-resnet18-w32", *options, "--format", "md")
    assert result.exit_code == 0
    assert "other size: 11,173,962 parameters" in result.stdout
    assert "Had it been published" not in result.stdout
    found = json.loads(run("fast-at-resnet18-w32", *options, "--json").stdout)["comparisons"]
    assert len(found) >= 5 and all(placement["place"] is None for placement in found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["natural-resnet81", "--with", "paper"], "did you mean 'natural-resnet18'"),
        (["natural-resnet18", "--with", "papr"], "--with takes paper or robustbench, not 'papr'"),
        (["natural-resnet18", "--with", "paper", "--records", "nowhere"], "no records folder"),
        (["natural-resnet18", "--with", "paper", "--format", "csv"], "unknown format 'csv'"),
        (["natural-resnet18", "--with", "paper", "--json", "--format", "md"], "contradict"),
        (["natural-resnet18", "--with", "paper", "--dataset", "cifar"], "did you mean 'cifar10'"),
    ],
)
def test_what_cannot_be_used(arguments, words):
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert result.stdout == ""


def test_no_records_say_what_writes_them(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("mine", "--with", "paper", "--records", tmp_path / "empty")
    assert isinstance(result.exception, InputError)
    assert "robench eval" in str(result.exception)


def test_files_that_are_no_records_are_named(home):
    (home / "records" / "broken.json").write_text("{")
    result = run("natural-resnet18", "--with", "robustbench", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("left out: ")
    assert json.loads(result.stdout)["comparisons"]


def test_help_has_examples():
    assert run("--help").stdout.count("Example: robench compare") == 2


def test_it_loads_no_network_and_no_torch():
    code = (
        "import sys\nfrom robench.cli.main import app\n"
        f"app(['compare', 'natural-resnet18', '--with', 'paper', '--records', {str(NATURAL)!r}], "
        "standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "beside the paper's tables" in done.stdout
