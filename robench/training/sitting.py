"""A sitting of a training run: epochs, scores, history and checkpoints around the engine."""

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.data.class_names import class_order
from robench.data.evalset import EvalSet
from robench.data.open import base_name, load_evalset
from robench.models import ARCHITECTURES
from robench.models.build import Architecture
from robench.models.normalize import Normalized
from robench.models.passes import device_kind, hardware, resolve_precision
from robench.training import METHODS
from robench.training.checkpoint import (
    BEST_FILE,
    HISTORY_FILE,
    RECIPE_FILE,
    STATE_FILE,
    Best,
    Progress,
    load_state,
    mark_finished,
    save_best,
    save_state,
)
from robench.training.engine import Trainer
from robench.training.history import EpochMeans, History, Value
from robench.training.images import TrainingImages, split
from robench.training.interrupt import Interruption
from robench.training.method import restore_state, state_of
from robench.training.plan import build_method, portable_recipe, recipe_toml
from robench.training.ranks import Ranks
from robench.training.recipe import Recipe
from robench.training.selection import Score, due, score
from robench.training.student import new_network
from robench.training.teachers import ReadyTeacher, load_teachers, unworthy

SAVE_SECONDS = 300.0
"""Between states within an epoch."""


@dataclass(frozen=True)
class Moment:
    """What a watcher is shown after every step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    means: Mapping[str, float]
    """Of the epoch so far."""
    state: Mapping[str, float]
    """The single numbers of what the method adapts."""


@dataclass(frozen=True)
class Watcher:
    """Who is told how a run goes; each a function that does nothing by default."""

    step: Callable[[Moment], None] = lambda moment: None
    epoch: Callable[[Mapping[str, Value]], None] = lambda row: None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Trained:
    """A finished run: folder, the best weights with their scores, and the last history row."""

    folder: Path
    checkpoint: Path
    best: Best
    recipe: Recipe
    last: Mapping[str, Value]


class Sitting:
    """One run in one folder, from where it stands to its end."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        ranks: Ranks,
        test: EvalSet | None,
        watcher: Watcher,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self.device, self.ranks = device, ranks
        self.watcher = watcher if ranks.first else Watcher()
        self.precision = resolve_precision(recipe.precision, self.device)
        part = load_evalset(recipe.dataset, "train")
        self.adversarial = METHODS.load(recipe.method).adversarial
        self.base, self.order = base_name(recipe.dataset), class_order(part.class_names)
        train, self.selected = _parts(recipe, part, test)
        self.classes = part.num_classes
        method = build_method(recipe)
        self.teachers = load_teachers(
            recipe.teachers,
            train,
            self.base,
            self.order,
            self.device,
            self.precision,
            method.follows,
        )
        self._refuse_own_teacher()
        self.trainer = Trainer(
            recipe,
            new_network(recipe, self.classes).to(self.device),
            method,
            self.teachers,
            TrainingImages.of(train, self.device),
            self.precision,
            self.ranks,
        )
        self.progress = Progress(method=state_of(method))
        self.means = EpochMeans()
        self.history: History | None = None

    @property
    def id(self) -> str:
        """What two runs share only with equal recipes and teachers."""
        prints = [teacher.defense.fingerprint for teacher in self.teachers.values()]
        text = "\n".join([recipe_toml(self.recipe), *prints])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_the_end(self, interruption: Interruption) -> Trained:
        """Every epoch that is left."""
        self._take_up()
        while self.progress.epoch <= self.recipe.epochs:
            self._epoch(interruption)
        best = self.progress.best
        assert best is not None and self.history is not None
        if self.ranks.first:
            mark_finished(self.folder / BEST_FILE)
        return Trained(
            self.folder, self.folder / BEST_FILE, best, self.recipe, self.history.rows[-1]
        )

    def _refuse_own_teacher(self) -> None:
        own = self.folder.resolve()
        for role, teacher in self.teachers.items():
            path = (teacher.defense.source or {}).get("path")
            if path is not None and own in Path(path).resolve().parents:
                raise InputError(
                    f"teacher {role}={teacher.defense.ref} is the student of this very run: give "
                    f"another one with --teacher {role}=REF"
                )

    def _take_up(self) -> None:
        """Go on from the state in the folder, or check the teachers and begin."""
        path = self.folder / STATE_FILE
        if not path.exists():
            if self.ranks.first:
                self._check_teachers()
                atomic_write(self.folder / RECIPE_FILE, recipe_toml(self.recipe).encode())
            return
        self.progress = load_state(path, self.trainer.learners, self.trainer.optimizer)
        restore_state(self.trainer.method, self.progress.method)
        if not self.ranks.first:
            gathered = self.trainer.method.gathered
            nothing = {name: [0.0] * len(self.progress.method[name]) for name in gathered}
            restore_state(self.trainer.method, nothing)
        self.means.restore(self.progress.means)
        if self.progress.epoch > 1:
            self.history = History.read(self.folder / HISTORY_FILE)
            self.history.cut(self.progress.epoch - 1)
        if self.progress.epoch <= self.recipe.epochs:
            self.progress.sittings += 1
            self.watcher.say(
                f"going on at epoch {self.progress.epoch}, step {self.progress.step + 1}"
            )
        else:
            self.watcher.say(f"finished before: {self.folder}")

    def _check_teachers(self) -> None:
        for role, teacher in self.teachers.items():
            attack = self.recipe.selection.attack if role == "robust" else "fgsm"
            reached = score(teacher.defense.model, self.selected, self.recipe, self.device, attack)
            self.watcher.say(_said(role, teacher, reached))
            for warning in unworthy(self.recipe.teachers[role], role, reached, self.classes):
                self.watcher.say(f"warning: {warning}")

    def _epoch(self, interruption: Interruption) -> None:
        epoch, trainer = self.progress.epoch, self.trainer
        started = saved = time.monotonic()
        before = self.progress.seconds
        batches = trainer.batches(epoch)
        for number in range(self.progress.step + 1, len(batches) + 1):
            rows = batches[number - 1]
            self.means.add(trainer.step(rows, epoch, number), len(rows))
            self.progress.step = number
            self.progress.seconds = before + time.monotonic() - started
            self.watcher.step(self._moment(len(batches)))
            stop = self.ranks.any(interruption.asked)
            if stop or self.ranks.any(time.monotonic() - saved > SAVE_SECONDS):
                self._save()
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
        self._close(epoch, len(trainer.images))

    def _moment(self, steps: int) -> Moment:
        return Moment(
            self.progress.epoch,
            self.recipe.epochs,
            self.progress.step,
            steps,
            self.means.means(),
            _single_numbers(state_of(self.trainer.method)),
        )

    def _close(self, epoch: int, images: int) -> None:
        """Milestones, score, history and checkpoints at the end of an epoch."""
        state = state_of(self.trainer.method)  # as the epoch left it
        self.trainer.end_epoch(epoch)
        self.ranks.check_equal("the method's state", state_of(self.trainer.method))
        self.ranks.share_buffers(self.trainer.network)
        scored = self.ranks.first and due(self.recipe, self.trainer.schedule, epoch)
        reached = self.ranks.from_first(self._score() if scored else None)
        self._record(self._row(epoch, images, state, reached))
        if reached is not None:
            self._choose(epoch, reached)
        self.progress.epoch, self.progress.step, self.progress.seconds = epoch + 1, 0, 0.0
        self.means = EpochMeans()
        self._save()

    def _row(
        self, epoch: int, images: int, state: Mapping[str, object], reached: Score | None
    ) -> dict[str, Value]:
        seconds = self.progress.seconds
        return {
            "epoch": epoch,
            "lr": self.trainer.schedule.rate(epoch, self.trainer.steps),
            **self.means.means(),
            **_single_numbers(state),
            "validation_clean": None if reached is None else reached.clean,
            "validation_robust": None if reached is None else reached.robust,
            "validation_w_robust": None if reached is None else reached.w_robust,
            "images_per_second": images / seconds,
            "seconds": seconds,
        }

    def _record(self, row: dict[str, Value]) -> None:
        if self.history is None:
            self.history = History(list(row))
        self.history.append(row)
        if self.ranks.first:
            self.history.write(self.folder / HISTORY_FILE)
        self.watcher.epoch(row)

    def _choose(self, epoch: int, reached: Score) -> None:
        """Keep the weights when they are the best so far; ties go to the earlier epoch."""
        best = self.progress.best
        if best is not None and reached.clean + reached.robust <= best.clean + best.robust:
            return
        self.progress.best = Best(epoch=epoch, clean=reached.clean, robust=reached.robust)
        if self.ranks.first:
            save_best(self.folder / BEST_FILE, self._weights(), self._metadata(self.progress.best))

    def _score(self) -> Score:
        return score(self._evaluated(), self.selected, self.recipe, self.device)

    def _evaluated(self) -> nn.Module:
        """A copy of the student as a reader of the checkpoint gets it."""
        network: nn.Module = copy.deepcopy(self.trainer.network)
        network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return network.eval().requires_grad_(False)

    def _weights(self) -> nn.Module:
        """The network without its normalization, whose constants stand in the metadata."""
        network = self._evaluated()
        return network.network if isinstance(network, Normalized) else network

    def _save(self) -> None:
        state = state_of(self.trainer.method)
        # What each device has gathered so far becomes the first one's, see `_take_up`.
        sums = {name: self.ranks.sum(state[name]) for name in self.trainer.method.gathered}
        self.progress.method = {**state, **sums}
        self.progress.means = self.means.state()
        if self.ranks.first:
            path = self.folder / STATE_FILE
            save_state(path, self.trainer.learners, self.trainer.optimizer, self.progress)

    def _metadata(self, best: Best) -> dict[str, str]:
        """What the checkpoint says of itself; training-methods.md 18."""
        recipe = self.recipe
        architecture: Architecture = ARCHITECTURES.load(recipe.student.arch)
        teachers = {role: teacher.facts for role, teacher in self.teachers.items()}
        return {
            "method": recipe.method,
            "architecture": recipe.student.arch,
            "width": str(recipe.student.width or architecture.width),
            "classes": str(self.classes),
            "dataset": self.base,
            "class_order": self.order,
            "normalization": recipe.student.normalize,
            **({"norm": "linf", "eps": repr(recipe.inner.radius)} if self.adversarial else {}),
            "run": self.id,
            "seed": str(recipe.seed),
            "preset": recipe.preset,
            "role": recipe.role,
            "label": recipe.label,
            "epoch": f"{best.epoch} of {recipe.epochs}",
            "selection": recipe.selection.part,
            "selection_ids": ",".join(map(str, self.selected.ids.tolist())),
            "selection_clean": repr(best.clean),
            "selection_robust": repr(best.robust),
            "teachers": json.dumps(teachers, sort_keys=True),
            "recipe": recipe_toml(portable_recipe(recipe)),
            "device_kind": device_kind(self.device, self.precision),
            "hardware": json.dumps(hardware(self.device), sort_keys=True),
        }


def _parts(recipe: Recipe, part: EvalSet, test: EvalSet | None) -> tuple[EvalSet, EvalSet]:
    """(images to train on, images to choose the best epoch by)."""
    if recipe.selection.part == "validation":
        return split(part, recipe.selection.images)
    if test is None:
        raise InputError(
            "selection.part=test needs the test images: robench.train(..., test=load_evalset(...))"
        )
    return part, test.first(min(recipe.selection.images, len(test)))


def _said(role: str, teacher: ReadyTeacher, reached: Score) -> str:
    where = teacher.defense.ref
    robust = f", robust {reached.robust:.1%}" if role == "robust" else ""
    return f"teacher {role}: {where}, clean {reached.clean:.1%}{robust} on the selection images"


def _single_numbers(state: Mapping[str, object]) -> dict[str, float]:
    """Without the lists, one number for each class: `readings` may show their extremes."""
    return {name: value for name, value in state.items() if isinstance(value, float)}
