"""Ordinary networks run; what fails ends in one of three ways, and never in a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robench
from robench.core.errors import InputError
from robench.data.evalset import EvalSet
from robench.evaluation.result import Result
from tests.evaluation import strangers
from tests.evaluation.strangers import FLAGGED, NO_GRADIENT, REFUSED, RUN, RUN_SLOWLY, net
from tests.harness import random_images, small_cnn

ATTACKS = "fgsm,square[queries=5]"
PIXELS = random_images(8)
# What PyTorch says of a network itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:quantized::linear_dynamic"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


def data(labels: Tensor | None = None) -> EvalSet:
    """Eight images, with those labels or the small network's."""
    if labels is None:
        with torch.no_grad():
            labels = small_cnn(4)(PIXELS).argmax(1)
    levels = (PIXELS * 255).round().byte().numpy()
    return EvalSet("mine", levels, labels.numpy(), torch.arange(8).numpy(), tuple("abcd"))


def direct(network: nn.Module, rows: int) -> Tensor:
    """Predictions of a plain loop; `rows` rows a pass, the last images repeated."""
    with torch.no_grad():
        answer = network(PIXELS.repeat(rows // 8, 1, 1, 1))
    for one in [answer, *(answer.values() if isinstance(answer, dict) else ())]:
        answer = getattr(one, "logits", one)
    if isinstance(answer, tuple | list):
        answer = next(a for a in answer if isinstance(a, Tensor) and a.dim() == 2)
    return answer[:8].argmax(1)  # type: ignore[no-any-return]


def scored(network: nn.Module, out: Path, **options: Any) -> Result:
    return robench.evaluate(network, ATTACKS, out=out, **{"dataset": data(), **options})


@pytest.mark.parametrize(
    "name", [*RUN, *(pytest.param(name, marks=pytest.mark.slow) for name in RUN_SLOWLY)]
)
def test_it_runs_under_every_attack(name: str, tmp_path: Path) -> None:
    network = (RUN | RUN_SLOWLY)[name]()
    result = scored(network, tmp_path)
    assert [row.status for row in result.rows] == ["done"] * 3
    predictions = direct(network, 16)
    clean = (predictions == torch.from_numpy(data().labels)).float().mean()
    assert [row.clean_accuracy for row in result.rows] == [float(clean)] * 3
    assert not [f.name for row in result.rows for f in row.flags if f.level == "fail"]


def test_layers_made_at_the_first_call_get_the_mode_of_their_network(tmp_path: Path) -> None:
    network = RUN["layers made at the first call"]().train()
    network.net.eval()  # type: ignore[operator, union-attr]
    scored(network, tmp_path)
    assert network.training and network.head.training  # type: ignore[union-attr]
    assert not network.net.training  # type: ignore[union-attr]


def test_a_view_network_gets_the_verdicts_of_the_same_network_with_flatten(tmp_path: Path) -> None:
    views = net(lambda s, x: s.net[8](strangers.features(s, x).view(x.size(0), -1)))
    plain = net(lambda s, x: s.net[8](strangers.features(s, x).flatten(1)))
    found = [
        scored(make(), tmp_path / name, eps=0.2).records
        for name, make in (("views", views), ("plain", plain))
    ]
    seen, same = ([record.verdicts for record in records] for records in found)
    assert seen == same and any(not verdict.survived for verdict in seen[0])
    assert found[0][0].search_model == found[1][0].search_model
    assert "convolutions fused, channels-last" in found[0][0].search_model


@pytest.mark.parametrize("name", FLAGGED)
def test_it_runs_and_what_must_be_known_is_a_flag(name: str, tmp_path: Path) -> None:
    make, flag = FLAGGED[name]
    rows = scored(make(), tmp_path).rows
    assert {row.status for row in rows} == {"done"}
    assert all(flag in [f.name for f in row.flags] for row in rows)


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_attacks_that_need_a_gradient_are_not_run_and_the_others_are(
    name: str, tmp_path: Path
) -> None:
    fgsm, square, *_ = scored(NO_GRADIENT[name](), tmp_path).rows
    assert fgsm.status == "not_run" and (fgsm.reason or "").startswith("no gradient: ")
    assert square.status == "done" and square.clean_accuracy == 1


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, said = REFUSED[name]
    with pytest.raises(InputError, match=said) as refusal:
        scored(make(), tmp_path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


CALLS = 0


class FailsLater(nn.Module):
    """A network that raises at every later call, of its copies as well."""

    def __init__(self, calls: int, error: Callable[[], BaseException], classes: int = 4) -> None:
        super().__init__()
        global CALLS
        CALLS = 0
        self.network, self.calls, self.error = small_cnn(classes), calls, error

    def forward(self, x: Tensor) -> Tensor:
        global CALLS
        CALLS += 1
        if self.calls < CALLS:
            raise self.error()
        return self.network(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("error", [lambda: ValueError("no more\nof this"), lambda: SystemExit(7)])
def test_whenever_its_code_raises_the_rows_say_so(
    error: Callable[[], BaseException], tmp_path: Path
) -> None:
    """In the preparation, the flags, the probes, the first time and the attacks."""
    failed = 0
    for calls in range(2, 50, 4):
        rows = scored(FailsLater(calls, error).eval(), tmp_path / str(calls)).rows
        assert {row.status for row in rows} <= {"done", "failed"}
        reasons = [row.reason or "" for row in rows if row.status == "failed"]
        assert all(type(error()).__name__ in reason for reason in reasons)
        assert all("\n" not in reason and len(reason) < 300 for reason in reasons)
        failed += bool(reasons)
    assert 6 <= failed < 12  # it did not stop at the first places, and did at the last


def failing() -> nn.Module:
    return FailsLater(9, lambda: ValueError("no more"), classes=10)


def sound() -> nn.Module:
    return small_cnn(10)


def test_a_defense_whose_code_raises_costs_the_others_of_a_command_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from robench.cli.main import main

    monkeypatch.setitem(sys.modules, "stranger", sys.modules[__name__])
    arguments = "eval --attacks fgsm --dataset cifar10-sample --n 8 --defense".split()  # noqa: SIM905
    both = "python:stranger:failing,python:stranger:sound"
    monkeypatch.setattr(sys, "argv", ["robench", *arguments, both, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 3 and "no more" in said.err
    assert "stranger.failing" in said.out and "stranger.sound" in said.out
    assert [path.parent.name for path in tmp_path.rglob("fgsm-*.json")] == ["stranger.sound"]
