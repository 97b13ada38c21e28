"""What a fingerprint reads beyond weights and classes: every edit that can change the function."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robench.defenses.reference import load_defense
from tests.defenses.edits_of_code import EDITS as OF_CODE
from tests.defenses.edits_of_values import EDITS as OF_VALUES
from tests.defenses.strangers import HELPER, STE, Load, edited, loader, network

EDITS = {**OF_CODE, **OF_VALUES}
OF_FACTORIES = ("what the factory's helper names",)
OF_NOTHING: dict[str, Mapping[str, str]] = {
    "another function of the file": {
        "net.py": network(
            "x = ste(x)", "def ste(x):\n    return x\ndef other():\n    return «1|2»\n"
        )
    },
    "another class of the file": {"net.py": network("x = x", STE)},
    "a constant that nothing names": {"net.py": network("x = x", "LR = «0.1|0.2»")},
    "an unreachable helper": {
        "net.py": network("x = helpers.one(x)", "import helpers"),
        "helpers.py": HELPER + "def one(x):\n    return x\n",
    },
    "a helper of a helper that is not called": {
        "net.py": network("x = x", "from helpers import ste"),
        "helpers.py": HELPER,
    },
    "beside a helper that forward imports from two packages up": {
        "net.py": "from package.sub.model import build\n",
        "package/__init__.py": "",
        "package/sub/__init__.py": "",
        "package/sub/model.py": network("from ..ops import ste; x = ste(x)"),
        "package/ops.py": "def ste(x):\n    return x\ndef other():\n    return «1|2»\n",
    },
    "comments elsewhere": {
        "net.py": network("x = ste(x)", "# «one|two\n# more»\ndef ste(x):\n    return x\n")
    },
    "lines between definitions": {
        "net.py": network("x = ste(x)", "«|\n\n»def ste(x):\n    return x\n")
    },
    "another lambda elsewhere": {
        "net.py": network("x = self.act(x)", "KEY = lambda x: «1|2»\n", "self.act = lambda x: x")
    },
    "the folder": {"net.py": network("x = x") + "«|# »"},
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """See `loader`."""
    return loader(tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_what_is_reached_is_another_defense(load: Load, what: str) -> None:
    old, new = edited(EDITS[what])
    found = [_with_and_without_factory(load, files) for files in (old, old, new)]
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    if what not in OF_FACTORIES:
        assert found[0][1] != found[2][1]


def _with_and_without_factory(load: Load, files: Mapping[str, str]) -> tuple[str, str]:
    """Fingerprints of a reference, and of the object given: nothing then says how it was made."""
    by_reference = load(files).fingerprint
    module = sys.modules.get("package.model") or sys.modules.get("package.sub.model")
    return by_reference, load_defense((module or sys.modules["net"]).build()).fingerprint


@pytest.mark.parametrize("what", OF_NOTHING)
def test_an_edit_of_what_is_not_reached_changes_nothing(load: Load, what: str) -> None:
    old, new = edited(OF_NOTHING[what])
    assert load(old).fingerprint == load(new).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.train(),
        lambda net: net.requires_grad_(False),
        lambda net: net.layer.register_parameter("nothing", None),
        lambda net: net(torch.rand(1, 3, 4, 4)).sum().backward(),
        lambda net: setattr(net, "_compiled_call_impl", None),
    ],
)
def test_torchs_own_attributes_do_not_count(
    load: Load, change: Callable[[nn.Module], object]
) -> None:
    load({"net.py": network("x = x", init="self.s = 1.0")})
    net = sys.modules["net"].build()
    before = load_defense(net).fingerprint
    change(net)
    assert load_defense(net).fingerprint == before


SEQUENTIAL = "ea3c76901ea41c79735b899eaec7fd343d769a0826e95ddec50560f53822840a"
CLASS = "ae73658c6eb21ca1236c8a82daf679d73ea0919114e40ef762b936ed305365c4"


def test_where_nothing_further_is_reached_the_fingerprint_is_the_old_one(load: Load) -> None:
    """Values of the release before anything further was read."""
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)).requires_grad_(False)
    for parameter in plain.parameters():
        parameter.fill_(0.5)
    assert load_defense(plain).fingerprint == SEQUENTIAL
    plain[1].register_forward_hook(print)  # a library's
    plain[1].note = "of somebody's tool"
    assert load_defense(plain).fingerprint == SEQUENTIAL
    assert load({"net.py": network("x = F.relu(x) + torch.relu(x)")}).fingerprint == CLASS


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Orders of sets and addresses differ between processes, and so does the name of a program."""
    text = network(
        "x = self.act(x) * CFG.s + len(NAMES) + len(OPS)",
        "import functools, argparse\nfrom dataclasses import dataclass\nfrom enum import Enum\n"
        "@dataclass\nclass Cfg:\n    s: float\nclass Kind(Enum):\n    A = 1\n    B = 2\n"
        "CFG = Cfg(1.0)\nNAMES = {'a', 'b', 'c', 'd', Kind.A, object}\nOPS = {len, print}\n"
        "def ste(x, k=Kind.A):\n    return x if k in NAMES else -x\n",
        "self.act = functools.partial(ste)\n        self.some = [object(), {1: object()}]\n"
        "        self.rng = torch.Generator()",
    )
    run = (
        "from robench.defenses.reference import load_defense\nprint(load_defense({}).fingerprint)\n"
    )
    (tmp_path / "net.py").write_text(
        text + "if __name__ == '__main__':\n    " + run.format("build()").replace("\n", "; ", 1)
    )
    # The factory is part of an identity, so the command loads what the program loads.
    (tmp_path / "other.py").write_text("import net\n" + run.format("net.build()"))
    found = set()
    for seed, program in (("1", "net.py"), ("2", "other.py")):
        done = subprocess.run(
            [sys.executable, program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_code_of_an_installed_library_counts_by_name(load: Load) -> None:
    files = {
        "net.py": network("x = quiet.ste(x)", "import site_of_library\nimport quiet"),
        "site_of_library.py": "import sys, pathlib\n"
        "sys.path.insert(0, str(pathlib.Path(__file__).parent / 'site-packages'))\n",
        "site-packages/quiet.py": HELPER,
    }
    found = set()
    for one in edited(files):
        for name in ("quiet", "site_of_library"):
            sys.modules.pop(name, None)
        found.add(load(one).fingerprint)
    assert len(found) == 1


STATE = {
    "counter": ("self.n += 1", "", "self.n = 0"),
    "cache": ("self.kept[x.shape] = x", "", "self.kept = {}"),
    "made by a pass": ("self.last = x", "", ""),
    "list that grows": ("LOG.append(1)", "LOG = []", ""),
    "counter of the module": ("global N; N += 1", "N = 0", ""),
    "counter of an object": (
        "self.meter.n += 1",
        "class Meter:\n    n = 0\n",
        "self.meter = Meter()",
    ),
    "counter in a closure": (
        "x = self.act(x)",
        "def make():\n    n = 0\n    def act(x):\n        nonlocal n\n        n += 1\n"
        "        return x\n    return act\n",
        "self.act = make()",
    ),
}


@pytest.mark.parametrize("what", STATE)
def test_what_a_pass_changes_is_left_out_and_said(load: Load, what: str) -> None:
    files = {"net.py": network(*STATE[what])}
    found = load(files)
    assert any("changed by a pass, so no part of its identity" in note for note in found.notes)
    net = sys.modules["net"].build()
    first = load_defense(net)
    for rows in (3, 1):
        net(torch.rand(rows, 3, 8, 8))
        assert load_defense(net).fingerprint == first.fingerprint
    assert load(files).fingerprint == found.fingerprint


def test_a_setting_beside_a_counter_still_counts(load: Load) -> None:
    old, new = edited({"net.py": network("self.n += 1", "S = «1|2»", "self.n, self.s = 0, S")})
    assert load(old).fingerprint != load(new).fingerprint


def test_source_on_disk_that_is_not_the_loaded_code_is_said(load: Load) -> None:
    old, new = edited({"net.py": network("x = ste(x)", HELPER)})
    as_loaded, net = load(old).fingerprint, sys.modules["net"]
    assert net.__file__
    Path(net.__file__).write_text(new["net.py"])
    found = load_defense(net.build())
    assert "source of net.ste on disk is not the code that was loaded" in found.notes
    Path(net.__file__).write_text(old["net.py"])
    again = load_defense(net.build())
    assert again.fingerprint != found.fingerprint and not again.notes
    assert as_loaded == load(old).fingerprint


def test_lines_that_moved_since_a_file_was_loaded_are_found_again(load: Load) -> None:
    load({"net.py": network("x = ste(x)", "def ste(x):\n    return x\n")})
    net = sys.modules["net"]
    before = load_defense(net.build())
    assert net.__file__
    file = Path(net.__file__)
    file.write_text("# a line above\n# and another\n" + file.read_text())
    after = load_defense(net.build())
    assert (after.fingerprint, after.notes) == (before.fingerprint, ())


def test_names_made_up_while_running_are_said(load: Load) -> None:
    found = load({"net.py": network("x = getattr(torch, 're' + 'lu')(x)")})
    assert found.notes == (
        "net.Net.forward makes up names while it runs: the whole of net.py counts",
    )
    assert not load({"net.py": network("x = getattr(torch, 'relu')(x)")}).notes


def test_code_without_a_file_counts_by_what_it_does() -> None:
    def made(text: str) -> nn.Module:
        space: dict[str, Any] = {"nn": nn, "__name__": "nowhere"}
        exec(f"class Typed(nn.Flatten):\n    def forward(self, x):\n        return {text}\n", space)
        typed: nn.Module = space["Typed"]()
        return typed

    plain, twice, other = (
        load_defense(made(text)) for text in ("x.sum((2, 3))",) * 2 + ("x.mean((2, 3))",)
    )
    assert plain.fingerprint == twice.fingerprint != other.fingerprint
    assert plain.notes == ("source of nowhere.Typed not to be had: it counts by its compiled code",)


def test_a_chain_of_calls_longer_than_the_stack_is_followed(load: Load) -> None:
    chain = "".join(
        f"def f{i}(x):\n    return f{i + 1}(x) if x is None else x\n" for i in range(400)
    )
    old, new = edited({"net.py": network("x = f0(x)", chain + "def f400(x):\n    return «x|-x»\n")})
    assert load(old).fingerprint != load(new).fingerprint
