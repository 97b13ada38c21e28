"""AutoAttack as a whole: order, credit, odd defenses, and the same record whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robench.attacks import autoattack as suite
from robench.attacks.apgd import APGD, TargetedAPGD
from robench.attacks.autoattack import AutoAttack
from robench.attacks.fab import FAB, TargetedFAB
from robench.attacks.square import Square
from robench.core.record import Record
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from tests.harness import Outcome, attack, random_images, small_cnn
from tests.scored import comparable, score, small_set

EPS = ThreatModel("linf", 3 / 255)
SHORT = {
    "apgd_ce": APGD(steps=3),
    "apgd_dlr": APGD(steps=3, loss="dlr"),
    "apgd_t": TargetedAPGD(steps=4),
    "fab": FAB(steps=2),
    "fab_t": TargetedFAB(steps=4),
    "square_5000": Square(queries=40),
}


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same suite with budgets of a few passes: most parts find and leave something."""
    for name, part in SHORT.items():
        monkeypatch.setattr(suite, name, part)
    return


def broken_by(out: Outcome) -> dict[int, str | None]:
    return {verdict.id: verdict.broken_by for verdict in out.verdicts}


def test_versions_run_their_parts_in_order() -> None:
    assert list(AutoAttack("standard").parts()) == ["apgd_ce", "apgd_t", "fab_t", "square_5000"]
    plus = AutoAttack("plus").parts()
    assert list(plus) == ["apgd_ce", "apgd_dlr", "fab", "square_5000", "apgd_t", "fab_t"]
    assert [plus[name].restarts for name in ("apgd_ce", "apgd_dlr", "fab", "fab_t")] == [5, 5, 5, 1]
    rand = AutoAttack("rand").parts()
    assert list(rand) == ["apgd_ce", "apgd_dlr"] and rand["apgd_ce"].eot == 20


def test_standard_has_the_published_budgets() -> None:
    """attacks.md 8.1, without the passes that ours leaves out: ranking and verification."""
    spent: dict[str, list[int]] = {}
    for stage in AutoAttack().stages("autoattack", 10):
        total = spent.setdefault(stage.component, [0, 0])
        total[0] += stage.forward_passes
        total[1] += stage.backward_passes
    assert spent == {
        "apgd_ce": [101, 101],
        "apgd_t": [909, 909],
        "fab_t": [1800, 900],
        "square_5000": [5001, 0],
    }


@pytest.mark.parametrize("version", ["standard", "plus"])
def test_an_image_is_credited_to_the_first_part_that_breaks_it(
    short_parts: None, version: str
) -> None:
    """So AutoAttack is never weaker than a part, and a part finds the same wherever it runs."""
    model, images = small_cnn(), random_images(48)
    labels = model(images).argmax(1)
    whole = broken_by(attack(model, f"autoattack[version={version}]", images, labels, EPS))
    expected: dict[int, str | None] = dict.fromkeys(whole)
    for name, part in reversed(AutoAttack(version).parts().items()):
        alone = attack(model, name, images, labels, EPS, search=part)
        expected |= {i: by for i, by in broken_by(alone).items() if by}
    assert whole == expected
    assert len(set(whole.values())) >= 3 and None in whole.values()


def test_what_each_part_took_adds_up(short_parts: None) -> None:
    model, images = small_cnn(), random_images(32)
    labels = model(images).argmax(1)
    out = attack(model, "autoattack", images, labels, EPS)
    assert [part.name for part in out.components] == list(AutoAttack().parts())
    assert sum(part.broken for part in out.components) == out.survived.count(False)
    backward = sum(verdict.backward_passes for verdict in out.verdicts)
    assert sum(part.backward_passes for part in out.components) == backward > 0
    ce, t = out.components[:2]
    assert ce.backward_passes <= 4 * 32 and t.backward_passes <= 9 * 5 * (32 - ce.broken)


@pytest.mark.parametrize(("classes", "said"), [(2, True), (3, True), (4, True), (200, False)])
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_any_number_of_classes(short_parts: None, classes: int, said: bool, version: str) -> None:
    model, images = small_cnn(classes), random_images(6)
    labels = model(images).argmax(1)
    text = f"autoattack[version={version}]"
    tight, wide = (
        attack(model, text, images, labels, ThreatModel("linf", eps)) for eps in (1e-6, 0.4)
    )
    assert all(tight.survived) and not any(wide.survived)
    assert bool(AutoAttack(version).remarks(classes)) == said


def test_one_image_and_images_that_are_not_square(short_parts: None) -> None:
    model, images = small_cnn(), random_images(1, size=12)[:, :, :7]
    out = attack(model, "autoattack", images, model(images).argmax(1), ThreatModel("linf", 0.4))
    assert out.survived == [False]


def test_nothing_left_to_attack(short_parts: None, tmp_path: Path) -> None:
    """All images wrong, then all broken by the first part: no later part runs."""
    wrong = score(tmp_path / "wrong", "autoattack", dataset=small_set(8, wrong=8)).records[0]
    assert wrong.status == "done" and not any(wrong.verdicts.survived)
    assert sum(part.forward_passes for part in wrong.components) == 0
    beaten = score(tmp_path / "beaten", "autoattack", dataset=small_set(8), eps=0.5).records[0]
    assert not any(beaten.verdicts.survived)
    assert [bool(part.forward_passes) for part in beaten.components] == [True, False, False, False]


class NoGradients(nn.Module):
    """The small network behind a rounding that lets no gradient through (AutoAttack issue 43)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x * 255).round() / 255)
        return logits


def test_masked_gradients_are_named_and_square_still_breaks_images(
    short_parts: None, tmp_path: Path
) -> None:
    """MASK: gradient searches report zero gradients, the search without them helps."""
    row = score(
        tmp_path, "autoattack", model=NoGradients().eval(), dataset=small_set(32), eps=40 / 255
    ).rows[0]
    levels = {flag.name: flag.level for flag in row.flags}
    assert levels["zero_gradient"] == "fail" and levels["square_helps"] == "fail"
    assert {part.name: part.broken for part in row.components}["square_5000"] >= 3


class Noisy(nn.Module):
    """Logits with noise of the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_cnn()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits + 0.02 * torch.randn_like(logits)


def test_a_randomised_defense_is_judged_by_its_mean(
    short_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "RAND_PASSES", 4)
    images, text = small_set(16), "autoattack[version=rand]"
    options = {"model": Noisy().eval(), "dataset": images}
    first, second = (
        score(tmp_path / name, text, eps=3 / 255, **options).records[0] for name in ("a", "b")
    )
    assert first.verdicts.clean_prediction == second.verdicts.clean_prediction
    assert "randomised" in {flag.name for flag in first.flags}
    assert 0 < sum(first.verdicts.survived) < 12
    # Four passes a step, and four a look of the judge, whose count is of looks.
    assert all(count % 4 == 0 for count in first.verdicts.backward_passes)


def measured(folder: Path, images: EvalSet, **options: object) -> Record:
    return score(folder, "autoattack", dataset=images, eps=3 / 255, **options).records[0]


def test_verdicts_do_not_depend_on_batch_order_or_shards(short_parts: None, tmp_path: Path) -> None:
    images = small_set(24)
    whole = measured(tmp_path / "whole", images)
    assert len({by for by in whole.verdicts.broken_by if by}) >= 3
    for size in (1, 7):
        one = measured(tmp_path / str(size), images, batch_size=size)
        assert comparable(one) == comparable(whole)
    backwards = images.select([int(i) for i in reversed(images.ids)])
    assert measured(tmp_path / "order", backwards).verdicts == whole.verdicts
    measured(tmp_path / "parts", images, shard="1/2")
    assert comparable(measured(tmp_path / "parts", images, shard="2/2")) == comparable(whole)


def test_ctrl_c_at_any_pass_changes_nothing(short_parts: None, tmp_path: Path) -> None:
    images = small_set(24)
    whole, ticks = measured(tmp_path / "whole", images, batch_size=8), 0

    def interrupt(state: object) -> None:
        nonlocal ticks
        ticks += 1
        if ticks % 61 == 0:
            raise KeyboardInterrupt

    record = None
    while record is None and ticks < 61 * 40:
        try:
            record = measured(tmp_path / "cut", images, batch_size=8, progress=interrupt)
        except KeyboardInterrupt:
            continue
    assert ticks >= 61 * 3 and record is not None and comparable(record) == comparable(whole)


@pytest.mark.slow
def test_the_full_budget_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    images = small_set(64)
    whole, seven, one = (
        measured(tmp_path / str(size), images, batch_size=size) for size in (64, 7, 1)
    )
    assert comparable(seven) == comparable(whole) and comparable(one) == comparable(whole)
    assert 4 < sum(whole.verdicts.survived) < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["square_5000[queries=200]", "apgd_t[steps=20]", "fab_t[steps=20]"]
)
def test_parts_on_the_robust_network_do_not_depend_on_the_batch(tmp_path: Path, text: str) -> None:
    from robench import evaluate

    whole, seven, one = (
        evaluate(
            "fast-at-resnet18-w32",
            text,
            dataset="cifar10-sample",
            n=16,
            batch_size=size,
            out=tmp_path / str(size),
        ).records[0]
        for size in (64, 7, 1)
    )
    assert comparable(seven) == comparable(whole) and comparable(one) == comparable(whole)
