"""The worked examples of CONTRIBUTING.md are whole files that work as they stand there."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from robench.core.threat import ThreatModel
from tests.harness import attack
from tests.linear import Linear
from tests.training.fixture import SA, SN, FixedStep, Y

ROOT = Path(__file__).parents[1]
EXAMPLES = {"one_random_corner": "One random", "half_and_half": "Half and half"}


def _source(name: str) -> str:
    """The code block that begins with the docstring of that example."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    (block,) = [b for b in blocks if b.startswith(f'"""{EXAMPLES[name]}')]
    return str(block)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def module(name: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(_source(name), encoding="utf-8")
        spec = spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        made = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, made)  # dataclasses look their module up
        spec.loader.exec_module(made)
        return made

    return module


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_passes_the_checks(name: str) -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", f"robench/{name}.py", "-"],
            input=_source(name),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_attack_is_a_corner_of_the_ball(load: Any) -> None:
    images = torch.full((2, 3, 2, 2), 0.5)
    model = Linear(torch.eye(2, 12), torch.tensor([0.0, 0.01]))
    search = load("one_random_corner").one_random_corner
    out = attack(
        model, "corner", images, torch.ones(2).long(), ThreatModel("linf", 0.125), search=search
    )
    assert ((out.candidates - images).abs() == 0.125).all()
    # One logit less the other: 0.01 and a difference of two signs, so 0.25 decides.
    x = out.candidates.flatten(1)
    assert out.survived == (x[:, 1] + 0.01 > x[:, 0]).tolist()


def test_the_method_weighs_its_two_losses(load: Any) -> None:
    method = load("half_and_half").HalfAndHalf(share=0.25)
    step: Any = FixedStep()
    terms = method.outer(step, method.inner(step))
    expected = {"nat": F.cross_entropy(SN, Y), "adv": F.cross_entropy(SA, Y)}
    torch.testing.assert_close(terms.losses, expected)
    assert method.weigh({}) == {"nat": 0.75, "adv": 0.25}
