"""Part 8: 60 steps of bmtard, killed and resumed; images a second beside the released step."""

import copy
import os
import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks import train_step
from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.running import in_child
from benchmarks.gpu.setting import DEFENSE, Setting
from benchmarks.tf32 import pinned
from robench.core.folders import data_folder
from robench.data.open import load_evalset
from robench.models.passes import resolve_device
from robench.models.weights import read_weights
from robench.numerics.random import BatchDraws
from robench.training.checkpoint import BEST_FILE, HISTORY_FILE, STATE_FILE
from robench.training.history import History
from robench.training.run import train
from robench.training.sitting import Moment, Watcher

CLEAN = "fast-at-early-resnet18-w32"
"""The clean teacher: nothing of the equality hangs on how good it is."""
BATCH = 128


@dataclass(frozen=True)
class Run:
    """How long and wide; killed: (epoch, step) at the end of which the first process dies.

    per_class: images of the training part, so that a part for the selection is left.
    """

    width: int
    killed: tuple[int, int]
    per_class: int
    changes: tuple[str, ...]


FULL = Run(
    width=32,
    killed=(4, 5),
    per_class=1000,
    changes=("epochs=6", "batch_size=40", "inner.steps=5", "selection.images=100"),
)
SMALL = Run(
    width=2,
    killed=(2, 1),
    per_class=6,
    changes=(
        "epochs=2",
        "batch_size=20",
        "inner.steps=1",
        "selection.images=10",
        "selection.every=2",
    ),
)


def run(setting: Setting, notes: Notebook) -> None:
    """Each run in a process of its own: a killed one leaves nothing but its files."""
    chosen = SMALL if setting.pretended else FULL
    _write_train_part(chosen.per_class)
    teachers = _teachers(setting)
    whole, cut = setting.folder / "whole", setting.folder / "cut"
    dead = in_child(partial(_train, setting, chosen, teachers, cut, kill=True))
    notes.claim("killed", f"signal {-dead}", "signal 9", dead == -signal.SIGKILL)
    for folder, name in ((cut, "resumed"), (whole, "uninterrupted")):
        code = in_child(partial(_train, setting, chosen, teachers, folder))
        notes.claim(f"{name} run", f"exit code {code}", "0", code == 0)
    for name in (STATE_FILE, BEST_FILE):
        one, other = (read_weights(folder / name)[0] for folder in (whole, cut))
        apart = [key for key in one if not torch.equal(one[key], other[key])]
        seen = f"{len(apart)} of {len(one)} tensors differ"
        same = not apart and one.keys() == other.keys()
        notes.claim(f"{name}, resumed and not", seen, "none", same)
    if setting.pretended:
        return
    rates = History.read(whole / HISTORY_FILE).numbers("images_per_second")
    notes.figure("bmtard, width 32, batches of 40", f"{max(rates):.0f} images a second")
    in_child(partial(_rates, setting, notes))


def _train(
    setting: Setting, chosen: Run, teachers: list[str], out: Path, kill: bool = False
) -> None:
    def step(moment: Moment) -> None:
        if kill and (moment.epoch, moment.step) == chosen.killed:
            os.kill(os.getpid(), signal.SIGKILL)

    with setting.world(), _student(setting):
        train(
            "bmtard",
            dataset="cifar10",
            preset="small",
            width=chosen.width,
            changes=[*chosen.changes, "selection.attack=fgsm"],
            teachers=teachers,
            device=setting.device,
            out=out,
            watcher=Watcher(step=step),
        )


def _student(setting: Setting) -> AbstractContextManager[object]:
    """The recipe's, or the small network where no listed one is quick enough."""
    if not setting.pretended:
        return nullcontext()
    place = "robench.training.sitting.new_network"
    return mock.patch(place, lambda *_: setting.fresh_network())


def _write_train_part(per_class: int) -> None:
    """The sample as the training part of CIFAR-10, in the folder of this part alone."""
    sample = load_evalset("cifar10-sample")
    places = [np.flatnonzero(sample.labels == label)[:per_class] for label in range(10)]
    chosen = sample.select(sample.ids[np.sort(np.concatenate(places))].tolist())
    folder = data_folder() / "cifar10"
    folder.mkdir(parents=True)
    pixels = chosen.images.reshape(len(chosen), -1)
    rows = np.concatenate([chosen.labels[:, None].astype(np.uint8), pixels], axis=1)
    for number, batch in enumerate(np.array_split(rows, 5), start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(batch.tobytes())


def _teachers(setting: Setting) -> list[str]:
    if not setting.pretended:
        return [f"robust={DEFENSE}", f"clean={CLEAN}"]
    return [f"{role}=python:benchmarks.gpu.setting:small_network" for role in ("robust", "clean")]


def _rates(setting: Setting, notes: Notebook) -> None:
    """Our steps, and the released one where its code is at hand."""
    device, train_part = resolve_device(setting.device), load_evalset("cifar10", "train")
    teachers = {"robust": DEFENSE, "clean": CLEAN}
    draws = BatchDraws(0, train_step.EPOCH)
    batches = train_step.make_batches(train_part, BATCH, 1, draws, device)
    for width in (32, 64):
        peer = setting.peer or Path()
        shared = train_step.Setting(peer, device, width, teachers, train_part, batches)
        sides: list[train_step.Side] = [
            train_step.ours(shared, method, "auto") for method in ("rslad", "bmtard")
        ]
        for tf32 in (False, True) if setting.peer else (False,):
            with pinned(device, tf32) as said:
                released = _released(shared) if setting.peer else []
                contestants = [copy.copy(side) for side in sides] + released
                train_step.contest(contestants, shared, 5)
            for side in contestants:
                seen = f"{side.rate:.0f} images a second; {said}"
                notes.figure(f"width {width}, batches of {BATCH}, {side.label}", seen)
    if setting.peer is None:
        notes.figure("released step", "not run: no --peer, a checkout of zibojia/RSLAD")


def _released(shared: train_step.Setting) -> list[train_step.Side]:
    return [train_step.theirs(shared, name) for name in train_step.FORMATS]
