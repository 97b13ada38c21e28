"""The command line as a process: exit codes, stdout and stderr apart, interruption."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robench.core.record import Record, read_record
from tests.scored import comparable

ROOT = Path(__file__).parents[2]
SMALL = ["--defense", "python:tests.evaluation.planted:build", "--dataset", "cifar10-sample"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "robench", *map(str, arguments)]


def robench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_json_is_alone_on_stdout(tmp_path: Path) -> None:
    done = robench("eval", *SMALL, "--attacks", "fgsm", "--n", 16, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["attack"] == "fgsm" and row["n"] == 16 and row["status"] == "done"
    assert Path(row["record"]).exists()
    for key in ("robust_interval_95", "w_robust_interval_95", "flags", "seconds", "queries"):
        assert key in row


def test_requirements_decide_the_exit_code(tmp_path: Path) -> None:
    base = ("eval", *SMALL, "--attacks", "fgsm", "--n", 16, "--out", tmp_path)
    assert robench(*base, "--require", "w_robust(fgsm) >= 0").returncode == 0
    unmet = robench(*base, "--require", "w_robust(fgsm) > 99%")
    assert unmet.returncode == 1 and "not met" in unmet.stderr and "fgsm" in unmet.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", *SMALL, "--attacks", "pgd_sta"], "did you mean 'pgd_sat'"),
        (["eval", "--defense", "fast-at-resnet18-w3", "--attacks", "fgsm"], "did you mean"),
        (["eval", *SMALL, "--eps", "8"], "did you mean 8/255"),
        (["eval", *SMALL, "--eps", "nan"], "not a finite number"),
        (["eval", *SMALL, "--n", "501"], "500"),
        (["eval", *SMALL, "--require", "w_robust >= 1"], "cannot read requirement"),
        (["eval", *SMALL, "--batch-size", "many"], "expected auto or a number"),
        (["eval", "--attacks", "fgsm"], "--defense"),
        (["eval", *SMALL, "--atacks", "fgsm"], "--atacks"),
        (["verify", "nowhere.json"], "nowhere.json"),
        (["list", "atacks"], "did you mean 'attacks'"),
        (["leaderboard", "--records", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    arguments: list[str], message: str
) -> None:
    done = robench(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout


def test_a_read_only_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("a file where a folder should be")
    done = robench("eval", *SMALL, "--attacks", "fgsm", "--n", 16, "--out", place)
    assert done.returncode == 2 and "--out" in done.stderr


def test_a_failed_attack_is_exit_code_3_and_the_others_are_printed(tmp_path: Path) -> None:
    defense = "python:tests.evaluation.planted:tires"
    done = robench(
        "eval", "--defense", defense, "--dataset", "cifar10-sample", "--n", 96,
        "--attacks", "fgsm,pgd_sat", "--precision", "fp32", "--out", tmp_path, "--json",
    )  # fmt: skip
    rows = {row["attack"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["fgsm"]["status"] == "done" and rows["pgd_sat"]["status"] == "failed"
    assert "too many passes" in rows["pgd_sat"]["reason"] and rows["pgd_sat"]["record"]
    assert done.returncode == 3 and "1 attacks failed" in done.stderr


SLOW = [*SMALL, "--attacks", "pgd_sat[steps=200]", "--n", "96", "--batch-size", "8", "--json"]


def _started(folder: Path, arguments: list[str], *, after: float = 0.0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(*arguments, "--out", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    time.sleep(after)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_is_130_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = _started(tmp_path / "cut", ["eval", *SLOW])
    assert process.stderr is not None and "at most" in process.stderr.readline()  # it has begun
    time.sleep(1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if process.returncode != 0:  # a fast machine may have finished
        assert process.returncode == 130 and "interrupted" in stderr
        assert "Traceback" not in stderr
    for folder in ("cut", "whole"):
        assert robench("eval", *SLOW, "--out", tmp_path / folder).returncode == 0
    cut, whole = (next((tmp_path / f).rglob("*.json")) for f in ("cut", "whole"))
    assert comparable(read_record(cut)) == comparable(read_record(whole))


def _killed_and_whole(folder: Path, command: list[str], kills: list[float]) -> list[Record]:
    """Records of the command killed after so many seconds and run again, and of one in peace."""
    for after in kills:
        process = _started(folder / "cut", command, after=after)
        process.kill()
        process.communicate()
    for name in ("cut", "whole"):
        assert robench(*command, "--out", folder / name).returncode == 0
    return [read_record(next((folder / name).rglob("*.json"))) for name in ("cut", "whole")]


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    kills = [random.Random(0).uniform(3, 12) for _ in range(5)]
    cut, whole = _killed_and_whole(tmp_path, ["eval", *SLOW], kills)
    assert comparable(cut) == comparable(whole)


@pytest.mark.slow
def test_autoattack_of_the_robust_network_killed_three_times_is_the_same(tmp_path: Path) -> None:
    """Product promise 3 on the longest search that there is; about ten minutes on two cores."""
    defense = ["--defense", "fast-at-resnet18-w32", "--dataset", "cifar10-sample", "--n", "64"]
    moments = random.Random()
    kills = [moments.uniform(15, 100) for _ in range(3)]
    cut, whole = _killed_and_whole(tmp_path, ["eval", *defense, "--attacks", "autoattack"], kills)
    assert comparable(cut) == comparable(whole), f"killed after {kills}"
    assert cut.cost.sittings > 1 and whole.status == "done"


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    done = robench("doctor", "--json", ROBENCH_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    findings = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
    assert findings["torch"]["state"] == "ok" and findings["cifar10-sample"]["state"] == "ok"
    assert findings["cifar10"]["state"] == "missing"
    assert findings["cifar10"]["remedy"] == "robench data fetch cifar10"


def test_dry_run_measures_but_judges_nothing(tmp_path: Path) -> None:
    done = robench("eval", *SMALL, "--dry-run", "--json", "--n", 16, "--out", tmp_path)
    cost = json.loads(done.stdout)
    autoattack = 101 + 909 + 1800 + 5001
    assert done.returncode == 0
    assert cost["forward_passes"] == 16 * (1 + 20 + 20 + 30 + autoattack + 5 * 2)
    assert not list(tmp_path.rglob("*.json"))
