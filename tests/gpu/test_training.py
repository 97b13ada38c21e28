"""Every training method on the pretended GPU: the same steps, runs that stop and go on."""

import contextlib
import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robench.models.prepare import prepare
from robench.models.weights import read_weights
from robench.training import METHODS
from robench.training.checkpoint import BEST_FILE, STATE_FILE
from robench.training.engine import Trainer
from robench.training.images import TrainingImages
from robench.training.plan import build_method, resolve_recipe
from robench.training.sitting import Watcher
from robench.training.teachers import ReadyTeacher
from tests.harness import random_images, small_cnn
from tests.pretend_cuda import Cuda, pretended
from tests.training.conftest import teacher_file, train_part
from tests.training.test_run import StopAt, equal, small, weights

__all__ = ["teacher_file", "train_part"]
BATCH, STEPS = 6, 2


def trainer(method: str, precision: str, device: str) -> Trainer:
    """A tiny student and tiny teachers on random images of 8 x 8, all on the device."""
    changes = [f"batch_size={BATCH}", "inner.steps=2"]
    roles = METHODS.load(method).roles
    recipe = resolve_recipe(
        method,
        dataset="cifar10",
        preset="small",
        changes=changes,
        teachers=[f"{role}=nowhere" for role in roles],
    )
    there = torch.device(device)
    pixels = (random_images(2 * BATCH * STEPS) * 255).round().to(torch.uint8)
    rows = torch.arange(len(pixels))
    images = TrainingImages(pixels.to(there), (rows % 10).to(there), (rows + 100).to(there))
    return Trainer(
        recipe,
        copy.deepcopy(small_cnn()).to(there),
        build_method(recipe),
        {role: teacher(role, precision, there) for role in roles},
        images,
        precision,
    )


def teacher(role: str, precision: str, device: torch.device) -> ReadyTeacher:
    network = small_cnn(seed=len(role)).to(device)
    probe = random_images(4, seed=1).to(device)
    return ReadyTeacher(role, None, prepare(network, probe, precision))  # type: ignore[arg-type]


def steps(run: Trainer) -> tuple[list[Mapping[str, float]], list[Tensor]]:
    """What the first steps are told, and all weights and statistics after them."""
    batches = run.batches(1)[:STEPS]
    told = [run.step(rows, 1, number) for number, rows in enumerate(batches, start=1)]
    return told, [value.detach().cpu() for value in run.learners.state_dict().values()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS.names())
def test_a_step_is_that_of_the_cpu(method: str, precision: str) -> None:
    told, moved = steps(trainer(method, precision, "cpu"))
    with pretended() as cuda:
        run = trainer(method, precision, "cuda:1")
        there, moved_there = steps(run)
        assert {str(p.device) for p in run.learners.parameters()} == {"cuda:1"}
    assert there == told and all(map(torch.equal, moved, moved_there))
    assert cuda.launches > 100


class Noted(nn.Module):
    """Notes in which type it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.seen = small_cnn(), set[torch.dtype]()

    def forward(self, x: Tensor) -> Tensor:
        middle = self.network[0](x)
        self.seen.add(middle.dtype)
        logits: Tensor = self.network[1:](middle)
        return logits


def test_bf16_is_bf16_there(cuda: Cuda) -> None:
    from robench.training.student import TrainingForward

    network = Noted().to("cuda")
    images = random_images(2).to("cuda")
    assert TrainingForward(network, "bf16")(images).dtype == torch.float32
    assert network.seen == {torch.bfloat16}


def test_a_run_that_was_cut_equals_a_whole_one_of_the_cpu(
    tmp_path: Path, teacher_file: Callable[..., Path], train_part: object
) -> None:
    chosen = {"teachers": [f"robust={teacher_file('robust')}"]}
    changes = ["epochs=1", "batch_size=50", "inner.steps=1", "selection.images=20"]
    small("rslad", tmp_path / "whole", *changes, **chosen)
    with pretended():
        for watcher in (Watcher(StopAt(1, 1)), Watcher()):
            with contextlib.suppress(KeyboardInterrupt):
                folder = tmp_path / "cut"
                small("rslad", folder, *changes, watcher=watcher, device="cuda:1", **chosen)
    for name in (STATE_FILE, BEST_FILE):
        assert equal(weights(tmp_path / "whole", name), weights(tmp_path / "cut", name))
    assert "Pretended GPU 1" in (read_weights(tmp_path / "cut" / BEST_FILE)[1]["hardware"])
