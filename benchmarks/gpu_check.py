"""The check of a GPU: does it measure what the CPU measures, how fast, and where does it wait?

`python3 -m benchmarks.gpu_check` on a machine with a GPU: no virtual environment and no network, on
the bundled images, in under 8 minutes. Each part runs in a process of its own under a limit of its
own, and none stops another. `--pretend` runs the same parts, small, on the pretended device of the
tests: it shows that they run, and nothing of a GPU. docs/gpu.md says what each part asks.

Exit codes: 0 everything holds, 1 something does not or a part has no end, 2 no GPU.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from benchmarks.gpu import (
    equality,
    launches,
    machine,
    marked_tests,
    memory,
    peers,
    precision,
    repetition,
    training,
)
from benchmarks.gpu.findings import Part, Report, table
from benchmarks.gpu.running import Task, run_task
from benchmarks.gpu.setting import Setting, warm_up

LIMIT = 470.0
"""Seconds in all."""
TASKS = (
    Task(0, "machine", 30, machine.run),
    Task(1, "tests marked gpu", 40, marked_tests.run),
    Task(2, "the GPU against the CPU", 90, equality.run),
    Task(3, "the same again", 80, repetition.run),
    Task(4, "bfloat16 against float32 searches", 40, precision.run),
    Task(6, "launches, syncs, idle share", 45, launches.run, own_world=True),
    Task(7, "passes halved", 40, memory.run),
    Task(8, "training, killed and resumed", 90, training.run, own_world=True),
    # The longest: last, so that it takes what the others have left.
    Task(5, "peers", 170, peers.run),
)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the two files.")] = Path("build/gpu-check"),
    device: Annotated[str, typer.Option(help="cuda, or cuda:1.")] = "cuda",
    pretend: Annotated[
        bool, typer.Option("--pretend", envvar="PRETEND", help="Small, on a device of the tests.")
    ] = False,
    parts: Annotated[
        str | None, typer.Option(help="Numbers with commas; default all. 0 always runs.")
    ] = None,
    peer: Annotated[
        Path | None, typer.Option(help="A checkout of zibojia/RSLAD, for part 8.")
    ] = None,
    limit: Annotated[float, typer.Option(help="Seconds in all.")] = LIMIT,
) -> None:
    """Run the parts, print a table, and leave it with everything in JSON in `out`."""
    chosen = tasks(parts)
    with tempfile.TemporaryDirectory() as folder:
        if pretend:
            warm_up()
        setting = Setting(device, pretend, Path(folder), peer and peer.resolve())
        report = check(chosen, setting, limit)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_check.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    (out / "gpu_check.txt").write_text(table(report))
    typer.echo(table(report))
    no_device = report.parts[0].status != "done"
    raise typer.Exit(2 if no_device else 0 if report.sound else 1)


def tasks(parts: str | None) -> list[Task]:
    """Of "2,4". Raises: typer.BadParameter for anything but numbers of parts."""
    if parts is None:
        return list(TASKS)
    known = {str(task.number) for task in TASKS}
    named = {part.strip() for part in parts.split(",")}
    if not named <= known:
        raise typer.BadParameter(f"--parts {parts!r}: expected numbers from 0 to 8 with commas")
    return [task for task in TASKS if task.number == 0 or str(task.number) in named]


def check(chosen: list[Task], setting: Setting, limit: float) -> Report:
    """Run the tasks in turn; without a device nothing after the first."""
    started = time.monotonic()
    done: list[Part] = []
    for task in chosen:
        typer.echo(f"part {task.number}, {task.name} ...", err=True)
        done.append(run_task(task, setting, limit - (time.monotonic() - started)))
        if task.number == 0 and done[0].status != "done":
            break
    seconds = round(time.monotonic() - started, 1)
    return Report(
        pretended=setting.pretended,
        seconds=seconds,
        parts=sorted(done, key=lambda part: part.number),
    )


if __name__ == "__main__":
    typer.run(main)
