"""Files of a stranger's defense, written, loaded and thrown away again."""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from robench.defenses.defense import Defense
from robench.defenses.reference import load_defense

HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"


def network(forward: str, before: str = "", init: str = "", bases: str = "nn.Module") -> str:
    """A file whose `build` makes a network: one linear layer after what `forward` does to x."""
    return f"""{HEAD}
{before}

class Net({bases}):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        torch.nn.init.constant_(self.layer.weight, 0.1)
        torch.nn.init.constant_(self.layer.bias, 0.1)
        {init or "pass"}

    def forward(self, x):
        {forward}
        return self.layer(x.mean((2, 3)))

def build():
    return Net()
"""


STE = """
class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x * 255) / 255
    @staticmethod
    def backward(ctx, g):
        return «torch.zeros_like(g)|g»
"""
HELPER = "def ste(x):\n    return x * «1.0|2.0»\n"
ENDED = "import torch\n" + HELPER

Load = Callable[..., Defense]


def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A function that loads `python:net:build` as if for the first time, from the files given.

    Each time in another folder: where files lie must not count.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = list(sys.path)
    count = 0

    def load(files: Mapping[str, str], ref: str = "net:build") -> Defense:
        nonlocal count
        count += 1
        folder = tmp_path / f"stranger{count}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for name in [name for name in sys.modules if name.split(".")[0] in _ROOTS]:
            sys.modules.pop(name)
        monkeypatch.setattr(sys, "path", list(path))
        monkeypatch.chdir(folder)
        importlib.invalidate_caches()
        return load_defense(f"python:{ref}")

    return load


def edited(files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Files as they were and after the edits that are marked as «old|new» in them."""
    assert any("«" in text for text in files.values())
    old, new = (
        {
            name: re.sub("«(.*?)\\|(.*?)»", group, text, flags=re.DOTALL)
            for name, text in files.items()
        }
        for group in ("\\1", "\\2")
    )
    return old, new


_ROOTS = ("net", "helpers", "package", "deeper")
"""The modules that tests write."""
