"""Two CPU ranks train as one (T15), and a method that they disagree on is caught."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from robench.core.errors import InputError, RunError
from robench.data.open import load_evalset
from robench.training import run
from robench.training.methods.bmtard import BMTARD
from robench.training.ranks import Ranks, own_device
from robench.training.run import train, train_recipe
from robench.training.sitting import Watcher
from tests.pretend_cuda import pretended
from tests.training.conftest import write_train_part
from tests.training.test_engine import recipe, trainer

STEPS = 3


def run_steps(ranks: Ranks) -> dict[str, Any]:
    """Three steps of B-MTARD on batches of 8, and what is left of them."""
    torch.set_num_threads(1)
    method = BMTARD()
    run = trainer(method, recipe("bmtard"), ranks=ranks)
    values = [run.step(rows, 1, n) for n, rows in enumerate(run.batches(1)[:STEPS], start=1)]
    weights = torch.cat([p.detach().flatten() for p in run.network.parameters()])
    adapted = [method.tau_nat, method.tau_adv, method.w_nat, method.w_adv, method.first_nat]
    return {"values": values, "weights": weights.tolist(), "adapted": adapted}


def main(folder: str) -> None:
    with Ranks.joined(torch.device("cpu")) as ranks:
        group = weakref.ref(dist.group.WORLD)
        result = run_steps(ranks)
        try:
            ranks.check_equal("a rank's number", {"rank": ranks.rank})
            result["caught"] = ""
        except RunError as error:
            result["caught"] = str(error)
        result["stop"] = [ranks.any(ranks.rank == 1), ranks.any(False)]
        result["first"] = ranks.from_first(f"said by {ranks.rank}")
        # Inside: a second group in one process can wait for the first one's store.
        result["run"] = whole_run(Path(folder) / "run")
    result["group_left"] = group() is not None
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(result))


def whole_run(out: Path) -> dict[str, Any]:
    """An epoch of real images: scores, and what this rank said."""
    said: list[str] = []
    watcher = Watcher(epoch=lambda row: said.append("epoch"))
    settings = ["epochs=1", "batch_size=50", "selection.images=20", "selection.attack=fgsm"]
    trained = train(
        "natural",
        dataset="cifar10",
        preset="small",
        width=2,
        changes=settings,
        precision="fp32",
        out=out,
        watcher=watcher,
    )
    return {"clean": trained.best.clean, "epoch": trained.best.epoch, "said": said}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "tests.training.test_ranks", str(folder)),
    ]
    write_train_part(load_evalset("cifar10-sample").first(120), folder / "data" / "cifar10")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ROBENCH_HOME": str(folder)}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env=environment,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_both_ranks_decide_the_same_bit_for_bit(two_ranks: list[dict[str, Any]]) -> None:
    first, second = two_ranks
    assert first["adapted"] == second["adapted"]
    assert first["values"] == second["values"]
    assert first["weights"] == second["weights"]


def test_two_ranks_train_as_one(two_ranks: list[dict[str, Any]]) -> None:
    alone = run_steps(Ranks())
    assert two_ranks[0]["adapted"] == pytest.approx(alone["adapted"], abs=1e-6)
    assert two_ranks[0]["weights"] == pytest.approx(alone["weights"], abs=1e-6)
    for got, wanted in zip(two_ranks[0]["values"], alone["values"], strict=True):
        assert got == pytest.approx(wanted, abs=1e-5)


def test_a_disagreement_is_caught_and_one_rank_is_enough_to_stop_all(
    two_ranks: list[dict[str, Any]],
) -> None:
    for result in two_ranks:
        assert "a rank's number differs between devices" in result["caught"]
        assert result["stop"] == [True, False]
        assert result["first"] == "said by 0"


def test_no_group_is_left_to_outlive_python(two_ranks: list[dict[str, Any]]) -> None:
    assert [result["group_left"] for result in two_ranks] == [False, False]


def test_a_whole_run_is_scored_written_and_told_once(
    two_ranks: list[dict[str, Any]],
) -> None:
    first, second = (result["run"] for result in two_ranks)
    assert first["clean"] == second["clean"] and first["epoch"] == second["epoch"] == 1
    assert (first["said"], second["said"]) == (["epoch"], [])


@pytest.mark.parametrize("text", ["auto", "cuda"])
def test_every_process_has_a_gpu_of_its_own_and_no_context_on_another(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the time anything asks for a GPU, the current one is that of this process."""
    seen: list[int] = []

    def asked(*args: object) -> None:
        seen.append(torch.cuda.current_device())

    class Stopped(Exception):
        pass

    def sitting(*args: object) -> None:
        asked()
        raise Stopped

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(dist, "init_process_group", asked)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(run, "Sitting", sitting)
    with pretended() as cuda:
        monkeypatch.setattr(torch.cuda, "init", asked)
        with pytest.raises(Stopped):
            train_recipe(recipe(), out=tmp_path / "run", device=text)
        assert seen == [1, 1, 1] and cuda.current == 0


def test_a_gpu_that_is_named_is_taken_and_one_too_many_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretended():
        assert str(own_device("cuda")) == "cuda:0"
        monkeypatch.setenv("LOCAL_RANK", "2")
        assert [str(own_device(text)) for text in ("cpu", "cuda:1")] == ["cpu", "cuda:1"]
        with pytest.raises(InputError, match="'cuda:2' is not there: 2 CUDA devices"):
            own_device("auto")
    assert str(own_device("auto")) == "cpu" or torch.cuda.is_available()


if __name__ == "__main__":
    main(sys.argv[1])
