"""`python:` references: the code of others runs, and whatever it does comes back as one line."""

import sys
from pathlib import Path

import pytest
import torch

from robench.core.errors import InputError
from robench.defenses.reference import load_defense

CHECKPOINT = Path(__file__).parents[3] / "shared" / "models" / "external" / "resnet4b.pth"
HEADER = "import torch\nfrom torch import nn\n"


@pytest.fixture
def code(here, monkeypatch):
    """A function that writes a module into the current folder and returns its name."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = []

    def write(text):
        name = f"foreign_{len(written)}_{abs(hash((str(here), text)))}"
        written.append(name)
        (here / f"{name}.py").write_text(HEADER + text)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="the outside checkpoint is not beside the repo")
def test_a_strangers_network_scores_as_published(monkeypatch, sample, count_correct):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(Path(__file__).parent)
    defense = load_defense("python:stranger:resnet4b", dataset="cifar10")
    assert abs(count_correct(defense, *sample) - 383) <= 1  # 77.1 % of the first 1,000
    assert (defense.name, defense.scheme) == ("stranger.resnet4b", "python")
    assert (defense.architecture, defense.num_classes) == ("stranger.ResNet4B", 10)
    assert (defense.parameters, defense.dataset, defense.notes) == (123_734, "cifar10", ())
    with pytest.raises(InputError, match="cannot tell the architecture from 26 tensors"):
        load_defense(str(CHECKPOINT))


def test_functions_and_classes_build_and_the_class_count_is_tried_out(code):
    name = code(
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Dropout(), nn.Linear(3 * 8 * 8, 6))\n"
        "class Outer:\n    make = staticmethod(lambda: Net())\n"
    )
    for attribute in ("Net", "Outer.make"):
        defense = load_defense(f" python:{name}:{attribute} ", input_shape=(3, 8, 8))
        assert defense.num_classes == 6 and not defense.model.training
        assert defense.ref == f"python:{name}:{attribute}"


def test_the_global_generators_do_not_notice(code):
    name = code(
        "import random\n"
        "def make():\n"
        "    torch.manual_seed(3); random.seed(3)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))\n"
    )
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    load_defense(f"python:{name}:make")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        ("def make():\n    raise KeyError('gone')\n", "make", r":make raised KeyError: 'gone'"),
        ("def make():\n    raise OSError('a\\nb')\n", "make", r"raised OSError: a b"),
        ("def make():\n    raise SystemExit(0)\n", "make", r"raised SystemExit: 0"),
        (
            "def make():\n    return {}\n",
            "make",
            r"expected an object of torch\.nn\.Module, got dict",
        ),
        ("def make():\n    return nn.Linear\n", "make", r"nn\.Module, got Linear"),
        ("def make(size):\n    return nn.Linear(size, 2)\n", "make", "raised TypeError: make"),
        ("import nothing_like_it\n", "make", "importing .* raised ModuleNotFoundError: No module"),
        ("1/0\n", "make", "importing .* raised ZeroDivisionError"),
        ("def make_net():\n    pass\n", "make_nte", "has no 'make_nte': did you mean 'make_net'"),
        ("make = nn.Linear(2, 2).weight\n", "make", "is no function but Parameter"),
        (
            "def make():\n    return nn.Linear(3, 2)\n",
            "make",
            "on two images of 3x32x32 raised Runt",
        ),
        (
            "def make():\n    return nn.Flatten(0)\n",
            "make",
            "gives 6144 for 2 images .* 2 x classes",
        ),
        ("def make():\n    return nn.Identity()\n", "make", "gives 2x3x32x32 for 2 images"),
        (
            "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 1))\n",
            "make",
            "gives 2x1 for 2 images",
        ),
        (
            "class Two(nn.Module):\n    def forward(self, x):\n        return x, x\n"
            "def make():\n    return Two()\n",
            "make",
            "gives tuple: expected a tensor of logits",
        ),
        (
            "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 2).half())\n",
            "make",
            r"has float16 weights \(1\.weight\): give model\.float\(\)",
        ),
        (
            "class Stuck(nn.Module):\n    def train(self, mode=True):\n        return self\n"
            "def make():\n    return Stuck()\n",
            "make",
            "cannot be put in evaluation mode: Stuck stays in training",
        ),
        (
            "class Loud(nn.Module):\n    def eval(self):\n        raise ValueError('no')\n"
            "def make():\n    return Loud()\n",
            "make",
            r"eval\(\) raised ValueError: no",
        ),
    ],
)
def test_whatever_foreign_code_does_is_one_line(code, text, attribute, message):
    name = code(text)
    with pytest.raises(InputError, match=message) as caught:
        load_defense(f"python:{name}:{attribute}")
    assert f"python:{name}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("ref", ["python:", "python:module", "python::f", "python:module:"])
def test_incomplete_references_say_what_is_expected(here, ref):
    with pytest.raises(InputError, match=r"expected python:package\.module:function"):
        load_defense(ref)


def test_ctrl_c_in_foreign_code_stays_ctrl_c(code):
    name = code("def make():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_defense(f"python:{name}:make")


def test_a_given_class_count_is_not_tried_out(code):
    name = code("def make():\n    return nn.Linear(3, 2)\n")
    assert load_defense(f"python:{name}:make", num_classes=17).num_classes == 17
