"""Whole small runs on real images: what they leave, how they resume, what they refuse."""

import contextlib
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from robench.core.errors import InputError, RunError
from robench.core.folders import data_folder
from robench.data.evalset import EvalSet
from robench.defenses.reference import load_defense
from robench.models.weights import read_weights
from robench.training import METHODS, sitting
from robench.training.checkpoint import BEST_FILE, HISTORY_FILE, RECIPE_FILE, STATE_FILE
from robench.training.history import History
from robench.training.run import train
from robench.training.sitting import Moment, Trained, Watcher
from tests.evaluation.worlds import WORLDS, state

SMALL = [
    "epochs=2",
    "batch_size=40",
    "inner.steps=2",
    "selection.images=20",
    "selection.attack=fgsm",
]
pytestmark = pytest.mark.usefixtures("train_part")


@pytest.fixture
def teachers(teacher_file: Callable[..., Path]) -> list[str]:
    return [f"clean={teacher_file('clean')}", f"robust={teacher_file('robust')}"]


def small(method: str, out: Path, *changes: str, **options: Any) -> Trained:
    return train(
        method,
        dataset="cifar10",
        preset="small",
        width=4,
        changes=[*SMALL, *changes],
        precision="fp32",
        out=out,
        **options,
    )


def weights(folder: Path, name: str = STATE_FILE) -> dict[str, torch.Tensor]:
    return read_weights(folder / name)[0]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_world_changes_no_weight_and_is_not_changed(tmp_path: Path) -> None:
    small("natural", tmp_path / "plain", "epochs=1")
    with WORLDS["everything"]():
        was = state()
        small("natural", tmp_path / "other", "epochs=1")
        assert state() == was
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "other"))


class StopAt:
    """Asks to stop by a signal at the end of a step, as Ctrl-C does."""

    def __init__(self, epoch: int, step: int, number: int = signal.SIGINT) -> None:
        self.at, self.number = (epoch, step), number

    def __call__(self, moment: Moment) -> None:
        if (moment.epoch, moment.step) == self.at:
            signal.raise_signal(self.number)


def test_a_run_leaves_a_checkpoint_that_is_found_by_its_method(
    tmp_path: Path, teachers: list[str]
) -> None:
    trained = small("bmtard", None, teachers=teachers)  # type: ignore[arg-type]
    assert not (data_folder() / "cifar10" / "test_batch.bin").exists()
    defense = load_defense("bmtard")
    assert defense.source is not None and defense.source["path"] == str(trained.checkpoint)
    assert (defense.architecture, defense.width, defense.dataset) == ("resnet18", 4, "cifar10")
    assert defense.eps == pytest.approx(8 / 255)
    with safe_open(trained.checkpoint, "pt") as file:
        said = file.metadata()
    assert said["method"] == "bmtard" and said["label"] == "small-scale, 2-step"
    told = json.loads(said["teachers"])
    assert told["clean"]["ref"] == "clean.safetensors" and 'ref = "robust' in said["recipe"]
    assert all(set(t) == {"ref", "fingerprint", "architecture", "sha256"} for t in told.values())
    assert str(tmp_path) not in "".join(said.values())  # people share checkpoints
    assert len(said["selection_ids"].split(",")) == 20
    assert 'method = "bmtard"' in said["recipe"]


def test_the_history_has_a_row_an_epoch_and_what_the_figures_need(
    tmp_path: Path, teachers: list[str]
) -> None:
    small("bmtard", tmp_path / "run", teachers=teachers)
    history = History.read(tmp_path / "run" / HISTORY_FILE)
    assert history.epochs == [1, 2]
    needed = (
        "loss loss_nat loss_adv relative_nat relative_adv entropy_nat entropy_adv tau_nat w_nat"
    )
    more = "train_clean train_adversarial validation_clean validation_robust images_per_second"
    for name in f"{needed} {more} knowledge_nat knowledge_adv".split():
        assert all(value == value for value in history.numbers(name)), name


def test_a_run_stopped_twice_and_resumed_equals_an_uninterrupted_one(
    tmp_path: Path, teachers: list[str]
) -> None:
    """T14, by Ctrl-C in the first epoch and SIGTERM in the second."""
    small("bmtard", tmp_path / "whole", teachers=teachers)
    said: list[str] = []
    for stop in (StopAt(1, 2, signal.SIGINT), StopAt(2, 1, signal.SIGTERM), None):
        watcher = Watcher(say=said.append) if stop is None else Watcher(stop, say=said.append)
        with contextlib.suppress(KeyboardInterrupt):
            small("bmtard", tmp_path / "cut", teachers=teachers, watcher=watcher)
    assert said[-2:] == ["going on at epoch 1, step 3", "going on at epoch 2, step 2"]
    for name in (STATE_FILE, BEST_FILE):
        assert equal(weights(tmp_path / "whole", name), weights(tmp_path / "cut", name))
    one, other = (History.read(tmp_path / d / HISTORY_FILE) for d in ("whole", "cut"))
    for a, b in zip(one.rows, other.rows, strict=True):
        for name in a.keys() - {"seconds", "images_per_second"}:
            assert a[name] == b[name], name


def test_another_seed_gives_other_weights_and_the_same_one_the_same(tmp_path: Path) -> None:
    small("natural", tmp_path / "a", "epochs=1")
    small("natural", tmp_path / "b", "epochs=1")
    small("natural", tmp_path / "c", "epochs=1", seed=1)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_trains(tmp_path: Path, method: str, teachers: list[str]) -> None:
    roles = METHODS.load(method).roles
    chosen = [text for text in teachers if text.partition("=")[0] in roles]
    changes = ["epochs=1", "batch_size=100", "inner.steps=1"]
    shown: list[Moment] = []
    watcher = Watcher(step=shown.append)
    trained = small(method, tmp_path / "run", *changes, teachers=chosen, watcher=watcher)
    for moment in shown:  # a bar prints them as numbers, and a list for each class is none
        assert all(isinstance(n, float) for n in (*moment.means.values(), *moment.state.values()))
    assert shown
    assert math.isfinite(float(str(trained.last["loss"]))) and trained.best.epoch == 1


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = small("natural", tmp_path / "run")
    stamp = (tmp_path / "run" / STATE_FILE).stat().st_mtime_ns
    said: list[str] = []
    again = small("natural", tmp_path / "run", watcher=Watcher(say=said.append))
    assert again.best == first.best and again.last == first.last
    assert (tmp_path / "run" / STATE_FILE).stat().st_mtime_ns == stamp
    assert said == [f"finished before: {tmp_path / 'run'}"]


def test_another_recipe_in_the_same_folder_is_refused_with_the_differences(tmp_path: Path) -> None:
    small("natural", tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe \(.*optimizer\.lr.*0\.7"):
        small("natural", tmp_path / "run", "optimizer.lr=0.7")


def test_a_full_disk_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        small("natural", tmp_path / "run", watcher=Watcher(step=StopAt(1, 2)))
    kept = weights(tmp_path / "run")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(RunError, match="no space left on the disk"):
            small("natural", tmp_path / "run")
    assert equal(weights(tmp_path / "run"), kept)
    assert small("natural", tmp_path / "run").best.epoch in (1, 2)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        small("natural", tmp_path / "run", watcher=Watcher(step=StopAt(1, 2)))
    path = tmp_path / "run" / STATE_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"state\.safetensors is no whole safetensors file"):
        small("natural", tmp_path / "run")


def test_a_loss_that_is_no_number_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nat is nan at epoch \d, step \d"):
        small("natural", tmp_path / "run", "optimizer.lr=1e30")
    assert not (tmp_path / "run" / STATE_FILE).exists() or weights(tmp_path / "run")


def test_out_of_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sitting.Trainer, "step", exhausted)
    with pytest.raises(RunError, match="out of memory with batches of 40"):
        small("natural", tmp_path / "run")


def test_teachers_that_do_not_fit_are_refused(
    tmp_path: Path, teacher_file: Callable[..., Path], teachers: list[str]
) -> None:
    """And nothing is left behind that would stand in the way of better ones."""
    wrong = {
        r"has 7 classes, cifar10 has 10": teacher_file("seven", classes=7),
        r"was trained for cifar100": teacher_file("other", dataset="cifar100"),
        r"orders the classes of cifar10 otherwise": teacher_file(
            "turned", dataset="cifar10", class_order="0" * 64
        ),
    }
    for message, path in wrong.items():
        with pytest.raises(InputError, match=message):
            small("bmtard", tmp_path / "run", teachers=[teachers[0], f"robust={path}"])


def test_the_student_cannot_be_its_own_teacher(tmp_path: Path, teachers: list[str]) -> None:
    trained = small("rslad", tmp_path / "run", "epochs=1", teachers=teachers[1:])
    text = (tmp_path / "run" / RECIPE_FILE).read_text()
    (tmp_path / "run" / RECIPE_FILE).write_text(
        text.replace(teachers[1].removeprefix("robust="), str(trained.checkpoint))
    )
    with pytest.raises(InputError, match="is the student of this very run"):
        small("rslad", tmp_path / "run", "epochs=1", teachers=[f"robust={trained.checkpoint}"])


def test_a_poor_teacher_is_said_and_a_better_one_is_not(
    tmp_path: Path, teachers: list[str], train_part: EvalSet
) -> None:
    said: list[str] = []
    watcher = Watcher(say=said.append)
    with pytest.raises(KeyboardInterrupt):
        raise_at_once = Watcher(step=StopAt(1, 1), say=watcher.say)
        small("bmtard", tmp_path / "run", teachers=teachers, watcher=raise_at_once)
    warnings = [text for text in said if text.startswith("warning")]
    assert any("clean accuracy" in text and "worth distilling" in text for text in warnings)
    assert sum(text.startswith("teacher ") for text in said) == 2


def test_selection_by_the_test_part_needs_it_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="robench data fetch cifar10"):
        small("natural", tmp_path / "run", "selection.part=test")
