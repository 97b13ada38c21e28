"""A search with operators that may differ from run to run says so in its record."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robench.core.record import read_record
from robench.evaluation import engine
from robench.evaluation.pace import Progress
from robench.models.determinism import deterministic_search
from tests.harness import small_cnn
from tests.scored import score


class Unsure(nn.Module):
    """The small network behind an operator that has no deterministic kernel anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
        logits: Tensor = self.network(x)
        return logits


def as_on_a_gpu(device: torch.device) -> AbstractContextManager[list[str]]:
    return deterministic_search(torch.device("cuda", 0))


def test_the_record_names_the_operators_and_keeps_them_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = score(tmp_path / "cpu", model=Unsure()).records[0]
    assert "nondeterministic_search" not in {flag.name for flag in plain.flags}

    def stop_later(state: Progress) -> None:
        if state.done > 32:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "deterministic_search", as_on_a_gpu)
        score(tmp_path / "gpu", model=Unsure(), batch_size=16, progress=stop_later)
    (path,) = (tmp_path / "gpu").rglob("*.json")
    partial = read_record(path)
    (flag,) = [f for f in partial.flags if f.name == "nondeterministic_search"]
    assert partial.status == "partial" and flag.level == "warn" and flag.value == 1
    assert flag.message.startswith("no deterministic kernel on this device for put_:")
    whole = score(tmp_path / "gpu", model=Unsure(), batch_size=16).records[0]
    assert whole.status == "done" and flag in whole.flags
    assert whole.verdicts == plain.verdicts
