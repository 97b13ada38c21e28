"""The check of a GPU on a pretended one: every part runs, and none stops or spoils another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from benchmarks.gpu.findings import Finding, Notebook, Part, Report, table
from benchmarks.gpu.running import Task, in_child, run_task
from benchmarks.gpu.setting import Setting
from benchmarks.gpu_check import LIMIT, TASKS, tasks

ROOT = Path(__file__).parents[2]


def command(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PRETEND"}
    environment["OMP_NUM_THREADS"] = "1"
    run = [sys.executable, "-m", "benchmarks.gpu_check", *options]
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_pretended_check_holds_in_every_part(tmp_path: Path) -> None:
    done = command("--pretend", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert report["pretended"] is True
    assert [part["number"] for part in report["parts"]] == list(range(9))
    assert {part["status"] for part in report["parts"]} == {"done"}
    assert all(part["findings"] for part in report["parts"])
    said = (tmp_path / "gpu_check.txt").read_text()
    assert said.strip() in done.stdout
    assert said.startswith("check of a PRETENDED GPU") and said.endswith("everything holds\n")
    assert {path.name for path in tmp_path.iterdir()} == {"gpu_check.json", "gpu_check.txt"}


def test_without_a_gpu_it_says_so_and_stops(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = command("--out", str(tmp_path))
    assert done.returncode == 2 and "device 'cuda' is not there" in done.stdout
    assert len(json.loads((tmp_path / "gpu_check.json").read_text())["parts"]) == 1


def test_its_parent_process_asks_cuda_nothing() -> None:
    """A process that is forked after that cannot use CUDA."""
    source = (
        "import torch\n"
        "def asked(*args): raise SystemExit('CUDA was asked')\n"
        "for name in ('is_available', 'device_count', '_lazy_init', 'is_bf16_supported'):\n"
        "    setattr(torch.cuda, name, asked)\n"
        "import benchmarks.gpu_check\n"
    )
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_its_parts_fit_into_its_time() -> None:
    assert LIMIT < 8 * 60
    longest = max(TASKS, key=lambda task: task.limit)
    # The last one may be cut short by the sum of all, the others never.
    assert longest is TASKS[-1]
    assert sum(task.limit for task in TASKS[:-1]) <= LIMIT
    assert [task.number for task in tasks("4, 2")] == [0, 2, 4]
    with pytest.raises(typer.BadParameter, match="numbers from 0 to 8"):
        tasks("2,9")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cuda", False, tmp_path)


def noted(setting: Setting, notes: Notebook) -> None:
    notes.claim("first", "seen", "asked", True)


def failing(setting: Setting, notes: Notebook) -> None:
    noted(setting, notes)
    raise ValueError("not this one\nand more")


def hanging(setting: Setting, notes: Notebook) -> None:
    noted(setting, notes)
    child = subprocess.Popen(["sleep", "100"])
    (setting.folder / "pid").write_text(str(child.pid))
    time.sleep(100)


def dying(setting: Setting, notes: Notebook) -> None:
    noted(setting, notes)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_fails_says_why_and_keeps_what_it_found(setting: Setting) -> None:
    part = run_task(Task(3, "fails", 50, failing), setting, 100)
    assert (part.status, part.why) == ("failed", "ValueError: not this one")
    assert [finding.what for finding in part.findings] == ["first"]
    killed = run_task(Task(4, "dies", 50, dying), setting, 100)
    assert (killed.status, killed.why) == ("failed", "ended with exit code -9")
    assert killed.findings == part.findings and not killed.sound


def test_a_part_out_of_time_ends_with_all_that_it_started(setting: Setting) -> None:
    part = run_task(Task(3, "hangs", 0.5, hanging), setting, 100)
    assert part.status == "out of time" and len(part.findings) == 1 and part.seconds < 20
    process = Path("/proc") / (setting.folder / "3" / "pid").read_text()
    for _ in range(100):
        if not process.exists() or "(sleep) Z" in (process / "stat").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the part had started runs on")
    late = run_task(Task(5, "late", 50, noted), setting, -1.0)
    assert late.status == "out of time"


def test_a_child_answers_with_its_exit_code() -> None:
    assert in_child(lambda: None) == 0
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGTERM)) == -signal.SIGTERM


def test_the_table_shows_what_does_not_hold(tmp_path: Path) -> None:
    notes = Notebook(tmp_path / "notes")
    notes.claim("equal", "3 differ", "none", False)
    notes.figure("seconds", "1.5")
    with notes.path.open("ab") as file:
        file.write(b'{"what":"cut sho')
    found = notes.read()
    assert found == [
        Finding(what="equal", seen="3 differ", asked="none", holds=False),
        Finding(what="seconds", seen="1.5"),
    ]
    part = Part(number=2, name="two", status="done", seconds=1, limit=5, findings=found)
    fine = Part(number=3, name="three", status="done", seconds=1, limit=5)
    text = table(Report(pretended=False, seconds=2, parts=[part, fine]))
    assert text.startswith("check of a GPU, 2 s")
    assert "DOES NOT  equal: 3 differ  (asked: none)" in text and "look at: 2 two\n" in text
    assert fine.sound and not part.sound
