"""From a method's name to the checkpoint that `robench eval --defense METHOD` finds."""

from collections.abc import Sequence
from pathlib import Path

import torch

from robench.core.errors import InputError, RunError
from robench.core.files import check_writable
from robench.core.folders import runs_folder
from robench.data.evalset import EvalSet
from robench.data.open import base_name, load_evalset
from robench.models.devices import current
from robench.models.passes import out_of_memory
from robench.models.world import own_world
from robench.training.checkpoint import RECIPE_FILE, STATE_FILE
from robench.training.interrupt import deferred_interrupts
from robench.training.plan import differences, read_recipe, resolve_recipe
from robench.training.ranks import Ranks, own_device
from robench.training.recipe import Recipe
from robench.training.sitting import Sitting, Trained, Watcher


def train(
    method: str,
    *,
    dataset: str,
    preset: str = "paper",
    role: str = "student",
    student: str | None = None,
    width: int | None = None,
    recipe: Path | None = None,
    changes: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seed: int | None = None,
    precision: str | None = None,
    device: str = "auto",
    out: Path | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Train a student by a method's recipe, or go on with an interrupted run of it.

    method: a name of `robench list methods`. preset: "paper", "released", "small" or one of the
    method's own. role: "student", or "teacher" for what others distil. recipe: a TOML file over the
    shipped ones. changes: "optimizer.lr=0.05". teachers: "clean=REF". The test part is opened for
    `selection.part=test` only.
    Raises: as `train_recipe` and `plan.resolve_recipe`.
    """
    resolved = resolve_recipe(
        method,
        dataset,
        preset=preset,
        role=role,
        student=student,
        width=width,
        file=recipe,
        changes=changes,
        teachers=teachers,
        seed=seed,
        precision=precision,
    )
    test = test_images(resolved)
    return train_recipe(resolved, out=out, device=device, test=test, watcher=watcher)


def test_images(recipe: Recipe) -> EvalSet | None:
    """The test part where the recipe selects by it; the one place of training that opens it."""
    return load_evalset(recipe.dataset) if recipe.selection.part == "test" else None


def run_folder(recipe: Recipe) -> Path:
    """Where a run goes unless told otherwise: the same command finds it again."""
    width = "" if recipe.student.width is None else f"-w{recipe.student.width}"
    role = "" if recipe.role == "student" else f"-{recipe.role}"
    name = f"{recipe.method}-{recipe.preset}{role}-{recipe.student.arch}{width}-seed{recipe.seed}"
    return runs_folder() / base_name(recipe.dataset) / name


def train_recipe(
    recipe: Recipe,
    *,
    out: Path | None = None,
    device: str = "auto",
    test: EvalSet | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Run the recipe to its end, going on where an interrupted run of it stopped.

    out: folder of the run, None: `run_folder`. test: the test part, which nobody opens here; it is
    needed by `selection.part = "test"` only. Raises: InputError for what cannot be used, or a
    folder that holds a run of another recipe; RunError when a loss is not finite, the memory or
    the disk is full; KeyboardInterrupt after the state is on disk.
    """
    folder = out or run_folder(recipe)
    _refuse_other(folder, recipe)
    where = own_device(device)
    # Deterministic kernels and true float32: what a resumed run is compared with.
    with (
        current(where),
        own_world(),
        Ranks.joined(where) as ranks,
        deferred_interrupts() as interruption,
    ):
        try:
            sitting = Sitting(recipe, folder, where, ranks, test, watcher or Watcher())
            return sitting.to_the_end(interruption)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise RunError(
                f"out of memory with batches of {recipe.batch_size}: the last state is kept; take "
                "a smaller batch_size or student.width, or another device"
            ) from error


def _refuse_other(folder: Path, recipe: Recipe) -> None:
    """Go on only with a run of the same recipe."""
    check_writable(folder)
    started = (folder / STATE_FILE).exists()
    changed = differences(read_recipe(folder / RECIPE_FILE), recipe) if started else []
    if changed:
        raise InputError(
            f"{folder} holds a run of another recipe ({'; '.join(changed)}): give another --out, "
            "or the same settings to go on with it"
        )
