"""`robench eval`: score defenses under attacks and print their W-Robust table."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robench.cli.options import (
    Arch,
    ClassOrder,
    Device,
    Eps,
    Json,
    Normalize,
    Seed,
    TrainedFor,
    Width,
)
from robench.core.errors import InputError, RequirementNotMet, RunError
from robench.core.flags import check_names
from robench.core.references import split_references
from robench.core.requirement import Requirement
from robench.core.threat import parse_number

if TYPE_CHECKING:
    from robench.evaluation.pace import Progress as State
    from robench.evaluation.result import Result


def evaluate_command(
    defense: Annotated[
        str,
        typer.Option(
            help="Registry name, checkpoint file (FILE#ema: its weights of that name), "
            "python:module:function, robustbench:id, torchvision:name; several split at commas."
        ),
    ],
    attacks: Annotated[
        str, typer.Option(help="Attacks or groups; pgd_sat[steps=50] sets a parameter.")
    ] = "white-box",
    dataset: TrainedFor = None,
    class_order: ClassOrder = None,
    n: Annotated[int | None, typer.Option(help="First n test images; default all.")] = None,
    images: Annotated[str | None, typer.Option(help="Image ids instead: 0-99,512.")] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Eps = None,
    stop: Annotated[
        str | None, typer.Option(help="last: judge the final iterate; any: every believed hit.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of searches: auto, fp32 or bf16.")] = "auto",
    device: Device = "auto",
    batch_size: Annotated[str, typer.Option(help="Images in flight; no verdict depends on it.")] = (
        "auto"
    ),
    seed: Seed = 0,
    arch: Arch = None,
    width: Width = None,
    normalize: Normalize = None,
    shard: Annotated[str | None, typer.Option(help="i/k: every k-th image from the i-th.")] = None,
    mixed_hardware: Annotated[
        bool, typer.Option("--mixed-hardware", help="Let shards of other hardware join in.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the records.")] = None,
    save_adversarial: Annotated[
        bool, typer.Option("--save-adversarial", help="Keep the candidates beside the record.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="'w_robust(pgd_sat) >= 0.60', else exit code 1. A row with a fail flag meets none."
        ),
    ] = None,
    require_despite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FLAG", help="A fail flag that you looked into: it stops no requirement."
        ),
    ] = None,
    require_confident: Annotated[
        bool, typer.Option("--require-confident", help="Requirements on the interval's end.")
    ] = False,
    surrogate: Annotated[
        str | None,
        typer.Option(help="Networks that transfer attacks are crafted on; several at commas."),
    ] = None,
    pi_adv: Annotated[float, typer.Option(help="Weight of robust accuracy in W-Robust.")] = 0.5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say passes and expected time.")
    ] = False,
    json: Json = False,
) -> None:
    """Score defenses under attacks and print their W-Robust table.

    Examples:

      robench eval --defense fast-at-resnet18-w32 --dataset cifar10-sample --n 128

      robench eval --defense runs/x.safetensors --attacks fgsm,pgd_sat[steps=50] --eps 8/255
    """
    requirements = [Requirement.parse(text) for text in require or []]
    despite = _despite(require_despite or [], requirements)
    if norm not in ("linf", "l2"):
        raise InputError(f"unknown norm {norm!r}: expected linf or l2")
    if stop not in (None, "last", "any"):
        raise InputError(f"unknown stop rule {stop!r}: expected last or any")
    settings: dict[str, object] = {
        "dataset": dataset,
        "class_order": class_order,
        "n": n,
        "images": images,
        "norm": norm,
        "eps": None if eps is None else parse_number(eps),
        "stop": stop,
        "precision": precision,
        "device": device,
        "batch_size": _batch_size(batch_size),
        "seed": seed,
        "arch": arch,
        "width": width,
        "normalize": normalize,
        "shard": shard,
        "mixed_hardware": mixed_hardware,
        "out": out,
        "save_adversarial": save_adversarial,
        "pi_adv": pi_adv,
        "surrogate": surrogate,
    }
    result = _evaluate(split_references(defense), attacks, settings, dry_run, json)
    if not dry_run:
        _print(result, json)
        _exit_code(result, requirements, require_confident, despite)


def _despite(names: list[str], requirements: list[Requirement]) -> list[str]:
    check_names(names)
    if names and not requirements:
        raise InputError(f"--require-despite {names[0]}: there is no --require that it could stop")
    return names


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch-size {text!r}: expected auto or a number from 1 up")
    return int(text)


def _evaluate(
    defenses: list[str], attacks: str, settings: dict[str, object], dry_run: bool, json: bool
) -> "Result":
    import sys

    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    from robench.evaluation.estimate import Estimate
    from robench.evaluation.pace import Progress as State
    from robench.evaluation.run import evaluate

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}
    due = _Due(_LINE_SECONDS)

    def show(state: State) -> None:
        if state.attack not in tasks:
            tasks[state.attack] = bar.add_task(state.attack, total=state.total, text="")
        text = f"{int(state.done)}/{state.total}, {_left(state)}"
        bar.update(tasks[state.attack], completed=state.done, description=state.stage, text=text)
        if not console.is_terminal and due():
            console.print(f"{state.stage}: {text}")

    def on_estimate(cost: Estimate) -> None:
        tasks.clear()
        for note in cost.notes:
            console.print(note, markup=False, highlight=False)
        if cost.read:
            console.print(
                f"read from finished records: {', '.join(cost.read)} (another --out measures again)"
            )
        console.print(
            f"{cost.defense}: {cost.images} images, at most {cost.forward_passes:,} forward and "
            f"{cost.backward_passes:,} backward passes, about {_duration(cost.seconds)}"
        )
        if dry_run and json:
            sys.stdout.write(msgspec.json.encode(cost).decode() + "\n")

    with bar:
        return evaluate(
            defenses,
            attacks,
            progress=show,
            on_estimate=on_estimate,
            dry_run=dry_run,
            **settings,
        )


_LINE_SECONDS = 60.0
"""Between lines of progress where there is no terminal to draw a bar on."""


class _Due:
    """Whether so many seconds have passed since it last said yes."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def _left(state: "State") -> str:
    """The bound so far and the time left, both for the case that no further image breaks."""
    bound = f"robust at most {100 * state.unbroken / max(1, state.total):.1f} %"
    if state.seconds_left is None:
        return bound
    return f"{bound}, at most {_duration(state.seconds_left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print(result: "Result", json: bool) -> None:
    import sys

    from rich.console import Console

    from robench.boards.agreement import agreements
    from robench.boards.terminal import render_rows

    beside = Console(stderr=True)
    for warning in result.warnings:
        beside.print(f"warning: {warning}", style="yellow", markup=False)
    if json:
        sys.stdout.write(result.to_json().decode() + "\n")
    else:
        Console().print(render_rows(list(result.rows)))
    for sentence in agreements(result.records):
        beside.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _exit_code(
    result: "Result", requirements: list[Requirement], confident: bool, despite: list[str]
) -> None:
    failed = [row for row in result.rows if row.status == "failed"]
    if failed:
        named = "; ".join(f"{row.attack}: {row.reason}" for row in failed)
        raise RunError(f"{len(failed)} attacks failed ({named})")
    passed_over = [line for r in requirements for line in r.passed_over(result.rows, despite)]
    for line in dict.fromkeys(passed_over):
        typer.echo(line, err=True)
    unmet = [reason for r in requirements for reason in r.unmet(result.rows, confident, despite)]
    if unmet:
        raise RequirementNotMet("; ".join(unmet))
