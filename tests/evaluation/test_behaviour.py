"""The behaviour probe: defenses that only differ in what cannot be read are told apart."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from robench.boards.collect import collect
from robench.cli.main import app
from robench.core.errors import InputError
from robench.core.record import Behaviour, read_record, write_record
from robench.evaluation.behaviour import NO_GRADIENT, NOT_REPEATED, probe, same
from robench.evaluation.pace import Progress
from robench.evaluation.result import Result
from tests.harness import random_images, small_cnn
from tests.scored import score, small_set

SWITCH = {"gradient": 1.0, "noisy": 0.0}
"""What a compiled extension may hold: no code that is read leads to it."""


class _Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x + _hidden()["noisy"] * (x * 255 - (x * 255).round()).abs()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * _hidden()["gradient"]


class Library:
    """An object of a library, as far as is_own_class can tell."""

    def __call__(self, x: Tensor) -> Tensor:
        return _Opaque.apply(x)  # type: ignore[no-any-return,no-untyped-call]


def _hidden() -> dict[str, float]:
    return SWITCH


Library.__module__ = "torch"


class Behind(nn.Module):
    """The small network behind an operation whose code is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.operation, self.network = Library(), small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.operation(x))  # type: ignore[no-any-return]


class Noisy(nn.Module):
    """Noise on the logits; of the global generator, or of one of its own."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.generator = torch.Generator() if own else None
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        z = self.network(x)
        return z + 1e-3 * torch.randn(z.shape, generator=self.generator)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def switch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the opaque operation does."""

    def turn(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setitem(SWITCH, name, value)

    return turn


def _evaluate(out: Path, attacks: str = "fgsm", **options: Any) -> Result:
    return score(out, attacks, Behind(), dataset=small_set(16), **options)


def _superseded(out: Path) -> list[str]:
    return sorted(path.name for path in out.rglob("*.superseded"))


@pytest.mark.parametrize("changed", [{"gradient": -1.0}, {"gradient": 0.0}, {"noisy": 0.25}])
def test_a_defense_that_behaves_otherwise_is_measured_anew(
    tmp_path: Path, switch: Any, changed: dict[str, float]
) -> None:
    out = tmp_path / "a"
    first = _evaluate(out)
    path = Path(first.rows[0].record or "")
    old = path.read_bytes()
    assert (list(first.read), list(first.warnings)) == ([], [])
    assert list(_evaluate(out).read) == ["fgsm"]

    switch(**changed)
    second = _evaluate(out)
    fresh = _evaluate(tmp_path / "b")
    assert list(second.read) == []
    (line,) = second.warnings
    assert line == (
        "Behind has changed since its record of fgsm: clean logits are equal, noisy logits or "
        "gradients are not; it is measured anew, the old record is kept as "
        f"{path.stem}.superseded"
    )
    assert second.records[0].verdicts == fresh.records[0].verdicts
    assert second.records[0].defense.fingerprint == first.records[0].defense.fingerprint
    assert path.with_suffix(".superseded").read_bytes() == old
    third = _evaluate(out)
    assert (list(third.read), list(third.warnings)) == (["fgsm"], [])
    assert len(collect([out]).found) == 1


def test_two_supersedings_keep_both(tmp_path: Path, switch: Any) -> None:
    for gradient in (1.0, -1.0, 0.5):
        switch(gradient=gradient)
        _evaluate(tmp_path, "pgd_sat[steps=2]")
    first, second = _superseded(tmp_path)
    assert (first.endswith(".2.superseded"), second.count(".")) == (True, 1)
    kept = [tmp_path.rglob(name) for name in (first, second)]
    behaviours = [read_record(path).behaviour for paths in kept for path in paths]
    assert behaviours[0] != behaviours[1]


def test_a_dry_run_renames_nothing(tmp_path: Path, switch: Any) -> None:
    _evaluate(tmp_path)
    switch(gradient=-1.0)
    seen: list[Any] = []
    assert list(_evaluate(tmp_path, dry_run=True, on_estimate=seen.append).read) == []
    assert seen[0].read == () and seen[0].forward_passes > 0
    assert _superseded(tmp_path) == []


def test_parts_go_aside_together_with_their_candidates(tmp_path: Path, switch: Any) -> None:
    for shard in ("1/3", "2/3"):
        _evaluate(tmp_path, shard=shard, save_adversarial=True)
    switch(gradient=-1.0)
    for shard in ("1/3", "2/3", "3/3"):
        last = _evaluate(tmp_path, shard=shard, save_adversarial=True)
        assert len(last.warnings) == (shard == "1/3")
    fresh = _evaluate(tmp_path / "fresh", save_adversarial=True)
    assert last.records[0].status == "done"
    assert last.records[0].verdicts == fresh.records[0].verdicts
    assert [name.split(".", 1)[1] for name in _superseded(tmp_path)] == [
        "adversarial.superseded",
        "shard-1-of-3.superseded",
        "shard-2-of-3.superseded",
    ]


def test_what_was_begun_goes_aside_with_its_progress(tmp_path: Path, switch: Any) -> None:
    def stop(state: Progress) -> None:
        if state.stage != "apgd_ce":
            raise KeyboardInterrupt

    attacks = "autoattack"
    with pytest.raises(KeyboardInterrupt):
        _evaluate(tmp_path, attacks, eps=1 / 255, progress=stop)
    assert [*tmp_path.rglob("*.progress")]
    switch(gradient=-1.0)
    with pytest.raises(KeyboardInterrupt):
        _evaluate(tmp_path, attacks, eps=1 / 255, progress=stop)
    kinds = [name.split(".", 1)[1] for name in _superseded(tmp_path)]
    assert kinds == ["progress.superseded", "superseded"]
    (record,) = (read_record(path) for path in tmp_path.rglob("*.json"))
    assert record.cost.sittings == 1


def test_the_surrogates_own_candidates_go_aside(tmp_path: Path, switch: Any) -> None:
    def transfer(out: str) -> Result:
        reference = "python:tests.evaluation.test_behaviour:Behind"
        options: dict[str, Any] = {"dataset": small_set(16), "surrogate": reference}
        return score(tmp_path / out, "transfer_pgd_trades[steps=2]", small_cnn(seed=1), **options)

    transfer("a")
    switch(gradient=-1.0)
    again = transfer("b")
    assert any("Behind has changed since its record of pgd" in line for line in again.warnings)


def test_other_clean_logits_are_refused_as_before(tmp_path: Path, switch: Any) -> None:
    _evaluate(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    record = read_record(path)
    record.logit_probe = "0" * 64
    write_record(path, record)
    switch(gradient=-1.0)
    with pytest.raises(InputError, match="logits differ from those it was begun with"):
        _evaluate(tmp_path)
    assert _superseded(tmp_path) == []


def test_other_clean_logits_of_another_part_are_not_put_aside(tmp_path: Path, switch: Any) -> None:
    _evaluate(tmp_path, shard="1/2")
    (path,) = tmp_path.rglob("*.json")
    record = read_record(path)
    record.logit_probe = "0" * 64
    write_record(path, record)
    switch(gradient=-1.0)
    with pytest.raises(InputError, match="logits differ from those it was begun with"):
        _evaluate(tmp_path, shard="2/2")
    assert path.exists() and _superseded(tmp_path) == []


def test_a_record_from_before_the_probe_is_read_and_that_is_said(tmp_path: Path) -> None:
    _evaluate(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    record = read_record(path)
    record.behaviour = None
    write_record(path, record)
    again = _evaluate(tmp_path)
    assert list(again.read) == ["fgsm"]
    assert list(again.warnings) == [
        "read for Behind: fgsm: identity by source and clean logits only, the records are older "
        "than the probe"
    ]


def test_noise_under_the_global_generators_is_known_again(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        found = score(tmp_path, "fgsm", Noisy(own=False), dataset=small_set(16))
        assert list(found.read) == (["fgsm"] if seed == 2 else [])
    behaviour = found.records[0].behaviour
    assert behaviour and behaviour.noisy_logits and behaviour.gradients and not behaviour.remarks


def test_a_counter_does_not_make_another_defense(tmp_path: Path) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.passes = small_cnn(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return self.network(x)  # type: ignore[no-any-return]

    network = Counts()
    for time in range(3):
        found = score(tmp_path, "fgsm", network if time < 2 else Counts(), dataset=small_set(16))
        assert list(found.read) == (["fgsm"] if time else [])
    assert "changed by a pass, so no part of its identity: network.passes" in (
        found.records[0].defense.notes
    )


def test_noise_of_its_own_is_left_out_and_said(tmp_path: Path) -> None:
    network = Noisy(own=True)
    for time in range(2):
        found = score(tmp_path, "fgsm", network, dataset=small_set(16))
        assert list(found.read) == (["fgsm"] if time else [])
    assert found.records[0].logit_probe == NOT_REPEATED
    assert list(found.warnings) == [
        "read for Noisy: fgsm: identity as far as can be seen: logits do not repeat under a fixed "
        "seed"
    ]


def test_no_gradient_is_said() -> None:
    class Hard(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :3]

    found = probe(Hard(), random_images(3), 16, True)
    assert (found.gradients, found.remarks) == (None, (NO_GRADIENT,))


def test_a_gradient_that_is_not_finite_can_be_kept_and_is_said(tmp_path: Path) -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small_cnn()

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x) + (x[:1] * 0).sqrt().sum()  # type: ignore[no-any-return]

    for time in range(2):
        found = score(tmp_path, "fgsm", Rooted(), dataset=small_set(16))
        assert list(found.read) == (["fgsm"] if time else [])
    behaviour = found.records[0].behaviour
    assert behaviour and behaviour.remarks == ("gradients are not finite on some images",)
    assert "gradients are not finite" in found.warnings[0]


def test_the_probe_is_of_the_noise_of_every_threat_alike() -> None:
    images, network = random_images(9)[:8], small_cnn()
    found = probe(network, images, 16, True)
    assert found == probe(network, images, 16, True)
    assert found.gradients and [len(row) for row in found.gradients] == [16] * 16
    torch.manual_seed(5)
    assert probe(small_cnn(), images, 16, True) == found


def _behaviour(gradients: list[list[float]] | None, logits: str = "a", *remarks: str) -> Behaviour:
    return Behaviour(logits, gradients, remarks)


def _turned(degrees: float) -> list[list[float]]:
    angle = math.radians(degrees)
    return [[math.cos(angle), math.sin(angle)]] * 2


@pytest.mark.parametrize(
    ("one", "other", "on_cpu", "by_cosine"),
    [
        (_behaviour(_turned(0)), _behaviour(_turned(0)), True, True),
        (_behaviour(_turned(0)), _behaviour(_turned(0), "b"), False, True),
        (_behaviour(_turned(0)), _behaviour(_turned(1e-4)), True, True),
        (_behaviour(_turned(0)), _behaviour(_turned(2)), False, True),
        (_behaviour(_turned(0)), _behaviour(_turned(3)), False, False),
        (_behaviour([[1.0, 0.0]]), _behaviour([[2.0, 0.0]]), False, True),
        (_behaviour([[1.0, 0.0]]), _behaviour([[-1.0, 0.0]]), False, False),
        (_behaviour([[0.0, 0.0]]), _behaviour([[1.0, 0.0]]), False, False),
        (_behaviour([[0.0, 0.0]]), _behaviour([[0.0, 0.0]]), True, True),
        (_behaviour([[1.0]]), _behaviour([[1.0], [1.0]]), False, False),
        (_behaviour(None, "a", NO_GRADIENT), _behaviour(_turned(0)), False, False),
        (_behaviour(None, "a", NO_GRADIENT), _behaviour(None, "a", NO_GRADIENT), True, True),
        (_behaviour(None, "a", NO_GRADIENT), _behaviour(None, "a", "noise"), False, False),
        (_behaviour(None, "a", "noise"), _behaviour(_turned(0)), False, False),
        (_behaviour(None, NOT_REPEATED, "noise"), _behaviour(None, NOT_REPEATED), True, True),
        (_behaviour(_turned(0), NOT_REPEATED), _behaviour(_turned(0)), False, True),
        (None, _behaviour(_turned(0)), True, True),
        (_behaviour(_turned(0)), None, True, True),
    ],
)
def test_when_two_probes_are_of_one_defense(
    one: Behaviour | None, other: Behaviour | None, on_cpu: bool, by_cosine: bool
) -> None:
    assert same(one, other, by_cosine=False) is on_cpu
    assert same(one, other, by_cosine=True) is by_cosine


def test_mixed_hardware_counts_gradients_by_cosine(tmp_path: Path, switch: Any) -> None:
    _evaluate(tmp_path, mixed_hardware=True)
    switch(gradient=2.0)  # the same directions
    assert list(_evaluate(tmp_path, mixed_hardware=True).read) == ["fgsm"]
    switch(gradient=-1.0)
    assert list(_evaluate(tmp_path, mixed_hardware=True).read) == []


def test_the_command_says_what_it_reads(tmp_path: Path) -> None:
    words = ["eval", "--attacks", "fgsm", "--n", "8", "--out", str(tmp_path)]
    words += ["--dataset", "cifar10-sample", "--defense", "python:tests.evaluation.planted:build"]
    said = [CliRunner().invoke(app, words).stderr.replace("\n", " ") for _ in range(2)]
    line = "read from finished records: fgsm (another --out measures again)"
    assert [line in text for text in said] == [False, True]
