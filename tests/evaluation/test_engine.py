"""Same verdicts whatever the batch, order, shard or interruption; nothing lost when things fail."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robench.core.errors import InputError, RunError
from robench.core.record import read_record
from robench.evaluation import engine
from robench.evaluation.pace import Progress
from robench.models import passes
from tests.harness import small_cnn
from tests.scored import comparable, score, small_set

PRECISIONS = [
    "fp32",
    pytest.param(
        "bf16",
        marks=pytest.mark.skipif(
            passes.cpu_class() == "other", reason="this CPU has no bfloat16 instructions"
        ),
    ),
]


class Planted(nn.Module):
    """The small network, with something that happens in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def happen(self, x: Tensor) -> None:
        """Overridden."""

    def forward(self, x: Tensor) -> Tensor:
        self.happen(x)
        logits: Tensor = self.network(x)
        return logits


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stop", ["last", "any"])
def test_verdicts_do_not_depend_on_batch_size(tmp_path: Path, precision: str, stop: str) -> None:
    """RNG-1 for whole records: 1, 7 and all images in flight."""
    one, seven, whole = (
        score(
            tmp_path / str(size),
            "cw_inf[steps=10]",
            stop=stop,
            precision=precision,
            batch_size=size,
            eps=4 / 255,
            dataset=small_set(32),
        ).records[0]
        for size in (1, 7, 32)
    )
    assert comparable(one) == comparable(whole)
    assert comparable(seven) == comparable(whole)
    assert 0 < sum(whole.verdicts.survived) < 28
    assert whole.precision == precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_verdicts_do_not_depend_on_order_or_shards(tmp_path: Path, precision: str) -> None:
    whole = score(tmp_path / "whole", precision=precision).records[0]
    images = small_set()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = score(
        tmp_path / "order",
        precision=precision,
        dataset=images.select([int(images.ids[i]) for i in order]),
    ).records[0]
    assert shuffled.verdicts == whole.verdicts
    first = score(tmp_path / "shards", precision=precision, shard="1/2").records[0]
    assert first.status == "partial" and len(first.verdicts) == 32
    second = score(tmp_path / "shards", precision=precision, shard="2/2").records[0]
    assert comparable(second) == comparable(whole)
    assert [p.name for p in (tmp_path / "shards").rglob("*.json")] == [f"pgd_sat-{whole.key}.json"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_verdicts_do_not_depend_on_the_number_of_threads(tmp_path: Path, precision: str) -> None:
    one = score(tmp_path / "one", stop="any", precision=precision).records[0]
    torch.set_num_threads(3)
    try:
        three = score(tmp_path / "three", stop="any", precision=precision).records[0]
        assert torch.get_num_threads() == 3  # the passes' own setting stays in their threads
    finally:
        torch.set_num_threads(1)
    assert three.verdicts == one.verdicts


def test_parts_of_other_hardware_are_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(tmp_path / "strict", shard="1/2")
    first = score(tmp_path / "mixed", shard="1/2", mixed_hardware=True).records[0]
    monkeypatch.setattr(engine, "device_kind", lambda device, precision: f"cpu/other/{precision}")
    with pytest.raises(InputError, match="--mixed-hardware"):
        score(tmp_path / "strict", shard="2/2")
    second = score(tmp_path / "mixed", shard="2/2", mixed_hardware=True).records[0]
    assert first.status == "partial" and second.status == "done"
    assert "mixed_hardware" in {flag.name for flag in second.flags}


def test_a_command_without_shard_takes_over_what_shards_did(tmp_path: Path) -> None:
    whole = score(tmp_path / "whole").records[0]
    score(tmp_path / "parts", shard="2/3")
    assert comparable(score(tmp_path / "parts").records[0]) == comparable(whole)
    assert len(list((tmp_path / "parts").rglob("*.json"))) == 1


@pytest.mark.parametrize("stop", ["last", "any"])
def test_ctrl_c_at_any_pass_keeps_what_is_judged(tmp_path: Path, stop: str) -> None:
    whole = score(tmp_path / "whole", stop=stop, batch_size=16).records[0]
    ticks = 0

    def interrupt(state: Progress) -> None:
        nonlocal ticks
        ticks += 1
        if ticks % 47 == 0:
            raise KeyboardInterrupt

    interruptions = 0
    for _ in range(20):
        try:
            record = score(tmp_path / "cut", stop=stop, batch_size=16, progress=interrupt).records[
                0
            ]
            break
        except KeyboardInterrupt:
            interruptions += 1
            (path,) = (tmp_path / "cut").rglob("*.json")
            partial = read_record(path)
            assert partial.status == "partial"
            settled = dict(zip(whole.verdicts.id, whole.verdicts, strict=True))
            assert all(settled[verdict.id] == verdict for verdict in partial.verdicts)
    assert interruptions >= 1
    assert comparable(record) == comparable(whole)
    assert record.cost.sittings == interruptions + 1 and record.cost.passes_redone > 0


def test_a_report_is_not_made_at_every_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Progress] = []
    often = score(tmp_path / "often", batch_size=16, progress=reports.append).records[0]
    made = len(reports)
    monkeypatch.setattr(engine, "REPORT_SECONDS", 3600.0)
    seldom = score(tmp_path / "seldom", batch_size=16, progress=reports.append).records[0]
    assert 0 < len(reports) - made < made / 2
    assert comparable(seldom) == comparable(often)


def test_a_finished_record_is_read_not_measured(tmp_path: Path) -> None:
    class Counting(Planted):
        searched = 0

        def happen(self, x: Tensor) -> None:
            Counting.searched += int(x.requires_grad)

    model = Counting()
    first = score(tmp_path, model=model)
    seen = Counting.searched
    again = score(tmp_path, model=model)
    assert again.rows[0].robust_accuracy == first.rows[0].robust_accuracy
    assert again.records[0].cost.sittings == 1
    # Preparation and its check may differentiate once more; 20 steps over 64 images may not.
    assert Counting.searched - seen < 6


def test_a_record_of_another_computation_is_refused(tmp_path: Path) -> None:
    class Drifts(Planted):
        shift = 0.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + Drifts.shift

    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, model=Drifts(), batch_size=16, progress=_stop_after(30))
    Drifts.shift = 1e-6  # the same fingerprint, other logits: as another library version would give
    with pytest.raises(InputError, match="logits differ"):
        score(tmp_path, model=Drifts(), batch_size=16)


def _stop_after(ticks: int):
    left = [ticks]

    def progress(state: Progress) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return progress


def test_out_of_memory_halves_the_passes_and_says_so(tmp_path: Path) -> None:
    class Small(Planted):
        def happen(self, x: Tensor) -> None:
            if len(x) > 8 and x.requires_grad and Small.armed:
                raise torch.OutOfMemoryError("no room")

    Small.armed = False
    roomy = score(tmp_path / "roomy", model=Small()).records[0]

    class Arm(Small):
        pass

    def arm(state: Progress) -> None:
        Small.armed = True

    record = score(tmp_path / "tight", "fgsm,pgd_sat", model=Small(), progress=arm).records[1]
    assert record.status == "done" and record.pass_shape.search == 8
    assert "pass_shape_halved" in {flag.name for flag in record.flags}
    assert record.verdicts.survived == roomy.verdicts.survived


def test_a_defense_that_fails_midway_loses_nothing(tmp_path: Path) -> None:
    class Breaks(Planted):
        calls = 0
        armed = False

        def happen(self, x: Tensor) -> None:
            Breaks.calls += int(x.requires_grad)
            if Breaks.armed and Breaks.calls > 50:
                raise ValueError("the network fell over")

    Breaks.armed = True
    result = score(tmp_path, "pgd_sat,fgsm", model=Breaks(), batch_size=16)
    row = result.row("pgd_sat")
    assert row.status == "failed" and "fell over" in (row.reason or "")
    assert 16 <= row.n < 64
    Breaks.armed = False
    after = score(tmp_path, "pgd_sat,fgsm", model=Breaks(), batch_size=16)
    assert [row.status for row in after.rows] == ["done"] * 3
    plain = score(tmp_path / "plain", "pgd_sat", model=Breaks()).records[0]
    assert after.records[0].verdicts == plain.verdicts


def test_a_full_disk_is_one_line_and_keeps_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, batch_size=16, progress=_stop_after(30))
    (path,) = tmp_path.rglob("*.json")
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        row = score(tmp_path, batch_size=16).rows[0]
    assert row.status == "failed" and "no space left" in (row.reason or "")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert score(tmp_path, batch_size=16).rows[0].status == "done"


def test_nan_on_a_clean_image_is_refused(tmp_path: Path) -> None:
    class Nan(Planted):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.nan

    with pytest.raises(InputError, match="not finite"):
        score(tmp_path, model=Nan())


def test_wrong_number_of_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected \(8, 10\)"):
        score(tmp_path, model=small_cnn(num_classes=7))


def test_attack_of_another_norm_is_not_run(tmp_path: Path) -> None:
    result = score(tmp_path, "fgsm", norm="l2", eps=0.5)
    assert result.rows[0].status == "not_run" and "linf" in (result.rows[0].reason or "")
    assert not result.records


def test_a_defense_that_changes_itself_is_flagged(tmp_path: Path) -> None:
    class Learns(Planted):
        def happen(self, x: Tensor) -> None:
            with torch.no_grad():
                self.network[8].bias.mul_(1.0001)

    flags = {flag.name for flag in score(tmp_path, model=Learns()).rows[0].flags}
    assert "defense_changed" in flags


def test_a_hand_edited_record_is_refused(tmp_path: Path) -> None:
    score(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text().replace("false,false", "false,true", 1))
    with pytest.raises(InputError, match="changed after it was written"):
        score(tmp_path)


def test_run_error_is_the_exit_code_3() -> None:
    assert RunError.exit_code == 3
