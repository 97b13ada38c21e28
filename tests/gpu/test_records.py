"""Records on the pretended GPU: interrupted, resumed, halved, judged again; the second device."""

from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
import torch
from torch import Tensor, nn

from robench.audit.run import audit
from robench.core.record import Record, read_record
from robench.evaluation import engine, target
from robench.evaluation.pace import Progress, Report
from robench.evaluation.reverify import reverify
from robench.evaluation.run import Options, loaded
from tests.audit import planted
from tests.audit.conftest import Budget
from tests.gpu.short import short
from tests.gpu.test_attacks import measured, same
from tests.harness import small_cnn
from tests.pretend_cuda import Cuda, pretended
from tests.scored import comparable, score, small_set


@pytest.mark.parametrize("attack", ["pgd_sat", "square", "apgd_t"])
def test_a_run_that_ctrl_c_cut_goes_on_there(
    tmp_path: Path, cuda: Cuda, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    monkeypatch.setattr(engine, "REPORT_SECONDS", 0.0)
    options = {"device": "cuda", "dataset": small_set(12), "batch_size": 4}
    whole = score(tmp_path / "whole", short(attack), **options).records[0]
    left = [4]

    def cut(state: Progress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(tmp_path / "cut", short(attack), progress=cut, **options)
    (path,) = (tmp_path / "cut").rglob("*.json")
    assert read_record(path).status == "partial"
    resumed = score(tmp_path / "cut", short(attack), **options).records[0]
    assert resumed.cost.sittings == 2 and comparable(resumed) == comparable(whole)


def test_the_second_gpu_is_used_and_the_first_left_alone(tmp_path: Path) -> None:
    on_cpu = measured(tmp_path, short("apgd_ce"), "cpu")
    with pretended() as cuda:
        torch.cuda.init()
        first, current = torch.cuda.get_rng_state(0), torch.cuda.current_device()
        there = measured(tmp_path, short("apgd_ce"), "cuda:1")
        assert torch.equal(torch.cuda.get_rng_state(0), first)
        assert torch.cuda.current_device() == current == 0
    assert "cuda/Pretended-GPU-1/" in there.device_kind
    assert there.hardware["gpu"] == "Pretended GPU 1"
    assert cuda.launches and same(there, on_cpu)


def test_a_module_on_another_gpu_is_copied_and_stays_where_it_is(
    tmp_path: Path, cuda: Cuda
) -> None:
    model = small_cnn().to("cuda:0")
    options = {"model": model, "dataset": small_set(12)}
    (record,) = score(tmp_path / "gpu", "fgsm", device="cuda:1", **options).records
    assert {str(p.device) for p in model.parameters()} == {"cuda:0"}
    (on_cpu,) = score(tmp_path / "cpu", "fgsm", device="cpu", **options).records
    # The class of the pretended tensors is code of the network's own: part of what it is.
    record.defense = on_cpu.defense
    assert same(record, on_cpu)


class Anywhere(nn.Module):
    """Asks for "cuda" without saying which, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.ones(1, device="cuda")
        logits: Tensor = self.network(x * scale)
        return logits


def test_code_that_asks_for_any_gpu_gets_the_chosen_one(tmp_path: Path, cuda: Cuda) -> None:
    model = Anywhere().to("cuda:0")
    result = score(tmp_path, "fgsm", model, device="cuda:1", dataset=small_set(12))
    assert result.rows[0].status == "done", result.rows[0].reason


def test_the_normalisation_is_looked_at_on_the_device(tmp_path: Path) -> None:
    """On the CPU the passes of a large network would take minutes."""

    class Where(nn.Module):
        seen: ClassVar[list[str]] = []

        def __init__(self) -> None:
            super().__init__()
            self.network = small_cnn()

        def forward(self, x: Tensor) -> Tensor:
            Where.seen.append(str(x.device))
            logits: Tensor = self.network(x)
            return logits

    with pretended():
        images = small_set(12)
        defense, _ = loaded(Where(), Options(dataset=images))
        ready = target.Target(defense, images, "small", torch.device("cuda", 1), "fp32")
        Where.seen.clear()
        ready.normalization_warning(slice(0, 12))
        assert set(Where.seen) == {"cuda:1"}


class Full(nn.Module):
    """No room for more than two rows; from the first search on, or from the first pass on."""

    armed: ClassVar[bool]  # of the class: copies on the device have it, too

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 2 and Full.armed:
            text = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            raise RuntimeError(text)
        logits: Tensor = self.network(x)
        return logits


@pytest.mark.parametrize("at_once", [False, True])
def test_a_full_gpu_halves_the_passes(
    tmp_path: Path, cuda: Cuda, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    monkeypatch.setattr(engine, "REPORT_SECONDS", 0.0)
    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    Full.armed = at_once

    def arm(state: Progress) -> None:
        Full.armed = True

    record = run_full(tmp_path, arm)
    assert record.pass_shape.search == 2 and len(emptied) == 2
    assert "pass_shape_halved" in {flag.name for flag in record.flags}
    Full.armed = False
    roomy = run_full(tmp_path / "roomy", lambda state: None)
    assert record.verdicts.survived == roomy.verdicts.survived


def run_full(folder: Path, progress: Report) -> Record:
    options = {"device": "cuda", "dataset": small_set(12), "batch_size": 4, "progress": progress}
    (record,) = score(folder, short("pgd_sat"), Full(), **options).records
    assert record.status == "done"
    return record


def test_stored_candidates_are_judged_again_there(tmp_path: Path) -> None:
    measured(tmp_path, short("pgd_sat"), "cpu", save_adversarial=True, model=None)
    reference = "python:tests.evaluation.planted:build"
    options = {"dataset": "cifar10-sample", "n": 12, "save_adversarial": True}
    (row, *_) = score(tmp_path, short("pgd_sat"), reference, **options).rows  # type: ignore[arg-type]
    with pretended():
        found = reverify(Path(str(row.record)), "cuda:1")
    assert found.checked > 0 and not found.differ


def tiny_budget() -> Budget:
    return Budget(
        "tiny",
        images=8,
        steps=4,
        apgd_steps=4,
        targets=2,
        square_queries=8,
        noise=3,
        probes=2,
        pairs=2,
        pair_images=4,
    )


def test_an_audit_finds_there_what_it_finds_on_the_cpu(tmp_path: Path) -> None:
    network = planted.honest()

    def report(device: str) -> object:
        folder = tmp_path / device.replace(":", "")
        options = Options(dataset=planted.images(), out=folder, device=device)
        found = audit(network, budget=tiny_budget(), options=options).report
        assert not [f.reason for f in found.findings if "Error" in str(f.reason)]
        return [msgspec.structs.replace(finding, seconds=0.0) for finding in found.findings]

    on_cpu = report("cpu")
    with pretended():
        assert report("cuda:1") == on_cpu
