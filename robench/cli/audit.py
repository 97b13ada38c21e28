"""`robench audit`: can this number be believed? Gradient-masking tests."""

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
from robench.core.errors import InputError
from robench.core.files import atomic_write, check_writable
from robench.core.names import did_you_mean
from robench.core.threat import parse_number

if TYPE_CHECKING:
    from robench.audit.budget import Budget
    from robench.audit.run import Audit
    from robench.evaluation.run import Options


def audit_command(
    defense: Annotated[str, typer.Argument(help="Registry name, file or python:module:function.")],
    dataset: TrainedFor = None,
    class_order: ClassOrder = None,
    n: Annotated[int | None, typer.Option(help="First n test images; default 64 or 500.")] = None,
    eps: Eps = None,
    budget: Annotated[str, typer.Option(help="quick: minutes; full: an hour or more.")] = "quick",
    surrogate: Annotated[
        str | None, typer.Option(help="Another network, for the transfer test (G9).")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    arch: Arch = None,
    width: Width = None,
    normalize: Normalize = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the records; audit.json goes beside them.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the report here.")] = None,
    json: Json = False,
) -> None:
    """Look for gradient masking: can the robust accuracy of this defense be believed?

    Exit code 0 whatever the label.

    Examples:

      robench audit fast-at-resnet18-w32 --dataset cifar10-sample

      robench audit python:my.defense:build --dataset cifar10 --budget full --markdown audit.md
    """
    if markdown is not None:
        check_writable(markdown.parent)
    from robench.evaluation.run import Options

    options = Options(
        dataset=dataset,
        class_order=class_order,
        n=n,
        eps=None if eps is None else parse_number(eps),
        device=device,
        seed=seed,
        arch=arch,
        width=width,
        normalize=normalize,
        out=out,
    )
    done = _audit(defense, surrogate, _budget(budget), options)
    _print(done, markdown, json)
    if done.report.interrupted:
        raise KeyboardInterrupt


def _budget(name: str) -> "Budget":
    from robench.audit.budget import BUDGETS

    if name not in BUDGETS:
        hint = did_you_mean(name, list(BUDGETS)) or ":"
        raise InputError(f"unknown budget {name!r}{hint} expected {' or '.join(BUDGETS)}")
    return BUDGETS[name]


def _audit(defense: str, surrogate: str | None, budget: "Budget", options: "Options") -> "Audit":
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from robench.audit import TESTS
    from robench.audit.run import audit

    console, names = Console(stderr=True), TESTS.names()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, passed = bar.add_task("loading"), 0

        def watch(test: str, rows: int) -> None:
            nonlocal passed
            passed = passed + rows if rows else 0
            place = f"{names.index(test) + 1}/{len(names)}"
            line = f"{place} {test} {TESTS.help(test)}"
            if not rows and not console.is_terminal:
                console.print(line, markup=False, highlight=False)
            bar.update(task, description=f"{line}: {passed:,} passes")

        return audit(defense, budget=budget, surrogate=surrogate, options=options, watch=watch)


def _print(done: "Audit", markdown: Path | None, json: bool) -> None:
    import sys

    import msgspec
    from rich.console import Console

    from robench.audit.render import markdown as as_markdown
    from robench.audit.render import terminal

    if markdown is not None:
        atomic_write(markdown, as_markdown(done.report).encode())
    if json:
        sys.stdout.write(msgspec.json.encode(done.report).decode() + "\n")
        return
    Console().print(terminal(done.report))
    Console(stderr=True).print(f"written to {done.path}", markup=False, highlight=False)
