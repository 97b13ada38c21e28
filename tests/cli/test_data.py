import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from robench.cli.data import app
from robench.core.errors import InputError, RunError
from robench.data import DATASETS

SAMPLE_DIGEST = "805c390ab79e98df0f4e378a7a43940832e3ba0cc3c5f7a8c1fceb2dcc447d87"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def call(*arguments):
    return CliRunner().invoke(app, arguments)


def test_starting_up_loads_nothing_heavy():
    code = (
        "import robench.cli.data, sys; "
        "sys.exit(', '.join({'numpy', 'torch', 'PIL', 'pooch', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_list_as_json(home):
    rows = json.loads(call("list", "--json").stdout)
    assert [row["name"] for row in rows] == DATASETS.names()
    assert {row["name"]: row["here"] for row in rows} == {
        name: name == "cifar10-sample" for name in DATASETS.names()
    }
    assert rows[0]["path"] == str(home / "data" / "cifar10")
    assert rows[0]["help"] == DATASETS.help("cifar10")


def test_list_for_people():
    lines = call("list").stdout.splitlines()
    assert lines[0].startswith("cifar10         to fetch  60,000 photographs")
    assert lines[1].startswith("cifar10-sample  here      the first 500")


def test_info_as_json():
    facts = json.loads(call("info", "cifar10-sample", "--json").stdout)
    assert facts.pop("path").endswith("data")
    assert facts == {
        "name": "cifar10-sample",
        "base": "cifar10",
        "part": "test",
        "images": 500,
        "classes": 10,
        "shape": [3, 32, 32],
        "digest": SAMPLE_DIGEST,
        "hash_state": "verified",
    }


def test_info_for_people():
    lines = dict(
        line.split(maxsplit=1) for line in call("info", "cifar10-sample").stdout.splitlines()
    )
    assert lines["images"] == "500"
    assert lines["digest"] == SAMPLE_DIGEST


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("info", "cifar10"), InputError, "run `robench data fetch cifar10`"),
        (("info", "cifar1O"), InputError, "did you mean 'cifar10'"),
        (("info", "cifar10-sample", "--part", "train"), InputError, "no part 'train'"),
        (("fetch", "cifar1O"), InputError, "unknown dataset"),
        (("fetch", "cifar100", "--from", "/nowhere"), InputError, "there is no /nowhere"),
    ],
)
def test_errors_are_the_cores_and_stdout_stays_empty(arguments, error, message):
    result = call(*arguments)
    assert type(result.exception) is error
    assert message in str(result.exception)
    assert result.stdout == ""


def test_fetch_of_the_sample_tells_stdout_and_stderr_apart():
    result = call("fetch", "cifar10-sample", "--json")
    assert json.loads(result.stdout)["hash_state"] == "verified"
    assert result.stderr == "cifar10-sample comes with the package\n"


def test_fetch_without_json_leaves_stdout_empty():
    assert call("fetch", "cifar10-sample").stdout == ""


def test_a_host_that_cannot_be_reached_is_a_run_error(monkeypatch, home):
    from robench.data.download import DownloadFailed

    def fail(*_):
        raise DownloadFailed("no answer")

    monkeypatch.setattr("robench.data.fetch.download", fail)
    result = call("fetch", "cifar100", "--json")
    assert type(result.exception) is RunError
    assert "fetch cifar100 --from PATH" in str(result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("fetching https://www.cs.toronto.edu/")


@pytest.mark.parametrize("command", ["list", "fetch", "info"])
def test_help_has_an_example(command):
    assert f"Example: robench data {command}" in call(command, "--help").stdout
