"""Two CPU ranks train as one (T15), and a method that they disagree on is caught."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from robench.core.errors import RunError
from robench.training.methods.bmtard import BMTARD
from robench.training.ranks import Ranks
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
    ranks = Ranks.joined(torch.device("cpu"))
    result = run_steps(ranks)
    try:
        ranks.check_equal("a rank's number", {"rank": ranks.rank})
        result["caught"] = ""
    except RunError as error:
        result["caught"] = str(error)
    result["stop"] = [ranks.any(ranks.rank == 1), ranks.any(False)]
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(result))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "tests.training.test_ranks", str(folder)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=root, env=environment
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


if __name__ == "__main__":
    main(sys.argv[1])
