"""Parts in processes of their own, each under a limit: one that hangs or dies stops no other."""

import contextlib
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.findings import Notebook, Part
from benchmarks.gpu.setting import Setting

# Forked, so that nothing is imported twice. The parent therefore never asks CUDA anything.
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Task:
    """A part before it has run. limit: seconds. run: writes what it finds into the notebook.

    own_world: it makes its processes and pretended devices itself.
    """

    number: int
    name: str
    limit: float
    run: Callable[[Setting, Notebook], None]
    own_world: bool = False


def run_task(task: Task, setting: Setting, left: float) -> Part:
    """The task in a process of its own, for at most its limit and the seconds that are left."""
    folder = setting.folder / str(task.number)
    folder.mkdir(parents=True)
    notebook, limit = Notebook(folder / "findings.jsonl"), max(0.0, min(task.limit, left))
    own = Setting(setting.device, setting.pretended, folder, setting.peer)
    process = _FORK.Process(target=_child, args=(task, own, notebook))
    started = time.monotonic()
    process.start()
    try:
        process.join(limit)
    finally:  # Ctrl-C too: the part has a process group of its own
        late = process.is_alive()
        _end(process, late)
    part = Part(
        number=task.number,
        name=task.name,
        status="done",
        seconds=round(time.monotonic() - started, 2),
        limit=round(limit, 1),
        findings=notebook.read(),
    )
    if late:
        part.status = "out of time"
    elif process.exitcode:
        part.status, part.why = "failed", _why(folder, process.exitcode)
    return part


def in_child(run: Callable[[], None]) -> int:
    """Run in a fork of this process; its exit code, negative for the signal that ended it."""
    sys.stdout.flush()
    process = _FORK.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _child(task: Task, setting: Setting, notebook: Notebook) -> None:
    os.setsid()  # so that what the part itself starts ends with it
    os.environ["ROBENCH_HOME"] = str(setting.folder / "home")
    try:
        if task.own_world:
            task.run(setting, notebook)
        else:
            with setting.world():
                task.run(setting, notebook)
    except BaseException as error:
        lines = str(error).splitlines() or [""]
        (setting.folder / "why").write_text(f"{type(error).__name__}: {lines[0]}")
        traceback.print_exc()
        sys.exit(1)


def _end(process: multiprocessing.process.BaseProcess, late: bool) -> None:
    """The process, if it still runs, and whatever it has left behind."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):  # nothing of its group is left
        os.killpg(process.pid, signal.SIGKILL)
    if late:
        process.kill()  # it may not have made its group yet
    process.join()


def _why(folder: Path, code: int) -> str:
    path = folder / "why"
    return path.read_text() if path.exists() else f"ended with exit code {code}"
