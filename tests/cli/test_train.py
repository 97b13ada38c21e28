"""`robench train` as a process: what it prints, what it refuses, and what a kill leaves."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from robench.core.folders import data_folder
from robench.data.open import load_evalset
from robench.models.weights import read_weights
from robench.training.checkpoint import BEST_FILE, STATE_FILE
from tests.training.conftest import write_train_part

ROOT = Path(__file__).parents[2]
QUICK = [
    *("--dataset", "cifar10", "--preset", "small", "--width", "4", "--precision", "fp32"),
    *("--set", "epochs=1", "--set", "selection.images=20", "--set", "selection.attack=fgsm"),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose CIFAR-10 has 300 training images and no test part; for slow tests, too."""
    folder = tmp_path / "home"
    monkeypatch.setenv("ROBENCH_HOME", str(folder))
    write_train_part(load_evalset("cifar10-sample").first(300), data_folder() / "cifar10")
    return folder


def robench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_train_then_eval_by_the_methods_name(home: Path) -> None:
    done = robench("train", "sat", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["method"] == "sat" and said["label"] == "small-scale, 5-step"
    assert Path(said["checkpoint"]).is_file() and said["selection"] == "validation"
    assert "epoch 1: loss" in done.stderr and "held-out clean" in done.stderr
    scored = robench(
        *("eval", "--defense", "sat", "--dataset", "cifar10-sample", "--n", 16),
        *("--attacks", "fgsm", "--json"),
    )
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["rows"][0]["defense"] == "sat"
    assert "sat: runs/cifar10/sat-small-resnet18-w4-seed0/best.safetensors, run" in scored.stderr


def test_the_dry_run_prints_a_recipe_that_can_be_given_back(home: Path, tmp_path: Path) -> None:
    printed = robench("train", "bmtard", *QUICK, "--dry-run")
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "mine.toml").write_text(printed.stdout)
    again = robench(
        *("train", "bmtard", "--dataset", "cifar10", "--recipe", tmp_path / "mine.toml"),
        "--dry-run",
    )
    assert again.stdout == printed.stdout
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bmtrad", "--dataset", "cifar10"], "did you mean 'bmtard'"),
        (["sat", "--dataset", "cifar1"], "did you mean"),
        (["sat", "--dataset", "cifar10", "--preset", "smal"], "did you mean 'small'"),
        (["sat", "--dataset", "cifar10", "--set", "optimizer.learning=1"], "optimizer"),
        (["sat", "--dataset", "cifar10", "--set", "epochs=0"], "epochs"),
        (["sat", "--dataset", "cifar10", "--teacher", "clean=x"], "clean"),
        (
            ["bmtard", *QUICK, "--teacher", "clean=natural[role=teacher]"],
            "robench train natural --role teacher --dataset cifar10 makes it",
        ),
        (
            ["bmtard", *QUICK, "--teacher", "robust=fast-at-resnet18"],
            "did you mean",
        ),
        (["sat", "--dataset", "cifar10", "--student", "resnet81"], "did you mean"),
        (["sat", "--dataset", "cifar10", "--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(home: Path, arguments: list[str], message: str) -> None:
    done = robench("train", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_no_training_part_is_said_with_the_remedy(own_home: None) -> None:
    done = robench("train", "sat", "--dataset", "cifar10")
    assert done.returncode == 2 and "robench data fetch cifar10" in done.stderr


@pytest.mark.slow
def test_a_run_killed_three_times_has_the_same_weights(home: Path, tmp_path: Path) -> None:
    """SIGKILL: back to the last state on disk, from there bit for bit as if nothing had been."""
    settings = ["--set", "epochs=6", "--set", "selection.attack=pgd_trades"]
    command = ["train", "fast-at", *QUICK, *settings]
    moments = random.Random()
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "robench", *command, "--out", str(tmp_path / "cut")],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(5, 20))
        process.kill()
        process.wait()
    for name in ("cut", "whole"):
        assert robench(*command, "--out", tmp_path / name).returncode == 0
    for name in (STATE_FILE, BEST_FILE):
        cut, whole = (read_weights(tmp_path / folder / name)[0] for folder in ("cut", "whole"))
        assert cut.keys() == whole.keys()
        assert all(torch.equal(cut[key], whole[key]) for key in cut)
