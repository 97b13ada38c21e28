"""`robench train`: from a method's name to a checkpoint that `robench eval` finds by that name."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robench.cli.options import Device, Json

if TYPE_CHECKING:
    from robench.training.sitting import Moment, Trained, Watcher


def train_command(
    method: Annotated[str, typer.Argument(help="A name of `robench list methods`.")],
    dataset: Annotated[str, typer.Option(help="A data set that has a training part.")],
    preset: Annotated[
        str, typer.Option(help="paper, released (quirks of the authors' code), small, ...")
    ] = "paper",
    role: Annotated[
        str, typer.Option(help="student, or teacher: what the recipes of others distil.")
    ] = "student",
    student: Annotated[
        str | None, typer.Option(help="Architecture; default that of the recipe.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Of the student; default the published one.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the recipe: optimizer.lr=0.05; repeatable."),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=REF: clean=natural-resnet18, robust=FILE; repeatable."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML file over the shipped ones.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and noise.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the networks' passes: auto, fp32 or bf16.")
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default in your runs, by its settings.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole recipe as TOML and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a student; the best epoch's weights are what `--defense METHOD` finds.

    The same command goes on with an interrupted run. Images of the test part are never opened,
    unless --set selection.part=test asks for it.

    Example: robench train bmtard --dataset cifar10 --preset small

    Example: robench train natural --dataset tiny-imagenet --role teacher

    Example: robench train sat --dataset cifar10 --set epochs=30 --set inner.steps=7 --out runs/sat
    """
    from robench.training.plan import recipe_toml, resolve_recipe
    from robench.training.run import test_images, train_recipe

    resolved = resolve_recipe(
        method,
        dataset,
        preset=preset,
        role=role,
        student=student,
        width=width,
        file=recipe,
        changes=set_ or [],
        teachers=teacher or [],
        seed=seed,
        precision=precision,
    )
    if dry_run:
        typer.echo(recipe_toml(resolved), nl=False)
        return
    with _watcher() as watcher:
        trained = train_recipe(
            resolved, out=out, device=device, test=test_images(resolved), watcher=watcher
        )
    if os.environ.get("RANK", "0") == "0":  # of several devices, one speaks
        _print(trained, as_json)


@contextmanager
def _watcher() -> "Iterator[Watcher]":
    """A bar within the epoch on a terminal, a line after each epoch anywhere; on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from robench.training.sitting import Watcher

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def on_step(moment: "Moment") -> None:
            text = (
                f"epoch {moment.epoch}/{moment.epochs} {_numbers({**moment.means, **moment.state})}"
            )
            done = (moment.epoch - 1) * moment.steps + moment.step
            bar.update(task, completed=done, total=moment.epochs * moment.steps, description=text)

        def on_epoch(row: Mapping[str, Any]) -> None:
            speed = f"{row['images_per_second']:.0f} images/s"
            console.print(f"epoch {row['epoch']}: {_numbers(row)}, {speed}", highlight=False)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        yield Watcher(step=on_step, epoch=on_epoch, say=say)


_PERCENT = {
    "train_clean": "train clean",
    "train_adversarial": "adversarial",
    "validation_clean": "held-out clean",
    "validation_robust": "robust",
}
_PAIRS = {"tau": "temperatures", "w": "weights", "entropy": "entropies"}


def _numbers(row: Mapping[str, Any]) -> str:
    """Losses, accuracies and what the method adapts, clean before robust teacher."""
    parts = [f"loss {row['loss']:.4f}"] if "loss" in row else []
    for key, word in _PERCENT.items():
        if row.get(key) is not None:
            parts.append(f"{word} {row[key]:.1%}")
    for prefix, word in _PAIRS.items():
        nat, adv = row.get(f"{prefix}_nat"), row.get(f"{prefix}_adv")
        if nat is not None and adv is not None:
            parts.append(f"{word} {nat:.3f}/{adv:.3f}")
    return ", ".join(parts)


def _print(trained: "Trained", as_json: bool) -> None:
    import json

    recipe, best = trained.recipe, trained.best
    w_robust = (best.clean + best.robust) / 2
    if as_json:
        shown = {
            "method": recipe.method,
            "dataset": recipe.dataset,
            "preset": recipe.preset,
            "label": recipe.label,
            "folder": str(trained.folder),
            "checkpoint": str(trained.checkpoint),
            "selection": recipe.selection.part,
            "best_epoch": best.epoch,
            "epochs": recipe.epochs,
            "clean_accuracy": best.clean,
            "robust_accuracy": best.robust,
            "w_robust": w_robust,
        }
        typer.echo(json.dumps(shown))
        return
    label = f" ({recipe.label})" if recipe.label else ""
    typer.echo(
        f"{recipe.method}{label}: best epoch {best.epoch} of {recipe.epochs}, chosen on the "
        f"{recipe.selection.part} images: clean {best.clean:.1%}, {recipe.selection.attack} "
        f"{best.robust:.1%}, W-Robust {w_robust:.1%}"
    )
    typer.echo(f"{trained.checkpoint}\nnext: robench eval --defense {recipe.method}")
